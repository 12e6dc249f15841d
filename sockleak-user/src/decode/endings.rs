//! Keys of the maps of endings and sites.

use sockleak_ebpf::{Ending as AbiEnding, Site as AbiSite};

use super::{DecodeError, exactly, family, peer};
use crate::model::{Ending, Site, TcpState};

/// Decodes a key of the endings map: the hash by which sockets refer to it, and what it says.
///
/// # Errors
/// When the bytes are not a key, or hold a family or state that no kernel has.
pub fn ending(key: &[u8]) -> Result<(u32, Ending), DecodeError> {
    let key: AbiEnding = exactly("ending key", key)?;
    let family = family(key.family)?;
    let state = TcpState::try_from(key.state).map_err(|raw| DecodeError::State(u16::from(raw)))?;
    let ending = Ending {
        peer: peer(family, key.peer, key.peer_port_be),
        errno: key.errno,
        state,
    };
    Ok((key.id(), ending))
}

/// Decodes a key of the sites map: the hash by which sockets refer to it, and what it says.
///
/// # Errors
/// When the bytes are not a key.
pub fn site(key: &[u8]) -> Result<(u32, Site), DecodeError> {
    let key: AbiSite = exactly("site key", key)?;
    let site = Site {
        stack: key.stack,
        top: (key.top != 0).then_some(key.top),
    };
    Ok((key.id(), site))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(errno: u16, state: u8) -> Vec<u8> {
        let mut bytes = vec![10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for half in [2280u16.to_be(), 2, errno] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend([state, 0]);
        bytes
    }

    #[test]
    fn a_refused_connection_is_read() {
        let (id, ending) = ending(&key(111, 2)).unwrap();
        assert_ne!(id, 0);
        assert_eq!(
            ending,
            Ending {
                peer: Some("10.0.0.9:2280".parse().unwrap()),
                errno: 111,
                state: TcpState::SynSent,
            }
        );
        assert_eq!(super::ending(&key(111, 77)), Err(DecodeError::State(77)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = ending(&bytes);
            let _ = site(&bytes);
        }
    }
}
