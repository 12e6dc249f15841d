//! Removes debug sections from a BPF object and keeps everything a loader reads, `.BTF` and `.BTF.ext`
//! included.
//!
//! Done here and not by `llvm-objcopy` so that the bytes depend on nothing but this repository: the
//! versions of LLVM that distributions ship lay out an object in different ways.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};

/// The same object without DWARF.
pub fn strip_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf =
        Builder::read64(object).context("the linker's output is not a 64-bit ELF file")?;
    for section in &mut elf.sections {
        section.delete = is_debug(&section.name) || is_btf_relocation(&section.name);
    }
    let dropped: Vec<_> = elf
        .sections
        .iter()
        .filter(|section| section.delete)
        .map(|section| section.id())
        .collect();
    for symbol in &mut elf.symbols {
        symbol.delete = symbol
            .section
            .is_some_and(|section| dropped.contains(&section));
    }
    for kept in [".BTF", ".BTF.ext"] {
        if !elf
            .sections
            .iter()
            .any(|section| section.name.as_slice() == kept.as_bytes())
        {
            bail!(
                "the linker's output has no {kept} section: was bpf-linker called with --btf and debug info?"
            );
        }
    }
    // LLVM keeps section and symbol names in one table; the writer wants one for each.
    if !elf
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = elf.sections.add();
        names.name = b".shstrtab".as_slice().into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    elf.delete_orphans();
    elf.set_section_sizes();
    let mut out = Vec::new();
    elf.write(&mut out)
        .context("could not write the stripped object")?;
    Ok(out)
}

/// BTF holds the values that these relocations would write, and loaders (aya, libbpf) read only those; a
/// linker that moves code would need them, but nothing is linked after this.
fn is_btf_relocation(name: &[u8]) -> bool {
    matches!(name, b".rel.BTF" | b".rel.BTF.ext")
}

fn is_debug(name: &[u8]) -> bool {
    let name = name
        .strip_prefix(b".rela")
        .or_else(|| name.strip_prefix(b".rel"))
        .unwrap_or(name);
    name.starts_with(b".debug_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dwarf_counts_as_debug() {
        for name in [&b".debug_info"[..], b".rel.debug_line", b".rela.debug_str"] {
            assert!(is_debug(name));
        }
        for name in [
            &b".BTF"[..],
            b".BTF.ext",
            b".rel.BTF",
            b".text",
            b"fentry/tcp_v4_init_sock",
            b".relfentry/x",
        ] {
            assert!(!is_debug(name));
        }
        assert!(is_btf_relocation(b".rel.BTF.ext"));
        assert!(!is_btf_relocation(b".BTF.ext") && !is_btf_relocation(b".relfentry"));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
