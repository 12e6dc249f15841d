//! The table of sockets: see `sockleak_ebpf::SocketBucket`.
//!
//! A socket is created once, destroyed once, and in between all hooks that look for it run while somebody holds
//! it. So nobody inserts, removes or uses the same one at the same time; different ones at the same time
//! meet only at the claims.

use aya_ebpf::Global;
use sockleak_ebpf::{
    NO_SLOT, SOCKET_ACCEPTED, SOCKET_ADOPTED, SocketBucket, SocketEntry, WAYS, scaled, second_hash,
    socket_hash,
};

use crate::maps::{OVERFLOW, SOCKETS, add32, opaque_zero};

const BPF_ANY: u64 = 0;
const E2BIG: i32 = 7;

/// Number of buckets.
#[unsafe(no_mangle)]
pub static SOCKET_BUCKETS: Global<u32> = Global::new(1);

/// What came of [`insert`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Inserted {
    /// It is there.
    New = 0,
    /// It is there in the place of one with the same address.
    Replaced = 1,
    /// There is no room.
    Full = 2,
    /// The overflow map failed in another way.
    Failed = 3,
}

#[inline(always)]
fn bucket(hash: u64) -> Option<*mut SocketBucket> {
    SOCKETS.get_ptr_mut(scaled(hash, SOCKET_BUCKETS.load()))
}

/// The lower half of an address. To the verifier it is a pointer, on which it allows no arithmetic but this.
#[inline(always)]
fn low(sk: u64) -> u32 {
    let low: u64;
    // SAFETY: a move of 32 bits, which clears the upper half.
    unsafe {
        core::arch::asm!(
            "w0 = w1",
            in("r1") sk,
            lateout("r0") low,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    low as u32
}

/// The place of `sk` in the bucket.
#[inline(always)]
fn way(bucket: *mut SocketBucket, sk: u64) -> Option<usize> {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a live element of the map.
        if unsafe { (&raw const (*bucket).keys[way]).read_volatile() } == sk {
            return Some(way);
        }
        way += 1;
    }
    None
}

/// The same number, of a place that is used: see [`SocketBucket::ways`].
#[inline(always)]
fn unknown(bucket: *mut SocketBucket, way: usize) -> usize {
    // SAFETY: a live element of the map, and a number below WAYS.
    unsafe { (&raw const (*bucket).ways[way]).read_volatile() as usize & (WAYS - 1) }
}

/// The entry in a place that is used.
#[inline(always)]
fn entry_at(bucket: *mut SocketBucket, way: usize) -> *mut SocketEntry {
    let way = unknown(bucket, way);
    // SAFETY: a live element of the map, and a number below WAYS.
    unsafe { (&raw mut (*bucket).entries).cast::<SocketEntry>().add(way) }
}

#[inline(always)]
fn has_spilled(bucket: *mut SocketBucket) -> bool {
    // SAFETY: a live element of the map.
    unsafe { (&raw const (*bucket).spilled).read_volatile() != 0 }
}

/// An entry of nobody, with these flags.
#[inline(always)]
pub fn entry(flags: u32) -> SocketEntry {
    let zero = opaque_zero();
    SocketEntry {
        birth_ns: zero,
        search_ns: zero,
        ran_ns: zero as u32,
        perturb: zero as u32,
        slot: NO_SLOT,
        mark: zero as u32,
        flags,
        errno: zero as u16,
        switches: zero as u16,
        stack: zero as u32,
        ending: zero as u32,
    }
}

/// Copies an entry word by word: see [`opaque_zero`].
///
/// # Safety
/// Both are entries, or in the case of `to` room for one.
#[inline(always)]
unsafe fn copy(from: *const SocketEntry, to: *mut SocketEntry) {
    let mut at = 0;
    while at < size_of::<SocketEntry>() / 8 {
        // SAFETY: passed on to the caller.
        unsafe {
            let word = from.cast::<u64>().add(at).read_volatile();
            to.cast::<u64>().add(at).write_volatile(word);
        }
        at += 1;
    }
}

/// The entry of the socket at `sk`.
#[inline(always)]
pub fn find(sk: u64) -> Option<*mut SocketEntry> {
    let entry = lookup(sk);
    if entry.is_null() { None } else { Some(entry) }
}

/// As [`find`], where every connection passes: a call costs as much as what it does.
#[inline(always)]
pub fn find_at_once(sk: u64) -> Option<*mut SocketEntry> {
    let hash = socket_hash(low(sk));
    let entry = in_first(bucket(hash)?, sk, hash);
    if entry.is_null() { None } else { Some(entry) }
}

/// A function of its own, as all below: the object has them once. Null when there is none.
#[inline(never)]
fn lookup(sk: u64) -> *mut SocketEntry {
    let hash = socket_hash(low(sk));
    match bucket(hash) {
        Some(first) => in_first(first, sk, hash),
        None => core::ptr::null_mut(),
    }
}

#[inline(always)]
fn in_first(first: *mut SocketBucket, sk: u64, hash: u64) -> *mut SocketEntry {
    if let Some(way) = way(first, sk) {
        return entry_at(first, way);
    }
    if !has_spilled(first) {
        return core::ptr::null_mut();
    }
    lookup_second(sk, hash)
}

#[inline(never)]
fn lookup_second(sk: u64, hash: u64) -> *mut SocketEntry {
    let Some(second) = bucket(second_hash(hash)) else {
        return core::ptr::null_mut();
    };
    if let Some(way) = way(second, sk) {
        return entry_at(second, way);
    }
    if !has_spilled(second) {
        return core::ptr::null_mut();
    }
    OVERFLOW.get_ptr_mut(sk).unwrap_or(core::ptr::null_mut())
}

/// Puts an entry for `sk` into the table.
#[inline(always)]
pub fn insert(sk: u64, entry: &SocketEntry) -> Inserted {
    match place(sk, entry) {
        0 => Inserted::New,
        1 => Inserted::Replaced,
        2 => Inserted::Full,
        _ => Inserted::Failed,
    }
}

#[inline(never)]
fn place(sk: u64, entry: &SocketEntry) -> u32 {
    let hash = socket_hash(low(sk));
    let Some(first) = bucket(hash) else {
        return Inserted::Failed as u32;
    };
    let old = in_first(first, sk, hash);
    if !old.is_null() {
        return replace(old, entry);
    }
    if claim(first, sk, entry) {
        return Inserted::New as u32;
    }
    place_elsewhere(sk, hash, entry)
}

/// Puts an entry in the place of `old`, which has the same address.
#[inline(never)]
fn replace(old: *mut SocketEntry, entry: &SocketEntry) -> u32 {
    // SAFETY: a live entry.
    unsafe {
        // A connection that died while it waited to be accepted.
        let waited = (*old).flags & SOCKET_ADOPTED != 0 && entry.flags & SOCKET_ACCEPTED != 0;
        let ending = (*old).ending;
        copy(entry, old);
        if waited {
            (*old).ending = ending;
            return Inserted::New as u32;
        }
    }
    Inserted::Replaced as u32
}

#[inline(never)]
fn place_elsewhere(sk: u64, hash: u64, entry: &SocketEntry) -> u32 {
    let (Some(first), Some(second)) = (bucket(hash), bucket(second_hash(hash))) else {
        return Inserted::Failed as u32;
    };
    // SAFETY: live elements of the map. Before the socket is there, so that whoever looks for it later goes on.
    unsafe {
        (&raw mut (*first).spilled).write_volatile(1);
        if claim(second, sk, entry) {
            return Inserted::New as u32;
        }
        (&raw mut (*second).spilled).write_volatile(1);
    }
    match OVERFLOW.insert(sk, entry, BPF_ANY) {
        Ok(()) => Inserted::New as u32,
        Err(error) if error == -E2BIG => Inserted::Full as u32,
        Err(_) => Inserted::Failed as u32,
    }
}

/// Takes a free place in the bucket, if there is one.
#[inline(always)]
fn claim(bucket: *mut SocketBucket, sk: u64, entry: &SocketEntry) -> bool {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a live element of the map; a place that is claimed is nobody else's.
        unsafe {
            let claim = &raw mut (*bucket).claims[way];
            if claim.read_volatile() == 0 {
                add32(claim, 1);
                if claim.read_volatile() == 1 {
                    (*bucket).ways[way] = way as u8;
                    copy(entry, &raw mut (*bucket).entries[way]);
                    (&raw mut (*bucket).keys[way]).write_volatile(sk);
                    return true;
                }
                add32(claim, u32::MAX);
            }
        }
        way += 1;
    }
    false
}

