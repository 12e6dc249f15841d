//! Processes, files and helpers that do their worst: whoever asks for names gets an answer in
//! time, and lives.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use sockleak::enrich::process::identify;
use sockleak::enrich::symbols::{Answer, Base, Kind, Request, Settings, Symbolizer, Why};
use sockleak::model::ProcessId;
use sockleak_tests::victim::{Scratch, Victim};

const HELPER: &str = env!("CARGO_BIN_EXE_sockleak-under-test");

/// Has a page of code that no file contains, and says where; with an argument it also describes
/// the code as compilers do.
const JIT: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>
#include <sys/mman.h>
__attribute__((noinline)) void known(void) { __asm__ volatile(""); }
int main(int argc, char **argv) {
    char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc > 1) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
        FILE *map = fopen(path, "w");
        fprintf(map, "%lx 40 %s\n", (unsigned long)code, argv[1]);
        fclose(map);
    }
    printf("%p %p %p\n", code + 17, shared + 17, (char *)&known + 1);
    fflush(stdout);
    for (;;) pause();
}
"#;

fn with(program: &Path, deadline: Duration) -> Symbolizer {
    Symbolizer::with(Settings {
        program: program.to_owned(),
        deadline,
        ..Settings::default()
    })
    .expect("a thread")
}

fn symbolizer() -> Symbolizer {
    with(Path::new(HELPER), Duration::from_secs(20))
}

fn ask(symbols: &mut Symbolizer, process: ProcessId, addresses: &[u64]) -> Answer {
    assert!(symbols.submit(Request {
        id: 0,
        process,
        addresses: addresses.to_vec(),
    }));
    let mut answers = symbols.resolve_all(Duration::from_secs(100));
    assert_eq!(answers.len(), 1, "in time");
    let answer = answers.remove(0);
    assert_eq!(answer.frames.len(), addresses.len());
    answer
}

/// The perf map of a process, gone with this.
struct Map(PathBuf);

