//! Inventory by the BPF iterator over all descriptors.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
};

use sockleak_ebpf::InventoryRecord;

use crate::{decode, model::HeldSocket};

const RECORD: usize = size_of::<InventoryRecord>();
/// Records read at a time.
const CHUNK: usize = 640;

/// What a walk found besides the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Descriptors of TCP sockets.
    pub records: u64,
    /// Records that made no sense.
    pub undecodable: u64,
}

/// Reads an iterator to its end and passes every socket to `each`.
///
/// # Errors
/// When reading fails; `EAGAIN`, which the kernel answers when it has walked a million objects
/// without output, is not an error.
pub fn walk(mut iterator: File, mut each: impl FnMut(HeldSocket)) -> io::Result<Walk> {
    let mut found = Walk::default();
    let mut buffer = vec![0u8; RECORD * CHUNK];
    let mut filled = 0;
    loop {
        let space = buffer.get_mut(filled..).unwrap_or_default();
        match iterator.read(space) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        }
        let whole = filled - filled % RECORD;
        for record in buffer.get(..whole).unwrap_or_default().chunks_exact(RECORD) {
            found.records += 1;
            match decode::held_socket(record) {
                Ok(socket) => each(socket),
                Err(_) => found.undecodable += 1,
            }
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    if filled != 0 {
        found.undecodable += 1;
    }
    Ok(found)
}
