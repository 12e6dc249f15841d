//! The table of sockets: see `sockleak_ebpf::SocketBucket`.
//!
//! A socket is created once, destroyed once, and in between all hooks that look for it run while somebody holds
//! it. So nobody inserts, removes or uses the same one at the same time; different ones at the same time
//! meet only at the claims.

use sockleak_ebpf::{
    NO_SLOT, SOCKET_ACCEPTED, SOCKET_ADOPTED, SocketBucket, SocketEntry, WAYS, scaled, second_hash,
    socket_hash,
};

use crate::constants::SOCKET_BUCKETS;
use crate::maps::{OVERFLOW, SOCKETS, add32, opaque_zero};

const BPF_ANY: u64 = 0;
const E2BIG: i32 = 7;

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

/// A socket that is new to the table.
#[derive(Clone, Copy)]
pub struct New {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// [`SocketEntry::birth_ns`]
    pub birth_ns: u64,
    /// [`SocketEntry::slot`]
    pub slot: u32,
    /// [`SocketEntry::mark`]
    pub mark: u32,
    /// [`SocketEntry::flags`]
    pub flags: u32,
    /// [`SocketEntry::stack`]
    pub stack: u32,
}

impl New {
    /// The words after the address, as arguments of a function: structures would be in memory.
    #[inline(always)]
    fn words(&self) -> [u64; 3] {
        [
            self.birth_ns,
            u64::from(self.slot) | u64::from(self.mark) << 32,
            u64::from(self.flags) | u64::from(self.stack) << 32,
        ]
    }
}

