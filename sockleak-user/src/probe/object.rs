//! The BPF object: the committed one, unless `SOCKLEAK_BPF_OBJ` named another at build time.

/// The object's bytes, aligned as ELF parsing needs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SOCKLEAK_BPF_OBJECT"));
