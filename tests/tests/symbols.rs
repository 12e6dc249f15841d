//! Are the functions of real processes named? The helper is the binary itself; what is right is
//! what the compiler was told.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sockleak::enrich::process::identify;
use sockleak::enrich::symbols::{Answer, Base, Kind, Request, Settings, Symbolizer, Why};
use sockleak::model::ProcessId;
use sockleak_tests::victim::{Scratch, Victim};

/// Says where it is: in `inner`, which becomes part of `leak_here`, which `main` calls.
const STACK: &str = r#"
#include <stdio.h>
#include <unistd.h>
#include <fcntl.h>
static void *seen[3];
__attribute__((noinline)) void leaf(int at) { seen[at] = __builtin_return_address(0); __asm__ volatile(""); }
static inline __attribute__((always_inline)) void inner(void) {
    leaf(0); /* line 8 */
    __asm__ volatile("");
}
__attribute__((noinline)) void leak_here(void) {
    inner(); /* line 12 */
    leaf(1); /* line 13 */
    __asm__ volatile("");
}
int main(int argc, char **argv) {
    leak_here();
    leaf(2); /* line 18 */
    printf("%p %p %p\n", seen[0], seen[1], seen[2]);
    fflush(stdout);
    for (;;) pause();
}
"#;

fn symbolizer() -> Symbolizer {
    let program = env!("CARGO_BIN_EXE_sockleak-under-test").into();
    Symbolizer::with(Settings {
        program,
        // Debug builds on a busy machine are slow.
        deadline: Duration::from_secs(20),
        ..Settings::default()
    })
    .expect("a thread")
}

fn ask(symbols: &mut Symbolizer, process: ProcessId, addresses: Vec<u64>) -> Answer {
    let asked = addresses.len();
    assert!(symbols.submit(Request {
        id: 7,
        process,
        addresses,
    }));
    let mut answers = symbols.resolve_all(Duration::from_secs(60));
    assert_eq!((answers.len(), symbols.outstanding()), (1, 0));
    let answer = answers.remove(0);
    assert_eq!((answer.id, answer.process), (7, process));
    assert_eq!(answer.frames.len(), asked);
    answer
}

fn names(answer: &Answer) -> Vec<&str> {
    let frames = answer.frames.iter().flatten();
    frames
        .map(|frame| frame.function.as_deref().unwrap_or("?"))
        .collect()
}

#[test]
fn with_debug_information_inlined_functions_and_lines_are_named() {
    let scratch = Scratch::new();
    let mut victim = Victim::start(&scratch.compile("app", STACK, &["-O2", "-g"]), &[]);
    let addresses = victim.addresses();
    let answer = ask(&mut symbolizer(), victim.process(), addresses);
    assert_eq!(
        answer.stack(),
        [
            "inner (app.c:8)",
            "leak_here (app.c:12)",
            "leak_here (app.c:13)",
            "main (app.c:18)",
        ]
    );
    let inlined: Vec<bool> = answer
        .frames
        .iter()
        .flatten()
        .map(|frame| frame.inlined)
        .collect();
    assert_eq!(inlined, [true, false, false, false]);
    assert_eq!(answer.why, None);
}

#[test]
fn without_debug_information_functions_are_named() {
    let scratch = Scratch::new();
    for flags in [
        &["-O2"][..],
        &["-O2", "-fomit-frame-pointer", "-static"],
        &["-O0", "-no-pie"],
    ] {
        let mut victim = Victim::start(&scratch.compile("app", STACK, flags), &[]);
        let addresses = victim.addresses();
        let answer = ask(&mut symbolizer(), victim.process(), addresses);
        assert_eq!(
            names(&answer),
            ["leak_here", "leak_here", "main"],
            "{flags:?}"
        );
        let first = &answer.frames[0][0];
        assert_eq!(
            first.to_string(),
            format!("leak_here+{:#x} [app]", first.offset)
        );
        assert!(first.offset < 64, "{first:?}");
    }
}

