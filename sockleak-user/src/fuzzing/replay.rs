//! What fuzzing has found before, and a little more of the same, with every run of the tests.

use std::{fs, path::Path};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{TARGETS, Target};

/// Mutated inputs for each target.
const CASES: u32 = 300;

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
    /// The end of another input.
    Splice(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let edges = prop::sample::select(vec![0_u8, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'0', b'9']);
    prop_oneof![
        3 => (at(), edges).prop_map(|(at, byte)| Change::Set(at, byte)),
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1..64_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (at(), 1..64_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), at()).prop_map(|(at, other)| Change::Splice(at, other)),
    ]
}

fn changed(corpus: &[Vec<u8>], which: prop::sample::Index, changes: &[Change]) -> Vec<u8> {
    let mut data = which.get(corpus).clone();
    for change in changes {
        if data.is_empty() {
            data.push(0);
        }
        let len = data.len();
        match change {
            Change::Set(at, byte) => data[at.index(len)] = *byte,
            Change::Flip(at, bit) => data[at.index(len)] ^= 1 << bit,
            Change::Insert(at, bytes) => {
                let at = at.index(len);
                data.splice(at..at, bytes.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(len);
                data.drain(at..(at + count).min(len));
            }
            Change::Repeat(at, count) => {
                let at = at.index(len);
                let piece = data[at..(at + count).min(len)].to_vec();
                data.splice(at..at, piece);
            }
            Change::Cut(at) => data.truncate(at.index(len)),
            Change::Splice(at, other) => {
                let other = other.get(corpus);
                let at = at.index(len);
                data.truncate(at);
                data.extend(other.iter().skip(at));
            }
        }
    }
    data
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let dir = dir.join(target.name);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("no corpus in {}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no inputs", target.name);
    files
        .iter()
        .map(|file| fs::read(file).expect("an input can be read"))
        .collect()
}

/// The same inputs on every machine and in every run.
fn mutate(target: &Target) {
    let corpus = corpus(target);
    for data in &corpus {
        (target.run)(data);
    }
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let inputs = (
        any::<prop::sample::Index>(),
        prop::collection::vec(change(), 1..12),
    );
    let result = TestRunner::new_with_rng(config, rng).run(&inputs, |(which, changes)| {
        (target.run)(&changed(&corpus, which, &changes));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{}: {error}", target.name);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let target = TARGETS.iter().find(|target| target.name == stringify!($name));
            mutate(target.expect("it is a target"));
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, run);
        }
    };
}

targets!(records tracker recording lines btf perf_map symbols proc netlink);
