//! What was recorded on another kernel, by the version that is named in the file.

use serde_json::Value;

use super::{Form, show};

/// `watch -i 2s -d 9 --older 2s --top 4 --record` of the demo `bound-leak`, on Linux 6.12 with fentry.
const LINUX_6_12: &[u8] = include_bytes!("recorded/linux-6.12.rec");

fn shown(mask: bool, form: Form) -> String {
    let mut out = Vec::new();
    let length = Some(LINUX_6_12.len() as u64);
    show(LINUX_6_12, length, mask, form, &mut out).expect("memory is enough");
    String::from_utf8(out).expect("output is UTF-8")
}

/// The lines of a recording, as docs/recording.md describes them.
fn lines(mut frames: &[u8]) -> Vec<Value> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let (payload, rest) = rest.split_at(length);
        if head[4] == 2 {
            lines.push(serde_json::from_slice(payload).unwrap());
        }
        frames = rest;
    }
    lines
}

/// Everything in `then` is in `now`, which may have more members.
fn has_all(then: &Value, now: &Value, at: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, value) in then {
                let found = now.get(name).unwrap_or_else(|| panic!("{at} lost {name}"));
                has_all(value, found, &format!("{at}.{name}"));
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{at}");
            for (then, now) in then.iter().zip(now) {
                has_all(then, now, at);
            }
        }
        _ => assert_eq!(then, now, "{at}"),
    }
}

#[test]
fn a_recording_of_another_kernel_loses_nothing() {
    let recorded = lines(&LINUX_6_12[12..]);
    let said = shown(false, Form::Json);
    let said: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(recorded.len(), said.len());
    assert!(recorded.len() > 20, "{}", recorded.len());
    for (then, now) in recorded.iter().zip(&said) {
        has_all(then, now, then["type"].as_str().unwrap());
    }
    assert_eq!(said.last().unwrap()["type"], "end");
}

/// The machine that reports has no part in it: not its clock, kernel, processes or namespaces.
#[test]
fn render_a_recording_of_another_kernel() {
    insta::with_settings!({
        snapshot_path => "recorded",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("linux-6.12", shown(true, Form::Plain { color: false }));
    });
}
