//! The machine's apt sources: both formats (one-line `.list` and deb822 `.sources`).

use std::{fs, path::Path};

use anyhow::{Result, bail};

/// Where packages come from and which keys sign them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    uri: String,
    signed_by: Option<String>,
}

impl Archive {
    /// Its address.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A deb822 stanza for other suites of this archive.
    pub fn stanza(&self, suites: &[&str]) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: amd64\nCheck-Valid-Until: no\n",
            self.uri,
            suites.join(" ")
        );
        if let Some(keys) = &self.signed_by {
            text.push_str(&format!("Signed-By: {keys}\n"));
        }
        text
    }
}

/// The Debian archives this machine uses, then the places where each may keep retired suites.
pub fn debian_archives() -> Result<Vec<Archive>> {
    let mut found = Vec::new();
    let mut read = |path: &Path| {
        let Ok(text) = fs::read_to_string(path) else {
            return;
        };
        if path.extension().is_some_and(|ext| ext == "sources") {
            found.extend(parse_deb822(&text));
        } else if path.extension().is_some_and(|ext| ext == "list") {
            found.extend(parse_list(&text));
        }
    };
    read(Path::new("/etc/apt/sources.list"));
    let mut parts: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    parts.iter().for_each(|path| read(path));

    let mut archives: Vec<Archive> = Vec::new();
    for archive in found
        .into_iter()
        .filter(|archive| is_main_archive(&archive.uri))
    {
        if !archives.contains(&archive) {
            archives.push(archive);
        }
    }
    if archives.is_empty() {
        bail!(
            "no Debian archive (an address that ends in /debian) among this machine's apt sources in \
             /etc/apt/sources.list and /etc/apt/sources.list.d; add one for the kernels, QEMU and rust-src"
        );
    }
    let retired: Vec<Archive> = archives
        .iter()
        .filter_map(|archive| {
            let root = archive.uri.trim_end_matches('/').strip_suffix("/debian")?;
            Some(Archive {
                uri: format!("{root}/debian-archive/debian"),
                ..archive.clone()
            })
        })
        .collect();
    archives.extend(retired);
    Ok(archives)
}

fn is_main_archive(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
}

fn parse_list(text: &str) -> Vec<Archive> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb")?;
            if !rest.starts_with([' ', '\t']) {
                return None;
            }
            let rest = rest.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let uri = rest.split_whitespace().next()?;
            let signed_by = options
                .split_whitespace()
                .find_map(|option| option.strip_prefix("signed-by="))
                .map(str::to_owned);
            Some(Archive {
                uri: uri.to_owned(),
                signed_by,
            })
        })
        .collect()
}

fn parse_deb822(text: &str) -> Vec<Archive> {
    let mut archives = Vec::new();
    for stanza in text.split("\n\n") {
        // A value continues on the lines that start with a blank (an embedded key does).
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let get = |key: &str| {
            fields
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.as_str())
        };
        let binary = get("types").is_some_and(|types| types.split_whitespace().any(|t| t == "deb"));
        let disabled = get("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if !binary || disabled {
            continue;
        }
        for uri in get("uris").unwrap_or_default().split_whitespace() {
            archives.push(Archive {
                uri: uri.to_owned(),
                signed_by: get("signed-by").map(str::to_owned),
            });
        }
    }
    archives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources_are_read() {
        let text = "# deb http://no.example/debian x main\n\
                    deb-src http://no.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main\n\
                    deb http://b.example/debian-security bookworm-security main\n";
        let archives = parse_list(text);
        assert_eq!(
            archives[0],
            Archive {
                uri: "http://a.example/debian".into(),
                signed_by: Some("/k.gpg".into())
            }
        );
        assert_eq!(archives.len(), 2);
        assert!(is_main_archive(&archives[0].uri));
        assert!(!is_main_archive(&archives[1].uri));
    }

    #[test]
    fn deb822_sources_are_read_with_comments_and_embedded_keys() {
        let text = "Types: deb\n# a comment\nURIs: http://a.example/debian\nSuites: bookworm\n\
                    Signed-By:\n -----BEGIN\n .\n abc\n\nTypes: deb-src\nURIs: http://s.example/debian\n\n\
                    Types: deb\nEnabled: no\nURIs: http://off.example/debian\n";
        let archives = parse_deb822(text);
        assert_eq!(archives.len(), 1);
        let stanza = archives[0].stanza(&["sid"]);
        assert!(
            stanza.contains("Signed-By: \n -----BEGIN\n .\n abc\n"),
            "{stanza}"
        );
        assert!(stanza.contains("Suites: sid\n"), "{stanza}");
    }
}
