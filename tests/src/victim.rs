//! Programs whose stacks are named: small C sources, compiled by the machine's compiler in a
//! directory of their own, and the processes that run them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sockleak::enrich::process::identify;
use sockleak::model::ProcessId;

/// A directory that goes with this.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty directory.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockleak-victim-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a scratch directory");
        Self(path)
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Compiles C source with these flags.
    ///
    /// # Panics
    /// When the compiler is missing or refuses.
    pub fn compile(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let file = format!("{name}.c");
        fs::write(self.path(&file), source).expect("source is written");
        let status = Command::new("cc")
            .current_dir(&self.0)
            .args(["-o", name, &file])
            .args(flags)
            .status()
            .expect("cc is there");
        assert!(status.success(), "cc {name} {flags:?}: {status}");
        self.path(name)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that says things on its standard output. Killed and reaped at the end.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Victim {
    /// Starts a program.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let says = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, says }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its identity.
    ///
    /// # Panics
    /// When it is gone.
    pub fn process(&self) -> ProcessId {
        identify(self.pid()).expect("it lives")
    }

    /// Addresses in hexadecimal on the next line that it says.
    ///
    /// # Panics
    /// When it says nothing, or something else.
    pub fn addresses(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it says something");
        let address = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
        let addresses: Result<_, _> = line.split_whitespace().map(address).collect();
        addresses.unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it lives");
    }

    /// Ends it.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.end();
    }
}
