//! Do README and `docs/` say what sockleak prints? Every fenced block is run and compared; see
//! [`sockleak_tests::docs`] for how blocks are bound.
//!
//! `DOCS_UPDATE=1 cargo test -p sockleak-tests --test docs` writes what is printed now into the blocks that differ.
//! Needs root for the demos.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use sockleak_tests::docs::page::{Bound, Page};
use sockleak_tests::docs::stage::{Held, Theatre};
use sockleak_tests::docs::{fields, links, pages, picture, root, typed};

/// Demos at a time: they mostly wait. What is written into the pages is of one at a time: some figures are of the
/// whole host.
const LANES: usize = 4;

/// Demos that take long to start: first.
const LONG: [&str; 2] = ["parity", "bound-leak"];

fn parsed() -> Vec<Page> {
    let pages = pages().expect("the pages");
    assert!(pages.len() > 2, "{pages:?}");
    let pages = pages.iter().map(|path| {
        let text = fs::read_to_string(root().join(path)).expect("a page");
        Page::parse(path, &text)
    });
    let (good, bad): (Vec<_>, Vec<_>) = pages.partition(Result::is_ok);
    let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    good.into_iter().filter_map(Result::ok).collect()
}

fn updating() -> bool {
    std::env::var_os("DOCS_UPDATE").is_some()
}

