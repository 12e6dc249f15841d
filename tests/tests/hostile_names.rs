//! A process chooses its own name. Whatever it is, nothing of it reaches the user's terminal.
//! Alone in its file, because it renames its own process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// Colour, window title, bell, C1 in UTF-8, a byte that is not UTF-8: 15 bytes, as `comm` keeps.
const NAME: &[u8; 15] = b"\x1b[31m\x1b]0;\x07\xc2\x9b \n\xff";

/// What is printed instead.
const SHOWN: &str = "\\x1b[31m\\x1b]0;\\x07\\x9b \\x0a\\xff";

fn sockleak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// No control characters but line ends, and the name in the form that `kind` of output gives it.
fn check(how: &str, output: &[u8], shown: &str) {
    let text = str::from_utf8(output).unwrap_or_else(|error| panic!("{how}: {error}"));
    let raw = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "{how}: {text:?}");
    assert!(text.contains(shown), "{how} does not name us: {text}");
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: tracing needs root; not tested here: hostile process names");
        return;
    }
    fs::write("/proc/self/comm", NAME).expect("a process may rename itself");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let address = listener.local_addr().expect("it is bound");

    let in_tables = SHOWN.replace(' ', "\\x20");
    let in_json = SHOWN.replace('\\', "\\\\");
    for (form, shown) in [(None, &in_tables), (Some("--json"), &in_json)] {
        for how in [
            &["snapshot"][..],
            &["snapshot", "--sockets"],
            &["snapshot", "--sockets", "--no-bpf"],
        ] {
            let arguments: Vec<_> = how.iter().copied().chain(form).collect();
            let output = sockleak(&arguments).output().expect("it starts");
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            check(&arguments.join(" "), &output.stdout, shown);
            assert_eq!(output.stderr, b"", "{arguments:?}");
        }

        // With events, intervals and the last report.
        let watch = ["watch", "--events", "-d", "2", "-i", "300ms"];
        let arguments: Vec<_> = watch.iter().copied().chain(form).collect();
        let mut child = sockleak(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut output = Vec::new();
        stdout.read_until(b'\n', &mut output).expect("a line");
        for _ in 0..5 {
            let client = TcpStream::connect(address).expect("it listens");
            drop((listener.accept().expect("the client is there"), client));
        }
        stdout.read_to_end(&mut output).expect("to the end");
        assert!(child.wait().expect("it ends").success());
        check(&arguments.join(" "), &output, shown);
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut said).expect("UTF-8");
        assert_eq!(said, "");
    }
}
