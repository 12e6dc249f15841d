//! The man pages, read by those who are strict.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sockleak_pages::{Page, manual};

/// Widest terminal that a page is made for.
const WIDTH: usize = 80;

fn pages() -> Vec<Page> {
    manual("2026-11-21").expect("every command has a page")
}

fn with_files(test: &str, check: impl Fn(&Path, &Page)) {
    let dir = std::env::temp_dir().join(format!("sockleak-man-{test}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    for page in pages() {
        let path = dir.join(&page.file);
        fs::write(&path, &page.text).expect("it is ours");
        check(&path, &page);
    }
    fs::remove_dir_all(&dir).expect("it is ours");
}

/// What a program prints, both streams; `None` where it is not here.
fn said(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", WIDTH.to_string())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        let reason = format!("SKIPPED man pages: {program} is not here (apt install {program})");
        let _ = writeln!(std::io::stderr(), "{reason}");
        return None;
    };
    let streams = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&streams).into_owned())
}

#[test]
fn every_page_has_what_a_reader_looks_for() {
    let pages = pages();
    assert_eq!(pages.len(), 9);
    for page in pages {
        let text = String::from_utf8(page.text).expect("it is ASCII or UTF-8");
        let sections = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
        ];
        for section in sections {
            let heading = format!("\n.SH {section}\n");
            assert_eq!(
                text.matches(&heading).count(),
                1,
                "{section} of {}",
                page.file
            );
        }
        // Its own name is no other page.
        let own = page.file.trim_end_matches(".1").replace('-', "\\-");
        let (_, others) = text.split_once(".SH SEE ALSO").expect("it was counted");
        assert!(!others.contains(&format!(".BR {own} (1)")), "{}", page.file);
    }
}

#[test]
fn mandoc_has_nothing_against_them() {
    with_files("lint", |path, page| {
        if let Some(said) = said("mandoc", &["-T", "lint", "-W", "warning"], path) {
            assert_eq!(said, "", "{}", page.file);
        }
    });
}

#[test]
fn groff_has_nothing_against_them_and_no_line_is_too_wide() {
    with_files("groff", |path, page| {
        let arguments = ["-man", "-Tutf8", "-ww", "-rLL=78n", "-P-cbou"];
        if let Some(said) = said("groff", &arguments, path) {
            assert!(!said.contains("warning"), "{}: {said}", page.file);
            let wide = said.lines().find(|line| line.chars().count() > WIDTH);
            assert_eq!(wide, None, "{}", page.file);
        }
    });
}
