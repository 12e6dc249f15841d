//! `vmtest` on this machine: whatever backends it has, and true reasons for those it has not.
//! Needs root.

use std::process::Command;

#[test]
fn sockleak_is_right_on_this_machine() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: BPF and network namespaces need root");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_vmtest"))
        .env("SOCKLEAK", env!("CARGO_BIN_EXE_sockleak-under-test"))
        .env_remove("SOCKLEAK_GUEST")
        .output()
        .expect("vmtest can be started");
    let lines = String::from_utf8_lossy(&output.stdout);
    println!("{lines}");
    let failures: Vec<_> = lines
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(output.status.success(), "{:?}\n{lines}", output.status);
}
