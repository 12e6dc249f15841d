//! The floor: the very programs that sockleak attaches, each cut down to its return.
//!
//! Made from the built sockleak, by changing the BPF object inside it, so that it is attached by the same
//! code to the same places: what remains is what the kernel takes for calling a program at all.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, read::ZlibEncoder};
use object::{
    LittleEndian,
    elf::{FileHeader64, SHF_EXECINSTR, SHT_REL, STT_FUNC, Sym64},
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};

/// `r0 = VALUE; exit`
const fn returning(value: u8) -> [u8; 16] {
    [0xb7, 0, 0, 0, value, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]
}

/// The same program with hollow BPF programs; `object` is the BPF object it was built with.
pub fn hollow_binary(program: &[u8], object: &[u8]) -> Result<Vec<u8>> {
    let packed = packed(object)?;
    let mut places = find_all(program, &packed);
    let (Some(at), None) = (places.next(), places.next()) else {
        bail!("the BPF object is not in the program exactly once: was it built from another?");
    };
    // Less to tell is shorter; what follows the end of a compressed stream is not looked at.
    let hollow = self::packed(&hollow_object(object)?)?;
    let mut out = program.to_vec();
    out.get_mut(at..at + hollow.len().min(packed.len()))
        .context("the object ends behind the program")?
        .copy_from_slice(&hollow);
    Ok(out)
}

/// As sockleak's `build.rs` embeds it.
fn packed(object: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    ZlibEncoder::new(object, Compression::best())
        .read_to_end(&mut packed)
        .context("could not compress the BPF object")?;
    Ok(packed)
}

/// The object, of the same length, with every program but the iterators cut to `return 0`; those of
/// cgroups to `return 1`, which lets the operation go on.
fn hollow_object(object: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<LittleEndian>::parse(object).context("not an ELF file")?;
    let endian = LittleEndian;
    let sections = header.sections(endian, object)?;
    let mut out = object.to_vec();
    let mut hollow = Vec::new();
    for (index, section) in sections.enumerate() {
        let name = sections.section_name(endian, section)?;
        let is_code = section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0;
        if is_code && name != b".text" && !name.starts_with(b"iter/") {
            let value = u8::from(name.starts_with(b"cgroup/"));
            hollow.push((index, section.sh_offset(endian), returning(value)));
        }
    }
    let of = |index| hollow.iter().find(|(hollow, ..)| *hollow == index);

    // The relocations of their bodies go: length 0.
    let table = header.e_shoff(endian);
    for (index, section) in sections.enumerate() {
        let target = object::SectionIndex(section.sh_info(endian) as usize);
        if section.sh_type(endian) == SHT_REL && of(target).is_some() {
            let entry = table + (index.0 * size_of_val(section)) as u64;
            write(&mut out, entry + SH_SIZE, &[0; 8])?;
        }
    }

    let symbols = sections.symbols(endian, object, object::elf::SHT_SYMTAB)?;
    let start = sections.section(symbols.section())?.sh_offset(endian);
    let mut programs = 0;
    for (index, symbol) in symbols.enumerate() {
        let section = symbols.symbol_section(endian, symbol, index)?;
        let Some((_, offset, body)) = section.and_then(of) else {
            continue;
        };
        if symbol.st_type() == STT_FUNC {
            let entry = start + (index.0 * size_of::<Sym64<LittleEndian>>()) as u64;
            write(&mut out, offset + symbol.st_value(endian), body)?;
            write(
                &mut out,
                entry + ST_SIZE,
                &(body.len() as u64).to_le_bytes(),
            )?;
            programs += 1;
        }
    }
    if programs == 0 {
        bail!("no program was found in the BPF object");
    }
    Ok(out)
}

/// Offset of `sh_size` in a section header.
const SH_SIZE: u64 = 32;
/// Offset of `st_size` in a symbol.
const ST_SIZE: u64 = 16;

fn write(out: &mut [u8], at: u64, bytes: &[u8]) -> Result<()> {
    let at = usize::try_from(at)?;
    out.get_mut(at..at + bytes.len())
        .context("the BPF object points behind its end")?
        .copy_from_slice(bytes);
    Ok(())
}

fn find_all<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    haystack
        .windows(needle.len().max(1))
        .enumerate()
        .filter(move |(_, window)| *window == needle)
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

    fn committed() -> Vec<u8> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read(root.join("../sockleak-user/bpf/sockleak-x86_64.bpf.o")).unwrap()
    }

    /// Section name and body of every program.
    fn programs(object: &[u8]) -> Vec<(String, String, Vec<u8>)> {
        let file = object::File::parse(object).unwrap();
        file.symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter_map(|symbol| {
                let section = file.section_by_index(symbol.section_index()?).ok()?;
                let body = section.data_range(symbol.address(), symbol.size()).ok()??;
                Some((
                    section.name().ok()?.to_owned(),
                    symbol.name().ok()?.to_owned(),
                    body.to_vec(),
                ))
            })
            .collect()
    }

    #[test]
    fn every_hook_keeps_its_name_and_loses_its_body() {
        let object = committed();
        let hollow = hollow_object(&object).unwrap();
        assert_eq!(hollow.len(), object.len());
        let (before, after) = (programs(&object), programs(&hollow));
        assert_eq!(before.len(), after.len());
        let mut empty = 0;
        for ((section, name, old), (_, new_name, new)) in before.iter().zip(&after) {
            assert_eq!(name, new_name);
            if section == ".text" || section.starts_with("iter/") {
                assert_eq!(old, new, "{name}");
            } else {
                let value = u8::from(section.starts_with("cgroup/"));
                assert_eq!(*new, returning(value), "{name}");
                empty += 1;
            }
        }
        assert!(empty >= 10, "{empty}");
    }

    #[test]
    fn hollow_programs_refer_to_no_map() {
        let hollow = hollow_object(&committed()).unwrap();
        let file = object::File::parse(hollow.as_slice()).unwrap();
        for section in file.sections() {
            let name = section.name().unwrap();
            if ["fentry", "kprobe", "tp_btf", "cgroup/sock_create"].contains(&name) {
                assert_eq!(section.relocations().count(), 0, "{name}");
            }
            if name == "iter/task_file" {
                assert!(section.relocations().count() > 0);
            }
        }
    }

    #[test]
    fn a_program_without_the_object_is_refused() {
        let object = committed();
        assert!(hollow_binary(b"something else", &object).is_err());
        let packed = packed(&object).unwrap();
        let twice = [packed.as_slice(), &packed].concat();
        assert!(hollow_binary(&twice, &object).is_err());
        let once = [b"head".as_slice(), &packed, b"tail"].concat();
        let hollow = hollow_binary(&once, &object).unwrap();
        assert!(hollow.starts_with(b"head") && hollow.ends_with(b"tail"));
        assert_eq!(hollow.len(), once.len());
        let mut unpacked = vec![0; object.len()];
        let inside = &hollow[4..hollow.len() - 4];
        flate2::read::ZlibDecoder::new(inside)
            .read_exact(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, hollow_object(&object).unwrap());
    }
}
