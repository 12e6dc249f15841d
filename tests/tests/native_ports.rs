//! `sockleak ports` against scenes whose every port is known; see the library's `port_scenes`.
//! Needs root (CAP_SYS_ADMIN) for the namespaces.

use sockleak_tests::port_scenes::{Looker, SCENES};

#[test]
fn every_scene_is_reported_as_it_is() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: private network namespaces need root");
        return;
    }
    let looker = Looker {
        sockleak: env!("CARGO_BIN_EXE_sockleak-under-test").into(),
        actors: env!("CARGO_BIN_EXE_workload").into(),
    };
    let failed: Vec<String> = SCENES
        .iter()
        .filter_map(|scene| {
            let error = scene.play(&looker).err()?;
            Some(format!("{}: {error}", scene.name))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