/// No block is left out in silence: those that are not run are listed, and their commands are accepted.
#[test]
fn every_block_is_bound_and_every_command_is_accepted() {
    let mut wrong = Vec::new();
    for page in parsed() {
        for bound in &page.bound {
            if let Some(reason) = &bound.marker.not_run {
                println!("not run: {}: {reason}", bound.name);
            }
            for command in &bound.commands {
                if let Err(error) = typed::check(&command.text) {
                    wrong.push(format!("{}: {error}", bound.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Links between pages lead somewhere.
#[test]
fn no_link_is_broken() {
    let others = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let all = (pages().expect("pages").into_iter()).chain(others.map(PathBuf::from));
    let wrong: Vec<String> = all.flat_map(|page| links::broken(&root(), &page)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a field means is written in the schemas, and nowhere else.
#[test]
fn the_page_of_fields_is_what_the_schemas_say() {
    let path = root().join("docs/fields.md");
    let made = fields::page().expect("every property is described");
    if updating() {
        fs::write(&path, &made).expect("the page");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    let difference = page
        .lines()
        .zip(made.lines())
        .find(|(page, made)| page != made);
    assert!(
        page == made,
        "docs/fields.md differs from docs/schema (DOCS_UPDATE=1 writes it): {difference:?}"
    );
}

/// The picture is what the screen shows of a recording.
#[test]
fn the_picture_is_the_screen() {
    let path = root().join("docs/img/watch.svg");
    let recording = root().join("sockleak-user/src/cli/recorded/linux-6.12.rec");
    let made = picture::of_recording(&recording).expect("a picture");
    if updating() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, &made).expect("the picture");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/img/watch.svg is not what the screen shows (DOCS_UPDATE=1 writes it)"
    );
}

/// A label that the page of fields gives is one that plain output has.
#[test]
fn labels_of_fields_are_printed() {
    let goldens = root().join("sockleak-user/src/render/goldens");
    let mut printed = String::new();
    for entry in fs::read_dir(goldens).expect("goldens") {
        printed += &fs::read_to_string(entry.expect("an entry").path()).expect("a golden");
    }
    let labels = fields::labels().expect("schemas");
    assert!(labels.len() > 50 && !printed.is_empty());
    let missing: Vec<_> = labels
        .iter()
        .filter(|label| !printed.contains(label.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are in no golden of plain output"
    );
}

/// A block that is run: its page and its place there.
type Place = (usize, usize);

/// What is run one after the other: next to one demo, or one block by itself.
struct Unit<'a> {
    held: Option<String>,
    blocks: Vec<(Place, &'a Bound)>,
}

/// What became of a block: its outputs, or why there are none.
type Outcome = Result<Vec<String>, String>;

#[test]
fn every_block_says_what_is_printed() {
    let pages = parsed();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED docs: the blocks are not run, demos need root");
        return;
    }
    let begin = Instant::now();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{}", std::process::id()));
    let program = Path::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    let theatre = Theatre::build(&dir, program).expect("a theatre");
    let units = all_units(&pages);
    let (done, pages, lanes) = (
        Mutex::new(BTreeMap::new()),
        &pages,
        if updating() { 1 } else { LANES },
    );
    all(&theatre, units, lanes, &done);
    // On a busy machine demos disturb each other: what differs gets a second chance, alone.
    let mut again = all_units(pages);
    let first = done.lock().expect("the outcomes").clone();
    let differing = |unit: &Unit<'_>| {
        let mut blocks = unit.blocks.iter();
        blocks.any(|(place, bound)| differs(bound, first.get(place)))
    };
    // With all that is done on their pages, in empty directories: a recording, say, must not be there already.
    let whole: BTreeSet<usize> = again
        .iter()
        .filter(|unit| differing(unit))
        .flat_map(|unit| unit.blocks.iter().map(|((page, _), _)| *page))
        .collect();
    again.retain(|unit| {
        unit.blocks
            .iter()
            .any(|((page, _), _)| whole.contains(page))
    });
    if !updating() && !again.is_empty() {
        println!("once more, alone: {} units", again.len());
        theatre.clear().expect("empty directories");
        all(&theatre, again, 1, &done);
    }
    let outcomes = done.into_inner().expect("the outcomes");
    println!("{} blocks in {:.1?}", outcomes.len(), begin.elapsed());
    fs::remove_dir_all(&dir).expect("cleared");
    let mut wrong = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        judge(index, page, &outcomes, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "{}\n\nIf that is how it shall be: DOCS_UPDATE=1",
        wrong.join("\n")
    );
}

/// Plays units, the last of the list first, so many at a time.
fn all(theatre: &Theatre, units: Vec<Unit>, lanes: usize, done: &Mutex<BTreeMap<Place, Outcome>>) {
    let left = Mutex::new(units);
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(unit) = { left.lock().expect("the list").pop() } {
                    let played = play(theatre, &unit);
                    done.lock().expect("the outcomes").extend(played);
                }
            });
        }
    });
}

/// Whether a block was run and is not what was printed.
fn differs(bound: &Bound, outcome: Option<&Outcome>) -> bool {
    match outcome {
        None => false,
        Some(Err(_)) => true,
        Some(Ok(outputs)) => bound.shows && difference(bound, outputs).is_some(),
    }
}

fn difference(bound: &Bound, outputs: &[String]) -> Option<String> {
    (bound.commands.iter().zip(outputs))
        .find_map(|(command, output)| bound.compare(command, output).err())
}

/// What is to be run, what takes long last.
fn all_units(pages: &[Page]) -> Vec<Unit<'_>> {
    let mut units = units(pages);
    let is_long = |unit: &Unit| {
        let texts = unit.blocks.iter().flat_map(|(_, bound)| &bound.commands);
        let mut named = (texts.map(|command| command.text.as_str())).chain(unit.held.as_deref());
        named.any(|name| LONG.iter().any(|long| name.ends_with(long)))
    };
    units.sort_by_key(|unit| (is_long(unit), unit.held.is_some()));
    units
}

fn units(pages: &[Page]) -> Vec<Unit<'_>> {
    let mut held: BTreeMap<String, Unit> = BTreeMap::new();
    let mut alone = Vec::new();
    for (page_index, page) in pages.iter().enumerate() {
        for (index, bound) in page.bound.iter().enumerate() {
            let needs = &bound.marker.needs;
            let missing = needs.iter().find(|program| !is_there(program));
            if bound.marker.not_run.is_some() {
                continue;
            }
            if let Some(missing) = missing {
                eprintln!("SKIPPED docs: {} needs {missing}", bound.name);
                continue;
            }
            let block = ((page_index, index), bound);
            match &bound.marker.held {
                Some(demo) => {
                    let unit = held.entry(demo.clone()).or_insert_with(|| Unit {
                        held: Some(demo.clone()),
                        blocks: Vec::new(),
                    });
                    unit.blocks.push(block);
                }
                None => alone.push(Unit {
                    held: None,
                    blocks: vec![block],
                }),
            }
        }
    }
    held.into_values().chain(alone).collect()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn play(theatre: &Theatre, unit: &Unit) -> Vec<(Place, Outcome)> {
    let begin = Instant::now();
    let held = unit
        .held
        .as_deref()
        .map(|demo| theatre.hold(demo))
        .transpose();
    let held = match held {
        Ok(held) => held,
        Err(error) => {
            let why = |(place, _): &(Place, &Bound)| (*place, Err(format!("{error:#}")));
            return unit.blocks.iter().map(why).collect();
        }
    };
    // The same command on several pages is run once.
    let mut known: BTreeMap<String, (String, i32)> = BTreeMap::new();
    let done = unit.blocks.iter().map(|(place, bound)| {
        let name = unit
            .held
            .as_deref()
            .unwrap_or(&bound.name)
            .replace('/', "-");
        (
            *place,
            perform(theatre, &name, bound, held.as_ref(), &mut known),
        )
    });
    let done = done.collect();
    let what = unit
        .held
        .as_deref()
        .unwrap_or_else(|| unit.blocks.first().map_or("", |(_, bound)| &bound.name));
    println!("{what}: {:.1?}", begin.elapsed());
    done
}

fn perform(
    theatre: &Theatre,
    place: &str,
    bound: &Bound,
    held: Option<&Held>,
    known: &mut BTreeMap<String, (String, i32)>,
) -> Outcome {
    let mut outputs = Vec::new();
    for (index, command) in bound.commands.iter().enumerate() {
        let (printed, status) = match known.get(&command.text) {
            Some(known) => known.clone(),
            None => {
                let run = theatre.run(place, &command.text, held, bound.marker.inside);
                let run = run.map_err(|error| format!("{error:#}"))?;
                known.insert(command.text.clone(), run.clone());
                run
            }
        };
        let last = index + 1 == bound.commands.len();
        let expected = if last { bound.marker.status } else { 0 };
        if status != expected {
            return Err(format!(
                "`{}` ended with {status}, not {expected}:\n{printed}",
                command.text
            ));
        }
        outputs.push(printed);
    }
    Ok(outputs)
}

/// Compares the blocks of a page; with `DOCS_UPDATE` the page is written anew where they differ.
fn judge(index: usize, page: &Page, outcomes: &BTreeMap<Place, Outcome>, wrong: &mut Vec<String>) {
    let mut changed = Vec::new();
    for (at, bound) in page.bound.iter().enumerate() {
        let outputs = match outcomes.get(&(index, at)) {
            None => continue,
            Some(Err(error)) => {
                wrong.push(format!("{}: {error}", bound.name));
                continue;
            }
            Some(Ok(outputs)) => outputs,
        };
        if !bound.shows {
            continue;
        }
        let Some(difference) = difference(bound, outputs) else {
            continue;
        };
        match bound.rewritten(outputs) {
            Ok(lines) if updating() && bound.marker.written.is_none() => changed.push((at, lines)),
            Ok(_) => wrong.push(format!("{}: {difference}", bound.name)),
            Err(error) => wrong.push(format!(
                "{}: {error}\nof:\n{}",
                bound.name,
                outputs.join("\n")
            )),
        }
    }
    if !changed.is_empty() {
        fs::write(root().join(&page.path), page.with(&changed)).expect("the page");
        println!(
            "{}: {} blocks written anew",
            page.path.display(),
            changed.len()
        );
    }
}
