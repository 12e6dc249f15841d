//! docs/agent.md: the table and the text around it.

use std::fmt::Write as _;

use serde_json::Value;

use super::agent::{Place, Sizes};

/// The whole document.
pub fn document(places: &[Place], sizes: &Sizes, command: &str) -> String {
    let mut out = format!(
        "# What the agent itself takes\n\n\
         Made by `{command}`.\n\n\
         Idle sockets are held by five processes, or by more where the limit on descriptors wants it. A connection \
         is connect, accept and close of both ends over loopback, in a network namespace of its own. *CPU* is \
         that of the agent's threads and children, as a share of one processor, after the first quarter of \
         the time; what the hooks add to the connections themselves is in [overhead.md](overhead.md). *Memory* is \
         resident at the end of that time, *heap* the part of it that no file backs, *peak* the most since the \
         start. *First line* is from starting the program to its first line of output, with the first \
         inventory; *attach* is its own figure for loading and attaching. Times of starts are the middle one of \
         five, of looks of three.\n\n"
    );
    for place in places {
        let _ = writeln!(out, "## {}\n", place.name);
        starts(&mut out, place);
        rates(&mut out, place);
        looks(&mut out, place);
    }
    let _ = writeln!(
        out,
        "## Files\n\n| file | KiB |\n|---|---:|\n| program, linked statically | {} |",
        sizes.program / 1024
    );
    if let Some(stripped) = sizes.stripped {
        let _ = writeln!(
            out,
            "| the same without names of functions | {} |",
            stripped / 1024
        );
    }
    let _ = writeln!(out, "| BPF object in it | {} |", sizes.object / 1024);
    out
}

fn starts(out: &mut String, place: &Place) {
    let mut found = place
        .lines
        .iter()
        .filter(|line| line.get("starts").is_some());
    if let Some(line) = found.next() {
        let _ = writeln!(
            out,
            "| first line | attach | exit |\n|---:|---:|---:|\n| {} | {} | {} |\n",
            ms(line, "first_line_ns"),
            ms(line, "attach_ns"),
            ms(line, "exit_ns")
        );
    }
}

fn rates(out: &mut String, place: &Place) {
    *out += "| sockets held | by processes | connections/s | CPU | memory, MiB | heap, MiB | peak, MiB | \
             exit | difference |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for line in place.lines.iter().filter(|line| line.get("rate").is_some()) {
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {:.2} % | {} | {} | {} | {} | {} |",
            text(line, "live"),
            text(line, "processes"),
            number(line, "connections_per_s"),
            number(line, "cpu_share") * 100.0,
            mib(line, "rss_kb"),
            mib(line, "anon_kb"),
            mib(line, "peak_kb"),
            ms(line, "exit_ns"),
            text(line, "difference"),
        );
    }
    *out += "\n";
}

fn looks(out: &mut String, place: &Place) {
    let all: Vec<&Value> = place
        .lines
        .iter()
        .filter(|line| line.get("look").is_some())
        .collect();
    if all.is_empty() {
        return;
    }
    *out += "| sockets held | looked at with | whole command | of that, the look |\n|---:|---|---:|---:|\n";
    for line in all {
        let name = line.get("look").and_then(Value::as_str).unwrap_or_default();
        let words = match name {
            "sockleak" => "`sockleak snapshot --json`".to_owned(),
            other => {
                let words = line.get("words").and_then(Value::as_array);
                let words = words.into_iter().flatten().filter_map(Value::as_str);
                format!("`{other} {}`", words.collect::<Vec<_>>().join(" "))
            }
        };
        let walk = line.get("walk_s").and_then(Value::as_f64);
        let walk = walk.map_or(String::new(), |walk| format!("{:.1} ms", walk * 1e3));
        let _ = writeln!(
            out,
            "| {} | {words} | {} | {walk} |",
            text(line, "live"),
            ms(line, "whole_ns")
        );
    }
    *out += "\n";
}

fn number(line: &Value, name: &str) -> f64 {
    line.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn text(line: &Value, name: &str) -> String {
    line.get(name)
        .map_or_else(|| "?".to_owned(), Value::to_string)
}

fn mib(line: &Value, name: &str) -> String {
    format!("{:.1}", number(line, name) / 1024.0)
}

fn ms(line: &Value, name: &str) -> String {
    format!("{:.1} ms", number(line, name) / 1e6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_figure_has_its_cell_and_what_is_missing_is_not_zero() {
        let place = Place {
            name: "somewhere".to_owned(),
            lines: vec![
                json!({"starts": 5, "first_line_ns": 12_340_000, "attach_ns": 9_000_000}),
                json!({"live": 100_000, "processes": 6, "rate": "max", "connections_per_s": 20_000.4,
                       "cpu_share": 0.00123, "rss_kb": 15_360, "anon_kb": 10_240, "peak_kb": 20_480,
                       "exit_ns": 5_000_000, "difference": 0}),
                json!({"look": "sockleak", "live": 100_000, "whole_ns": 90_000_000, "walk_s": 0.05}),
                json!({"look": "lsof", "words": ["-nPw"], "live": 100_000, "whole_ns": 4e9}),
            ],
        };
        let sizes = Sizes {
            program: 5 << 20,
            stripped: None,
            object: 64 << 10,
        };
        let text = document(&[place], &sizes, "the command");
        for line in [
            "Made by `the command`.",
            "| 12.3 ms | 9.0 ms | NaN ms |",
            "| 100000 | 6 | 20000 | 0.12 % | 15.0 | 10.0 | 20.0 | 5.0 ms | 0 |",
            "| 100000 | `sockleak snapshot --json` | 90.0 ms | 50.0 ms |",
            "| 100000 | `lsof -nPw` | 4000.0 ms |  |",
            "| program, linked statically | 5120 |",
            "| BPF object in it | 64 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
