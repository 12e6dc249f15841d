//! Bytes that nobody wrote with good intentions: whatever they are, every question must come back
//! with an answer or an error.

use proptest::prelude::*;

use super::builder::Builder;
use super::fuzz::ask_everything;
use super::wire::kind;
use super::{Btf, BtfError};

/// Something of every kind, small enough to damage at each byte.
pub(crate) fn sample() -> Vec<u8> {
    let mut b = Builder::default();
    let int = b.int("int", 4);
    let short = b.int("unsigned short", 2);
    let ptr = b.ptr(int);
    let array = b.array(short, 2);
    let anonymous = b.union("", 4, &[("low", short, 0), ("whole", int, 0)]);
    let inner = b.structure("inner", 8, &[("", anonymous, 0), ("range", array, 32)]);
    let alias = b.typedef("inner_t", inner);
    let constant = b.qualifier(kind::CONST, alias);
    let restrict = b.qualifier(kind::RESTRICT, ptr);
    let tagged = b.qualifier(kind::TYPE_TAG, restrict);
    let outer = b.structure("outer", 24, &[("a", constant, 0), ("p", tagged, 64)]);
    b.bitfields("bits", 4, &[("x", int, 0, 4), ("y", int, 4, 1)]);
    let outer_ptr = b.ptr(outer);
    let proto = b.proto(int, &[("sk", outer_ptr), ("n", short)]);
    b.func("f", proto);
    let data = b.ptr(0);
    let trace = b.proto(0, &[("", data), ("", outer_ptr)]);
    let trace_ptr = b.ptr(trace);
    b.typedef("btf_trace_t", trace_ptr);
    b.enumeration("e", &[("E_ONE", 1)]);
    b.enumeration64("e64", &[("E_BIG", 1 << 33)]);
    b.raw("fwd", u32::from(kind::FWD) << 24, 0, &[]);
    b.raw("var", u32::from(kind::VAR) << 24, int, &[1]);
    b.raw("sec", u32::from(kind::DATASEC) << 24 | 1, 4, &[23, 0, 4]);
    b.raw("double", u32::from(kind::FLOAT) << 24, 8, &[]);
    b.raw("tag", u32::from(kind::DECL_TAG) << 24, outer, &[0]);
    b.build()
}

#[test]
fn the_sample_itself_answers() {
    let bytes = sample();
    ask_everything(&bytes).unwrap();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member("outer", "a.range").unwrap().byte_offset(), 4);
    assert_eq!(btf.member("outer", "a.low").unwrap().byte_size, 2);
    assert_eq!(btf.func("f").unwrap().nargs(), 2);
    assert_eq!(btf.tracepoint("t").unwrap().nargs(), 1);
    assert_eq!(btf.enum_value("E_BIG"), Some(1 << 33));
}

#[test]
fn cut_off_anywhere_it_is_an_error() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let error = ask_everything(&bytes[..len]).unwrap_err();
        assert!(
            matches!(error, BtfError::Truncated { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn any_single_byte_may_be_wrong() {
    let good = sample();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, good[at] ^ 4] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let _ = ask_everything(&bytes);
        }
    }
}

#[test]
fn the_header_says_what_is_wrong_with_it() {
    let good = sample();
    let damaged = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Btf::parse(&bytes).unwrap_err()
    };
    assert_eq!(damaged(0, 0x7f), BtfError::BadMagic { found: 0xeb7f });
    assert_eq!(damaged(2, 9), BtfError::BadVersion { found: 9 });
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    assert_eq!(Btf::parse(&swapped).unwrap_err(), BtfError::WrongEndian);
    assert!(matches!(damaged(4, 8), BtfError::Truncated { .. }));
}

#[test]
fn types_that_refer_to_themselves_end() {
    let mut b = Builder::default();
    b.typedef("loop", 1);
    b.array(2, 1);
    b.structure("matryoshka", 8, &[("", 3, 0), ("x", 3, 0)]);
    b.ptr(4);
    b.proto(5, &[("f", 5), ("g", 5)]);
    b.func("recursive", 5);
    b.qualifier(kind::CONST, 8);
    b.qualifier(kind::VOLATILE, 7);
    let bytes = b.build();
    ask_everything(&bytes).unwrap();
    let btf = Btf::parse(&bytes).unwrap();
    let error = btf.member("matryoshka", "y").unwrap_err();
    assert!(matches!(error, BtfError::TooDeep { .. }), "{error}");
    assert!(matches!(btf.size_of(2), Err(BtfError::TooDeep { .. })));
    assert!(matches!(btf.size_of(7), Err(BtfError::TooDeep { .. })));
}