impl Map {
    fn of(victim: &Victim) -> Self {
        Self(PathBuf::from(format!("/tmp/perf-{}.map", victim.pid())))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn code_made_at_run_time_is_named_by_its_map() {
    let scratch = Scratch::new();
    let mut victim = Victim::start(&scratch.compile("jit", JIT, &[]), &[]);
    let addresses = victim.addresses();
    let process = victim.process();
    let map = Map::of(&victim);
    let mut symbols = symbolizer();
    let answer = ask(&mut symbols, process, &addresses);
    assert_eq!(answer.frames[0][0].kind, Kind::Jit);
    assert_eq!(answer.stack()[0], format!("[jit] {:#x}", addresses[0] - 1));
    assert!(answer.stack()[2].starts_with("known+0x0 ["), "{answer:?}");
    let Some(Why::NoPerfMap(why)) = answer.why else {
        panic!("{:?}", answer.why);
    };
    assert_eq!(why, "it writes no /tmp/perf-PID.map");

    // The first line is complete, garbage follows, the last one is being written.
    let (private, shared) = (addresses[0] - 17, addresses[1] - 17);
    let text = format!("{private:x} 40 Lcom/acme/Foo;::leak\ngarbage\n{shared:x} 40 hal");
    fs::write(&map.0, &text).expect("a map");
    let mut until = |address: u64, expected: &str| {
        // It is not looked for again at once.
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = ask(&mut symbols, process, &[address]);
            let shown = answer.stack().remove(0);
            if shown == expected {
                return;
            }
            assert!(Instant::now() < patience, "{shown}");
        }
    };
    until(addresses[0], "[jit] Lcom/acme/Foo;::leak");
    until(addresses[1], &format!("[jit] {:#x}", addresses[1] - 1));
    let mut file = fs::File::options()
        .append(true)
        .open(&map.0)
        .expect("a map");
    file.write_all(b"f written\n").expect("it grows");
    until(addresses[1], "[jit] half written");
    // What was said is still known when the process and its map are gone.
    victim.end();
    drop(map);
    until(addresses[0], "[jit] Lcom/acme/Foo;::leak");
}

#[test]
fn a_stopped_process_with_a_pipe_or_a_link_for_a_map_holds_nobody_up() {
    let scratch = Scratch::new();
    let app = scratch.compile("jit", JIT, &[]);
    for place in ["pipe", "link"] {
        let mut victim = Victim::start(&app, &[]);
        let addresses = victim.addresses();
        let map = Map::of(&victim);
        if place == "pipe" {
            mkfifoat(CWD, &map.0, Mode::from_raw_mode(0o600)).expect("a pipe");
        } else {
            std::os::unix::fs::symlink("/etc/passwd", &map.0).expect("a link");
        }
        victim.signal(Signal::STOP);
        let answer = ask(&mut symbolizer(), victim.process(), &addresses);
        assert_eq!(answer.stack()[0], format!("[jit] {:#x}", addresses[0] - 1));
        assert!(answer.stack()[2].starts_with("known+0x0 ["), "{answer:?}");
        let Some(Why::NoPerfMap(why)) = answer.why else {
            panic!("{place}: {:?}", answer.why);
        };
        let expected = if place == "pipe" {
            "is no regular file"
        } else {
            "symbolic links"
        };
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_map_of_two_million_lines_is_read_as_far_as_allowed() {
    let scratch = Scratch::new();
    let mut victim = Victim::start(&scratch.compile("jit", JIT, &[]), &[]);
    let addresses = victim.addresses();
    let map = Map::of(&victim);
    let mut text = format!("{:x} 40 the first\n", addresses[0] - 17);
    for line in 0..2_000_000 {
        text.push_str(&format!("{:x} 10 f{line}\n", line * 16));
    }
    text.push_str(&format!("{:x} 40 the last\n", addresses[1] - 17));
    fs::write(&map.0, text).expect("a map");
    let began = Instant::now();
    let answer = ask(&mut symbolizer(), victim.process(), &addresses);
    eprintln!("2,000,000 lines took {:.2?}", began.elapsed());
    assert_eq!(answer.stack()[0], "[jit] the first");
    assert_eq!(answer.frames[1][0].function, None);
}

#[test]
fn a_program_that_runs_from_memory_is_named() {
    const FROM_MEMORY: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/mman.h>
__attribute__((noinline)) void known(void) { __asm__ volatile(""); }
int main(int argc, char **argv) {
    if (argc == 1) {
        char buffer[65536];
        int memory = memfd_create("hidden", 0), self = open("/proc/self/exe", O_RDONLY);
        for (ssize_t len; (len = read(self, buffer, sizeof buffer)) > 0;) write(memory, buffer, len);
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
        execl(path, "hidden", "again", (char *)0);
        return 1;
    }
    printf("%p\n", (char *)&known + 1);
    fflush(stdout);
    for (;;) pause();
}
"#;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: only root reads files that have no name; not tested here: memfd programs");
        return;
    }
    let scratch = Scratch::new();
    let mut victim = Victim::start(&scratch.compile("memory", FROM_MEMORY, &[]), &[]);
    let addresses = victim.addresses();
    let answer = ask(&mut symbolizer(), victim.process(), &addresses);
    assert_eq!(answer.stack(), ["known+0x0 [memfd:hidden]"]);
    assert_eq!(answer.why, None);
}

#[test]
fn node_is_named_by_what_it_writes() {
    let code = "function leakHere(n) { let s = 0; for (let i = 0; i < n; i++) s += i % 7; return s; }\n\
        let s = 0; for (let i = 0; i < 3000; i++) s += leakHere(1000);\n\
        setInterval(() => { leakHere(10); }, 1000); console.log('1');";
    let node = ["/usr/bin/node", "/usr/local/bin/node"];
    let Some(node) = node.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("SKIP: there is no node; not tested here: a real just-in-time compiler");
        return;
    };
    let scratch = Scratch::new();
    // It writes one where it is started otherwise.
    let log = format!("--logfile={}", scratch.path("v8.log").display());
    let arguments = [
        "--perf-basic-prof",
        "--no-logfile-per-isolate",
        &log,
        "-e",
        code,
    ];
    let mut victim = Victim::start(Path::new(node), &arguments);
    victim.addresses();
    let map = Map::of(&victim);
    let text = fs::read_to_string(&map.0).expect("node writes it");
    // The last is the one that runs now.
    let line = text
        .lines()
        .rfind(|line| line.contains("leakHere"))
        .expect("it was compiled");
    let start = line.split(' ').next().expect("an address");
    let address = u64::from_str_radix(start.trim_start_matches("0x"), 16).expect("a number");
    let answer = ask(&mut symbolizer(), victim.process(), &[address + 8]);
    let shown = &answer.stack()[0];
    assert!(
        shown.starts_with("[jit] ") && shown.contains("leakHere"),
        "{answer:?}"
    );
}

