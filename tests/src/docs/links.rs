//! Links between pages: does the file exist, and the heading?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Links of a page that lead nowhere. Those to the web are not followed.
pub fn broken(root: &Path, page: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(page)).unwrap_or_default();
    let mut wrong = Vec::new();
    for link in links(&text) {
        if link.contains("://") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
        let target = match file {
            "" => root.join(page),
            file => root.join(page).with_file_name("").join(file),
        };
        let there = target.exists();
        let is_known = heading.is_empty()
            || fs::read_to_string(&target).is_ok_and(|text| headings(&text).contains(heading));
        if !there || !is_known {
            wrong.push(format!("{}: there is no {link}", page.display()));
        }
    }
    wrong
}

/// `[text](link)` outside of fenced blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let (link, after) = after.split_once(')').unwrap_or((after, ""));
            found.push(link.to_owned());
            rest = after;
        }
    }
    found
}

/// Anchors of headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = prose(text).filter_map(|line| line.strip_prefix('#'));
    let titles = titles.map(|title| title.trim_start_matches('#').trim().to_lowercase());
    let anchor = |title: String| {
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    titles.map(anchor).collect()
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# A title: `x`?\n[a](b.md#c) and [d](e)\n```sh\n# not one\n[x](y)\n```\n## It's ss -s\n";

    #[test]
    fn links_and_headings_are_those_of_the_prose() {
        assert_eq!(links(PAGE), ["b.md#c", "e"]);
        let found: Vec<String> = headings(PAGE).into_iter().collect();
        assert_eq!(found, ["a-title-x", "its-ss--s"]);
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let dir = std::env::temp_dir().join(format!("sockleak-links-{}", std::process::id()));
        fs::create_dir_all(dir.join("docs")).expect("a place");
        let page = "[a](docs/b.md) [b](docs/b.md#known) [c](docs/c.md) [d](docs/b.md#gone) [e](#title) [f](https://x/y)\n# Title\n";
        fs::write(dir.join("a.md"), page).expect("a page");
        fs::write(
            dir.join("docs/b.md"),
            "# Known\n[up](../a.md)\n[gone](../b.md)\n",
        )
        .expect("a page");
        let nowhere = |page: &str| broken(&dir, Path::new(page));
        assert_eq!(
            nowhere("a.md"),
            [
                "a.md: there is no docs/c.md",
                "a.md: there is no docs/b.md#gone"
            ]
        );
        assert_eq!(nowhere("docs/b.md"), ["docs/b.md: there is no ../b.md"]);
        fs::remove_dir_all(&dir).expect("ours");
    }
}
