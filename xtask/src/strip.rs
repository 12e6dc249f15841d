//! Removes from a BPF object what no loader needs: DWARF and line numbers. Keeps `.BTF` and, of `.BTF.ext`,
//! the functions, without which a kernel refuses programs that call functions.
//!
//! Done here and not by `llvm-objcopy` so that the bytes depend on nothing but this repository: the
//! versions of LLVM that distributions ship lay out an object in different ways.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};

/// The same object without DWARF and line numbers.
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
    for section in &mut elf.sections {
        if section.name.as_slice() == b".BTF.ext"
            && let SectionData::Data(data) = &mut section.data
        {
            *data = without_lines(data)?.into();
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

/// Size of the header of `.BTF.ext` that all kernels and loaders know: up to the CO-RE relocations.
const HEADER: usize = 32;

/// `.BTF.ext` with its functions only. Line numbers make verifier logs easier to read and are most of an
/// object: 24 bytes for each line of source that was inlined anywhere.
fn without_lines(ext: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> {
        let bytes = ext.get(at..at + 4).context(".BTF.ext is cut short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    // struct btf_ext_header (tools/lib/bpf/libbpf_internal.h): magic, version, flags, hdr_len, then offset
    // and length of the functions, the lines and the relocations.
    let (magic, length) = (word(0)?, word(4)?);
    if magic & 0x00ff_ffff != 0x01_eb9f {
        bail!(".BTF.ext begins with {magic:#x}, not with the magic number and version 1");
    }
    let (functions, functions_length) = (length + word(8)?, word(12)?);
    if length >= HEADER && word(28)? != 0 {
        bail!(".BTF.ext has CO-RE relocations, which would be lost");
    }
    let functions = ext
        .get(functions..functions + functions_length)
        .context(".BTF.ext ends before its functions do")?;
    let end = u32::try_from(functions.len())?.to_le_bytes();
    let mut out = ext.get(..4).unwrap_or_default().to_vec();
    out.extend((HEADER as u32).to_le_bytes());
    out.extend([[0; 4], end, end, [0; 4], end, [0; 4]].concat());
    out.extend(functions);
    Ok(out)
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
    fn lines_go_and_functions_stay() {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let functions = words(&[8, 1, 1, 0, 7]);
        let lines = words(&[16, 1, 1, 0, 2, 3, 4]);
        let header = [0x01_eb9f, 24, 0, 20, 20, 28];
        let ext = [words(&header), functions.clone(), lines.clone()].concat();
        let expected = [
            words(&[0x01_eb9f, 32, 0, 20, 20, 0, 20, 0]),
            functions.clone(),
        ]
        .concat();
        assert_eq!(without_lines(&ext).unwrap(), expected);
        assert_eq!(without_lines(&expected).unwrap(), expected);

        let relocations = [
            words(&[0x01_eb9f, 32, 0, 20, 20, 0, 20, 28]),
            functions,
            lines,
        ]
        .concat();
        assert!(without_lines(&relocations).is_err());
        for cut in 0..ext.len().min(44) {
            assert!(without_lines(&ext[..cut]).is_err(), "{cut}");
        }
        assert!(without_lines(&[0; 64]).is_err());
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        assert!(strip_debug(b"not an object").is_err());
    }
}