#[test]
fn other_namespaces() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: namespaces need root; not tested here: stacks of containers");
        return;
    }
    let scratch = Scratch::new();
    let app = scratch.compile("jit", JIT, &["-g"]);
    let dir = app.parent().expect("a directory");
    // What is at /tmp/app there is something else here, if anything.
    let script = format!(
        "mount --bind {} /mnt && mount -t tmpfs none /tmp && cp /mnt/jit /tmp/app && umount /mnt && exec /tmp/app hidden",
        dir.display()
    );
    let arguments = ["-m", "-p", "--fork", "--kill-child", "sh", "-c", &script];
    let mut victim = Victim::start(Path::new("unshare"), &arguments);
    let addresses = victim.addresses();
    let children = format!("/proc/{0}/task/{0}/children", victim.pid());
    let child = fs::read_to_string(children).expect("children");
    let child = identify(child.trim().parse().expect("one child")).expect("it lives");
    let mut symbols = symbolizer();
    let answer = ask(&mut symbols, child, &addresses);
    assert_eq!(answer.stack()[0], "[jit] hidden");
    assert!(answer.stack()[2].starts_with("known (jit.c:"), "{answer:?}");
    assert_eq!(answer.frames[2][0].module.as_deref(), Some("/tmp/app"));
    victim.end();
    let answer = ask(&mut symbols, child, &addresses);
    assert_eq!(answer.stack()[0], "[jit] hidden");
}

/// A program that is started as helper: a script.
fn script(scratch: &Scratch, text: &str) -> PathBuf {
    let path = scratch.path("helper");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    path
}

#[test]
fn a_helper_that_dies_hangs_or_lies_costs_the_names_and_nothing_else() {
    let scratch = Scratch::new();
    let me = identify(std::process::id()).expect("we live");
    let ends_in = |deadline, text: &str| {
        let mut symbols = with(&script(&scratch, text), deadline);
        let first = ask(&mut symbols, me, &[0x1000, 0x2000]);
        // Now it is known, and answered at once.
        let second = ask(&mut symbols, me, &[0x1000, 0x2000]);
        assert_eq!(second, first);
        assert_eq!(first.stack(), ["0xfff", "0x1fff"]);
        first.why.expect("a reason")
    };
    let ends = |text: &str| ends_in(Duration::from_secs(20), text);
    let crashed = |how: &str| Why::Crashed(how.to_owned());
    let bus = "bus error (a file became shorter while it was mapped)";
    assert_eq!(ends("kill -BUS $$"), crashed(bus));
    assert_eq!(
        ends("head -c 4 > /dev/null; kill -SEGV $$"),
        crashed("segmentation fault")
    );
    assert_eq!(ends("exit 3"), crashed("exit status 3"));
    let soon = Duration::from_millis(300);
    assert_eq!(ends_in(soon, "exec sleep 1000"), Why::TimedOut);
    // Written back to the agent: what is no message.
    for lie in [
        r"printf '\377\377\377\377' >&0",
        r"printf '\002\000\000\000{]' >&0",
    ] {
        assert!(matches!(
            ends(&format!("{lie}; exec sleep 1000")),
            Why::Crashed(_)
        ));
    }
    let mut nobody = with(&scratch.path("nobody"), Duration::from_secs(1));
    let answer = ask(&mut nobody, me, &[0x1000]);
    assert!(matches!(answer.why, Some(Why::NoHelper(_))), "{answer:?}");
}