#[test]
fn anonymous_nesting_that_multiplies_ends_soon() {
    // 16 levels of 16 anonymous members would be 2^64 visits.
    let mut b = Builder::default();
    let mut inner = b.structure("", 1, &[]);
    for level in 0..16 {
        let members = [("", inner, 0); 16];
        let name = if level == 15 { "bomb" } else { "" };
        inner = b.structure(name, 1, &members);
    }
    let bytes = b.build();
    let btf = Btf::parse(&bytes).unwrap();
    let error = btf.member("bomb", "x").unwrap_err();
    assert!(matches!(error, BtfError::TooDeep { .. }), "{error}");
}

#[test]
fn sizes_that_overflow_are_errors() {
    let mut b = Builder::default();
    let int = b.int("int", 4);
    let many = b.array(int, u32::MAX);
    let more = b.array(many, u32::MAX);
    b.structure(
        "big",
        8,
        &[
            ("a", many, 0),
            ("b", more, 0),
            ("c", int, 8 * 5),
            ("d", int, 1),
        ],
    );
    let bytes = b.build();
    let btf = Btf::parse(&bytes).unwrap();
    for path in ["a", "b", "c", "d"] {
        let error = btf.member("big", path).unwrap_err();
        assert!(
            matches!(error, BtfError::OutOfRange { .. }),
            "{path}: {error}"
        );
    }
}

#[test]
fn unknown_kinds_are_stepped_over_only_with_a_layout() {
    let build = |with_layout: bool| {
        let mut b = Builder::default();
        // Kind 20 with one fixed word and two elements of a word each.
        b.raw("new", 20 << 24 | 2, 4, &[1, 2, 3]);
        let int = b.int("int", 4);
        b.structure("after", 4, &[("x", int, 0)]);
        if with_layout {
            let mut kinds = vec![(0, 0); 20];
            kinds.push((4, 4));
            b.layout(&kinds);
        }
        b.build()
    };
    let bytes = build(true);
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.len(), 3);
    assert_eq!(btf.member("after", "x").unwrap().byte_size, 4);
    let error = Btf::parse(&build(false)).unwrap_err();
    assert_eq!(error, BtfError::UnknownKind { id: 1, kind: 20 });
}

/// The running kernel's BTF, or none with a loud reason.
fn real() -> Option<Vec<u8>> {
    let read = std::fs::read(super::VMLINUX);
    if let Err(error) = &read {
        crate::kernel::skip_aloud("a_damaged_vmlinux_is_survived", &error.to_string());
    }
    read.ok()
}

#[test]
fn a_damaged_vmlinux_is_survived() {
    let Some(good) = real() else { return };
    // A fixed sequence (Knuth's multiplier), so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut accepted = 0;
    for _ in 0..30 {
        let mut bytes = good.clone();
        // Lengths damage the whole parse; most damage should get beyond it, so strike structs.
        for _ in 0..64 {
            let at = 24 + random(bytes.len() - 24);
            bytes[at] = random(256) as u8;
        }
        let Ok(btf) = Btf::parse(&bytes) else {
            continue;
        };
        accepted += 1;
        for (name, path) in [("sock", "__sk_common.skc_state"), ("net", "ns.inum")] {
            let _ = btf.member(name, path);
        }
        let _ = btf.func("tcp_init_sock");
        let _ = btf.tracepoint("inet_sock_set_state");
        let _ = btf.enum_value("TCP_BOUND_INACTIVE");
    }
    eprintln!("{accepted} of 30 damaged copies still parsed");
    for _ in 0..200 {
        let len = random(good.len());
        assert!(Btf::parse(&good[..len]).is_err());
    }
}

proptest! {
    #[test]
    fn random_bytes_are_survived(bytes: Vec<u8>) {
        let _ = ask_everything(&bytes);
    }

    #[test]
    fn random_types_behind_a_good_header_are_survived(
        words in prop::collection::vec(
            prop_oneof![0u32..40, any::<u32>(), (0u32..24, 0u32..4).prop_map(|(k, n)| k << 24 | n)],
            0..200,
        ),
        strings in prop::collection::vec(prop_oneof![Just(0u8), Just(b'x'), any::<u8>()], 0..40),
    ) {
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let types = words.len() as u32 * 4;
        let strings_len = strings.len() as u32 + 1;
        for word in [24, 0, types, types, strings_len].iter().chain(&words) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend(&strings);
        bytes.push(0);
        let _ = ask_everything(&bytes);
    }

    #[test]
    fn a_damaged_sample_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = sample();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = ask_everything(&bytes);
    }
}
