//! `ports`: every scene whose ports are known.

use super::setting::Setting;
use super::suite::{Outcome, Suite};
use crate::port_scenes::{Looker, SCENES};

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    let looker = Looker {
        sockleak: setting.sockleak.clone(),
        actors: "/proc/self/exe".into(),
    };
    for scene in SCENES {
        suite.test(&format!("ports/{}", scene.name), || {
            scene.play(&looker)?;
            Ok(Outcome::Pass)
        });
    }
}