#[test]
fn after_a_death_less_is_read_of_that_process_and_all_of_others() {
    let scratch = Scratch::new();
    let app = scratch.compile("jit", JIT, &["-g"]);
    let (mut first, mut second) = (Victim::start(&app, &[]), Victim::start(&app, &[]));
    let (addresses, others) = (first.addresses(), second.addresses());
    // Dies so many times, then works.
    let dying = |times: usize| {
        let count = scratch.path("count");
        let _ = fs::remove_file(&count);
        let count = count.display();
        let text = format!(
            "echo x >> {count}; [ $(wc -l < {count}) -le {times} ] && kill -BUS $$; exec {HELPER} \"$@\""
        );
        with(&script(&scratch, &text), Duration::from_secs(20))
    };
    let mut symbols = dying(1);
    let answer = ask(&mut symbols, first.process(), &addresses[2..]);
    assert!(
        answer.stack()[0].starts_with("known+0x0 [jit]"),
        "{answer:?}"
    );
    assert_eq!(answer.why, None);
    let answer = ask(&mut symbols, second.process(), &others[2..]);
    assert!(answer.stack()[0].starts_with("known (jit.c:"), "{answer:?}");

    let mut symbols = dying(2);
    let answer = ask(&mut symbols, first.process(), &addresses[2..]);
    assert_eq!(answer.frames[0][0].counted_from, Base::File);
    assert!(answer.stack()[0].starts_with("jit+0x"), "{answer:?}");
    assert!(matches!(answer.why, Some(Why::Crashed(_))), "{answer:?}");
    let answer = ask(&mut symbols, second.process(), &others[2..]);
    assert!(answer.stack()[0].starts_with("known (jit.c:"), "{answer:?}");
}

