//! Against the object itself, and kernels written by hand.

use super::*;
use crate::{
    kernel::{Member, samples},
    probe::object::object,
};
use zerocopy::IntoBytes as _;

fn written(constants: &Constants<'_>) -> Result<Vec<u8>, ConstantsError> {
    let mut object = object();
    constants.write_into(object.as_mut_bytes())?;
    Ok(object.as_bytes().to_vec())
}

/// All placeholders that are in an object: the code of the instruction and what stands there.
fn left(object: &[u8]) -> Vec<(u8, i32)> {
    let mut left = Vec::new();
    for section in code(object).expect("it is an ELF file") {
        let mut instructions = object[section].chunks_exact(INSTRUCTION);
        while let Some(instruction) = instructions.next() {
            let imm = i32::from_le_bytes(instruction[4..].try_into().expect("four bytes"));
            let off = i16::from_le_bytes(instruction[2..4].try_into().expect("two bytes"));
            match instruction[0] {
                LOAD_64 => drop(instructions.next()),
                code if code & !SIZE == LOAD_MEMORY && off >= LOAD => {
                    left.push((code, i32::from(off)));
                }
                code @ (MOVE | CALL) if (OFFSET..=RDONLY_CAST).contains(&imm) => {
                    left.push((code, imm));
                }
                _ => {}
            }
        }
    }
    left
}

fn constants(facts: &Facts, cast: Option<u32>) -> Constants<'_> {
    Constants {
        cast,
        ..Constants::new(facts, &LoadOptions::default())
    }
}

/// A kernel whose members have their index in the table as offset; bits are the fourth in their byte.
fn kernel() -> Facts {
    let mut facts = samples::everything_works();
    let btf = facts.btf.as_mut().expect("the sample has BTF");
    for (index, spec) in (0..).zip(FIELDS) {
        let is_bit = u32::from(spec.size == 0);
        let member = Member {
            bit_offset: index * 8 + 3 * is_bit,
            bit_size: is_bit,
            byte_size: spec.size,
        };
        btf.fields.insert(spec.global.to_owned(), member);
        let (structure, _) = spec.path.split_once('.').expect("a path");
        btf.structures.insert(structure.to_owned(), 1000 + index);
    }
    facts
}

#[test]
fn every_placeholder_of_the_object_is_replaced_and_every_constant_is_used() {
    let object = object();
    let asked = left(object.as_bytes());
    for (index, spec) in (0..).zip(FIELDS) {
        let is_asked = |(code, number): &(u8, i32)| match *code {
            MOVE => *number == OFFSET + index,
            CALL => false,
            _ => *number == i32::from(LOAD) + index,
        };
        let is_read = asked.iter().any(is_asked);
        assert!(is_read, "nothing reads {}", spec.global);
    }
    for (index, name) in (0..).zip(SETTINGS) {
        let is_asked = asked.contains(&(MOVE, SETTING + index));
        assert!(is_asked, "nothing asks for {name}");
    }
    let facts = kernel();
    let complete = written(&constants(&facts, Some(77))).expect("it is ours");
    assert_eq!(left(&complete), []);
    // Without the function its calls stay: they are in code that nothing reaches.
    let left = left(&written(&constants(&facts, None)).expect("it is ours"));
    assert!(left.iter().all(|(code, _)| *code == CALL));
}

#[test]
fn constants_are_what_the_kernel_says() {
    let facts = kernel();
    let constants = constants(&facts, Some(77));
    let complete =
        |mut instruction: [u8; 8]| constants.complete(&mut instruction).map(|()| instruction);
    let instruction = |code: u8, off: i16, imm: i32| {
        let mut bytes = [code, 0x21, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&off.to_le_bytes());
        bytes[4..].copy_from_slice(&imm.to_le_bytes());
        bytes
    };
    let bit = (0..).zip(FIELDS).find(|(_, spec)| spec.size == 0);
    let (bit, _) = bit.expect("there is one");
    let load = LOAD_MEMORY | 0x08;
    let last = i32::try_from(FIELDS.len()).expect("few") - 1;
    let structure = constants.structure(FIELDS[0].path).cast_signed();
    for (asked, told) in [
        (instruction(load, LOAD + 5, 0), instruction(load, 5, 0)),
        (instruction(MOVE, 0, OFFSET + 5), instruction(MOVE, 0, 5)),
        (
            instruction(MOVE, 0, OFFSET + bit),
            instruction(MOVE, 0, bit),
        ),
        (instruction(MOVE, 0, MASK + bit), instruction(MOVE, 0, 8)),
        (
            instruction(MOVE, 0, STRUCTURE),
            instruction(MOVE, 0, structure),
        ),
        (
            instruction(MOVE, 0, STRUCTURE + last),
            instruction(MOVE, 0, 1000 + last),
        ),
        (
            instruction(CALL, 0, RDONLY_CAST),
            [CALL, KERNEL_FUNCTION, 0, 0, 77, 0, 0, 0],
        ),
        (instruction(load, 5, 0), instruction(load, 5, 0)),
        (instruction(MOVE, 0, 5), instruction(MOVE, 0, 5)),
        (instruction(CALL, 0, 5), instruction(CALL, 0, 5)),
    ] {
        assert_eq!(complete(asked), Ok(told));
    }
    let beyond = last + 1;
    for (code, off, imm) in [
        (MOVE, 0, OFFSET + beyond),
        (MOVE, 0, SETTING + 99),
        (load, LOAD + i16::try_from(beyond).expect("few"), 0),
    ] {
        let number = (imm + i32::from(off)).cast_unsigned();
        let unknown = Err(ConstantsError::Unknown { number });
        assert_eq!(complete(instruction(code, off, imm)), unknown);
    }
}

#[test]
fn what_is_too_far_or_missing_is_said() {
    let mut facts = kernel();
    let btf = facts.btf.as_mut().expect("the sample has BTF");
    let state = btf.fields.get_mut("SK_STATE").expect("it is there");
    state.bit_offset = 0x8000 * 8;
    let too_far = ConstantsError::TooFar {
        name: "SK_STATE",
        offset: 0x8000,
    };
    assert_eq!(written(&constants(&facts, None)), Err(too_far));

    let facts = samples::everything_works();
    let none = constants(&facts, None);
    let missing = none.number(OFFSET.unsigned_abs());
    assert_eq!(missing, Ok(Some(ABSENT)));
    assert_eq!((none.near(0), none.number(7)), (Ok(0), Ok(None)));
    let nothing = none.write_into(&mut [0; 64]);
    assert_eq!(nothing, Err(ConstantsError::Object));
}
