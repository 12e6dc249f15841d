//! Just enough of Rust's grammar to check rules about source text: what is code and what is a comment or
//! a literal, which paths a file names, where its test modules are.

/// The text with comments, string and character literals replaced by blanks; lines keep their numbers.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest, previous) {
            length
        } else {
            code.push(first);
            previous = first;
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        let (skipped, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        code.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        previous = ' ';
        rest = after;
    }
    code
}

/// Length of a block comment (they nest).
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => break,
            }
        }
    }
    text.len()
}

/// Length of the string or character literal at the start of `text`, if there is one.
fn literal(text: &str, previous: char) -> Option<usize> {
    let in_word = previous.is_alphanumeric() || previous == '_';
    let prefix = if in_word {
        ""
    } else {
        ["br", "cr", "r", "b", "c"]
            .into_iter()
            .find(|prefix| {
                text.strip_prefix(prefix).is_some_and(|rest| {
                    rest.starts_with('"') || prefix.ends_with('r') && rest.starts_with("#")
                })
            })
            .unwrap_or("")
    };
    let body = text.strip_prefix(prefix)?;
    if prefix.ends_with('r') {
        let hashes = body.chars().take_while(|c| *c == '#').count();
        let inside = body.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    if let Some(inside) = body.strip_prefix('"') {
        return Some(prefix.len() + 1 + quoted(inside, '"'));
    }
    let inside = text.strip_prefix('\'')?;
    let mut chars = inside.chars();
    let (first, second) = (chars.next()?, chars.next()?);
    // 'a' is a character, 'a without a second quote is a lifetime.
    (first == '\\' || second == '\'').then(|| 1 + quoted(inside, '\''))
}

/// Length up to and with the closing quote, over escapes.
fn quoted(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    inside.len()
}

/// Code with the bodies of `#[cfg(test)] mod … { … }` blanked out.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let length = test_item(from);
        let (test, after) = from.split_at(length);
        kept.extend(test.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    kept + rest
}

/// Length of the item after `#[cfg(test)]`: to its closing brace, or to the semicolon before any brace.
fn test_item(from: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in from.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    from.len()
}

/// A path such as `std::fs::read` and the line it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Line, from 1.
    pub line: usize,
    /// The path, with groups of `use` expanded.
    pub path: String,
    /// Whether a `use` names it.
    pub import: bool,
}

/// Every path that code names.
pub fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((line, word)) = tokens.get(at) {
        // `use<'a>` says what an `impl Trait` captures.
        let captures = tokens.get(at + 1).is_some_and(|(_, next)| *next == "<");
        if *word == "use" && !captures {
            at = use_tree(&tokens, at + 1, "", &mut found);
        } else if is_word(word) {
            let start = at;
            let mut path = (*word).to_owned();
            while tokens.get(at + 1).is_some_and(|(_, t)| *t == "::")
                && let Some((_, next)) = tokens.get(at + 2)
                && is_word(next)
            {
                path = format!("{path}::{next}");
                at += 2;
            }
            if at > start {
                found.push(Mention {
                    line: *line,
                    path,
                    import: false,
                });
            }
        }
        at += 1;
    }
    found
}

/// Reads one tree of a `use` from `at`; returns where it ends (at `;`, `,` or `}`).
fn use_tree(
    tokens: &[(usize, &str)],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<Mention>,
) -> usize {
    let mut path = prefix.to_owned();
    let mut line = tokens.get(at).map_or(0, |(line, _)| *line);
    let mut grouped = false;
    while let Some((here, token)) = tokens.get(at) {
        match *token {
            ";" | "," | "}" => break,
            "{" => {
                grouped = true;
                at += 1;
                while let Some((_, token)) = tokens.get(at) {
                    match *token {
                        // Not Rust, should there be a semicolon: it ends everywhere.
                        "}" | ";" => break,
                        "," => at += 1,
                        _ => at = use_tree(tokens, at, &path, found),
                    }
                }
            }
            "as" => at += 1,
            "::" => {}
            word => {
                line = *here;
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(word);
            }
        }
        at += 1;
    }
    if !grouped {
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        found.push(Mention {
            line,
            path,
            import: true,
        });
    }
    at
}

/// Names of the modules that this file declares.
pub fn child_modules(code: &str) -> Vec<&str> {
    let tokens = tokens(code);
    tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [(_, "mod"), (_, name)] => Some(*name),
            _ => None,
        })
        .collect()
}

/// Names of the modules in files of their own that exist only in tests: `#[cfg(test)] mod name;`.
pub fn test_modules(code: &str) -> Vec<&str> {
    code.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|after| {
            let name = after
                .trim_start()
                .strip_prefix("mod ")?
                .split_once(';')?
                .0
                .trim();
            is_word(name)
                .then_some(name)
                .filter(|name| !name.contains(char::is_whitespace))
        })
        .collect()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single signs, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            if !first.is_whitespace() {
                tokens.push((number + 1, token));
            }
            rest = after;
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        mentions(code)
            .into_iter()
            .map(|mention| mention.path)
            .collect()
    }

    #[test]
    fn what_an_impl_trait_captures_is_no_import() {
        let code = "fn f() -> impl T + use<> { g(); h::i() }\nfn j() -> impl T + use<'a, U> {}\n";
        assert_eq!(paths(code), ["h::i"]);
        assert_eq!(
            paths("use a::{b; c};\n").first().map(String::as_str),
            Some("a::b")
        );
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a // std::fs\n/* b /* c */ std::fs */ d \"std::fs \\\" x\" 'x' '\\'' r#\"std \"q\" fs\"# e<'a> b\"z\" for\n";
        let code = code_only(text);
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["a", "d", "e<'a>", "for"]
        );
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn groups_are_expanded() {
        let code = "use std::{fs, io::{self, Read as _}, time::{Duration, Instant}};\nuse crate::a as b;\npub use x::*;";
        assert_eq!(
            paths(code),
            [
                "std::fs",
                "std::io",
                "std::io::Read",
                "std::time::Duration",
                "std::time::Instant",
                "crate::a",
                "x::*"
            ]
        );
    }

    #[test]
    fn paths_in_expressions_are_found_with_their_line() {
        let found = mentions("fn f() {\n  let t = std::time::Instant::now();\n}\n");
        assert_eq!(
            found,
            [Mention {
                line: 2,
                path: "std::time::Instant::now".into(),
                import: false
            }]
        );
    }

    #[test]
    fn modules_are_told_apart_by_what_they_are_for() {
        let code = "mod a;\n#[cfg(test)]\nmod fixtures;\n#[cfg(test)]\nmod tests { fn f() { g(); } }\npub mod b {}";
        assert_eq!(child_modules(code), ["a", "fixtures", "tests", "b"]);
        assert_eq!(test_modules(code), ["fixtures"]);
    }

    #[test]
    fn test_modules_do_not_count() {
        let code = "use a::b;\n#[cfg(test)]\nmod tests {\n  use std::fs; fn f() { {} }\n}\nuse c::d;\n#[cfg(test)]\nmod t;\n";
        assert_eq!(paths(&without_tests(code)), ["a::b", "c::d"]);
    }
}
