//! How sure a verdict is.

/// What speaks for and against a verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// It grows and goes on growing.
    pub(super) growing: bool,
    /// There are very many.
    pub(super) large: bool,
    /// They take a large share of a limit.
    pub(super) against_limit: bool,
    /// Share of the sockets whose creation was seen.
    pub(super) births_known: f64,
    /// Share of the sockets that an earlier census found idle already.
    pub(super) confirmed: f64,
    /// CLOSE_WAIT: a process may go on writing to a peer that only half-closed.
    pub(super) half_closed: bool,
    /// Not every process could be read.
    pub(super) incomplete: bool,
    /// Events or records were lost.
    pub(super) lost: bool,
}

/// Starts at 0.5. Adds 0.2 for growth that goes on, 0.15 for a large number, 0.1 for a large
/// share of a limit, up to 0.1 for creations that were seen (else the age is only a lower bound
/// and the creator a guess), up to 0.1 for sockets found idle more than once. Takes off 0.1 for
/// CLOSE_WAIT, 0.1 for an incomplete inventory (an unseen process may be using the sockets),
/// 0.05 for losses. Never certain, never worthless: 0.05 to 0.99.
pub(super) fn confidence(signs: &Signs) -> f64 {
    let add = |on: bool, weight: f64| if on { weight } else { 0.0 };
    let sum = 0.5
        + add(signs.growing, 0.2)
        + add(signs.large, 0.15)
        + add(signs.against_limit, 0.1)
        + 0.1 * signs.births_known
        + 0.1 * signs.confirmed
        - add(signs.half_closed, 0.1)
        - add(signs.incomplete, 0.1)
        - add(signs.lost, 0.05);
    // Two digits are more than anybody needs, and keep outputs stable.
    (sum.clamp(0.05, 0.99) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Signs = Signs {
        growing: false,
        large: false,
        against_limit: false,
        births_known: 0.0,
        confirmed: 0.0,
        half_closed: false,
        incomplete: false,
        lost: false,
    };

    #[test]
    fn every_sign_moves_it_the_right_way() {
        let better = [
            Signs {
                growing: true,
                ..BARE
            },
            Signs {
                large: true,
                ..BARE
            },
            Signs {
                against_limit: true,
                ..BARE
            },
            Signs {
                births_known: 0.5,
                ..BARE
            },
            Signs {
                confirmed: 0.5,
                ..BARE
            },
        ];
        let worse = [
            Signs {
                half_closed: true,
                ..BARE
            },
            Signs {
                incomplete: true,
                ..BARE
            },
            Signs { lost: true, ..BARE },
        ];
        for signs in better {
            assert!(confidence(&signs) > confidence(&BARE), "{signs:?}");
        }
        for signs in worse {
            assert!(confidence(&signs) < confidence(&BARE), "{signs:?}");
        }
    }

    #[test]
    fn never_certain_and_never_worthless() {
        let best = Signs {
            growing: true,
            large: true,
            against_limit: true,
            births_known: 1.0,
            confirmed: 1.0,
            ..BARE
        };
        assert_eq!(confidence(&best), 0.99);
        let worst = Signs {
            half_closed: true,
            incomplete: true,
            lost: true,
            ..BARE
        };
        assert_eq!(confidence(&worst), 0.25);
    }
}
