//! The programs that run.

use std::collections::BTreeSet;

/// Programs that run, each once although some hang in two places or serve two hooks: what the kernel skipped of
/// one is asked of the program, and must not be counted for each place.
#[derive(Clone, Debug, Default)]
pub(super) struct Active(BTreeSet<&'static str>);

impl Active {
    /// All attachments of a hook are in place, by the names of their programs.
    pub(super) fn add(&mut self, programs: impl IntoIterator<Item = &'static str>) {
        self.0.extend(programs);
    }

    /// Whether a program runs.
    pub(super) fn contains(&self, program: &str) -> bool {
        self.0.contains(program)
    }

    /// Every program that runs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Backend, Hook, catalog::variants, misses::Unseen};

    #[test]
    fn a_skipped_run_counts_once_wherever_its_program_hangs() {
        let one = Unseen {
            created: 1,
            children: 1,
            destroyed: 1,
        };
        let mut active = Active::default();
        for hook in [Hook::Alloc, Hook::Accept, Hook::Destroy] {
            for variant in variants(hook).filter(|one| one.backend == Backend::Kprobe) {
                active.add(variant.attachments.iter().map(|one| one.program));
            }
        }
        assert_eq!(Unseen::of(active.iter().map(|program| (program, 1))), one);
    }
}