#[test]
fn stripped_code_is_given_as_addr2line_takes_it() {
    let scratch = Scratch::new();
    // Code in pages of its own, so that file offset and address differ.
    let app = scratch.compile(
        "app",
        STACK,
        &[
            "-O2",
            "-g",
            "-Wl,-z,separate-code",
            "-Wl,-Ttext-segment=0x40000",
        ],
    );
    let kept = scratch.path("kept");
    fs::copy(&app, &kept).expect("a copy with symbols");
    let strip = Command::new("strip")
        .arg("-s")
        .arg(&app)
        .status()
        .expect("strip is there");
    assert!(strip.success());
    let mut victim = Victim::start(&app, &[]);
    let addresses = victim.addresses();
    let answer = ask(&mut symbolizer(), victim.process(), addresses);
    let path = app.to_string_lossy().into_owned();
    assert_eq!(answer.why, Some(Why::NoSymbols(path.clone())));
    let expected = [("inner", 8), ("leak_here", 13), ("main", 18)];
    for (frames, (function, line)) in answer.frames.iter().zip(expected) {
        let [frame] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(
            (frame.counted_from, frame.kind),
            (Base::Module, Kind::Native)
        );
        assert_eq!(frame.module.as_ref(), Some(&path));
        assert_eq!(frame.to_string(), format!("app+{:#x}", frame.offset));
        let output = Command::new("addr2line")
            .args(["-f", "-e"])
            .arg(&kept)
            .arg(format!("{:#x}", frame.offset))
            .output()
            .expect("addr2line is there");
        let said = String::from_utf8_lossy(&output.stdout);
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some(function), "{said}");
        assert!(
            lines
                .next()
                .is_some_and(|at| at.contains(&format!("app.c:{line}"))),
            "{said}"
        );
    }
}

#[inline(never)]
fn here_in_rust<T: Copy>(value: T) -> T {
    black_box(value)
}

#[test]
fn a_rust_function_is_demangled() {
    let me = identify(std::process::id()).expect("we live");
    let address = here_in_rust::<u64> as fn(u64) -> u64 as usize as u64 + 1;
    let answer = ask(&mut symbolizer(), me, vec![address]);
    let frame = answer.frames[0].last().expect("a frame");
    let function = frame.function.as_deref().expect("a name");
    assert!(function.starts_with("symbols::here_in_rust"), "{function}");
    let (file, line) = frame
        .source
        .as_ref()
        .expect("tests are built with debug information");
    assert!(file.ends_with("tests/tests/symbols.rs"), "{file}");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/symbols.rs"));
    let text = text.expect("our source");
    let declared = text
        .lines()
        .position(|line| line.contains("fn here_in_rust"))
        .expect("it is there")
        + 1;
    assert_eq!(*line as usize, declared);
}

#[test]
fn a_process_that_has_ended_is_named_if_it_was_known() {
    let scratch = Scratch::new();
    let app = scratch.compile("app", STACK, &["-O2"]);
    let mut symbols = symbolizer();
    let mut known = Victim::start(&app, &[]);
    // Of a program of its own, which nobody has read yet.
    let own = scratch.compile("own", STACK, &["-O2"]);
    let mut zombie = Victim::start(&own, &[]);
    let mut unknown = Victim::start(&app, &[]);
    let (addresses, process) = (known.addresses(), known.process());
    let (others, other) = (unknown.addresses(), unknown.process());
    // Only what is mapped is remembered; the file is looked at later.
    let early = ask(&mut symbols, process, Vec::new());
    assert_eq!((early.frames, early.why), (vec![], None));
    known.end();
    unknown.end();
    let answer = ask(&mut symbols, process, addresses);
    assert_eq!(names(&answer), ["leak_here", "leak_here", "main"]);
    assert_eq!(answer.why, None);
    // Not waited for by its parent.
    let (addresses, process) = (zombie.addresses(), zombie.process());
    ask(&mut symbols, process, Vec::new());
    zombie.signal(rustix::process::Signal::KILL);
    let stat = format!("/proc/{}/stat", process.pid);
    while !fs::read_to_string(&stat).expect("stat").contains(") Z ") {
        std::thread::yield_now();
    }
    let answer = ask(&mut symbols, process, addresses);
    assert_eq!(names(&answer), ["leak_here", "leak_here", "main"]);
    assert_eq!(answer.why, None);
    let answer = ask(&mut symbols, other, others.clone());
    assert_eq!(answer.why, Some(Why::Gone));
    assert_eq!(answer.stack()[0], format!("{:#x}", others[0] - 1));
}