/// What was known about a socket that is no more.
pub struct Gone {
    /// [`SocketEntry::birth_ns`]
    pub birth_ns: u64,
    /// [`SocketEntry::slot`]
    pub slot: u32,
    /// [`SocketEntry::mark`]
    pub mark: u32,
    /// [`SocketEntry::flags`]
    pub flags: u32,
}

impl Gone {
    /// Nothing.
    #[inline(always)]
    pub fn unknown() -> Self {
        let zero = opaque_zero();
        Self {
            birth_ns: zero,
            slot: NO_SLOT,
            mark: zero as u32,
            flags: zero as u32,
        }
    }

    /// # Safety
    /// `entry` is a live entry.
    #[inline(always)]
    unsafe fn take(&mut self, entry: *const SocketEntry) {
        // SAFETY: passed on to the caller.
        unsafe {
            self.birth_ns = (*entry).birth_ns;
            self.slot = (*entry).slot;
            self.mark = (*entry).mark;
            self.flags = (*entry).flags;
        }
    }
}

/// Removes the entry of `sk`, if there is one; then `into` has what it said.
#[inline(always)]
pub fn take(sk: u64, into: &mut Gone) -> bool {
    let hash = socket_hash(low(sk));
    let Some(first) = bucket(hash) else {
        return false;
    };
    if let Some(way) = way(first, sk) {
        clear(first, way, into);
        return true;
    }
    has_spilled(first) && remove_second(sk, hash, into) == 1
}

/// 1 when there was one.
#[inline(never)]
fn remove_second(sk: u64, hash: u64, into: &mut Gone) -> u32 {
    let Some(second) = bucket(second_hash(hash)) else {
        return 0;
    };
    if let Some(way) = way(second, sk) {
        clear(second, way, into);
        return 1;
    }
    let Some(entry) = OVERFLOW.get_ptr_mut(sk) else {
        return 0;
    };
    // SAFETY: a live value of the map.
    unsafe { into.take(entry) }
    let _ = OVERFLOW.remove(sk);
    1
}

#[inline(always)]
fn clear(bucket: *mut SocketBucket, way: usize, into: &mut Gone) {
    let way = unknown(bucket, way);
    // SAFETY: a live element of the map, `way` is less than WAYS; the key goes before the claim, after which the
    // place may be somebody else's.
    unsafe {
        into.take(
            (&raw const (*bucket).entries)
                .cast::<SocketEntry>()
                .add(way),
        );
        (&raw mut (*bucket).keys)
            .cast::<u64>()
            .add(way)
            .write_volatile(0);
        add32((&raw mut (*bucket).claims).cast::<u32>().add(way), u32::MAX);
    }
}