/// Writes the entry of a new socket, of which these are the [`New::words`].
///
/// # Safety
/// `entry` is nobody else's.
#[inline(always)]
unsafe fn fill(entry: *mut SocketEntry, [birth_ns, who, what]: [u64; 3]) {
    let zero = opaque_zero();
    // SAFETY: passed on to the caller. The members that lie beside each other are written at once.
    unsafe {
        (*entry).birth_ns = birth_ns;
        (*entry).search_ns = zero;
        (&raw mut (*entry).ran_ns)
            .cast::<u64>()
            .write_volatile(zero);
        (&raw mut (*entry).slot).cast::<u64>().write_volatile(who);
        (&raw mut (*entry).flags)
            .cast::<u64>()
            .write_volatile(what & 0xffff_ffff);
        (&raw mut (*entry).stack)
            .cast::<u64>()
            .write_volatile(what >> 32);
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

/// Puts a socket into the table.
#[inline(always)]
pub fn insert(new: &New) -> Inserted {
    let [birth_ns, who, what] = new.words();
    match place(new.sk, birth_ns, who, what) {
        0 => Inserted::New,
        1 => Inserted::Replaced,
        2 => Inserted::Full,
        _ => Inserted::Failed,
    }
}

/// With the words of [`New::words`], as all below.
#[inline(never)]
fn place(sk: u64, birth_ns: u64, who: u64, what: u64) -> u32 {
    let hash = socket_hash(low(sk));
    let Some(first) = bucket(hash) else {
        return Inserted::Failed as u32;
    };
    if !has(first, sk) && !has_spilled(first) && claim(first, sk, [birth_ns, who, what]) {
        return Inserted::New as u32;
    }
    place_elsewhere(sk, birth_ns, who, what)
}

/// Whether `sk` is in the bucket.
#[inline(always)]
fn has(bucket: *mut SocketBucket, sk: u64) -> bool {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a live element of the map.
        if unsafe { (&raw const (*bucket).keys[way]).read_volatile() } == sk {
            return true;
        }
        way += 1;
    }
    false
}

#[inline(never)]
fn place_elsewhere(sk: u64, birth_ns: u64, who: u64, what: u64) -> u32 {
    let old = lookup(sk);
    if !old.is_null() {
        return replace(old, birth_ns, who, what);
    }
    let hash = socket_hash(low(sk));
    let (Some(first), Some(second)) = (bucket(hash), bucket(second_hash(hash))) else {
        return Inserted::Failed as u32;
    };
    let words = [birth_ns, who, what];
    if claim(first, sk, words) {
        return Inserted::New as u32;
    }
    // SAFETY: live elements of the map. Before the socket is there, so that whoever looks for it later goes on.
    unsafe {
        (&raw mut (*first).spilled).write_volatile(1);
        if claim(second, sk, words) {
            return Inserted::New as u32;
        }
        (&raw mut (*second).spilled).write_volatile(1);
    }
    place_in_overflow(sk, birth_ns, who, what)
}

/// Puts an entry in the place of `old`, which has the same address.
#[inline(never)]
fn replace(old: *mut SocketEntry, birth_ns: u64, who: u64, what: u64) -> u32 {
    // SAFETY: a live entry.
    unsafe {
        // A connection that died while it waited to be accepted.
        let waited = (*old).flags & SOCKET_ADOPTED != 0 && what & u64::from(SOCKET_ACCEPTED) != 0;
        let ending = (*old).ending;
        fill(old, [birth_ns, who, what]);
        if waited {
            (*old).ending = ending;
            return Inserted::New as u32;
        }
    }
    Inserted::Replaced as u32
}

#[inline(never)]
fn place_in_overflow(sk: u64, birth_ns: u64, who: u64, what: u64) -> u32 {
    let mut entry = entry(0);
    // SAFETY: our own.
    unsafe { fill(&raw mut entry, [birth_ns, who, what]) }
    match OVERFLOW.insert(sk, entry, BPF_ANY) {
        Ok(()) => Inserted::New as u32,
        Err(error) if error == -E2BIG => Inserted::Full as u32,
        Err(_) => Inserted::Failed as u32,
    }
}

/// Takes a free place in the bucket, if there is one.
#[inline(always)]
fn claim(bucket: *mut SocketBucket, sk: u64, words: [u64; 3]) -> bool {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a live element of the map; a place that is claimed is nobody else's.
        unsafe {
            let claim = &raw mut (*bucket).claims[way];
            if claim.read_volatile() == 0 {
                add32(claim, 1);
                if claim.read_volatile() == 1 {
                    (*bucket).ways[way] = way as u8;
                    fill(&raw mut (*bucket).entries[way], words);
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
#[derive(Clone, Copy)]
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
    fn unknown() -> Self {
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
    unsafe fn of(entry: *const SocketEntry) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                birth_ns: (&raw const (*entry).birth_ns).read_volatile(),
                slot: (&raw const (*entry).slot).read_volatile(),
                mark: (&raw const (*entry).mark).read_volatile(),
                flags: (&raw const (*entry).flags).read_volatile(),
            }
        }
    }
}

/// Removes the entry of `sk`; what it said, if there was one.
#[inline(always)]
pub fn take(sk: u64) -> Option<Gone> {
    let hash = socket_hash(low(sk));
    let first = bucket(hash)?;
    if let Some(way) = way(first, sk) {
        return Some(clear(first, way));
    }
    if !has_spilled(first) {
        return None;
    }
    // Of its own, so that what is found above need not be in memory.
    let mut gone = Gone::unknown();
    (remove_second(sk, hash, &mut gone) == 1).then_some(gone)
}

/// 1 when there was one.
#[inline(never)]
fn remove_second(sk: u64, hash: u64, into: &mut Gone) -> u32 {
    let Some(second) = bucket(second_hash(hash)) else {
        return 0;
    };
    if let Some(way) = way(second, sk) {
        *into = clear(second, way);
        return 1;
    }
    let Some(entry) = OVERFLOW.get_ptr_mut(sk) else {
        return 0;
    };
    // SAFETY: a live value of the map.
    *into = unsafe { Gone::of(entry) };
    let _ = OVERFLOW.remove(sk);
    1
}

#[inline(always)]
fn clear(bucket: *mut SocketBucket, way: usize) -> Gone {
    let way = unknown(bucket, way);
    // SAFETY: a live element of the map, `way` is less than WAYS; the key goes before the claim, after which the
    // place may be somebody else's.
    unsafe {
        let entries = (&raw const (*bucket).entries).cast::<SocketEntry>();
        let gone = Gone::of(entries.add(way));
        (&raw mut (*bucket).keys)
            .cast::<u64>()
            .add(way)
            .write_volatile(0);
        add32((&raw mut (*bucket).claims).cast::<u32>().add(way), u32::MAX);
        gone
    }
}
