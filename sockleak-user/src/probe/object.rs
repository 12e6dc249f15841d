//! The BPF object: the committed one, unless `SOCKLEAK_BPF_OBJ` named another at build time.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use zerocopy::IntoBytes as _;

/// As `build.rs` has left it: a fifth of its size, which a start pays with a millisecond.
static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/object.zlib"));

/// The object's bytes, in words because parsing ELF needs them aligned, and possibly a few zeros behind.
///
/// # Panics
/// Never: the build has compressed it.
pub fn object() -> Vec<u64> {
    let bytes: usize = env!("SOCKLEAK_BPF_OBJECT_BYTES")
        .parse()
        .expect("a number of bytes");
    let mut words = vec![0u64; bytes.div_ceil(size_of::<u64>())];
    let object = words.as_mut_bytes().get_mut(..bytes).unwrap_or_default();
    ZlibDecoder::new(COMPRESSED)
        .read_exact(object)
        .expect("what the build has compressed");
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole() {
        let words = object();
        let bytes = words.as_bytes();
        assert!(bytes.starts_with(b"\x7fELF"));
        // The table of sections, at the offset that e_shoff says, is the last thing in it.
        let at = |from: usize, to: usize| {
            let mut word = [0; 8];
            word[..to - from].copy_from_slice(&bytes[from..to]);
            u64::from_le_bytes(word)
        };
        let (table, size, sections) = (at(40, 48), at(58, 60), at(60, 62));
        let end = usize::try_from(table + size * sections).unwrap();
        assert_eq!(end.div_ceil(8) * 8, bytes.len());
    }
}
