//! Inventory by the BPF iterator over all descriptors.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    panic::resume_unwind,
    sync::mpsc::sync_channel,
    thread,
};

use sockleak_ebpf::InventoryRecord;

use crate::{decode, model::HeldSocket};

const RECORD: usize = size_of::<InventoryRecord>();
/// Bytes read at a time, whole records: a quarter MiB.
const BATCH: usize = (1 << 18) / RECORD * RECORD;

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
pub fn walk(iterator: File, mut each: impl FnMut(HeldSocket)) -> io::Result<Walk> {
    let mut found = Walk::default();
    let mut buffer = vec![0u8; BATCH];
    let filled = fill(&iterator, &mut buffer)?;
    found.take(buffer.get(..filled), &mut each);
    if filled == BATCH {
        walk_on(&iterator, buffer, |batch| found.take(batch, &mut each))?;
    }
    Ok(found)
}

/// The rest of many. The kernel walks on for another thread while this one counts what there is already: each
/// takes half of the time.
fn walk_on(
    iterator: &File,
    buffer: Vec<u8>,
    mut take: impl FnMut(Option<&[u8]>),
) -> io::Result<()> {
    let buffers = [vec![0; buffer.len()], buffer];
    let (used, empty) = sync_channel(buffers.len());
    let (send, full) = sync_channel(buffers.len());
    for buffer in buffers {
        // Its receiver is here.
        let _ = used.send(buffer);
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("inventory".to_owned());
        let reader = reader.spawn_scoped(scope, move || {
            for mut buffer in empty {
                let filled = fill(iterator, &mut buffer)?;
                let is_last = filled < buffer.len();
                if send.send((buffer, filled)).is_err() || is_last {
                    break;
                }
            }
            Ok(())
        })?;
        for (buffer, filled) in full {
            take(buffer.get(..filled));
            // After the last one nobody wants it.
            let _ = used.send(buffer);
        }
        reader.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Reads until the buffer is full or the walk over, and says how much there is.
fn fill(mut iterator: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match iterator.read(space) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Walk {
    fn take(&mut self, batch: Option<&[u8]>, each: &mut impl FnMut(HeldSocket)) {
        let records = batch.unwrap_or_default().chunks_exact(RECORD);
        if !records.remainder().is_empty() {
            self.undecodable += 1;
        }
        for record in records {
            self.records += 1;
            match decode::held_socket(record) {
                Ok(socket) => each(socket),
                Err(_) => self.undecodable += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    /// What an iterator would yield: `records` that make no sense, and `rest` bytes of another.
    fn walked(records: usize, rest: usize) -> Walk {
        let mut file = tempfile();
        file.write_all(&vec![0xff; records * RECORD + rest])
            .unwrap();
        file.rewind().unwrap();
        walk(file, |_| panic!("nothing can be decoded")).unwrap()
    }

    fn tempfile() -> File {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        File::from(rustix::fs::memfd_create("inventory", flags).unwrap())
    }

    #[test]
    fn every_record_is_counted_whatever_the_batches() {
        let batch = BATCH / RECORD;
        for records in [0, 1, batch - 1, batch, batch + 1, 3 * batch, 7 * batch + 5] {
            for (rest, more) in [(0, 0), (1, 1), (RECORD - 1, 1)] {
                let records_u64 = records as u64;
                let expected = Walk {
                    records: records_u64,
                    undecodable: records_u64 + more,
                };
                assert_eq!(walked(records, rest), expected, "{records} and {rest}");
            }
        }
    }
}
