//! The incident that asked for the command.

use serde_json::json;
use sockleak::demo::{Launcher, find};

use super::{Looker, alone};

/// INCIDENTS A: 12,036 ports in use where the range has 12,001, and nobody knew which the others
/// were.
pub(super) fn more_ports_than_the_range_has(looker: &Looker) {
    let _alone = alone();
    let launcher = Launcher::program(&looker.actors);
    let scenario = find("bound-leak").expect("known");
    let mut running = scenario.start(&launcher).expect("start");
    let truth = running.freeze().expect("freeze");
    let of = |comm: &str| {
        let process = truth.processes.iter().find(|process| process.comm == comm);
        process.expect("it takes part")
    };
    let (app, inetd, ftpd) = (of("app"), of("inetd"), of("ftpd"));
    let netns = app.pid.to_string();
    for how in [&[][..], &["--no-bpf"]] {
        let arguments = [&["--netns", &netns, "--to", "127.0.0.1:21"], how].concat();
        let report = looker.ports(&arguments);
        let size = 12_001;
        let outside = inetd.held.listen + ftpd.held.listen;
        assert_eq!(outside, 36);
        assert_eq!(report["netns"], truth.netns);
        for (field, expected) in [
            ("size", size),
            ("bound", app.held.bound),
            ("bound_closed", app.held.bound),
            ("bound_listening", 0),
            ("free", 0),
            ("in_use", app.held.bound + outside),
            ("unowned", 0),
            ("bind_free", 0),
        ] {
            assert_eq!(report[field], expected, "{how:?}: {field}");
        }
        let found = &report["outside"];
        assert_eq!(found["count"], outside, "{found}");
        let rows = found["holders"].as_array().expect("a list");
        let rows: Vec<_> = (rows.iter())
            .map(|row| (&row["pid"], &row["listening"], &row["ports"]))
            .collect();
        let expected = [
            (&json!(inetd.pid), &json!(35), &json!([[2100, 2134]])),
            (&json!(ftpd.pid), &json!(1), &json!([[21, 21]])),
        ];
        assert_eq!(rows, expected, "{found}");
        assert_eq!(report["to"]["free"], 0);
        assert_eq!(report["to"]["holders"][0]["pid"], app.pid);
        assert_eq!(report["to"]["holders"][0]["ports"], size);
        let said = report["conclusion"].as_str().expect("text");
        for part in [
            "fails with EADDRNOTAVAIL",
            "12,037 ports are in use although the range holds 12,001: 36 lie outside of it",
            &format!("inetd[{}]: 35 listening", inetd.pid),
            &format!("app[{}] has 12,001 of the range", app.pid),
        ] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
    running.stop();
}