#[test]
fn a_library_that_is_cut_off_again_and_again() {
    const LOADER: &str = r#"
#include <stdio.h>
#include <dlfcn.h>
#include <unistd.h>
int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    printf("%p\n", (char *)dlsym(library, "function_7") + 1);
    fflush(stdout);
    for (;;) pause();
}
"#;
    let scratch = Scratch::new();
    let source: String = (0..2000)
        .map(|n| format!("int function_{n}(int x) {{ return x + {n}; }}\n"))
        .collect();
    let library = scratch.compile("library.so", &source, &["-shared", "-fPIC", "-g"]);
    let loader = scratch.compile("loader", LOADER, &["-ldl"]);
    let mut victim = Victim::start(&loader, &[&library.to_string_lossy()]);
    let address = victim.addresses()[0];
    let process = victim.process();
    let whole = fs::read(&library).expect("it is there");
    let stop = AtomicBool::new(false);
    let mut symbols = symbolizer();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // In place: it stays the file that is mapped.
                let mut file = fs::File::options()
                    .write(true)
                    .open(&library)
                    .expect("it is there");
                file.set_len(8192).expect("it is cut off");
                file.write_all(&whole).expect("it is restored");
            }
        });
        for _ in 0..200 {
            let answer = ask(&mut symbols, process, &[address]);
            let shown = answer.stack().remove(0);
            // Anything but the name of another function.
            let fine = shown.starts_with("function_7 ")
                || shown.starts_with("function_7+0x0 ")
                || answer.frames[0][0].function.is_none();
            assert!(fine, "{answer:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn debug_information_that_claims_to_be_huge_ends_the_helper_and_not_us() {
    let scratch = Scratch::new();
    let app = scratch.compile("jit", JIT, &["-g", "-gz=zlib"]);
    let bomb = scratch.path("bomb");
    // Headers of compressed sections (`Elf64_Chdr`, elf(5)): kind 1, size, alignment, and then
    // zlib's first byte. They announce 8 GiB.
    let mut bytes = fs::read(&app).expect("it is there");
    let mut claims = 0;
    for at in 0..bytes.len().saturating_sub(25) {
        let header = &mut bytes[at..at + 25];
        let aligned = header[16] == 1 || header[16] == 8;
        if header[..8] == [1, 0, 0, 0, 0, 0, 0, 0]
            && aligned
            && header[17..24] == [0; 7]
            && header[24] == 0x78
        {
            header[8..16].copy_from_slice(&(8_u64 << 30).to_le_bytes());
            claims += 1;
        }
    }
    assert!(claims >= 2, "{claims}");
    fs::write(&bomb, bytes).expect("a copy");
    fs::set_permissions(&bomb, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let mut victim = Victim::start(&bomb, &[]);
    let addresses = victim.addresses();
    let mut symbols = symbolizer();
    let answer = ask(&mut symbols, victim.process(), &addresses);
    assert!(
        answer.stack()[2].starts_with("known+0x0 [bomb]"),
        "{answer:?}"
    );
    // Code without a name is explained by what happened before.
    assert!(matches!(answer.why, Some(Why::Crashed(_))), "{answer:?}");
    let mut healthy = Victim::start(&app, &[]);
    let addresses = healthy.addresses();
    let answer = ask(&mut symbols, healthy.process(), &addresses[2..]);
    assert!(answer.stack()[0].starts_with("known (jit.c:"), "{answer:?}");
}

#[test]
fn processes_that_come_and_go() {
    let scratch = Scratch::new();
    let app = scratch.compile("short", "int main(void) { return 0; }", &[]);
    let mut symbols = symbolizer();
    let mut asked = 0;
    for round in 0..200 {
        let mut child = Command::new(&app).spawn().expect("it starts");
        // Gone, a zombie, or still there when it is looked at.
        let process = ProcessId {
            pid: child.id(),
            start_ticks: identify(child.id()).map_or(0, |id| id.start_ticks),
        };
        asked += usize::from(symbols.submit(Request {
            id: round,
            process,
            addresses: vec![0x40_0000, 0x7fff_0000_0000],
        }));
        if round % 3 == 0 {
            child.kill().expect("our child");
        }
        child.wait().expect("our child");
    }
    let answers = symbols.resolve_all(Duration::from_secs(60));
    assert_eq!((asked, answers.len()), (200, 200));
    for answer in answers {
        assert!(
            matches!(answer.why, Some(Why::Gone | Why::NotMapped)),
            "{answer:?}"
        );
    }
}

#[test]
fn the_helper_has_little_to_lose_and_ends_with_us() {
    let scratch = Scratch::new();
    let pid_file = scratch.path("pid");
    let text = format!("echo $$ > {}; exec {HELPER} \"$@\"", pid_file.display());
    // A descriptor that children inherit.
    let secret = fs::File::open("/etc/passwd").expect("it is there");
    let inherited = rustix::io::dup(&secret).expect("a descriptor");
    let mut symbols = with(&script(&scratch, &text), Duration::from_secs(20));
    assert!(!pid_file.exists(), "it is not started before it is needed");
    let me = identify(std::process::id()).expect("we live");
    ask(&mut symbols, me, &[0x1000]);
    drop(inherited);

    let pid: u32 = fs::read_to_string(&pid_file)
        .expect("it started")
        .trim()
        .parse()
        .expect("a pid");
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let links: Vec<String> = fs::read_dir(dir.join("fd"))
        .expect("descriptors")
        .map(|entry| fs::read_link(entry.expect("an entry").path()).expect("a link"))
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    assert!(
        !links.iter().any(|link| link.contains("passwd")),
        "{links:?}"
    );
    let mut status = String::new();
    fs::File::open(dir.join("status"))
        .and_then(|mut file| file.read_to_string(&mut status))
        .expect("status");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(name);
        line.trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        let rights = u64::from_str_radix(&field(set), 16).expect("a number");
        // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE.
        assert_eq!(
            rights & !(1 << 2 | 1 << 19 | 1 << 40),
            0,
            "{set} {rights:x}"
        );
    }
    let limits = fs::read_to_string(dir.join("limits")).expect("limits");
    let data = limits
        .lines()
        .find(|line| line.starts_with("Max data size"))
        .expect("a limit");
    assert!(data.contains("536870912"), "{data}");

    drop(symbols);
    let patience = Instant::now() + Duration::from_secs(20);
    while dir.exists() {
        assert!(Instant::now() < patience, "the helper lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn typed_by_hand_it_says_what_it_is() {
    let output = Command::new(HELPER)
        .arg("__symbolize")
        .output()
        .expect("it starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is started by sockleak itself"), "{said}");
}
