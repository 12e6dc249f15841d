//! Writes what the running system says into the instructions of the object: see `sockleak_ebpf::placeholders`.

use std::collections::BTreeMap;

use object::{
    Object as _, ObjectSection as _, SectionFlags, elf::SHF_EXECINSTR, read::elf::ElfFile64,
};
use sockleak_ebpf::{
    ABSENT, FIELDS,
    placeholders::{self, LOAD, MASK, OFFSET, RDONLY_CAST, SETTING, SETTINGS, STRUCTURE},
};
use thiserror::Error;

use super::{facts::LOCAL_PORT_RANGE, options::LoadOptions};
use crate::kernel::Facts;

/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// `BPF_LD | BPF_IMM | BPF_DW`, which is two instructions long.
const LOAD_64: u8 = 0x18;
/// `BPF_LDX | BPF_MEM`, without the size.
const LOAD_MEMORY: u8 = 0x61;
/// The size in there.
const SIZE: u8 = 0x18;
/// `BPF_ALU | BPF_MOV | BPF_K`
const MOVE: u8 = 0xb4;
/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`, in the upper half of the byte of registers.
const KERNEL_FUNCTION: u8 = 2 << 4;
/// Indices in a table of placeholders.
const TABLE: u32 = 1 << 16;

/// The object is not what it should be, or the kernel's structures are beyond what instructions can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConstantsError {
    /// It is no ELF file.
    #[error("the BPF object cannot be read")]
    Object,
    /// An instruction asks for something that is in no table.
    #[error("the BPF object asks for constant {number:#x}, which nobody knows")]
    Unknown {
        /// What stands there.
        number: u32,
    },
    /// A member is too far from the begin of its structure.
    #[error(
        "{name} is {offset} bytes from the begin of its structure, more than an instruction can say"
    )]
    TooFar {
        /// Name of the constant.
        name: &'static str,
        /// Its value.
        offset: u32,
    },
}

/// What is written into the object.
pub(super) struct Constants<'a> {
    facts: &'a Facts,
    /// By their indices; those that are not here are 0.
    settings: BTreeMap<usize, u32>,
    /// BTF id of the kernel function `bpf_rdonly_cast`, if programs may call it.
    cast: Option<u32>,
}

impl<'a> Constants<'a> {
    /// What this system and these options ask for.
    pub(super) fn new(facts: &'a Facts, options: &LoadOptions) -> Self {
        let helper = |name| u32::from(facts.features.helper(name));
        let local_port_range = facts.function(LOCAL_PORT_RANGE);
        let one_pass =
            local_port_range.is_some_and(|function| matches!(&*function.ret, "bool" | "_Bool"));
        let (buckets, _) = options.socket_tables();
        let (stack_mode, _) = options.stacks.numbers();
        // Without a structure that is a number, `table_perturb` could not be read.
        let cast = (facts.features.rdonly_cast).filter(|_| facts.field("NUMBER").is_some());
        let settings = [
            (placeholders::EMIT_EVENTS, u32::from(options.events)),
            (placeholders::RUN, u32::from(options.follow)),
            (placeholders::TASK_BTF, helper("get_current_task_btf")),
            (placeholders::TASK_REGS, helper("task_pt_regs")),
            (placeholders::CAST, u32::from(cast.is_some())),
            (placeholders::SOCKET_BUCKETS, buckets),
            (placeholders::PROCESS_SLOTS, options.process_slots()),
            (placeholders::SEARCH_SLOTS, options.searches),
            (placeholders::STACK_MODE, stack_mode),
            (placeholders::ONE_PASS, u32::from(one_pass)),
        ];
        Self {
            facts,
            settings: settings.into(),
            cast,
        }
    }

    /// Writes these constants into the object.
    ///
    /// # Errors
    /// When it is no object of ours, or a member is too far away.
    pub(super) fn write_into(&self, object: &mut [u8]) -> Result<(), ConstantsError> {
        for section in code(object)? {
            let bytes = object.get_mut(section).ok_or(ConstantsError::Object)?;
            let mut instructions = bytes.chunks_exact_mut(INSTRUCTION);
            while let Some(instruction) = instructions.next() {
                if instruction[0] == LOAD_64 {
                    instructions.next();
                } else {
                    self.complete(instruction)?;
                }
            }
        }
        Ok(())
    }

    fn complete(&self, instruction: &mut [u8]) -> Result<(), ConstantsError> {
        let [code, _, low, high, imm @ ..] = &mut *instruction else {
            return Ok(());
        };
        let (code, off) = (*code, i16::from_le_bytes([*low, *high]));
        let number = match imm {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => return Ok(()),
        };
        if code & !SIZE == LOAD_MEMORY && off >= LOAD {
            let index = usize::from((off - LOAD).unsigned_abs());
            instruction[2..4].copy_from_slice(&self.near(index)?.to_le_bytes());
        } else if code == MOVE
            && let Some(value) = self.number(number)?
        {
            instruction[4..8].copy_from_slice(&value.to_le_bytes());
        } else if code == CALL
            && number == RDONLY_CAST.unsigned_abs()
            && let Some(id) = self.cast
        {
            instruction[1] = KERNEL_FUNCTION;
            instruction[4..8].copy_from_slice(&id.to_le_bytes());
        }
        Ok(())
    }

    /// What stands for a number in a move; `None` when it is no placeholder.
    fn number(&self, number: u32) -> Result<Option<u32>, ConstantsError> {
        let index = |table: i32| number.wrapping_sub(table.unsigned_abs());
        let of = |table: i32| (index(table) < TABLE).then_some(index(table) as usize);
        let unknown = ConstantsError::Unknown { number };
        if let Some(at) = of(SETTING) {
            let known = at < SETTINGS.len();
            let value = self.settings.get(&at).copied().unwrap_or(0);
            return known.then_some(Some(value)).ok_or(unknown);
        }
        let Some((table, at)) = [OFFSET, MASK, STRUCTURE]
            .into_iter()
            .find_map(|table| Some((table, of(table)?)))
        else {
            return Ok(None);
        };
        let spec = FIELDS.get(at).ok_or(unknown)?;
        let member = self.facts.field(spec.global);
        Ok(Some(match table {
            OFFSET => member.map_or(ABSENT, |member| member.byte_offset()),
            MASK => member.map_or(0, |member| 1 << member.bit_shift()),
            _ => self.structure(spec.path),
        }))
    }

    fn structure(&self, path: &str) -> u32 {
        let name = path.split_once('.').map_or(path, |(name, _)| name);
        let btf = self.facts.btf.as_ref().ok();
        btf.and_then(|btf| btf.structures.get(name).copied())
            .unwrap_or(0)
    }

    /// Offset of a member in a load; 0 when there is none, which no program that runs asks for.
    fn near(&self, index: usize) -> Result<i16, ConstantsError> {
        let number = u32::from(LOAD.unsigned_abs()) + index as u32;
        let spec = FIELDS
            .get(index)
            .ok_or(ConstantsError::Unknown { number })?;
        let offset = self
            .facts
            .field(spec.global)
            .map_or(0, |member| member.byte_offset());
        i16::try_from(offset).map_err(|_| ConstantsError::TooFar {
            name: spec.global,
            offset,
        })
    }
}

/// Where in the file the instructions are.
fn code(object: &[u8]) -> Result<Vec<std::ops::Range<usize>>, ConstantsError> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).map_err(|_| ConstantsError::Object)?;
    let is_code = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_EXECINSTR) != 0);
    let ranges = file
        .sections()
        .filter(|section| is_code(section.flags()))
        .filter_map(|section| section.file_range())
        .map(|(start, length)| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
    ranges.collect::<Option<_>>().ok_or(ConstantsError::Object)
}

#[cfg(test)]
#[path = "constants_tests.rs"]
mod tests;
