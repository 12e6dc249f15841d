//! The range of a namespace in pieces, for a map: what is where, and whose most of it is.

use std::collections::HashMap;

use crate::model::ProcessId;
use crate::report::{PortMap, PortPiece};
use crate::tracker::{Occupancy, PortClass};

/// Most pieces: four rows of a wide screen, eight of a narrow one.
const PIECES: u64 = 512;

/// What is where in the range.
pub fn map(all: &Occupancy<'_>) -> PortMap {
    let range = all.range();
    // At most 65536 / 512 = 128.
    let step = u16::try_from(range.size().div_ceil(PIECES).max(1)).unwrap_or(u16::MAX);
    let owners = owners(all, step);
    let mut pieces: Vec<PortPiece> = Vec::new();
    for port in range.ports() {
        let index = (port - range.low) / step;
        let first = range.low + index * step;
        let class = all.class(port);
        // A port that is used towards others is of no class of its own for all destinations.
        if matches!(class, PortClass::Free | PortClass::Other) {
            continue;
        }
        if pieces.last().is_none_or(|piece| piece.first != first) {
            pieces.push(PortPiece {
                first,
                pid: owners.get(&index).map(|process| process.pid),
                ..PortPiece::default()
            });
        }
        let Some(piece) = pieces.last_mut() else {
            continue;
        };
        match class {
            PortClass::Reserved => piece.reserved += 1,
            PortClass::Bound => piece.bound += 1,
            PortClass::Connected => piece.connected += 1,
            PortClass::TimeWait => piece.time_wait += 1,
            PortClass::Free | PortClass::Other => {}
        }
    }
    PortMap { step, pieces }
}

/// Who holds most ports of each piece; of equal ones, the process with the lower pid.
fn owners(all: &Occupancy<'_>, step: u16) -> HashMap<u16, ProcessId> {
    let range = all.range();
    let mut most: HashMap<u16, (u32, ProcessId)> = HashMap::new();
    for (process, held) in all.held() {
        let mut counts: HashMap<u16, u32> = HashMap::new();
        let ports = [&held.bound, &held.connected, &held.listening];
        for port in ports.iter().flat_map(|ports| ports.iter()) {
            if range.contains(port) {
                *counts.entry((port - range.low) / step).or_default() += 1;
            }
        }
        for (piece, count) in counts {
            let known = most.entry(piece).or_insert((0, process));
            if count > known.0 {
                *known = (count, process);
            }
        }
    }
    let most = most.into_iter();
    most.map(|(piece, (_, process))| (piece, process)).collect()
}