#[test]
fn a_file_that_took_the_place_of_the_mapped_one_is_not_taken_for_it() {
    let scratch = Scratch::new();
    let app = scratch.compile("app", STACK, &["-O2"]);
    let mut symbols = symbolizer();
    let mut victim = Victim::start(&app, &[]);
    let (addresses, process) = (victim.addresses(), victim.process());
    ask(&mut symbols, process, Vec::new());
    victim.end();
    fs::remove_file(&app).expect("it is there");
    scratch.compile("app", "int main(void) { return 0; }", &[]);
    let answer = ask(&mut symbols, process, addresses);
    assert_eq!(names(&answer), ["?", "?", "?"]);
    let Some(Why::NoFile { error, .. }) = &answer.why else {
        panic!("{:?}", answer.why);
    };
    assert!(error.contains("replaced"), "{error}");
    assert_eq!(answer.frames[0][0].counted_from, Base::File);
}

#[test]
fn a_removed_file_is_read_while_it_is_mapped() {
    let scratch = Scratch::new();
    let app = scratch.compile("app", STACK, &["-O2"]);
    let mut victim = Victim::start(&app, &[]);
    let addresses = victim.addresses();
    fs::remove_file(&app).expect("it is there");
    let answer = ask(&mut symbolizer(), victim.process(), addresses);
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: only root reads files that have no name; not tested here: a removed file");
        return;
    }
    assert_eq!(names(&answer), ["leak_here", "leak_here", "main"]);
    assert!(
        answer.stack()[0].ends_with(" [app]"),
        "{:?}",
        answer.stack()
    );
}

#[test]
fn another_process_of_the_same_pid_is_not_taken_for_it() {
    let scratch = Scratch::new();
    let mut victim = Victim::start(&scratch.compile("app", STACK, &["-O2"]), &[]);
    let addresses = victim.addresses();
    let mut process = victim.process();
    process.start_ticks += 1;
    let answer = ask(&mut symbolizer(), process, addresses.clone());
    assert_eq!(answer.why, Some(Why::Gone));
    process.start_ticks = 0;
    let answer = ask(&mut symbolizer(), process, addresses);
    assert_eq!(names(&answer)[0], "leak_here");
}

#[test]
fn a_program_that_replaces_itself_is_seen() {
    const FIRST: &str = r#"
#include <stdio.h>
#include <signal.h>
#include <unistd.h>
__attribute__((noinline)) void before_exec(char *next) { raise(SIGSTOP); execl(next, next, next, (char *)0); }
int main(int argc, char **argv) {
    printf("%p\n", (char *)&before_exec + 1);
    fflush(stdout);
    before_exec(argv[1]);
    return 1;
}
"#;
    let scratch = Scratch::new();
    let first = scratch.compile("first", FIRST, &["-O2"]);
    let next = scratch.compile("next", STACK, &["-O2"]);
    // The second time by itself, which then is at other addresses.
    for (next, expected) in [
        (&next, &["leak_here", "leak_here", "main"][..]),
        (&first, &["before_exec"]),
    ] {
        let mut victim = Victim::start(&first, &[&next.to_string_lossy()]);
        let mut symbols = symbolizer();
        let before = victim.addresses();
        let process = victim.process();
        let answer = ask(&mut symbols, process, before.clone());
        assert_eq!(names(&answer), ["before_exec"]);
        // It stops itself first, so that the signal cannot come too early.
        let stat = format!("/proc/{}/stat", process.pid);
        while !fs::read_to_string(&stat).expect("stat").contains(") T ") {
            std::thread::yield_now();
        }
        victim.signal(rustix::process::Signal::CONT);
        let after = victim.addresses();
        assert_eq!(victim.process(), process);
        let answer = ask(&mut symbols, process, after);
        assert_eq!(names(&answer), expected);
        // A stack from before is still named, unless something else is mapped there by chance.
        let answer = ask(&mut symbols, process, before);
        assert_eq!(names(&answer), ["before_exec"]);
    }
}

