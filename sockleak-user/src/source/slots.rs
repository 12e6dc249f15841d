//! The kernel side's tables of processes and searches (`sockleak_ebpf::ProcessSlot`, `SearchSlot`): an
//! array of elements, and one that says which of them are claimed.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, Map, MapData};

use super::claims::Claims;
use crate::probe::Attached;

/// A table whose elements have `N` bytes.
pub(super) struct Slots<const N: usize> {
    name: &'static str,
    values: Array<MapData, [u8; N]>,
    claims: Array<MapData, u64>,
    /// The same, for reading.
    taken: Claims,
}

impl<const N: usize> Slots<N>
where
    [u8; N]: aya::Pod,
{
    /// Takes the two maps out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks one or its layout is not the agreed one.
    pub(super) fn take(
        attached: &mut Attached,
        name: &'static str,
        claims: &'static str,
    ) -> Result<Self> {
        let values = attached.take(name)?;
        let map = attached.take_map(claims);
        let Some(Map::Array(data)) = map else {
            return Err(anyhow!("the BPF object has no array {claims}"));
        };
        let layout = || format!("map {claims} has an unexpected layout");
        let fd = data.fd().as_fd().try_clone_to_owned();
        let fd = fd.with_context(|| format!("map {claims}"))?;
        let claims_map: Array<MapData, u64> =
            Array::try_from(Map::Array(data)).with_context(layout)?;
        let taken = Claims::new(fd.as_fd(), claims_map.len());
        Ok(Self {
            name,
            values,
            taken: taken.with_context(|| format!("mapping map {claims}"))?,
            claims: claims_map,
        })
    }

    /// Calls `each` with every element that is claimed, and its place. Elements come and go meanwhile.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub(super) fn each(&self, mut each: impl FnMut(u32, &[u8; N])) -> Result<()> {
        for place in self.taken.taken() {
            let value = self.values.get(&place, 0);
            each(
                place,
                &value.with_context(|| format!("reading map {}", self.name))?,
            );
        }
        Ok(())
    }

    /// Gives a place back. Nothing in the kernel may refer to what is there any more.
    pub(super) fn release(&mut self, place: u32) {
        let cleared = self.values.set(place, [0; N], 0);
        // Last: from now on the place may be somebody else's.
        let freed = cleared.and_then(|()| self.claims.set(place, 0, 0));
        if let Err(error) = freed {
            log::debug!("freeing place {place} of map {}: {error}", self.name);
        }
    }
}
