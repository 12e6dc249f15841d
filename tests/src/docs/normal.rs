//! Output without what differs between two runs: figures, times, sizes, places in a program, bars.
//!
//! Words, names, columns, addresses with fixed ports and their order stay, so that a sentence, a field or a
//! column that was renamed is a difference.

/// Lines from this indentation on continue the line before.
const CONTINUED: usize = 10;

/// A line of output with those that continue it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paragraph {
    /// As printed.
    pub lines: Vec<String>,
    /// Whether an empty line is before it.
    pub after_gap: bool,
}

impl Paragraph {
    /// In one line, white space as one blank.
    pub fn text(&self) -> String {
        let words = self.lines.iter().flat_map(|line| line.split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The paragraphs of an output.
pub fn paragraphs<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Paragraph> {
    let mut found: Vec<Paragraph> = Vec::new();
    let mut gap = false;
    for line in lines {
        let line = line.trim_end();
        if line.is_empty() {
            gap = true;
            continue;
        }
        let indentation = line.len() - line.trim_start().len();
        match found.last_mut() {
            Some(last) if indentation >= CONTINUED && !gap => last.lines.push(line.to_owned()),
            _ => found.push(Paragraph {
                lines: vec![line.to_owned()],
                after_gap: gap && !found.is_empty(),
            }),
        }
        gap = false;
    }
    found
}

/// What is compared. `exact` are figures that stay.
pub fn normal(paragraph: &Paragraph, exact: &[String]) -> String {
    let text = paragraph.text();
    let stack = text
        .split_once(" created at: ")
        .or_else(|| text.split_once("stack "));
    let text = match stack {
        Some((before, frames)) if text.starts_with("stack ") => {
            let words = ["stack", before.trim(), &own_frames(frames)].join(" ");
            words.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        _ => text,
    };
    let words = text
        .split(' ')
        .map(|word| bar(word).unwrap_or_else(|| figures(word, exact)));
    units(&words.collect::<Vec<_>>())
}

/// Of a stack only the functions of sockleak's own demos: what the C library, the runtime and the optimiser
/// make of the others differs between builds.
fn own_frames(frames: &str) -> String {
    let own = frames
        .split(' ')
        .filter(|frame| frame.starts_with("sockleak::demo::") && !frame.contains("bare_socket"));
    let names = own.map(|frame| frame.split('+').next().unwrap_or(frame));
    names.collect::<Vec<_>>().join(" ")
}

/// A bar by its shape: short or long.
fn bar(word: &str) -> Option<String> {
    if !word.is_empty() && word.chars().all(|c| c == '#') {
        return Some(
            if word.len() <= 10 {
                "{short bar}"
            } else {
                "{long bar}"
            }
            .to_owned(),
        );
    }
    let inner = word.strip_prefix('[')?.strip_suffix(']')?;
    let drawn = inner.len() >= 20 && inner.chars().all(|c| matches!(c, 'a'..='z' | '.'));
    drawn.then(|| "{bar}".to_owned())
}

/// A word with `{n}` for each figure. IP addresses stay, and ports of servers behind them.
fn figures(word: &str, exact: &[String]) -> String {
    let mut out = String::new();
    let mut rest = word;
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        if !next.is_ascii_digit() || is_part_of_a_name(before) {
            out.push(next);
            before = Some(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
            continue;
        }
        let length = number(rest);
        let (figure, after) = rest.split_at(length);
        if exact.iter().any(|one| one == figure)
            || is_address(figure)
            || is_server_port(&out, figure)
        {
            out.push_str(figure);
        } else {
            if matches!(out.as_str(), "+" | "-") {
                out.clear();
            }
            out.push_str("{n}");
        }
        before = Some('0');
        rest = after;
        // 0x1f, 4ms: what is attached to a figure is a unit or more of it, not a name.
        if figure == "0" && rest.starts_with('x') {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        }
    }
    out
}

fn is_part_of_a_name(before: Option<char>) -> bool {
    before.is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// Length of the figure at the start: digits, `,` and `.` between digits.
fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(byte) = bytes.get(length) {
        let between =
            matches!(byte, b',' | b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
        if !byte.is_ascii_digit() && !between {
            break;
        }
        length += 1;
    }
    length
}

fn is_address(figure: &str) -> bool {
    figure.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Whether this is the port of an address of the demos: below every range that they use.
fn is_server_port(before: &str, figure: &str) -> bool {
    let address = before.strip_suffix(':').map(|text| {
        text.rsplit(|c: char| !c.is_ascii_digit() && c != '.')
            .next()
            .unwrap_or(text)
    });
    address.is_some_and(is_address) && figure.parse::<u16>().is_ok_and(|port| port < 10_000)
}

/// Joins the words; times in any unit become `{t}`, sizes `{b}`: `1 m 18 s` is `{t}` as `950 ms` is.
fn units(words: &[String]) -> String {
    const TIMES: [&str; 8] = ["ns", "us", "ms", "s", "m", "h", "d", "min"];
    const SIZES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "bytes"];
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let trail = word.len() - word.trim_end_matches([',', ';', ':', '.', ')']).len();
        let (unit, end) = word.split_at(word.len() - trail);
        let last = out.last().cloned().unwrap_or_default();
        let kind = |unit: &str| match () {
            () if TIMES.contains(&unit) => Some("{t}"),
            () if SIZES.contains(&unit) => Some("{b}"),
            () => None,
        };
        if let (Some(start), Some(kind)) = (last.strip_suffix("{n}"), kind(unit)) {
            let joined = format!("{start}{kind}{end}");
            out.pop();
            // 1 m 18 s
            if start.is_empty() && out.last().is_some_and(|before| before == "{t}") {
                out.pop();
            }
            out.push(joined);
        } else if let Some(at) = unit.rfind("{n}")
            && let Some(kind) = unit.get(at + 3..).and_then(kind)
        {
            out.push(format!("{}{kind}{end}", unit.get(..at).unwrap_or_default()));
        } else {
            out.push(word.clone());
        }
    }
    out.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        paragraphs(text.lines())
            .iter()
            .map(|one| normal(one, &[]))
            .collect()
    }

    #[test]
    fn two_runs_of_one_incident_are_equal() {
        let equal = [
            (
                "LEAK  app[154]  28,983 sockets",
                "LEAK  app[16172]  7,935 sockets",
            ),
            (
                "pace    +1,122/min, oldest 1 m 18 s, confidence 0.99",
                "pace    +854/min, oldest 13 s, confidence 0.95",
            ),
            ("reached in 6 h 48 m", "reached in 2.5 s"),
            ("search  885 us, 4,000 ports", "search  1.1 ms, 4,000 ports"),
            (
                "self      CPU 8.0 s (10.03 % of a core), memory 29 MiB",
                "self      CPU 551 ms (8 % of a core), memory 990 KiB",
            ),
            ("a <264us b", "a <1.5ms b"),
            (
                "used by worker-1[1] 1,010, worker-4[4] 980",
                "used by worker-3[9] 1,000, worker-2[2] 1",
            ),
            (
                "stack   2 of 2 created at:\n              socket+0x6 [sockleak]\n              sockleak::demo::a::B::c+0x21 [sockleak]",
                "stack   7 of 7 created at:\n              __GI_socket (x.S:120)\n              sockleak::demo::closed_leak::bare_socket (c.rs:1)\n              sockleak::demo::a::B::c\n              (a.rs:5)\n              std::rt::lang_start (rt.rs:205)",
            ),
            (
                "stack   __GI_socket (x.S:120)\n              sockleak::demo::a::B::c\n              (a.rs:5)",
                "stack   socket+0x6 [libc.so.6]\n              sockleak::demo::a::B::c+0x4e\n              [sockleak]",
            ),
            (
                "why     100 are 50 %; the\n              longest for 1 s",
                "why     7 are 5 %; the longest for\n              20 m",
            ),
        ];
        for (one, other) in equal {
            assert_eq!(of(one), of(other));
        }
    }

    #[test]
    fn what_a_reader_would_notice_is_a_difference() {
        let different = [
            (
                "after   bind() failed (EADDRINUSE)",
                "after   bind() failed (EADDRNOTAVAIL)",
            ),
            ("to 127.0.0.1:2280", "to 127.0.0.1:2281"),
            ("to 127.0.0.1:2280", "to 127.0.0.2:2280"),
            ("PID COMM UNBOUND BOUND", "PID COMM BOUND UNBOUND"),
            (
                "limit   file descriptors 5 of 9",
                "limit   local ports 5 of 9",
            ),
            ("5 sockets", "no sockets"),
            ("0.3 % of a core", "0.3 % to 3.4 % of a core"),
            ("tcp_v4_connect", "tcp_v6_connect"),
            ("1,000 1.0 us ###", "1,000 1.0 us ###################"),
            (
                "stack   1 of 1 created at:\n              sockleak::demo::a+0x1",
                "stack   1 of 1 created at:\n              sockleak::demo::b+0x1",
            ),
        ];
        for (one, other) in different {
            assert_ne!(of(one), of(other), "{one:?}");
        }
    }

    #[test]
    fn figures_that_have_to_be_exact_stay() {
        let exact = ["12,001".to_owned(), "50000".to_owned()];
        let of = |text: &str| normal(&paragraphs([text])[0], &exact);
        assert_eq!(
            of("12,001 of 12,001 ports of 50000-62000"),
            "12,001 of 12,001 ports of 50000-{n}"
        );
        assert_ne!(of("12,001 ports"), of("12,002 ports"));
    }

    #[test]
    fn an_empty_line_ends_a_paragraph() {
        let found = paragraphs(["a", "", "              b", "c", "              d"]);
        let gaps: Vec<_> = found
            .iter()
            .map(|one| (one.text(), one.after_gap))
            .collect();
        assert_eq!(
            gaps,
            [
                ("a".into(), false),
                ("b".into(), true),
                ("c d".into(), false)
            ]
        );
    }
}