#[test]
fn python_is_named_by_its_native_frames() {
    let Some(python) = python() else {
        eprintln!("SKIP: there is no python3; not tested here: an interpreter");
        return;
    };
    // Two addresses of functions that every build of the interpreter exports.
    let code = "import ctypes,sys,time\n\
        f=lambda n: ctypes.cast(getattr(ctypes.pythonapi,n),ctypes.c_void_p).value+1\n\
        print('%x %x'%(f('PyObject_Call'),f('PyList_Append')),flush=True)\n\
        time.sleep(600)";
    let mut victim = Victim::start(Path::new(&python), &["-c", code]);
    let addresses = victim.addresses();
    let answer = ask(&mut symbolizer(), victim.process(), addresses);
    assert_eq!(
        names(&answer),
        ["PyObject_Call", "PyList_Append"],
        "{answer:?}"
    );
}

/// The interpreter itself rather than a script that starts it.
fn python() -> Option<String> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().to_owned())
}

#[test]
fn ten_thousand_addresses() {
    let scratch = Scratch::new();
    let functions: String = (0..10_000)
        .map(|n| {
            format!("__attribute__((noinline)) int function_{n}(int x) {{ return x * {n} + 1; }}\n")
        })
        .collect();
    let calls: String = (0..10_000)
        .map(|n| format!("(void *)&function_{n},"))
        .collect();
    let source = format!(
        "#include <stdio.h>\n#include <unistd.h>\n{functions}\nvoid *all[] = {{{calls}}};\n\
         int main(void) {{ for (int i = 0; i < 10000; i++) printf(\"%p \", (char *)all[i] + 1); \
         printf(\"\\n\"); fflush(stdout); for (;;) pause(); }}"
    );
    let mut victim = Victim::start(&scratch.compile("many", &source, &["-O1", "-g"]), &[]);
    let addresses = victim.addresses();
    assert_eq!(addresses.len(), 10_000);
    let mut symbols = symbolizer();
    let process = victim.process();
    let began = Instant::now();
    for (id, stack) in addresses.chunks(127).enumerate() {
        let addresses = stack.to_vec();
        assert!(symbols.submit(Request {
            id: id as u64,
            process,
            addresses
        }));
    }
    let answers = symbols.resolve_all(Duration::from_secs(120));
    eprintln!("10,000 addresses took {:.2?}", began.elapsed());
    let named: Vec<&str> = answers.iter().flat_map(names).collect();
    assert_eq!(named.len(), 10_000);
    for (number, name) in named.iter().enumerate() {
        assert_eq!(*name, format!("function_{number}"));
    }
}

#[test]
fn more_than_the_queue_holds_is_refused_and_counted() {
    let me = identify(std::process::id()).expect("we live");
    let mut symbols = Symbolizer::with(Settings {
        program: env!("CARGO_BIN_EXE_sockleak-under-test").into(),
        queue: 3,
        ..Settings::default()
    })
    .expect("a thread");
    let mut submit = |id| {
        symbols.submit(Request {
            id,
            process: me,
            addresses: vec![1; 1000],
        })
    };
    let taken: Vec<bool> = (0..5).map(&mut submit).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    assert_eq!((symbols.refused(), symbols.outstanding()), (2, 3));
    let answers = symbols.resolve_all(Duration::from_secs(20));
    let ids: Vec<u64> = answers.iter().map(|answer| answer.id).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert!(
        answers
            .iter()
            .all(|answer| answer.frames.len() == 512 && answer.why == Some(Why::NotMapped))
    );
    assert_eq!(symbols.outstanding(), 0);
}
