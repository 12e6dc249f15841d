//! The plan against kernels written by hand.

use super::*;
use crate::{
    kernel::{BtfFacts, Features, Member, Param, Privileges, Symbols, symbols::Symbol},
    probe::catalog,
};

/// A kernel that has everything and accepts everything.
fn willing() -> Facts {
    let mut btf = BtfFacts::default();
    for spec in sockleak_ebpf::FIELDS {
        let member = Member {
            bit_offset: 64,
            bit_size: 0,
            byte_size: spec.size,
        };
        btf.fields.insert(spec.global.to_owned(), member);
    }
    for attachment in catalog::all().flat_map(|variant| variant.attachments) {
        match attachment.target {
            Target::Fentry(name, types) | Target::Fexit(name, types) => {
                btf.functions.insert(name.to_owned(), proto(types));
            }
            Target::TpBtf(name, types) => {
                btf.tracepoints.insert(name.to_owned(), proto(types));
            }
            _ => {}
        }
    }
    Facts {
        release: "6.18.0".to_owned(),
        machine: "x86_64".to_owned(),
        btf: Ok(btf),
        symbols: Ok(Symbols::default()),
        features: Features {
            fentry: Support::Yes,
            kprobe: Support::Yes,
            tp_btf: Support::Yes,
            iter_task_file: Support::Yes,
            cgroup_sock_create: Support::Yes,
            cgroup_sock_release: Support::Yes,
            ringbuf: Support::Yes,
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            helpers: ["sock_from_file", "get_current_task_btf"]
                .map(str::to_owned)
                .into(),
            trace_events: true,
            sk_storage_in_tracing: true,
            rdonly_cast: None,
        },
        privileges: Privileges::default(),
    }
}

fn proto(types: &[&str]) -> FuncProto {
    let param = |text: &&str| Param {
        name: String::new(),
        type_text: (*text).to_owned(),
    };
    FuncProto {
        id: 1,
        params: types.iter().map(param).collect(),
        ret: "int".to_owned(),
    }
}

fn of(plan: &Plan, hook: Hook) -> &HookPlan {
    plan.hooks
        .iter()
        .find(|planned| planned.hook == hook)
        .unwrap()
}

fn backends(plan: &Plan, hook: Hook) -> Vec<Backend> {
    of(plan, hook)
        .candidates
        .iter()
        .map(|variant| variant.backend)
        .collect()
}

#[test]
fn a_willing_kernel_is_served_by_trampolines_with_the_others_in_reserve() {
    let plan = plan(&willing(), Choice::Auto);
    assert_eq!(plan.check(), Ok(()));
    for hook in [Hook::Destroy, Hook::Alloc, Hook::Accept, Hook::Release] {
        assert_eq!(
            backends(&plan, hook),
            [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint],
            "{hook:?}"
        );
        assert_eq!(
            of(&plan, hook).reasons(),
            None,
            "nothing better was passed over"
        );
    }
    assert_eq!(
        of(&plan, Hook::Inventory).candidates[0].attachments[0].program,
        "iter_files"
    );
}

#[test]
fn what_is_worse_than_the_choice_is_no_reason_for_it() {
    let mut facts = willing();
    facts.features.kprobe = Support::No("no kprobes".to_owned());
    let plan = plan(&facts, Choice::Auto);
    let alloc = of(&plan, Hook::Alloc);
    assert_eq!(alloc.passed_over(), None);
    assert_eq!(alloc.reasons().as_deref(), Some("kprobe: no kprobes"));
    facts.features.fentry = Support::No("no trampolines".to_owned());
    let plan = super::plan(&facts, Choice::Auto);
    assert_eq!(
        of(&plan, Hook::Alloc).passed_over().as_deref(),
        Some("fentry: no trampolines; kprobe: no kprobes")
    );
}

#[test]
fn without_tracefs_nothing_is_loaded_that_needs_it() {
    let mut facts = willing();
    facts.features.fentry = Support::Blocked("EPERM".to_owned());
    facts.features.kprobe = Support::No("no kprobes".to_owned());
    let by_event = |facts: &Facts| {
        let plan = plan(facts, Choice::Auto);
        let connect = of(&plan, Hook::Connect);
        assert!(!connect.candidates.is_empty());
        let mut attachments = connect
            .candidates
            .iter()
            .flat_map(|variant| variant.attachments);
        attachments.any(|attachment| matches!(attachment.target, Target::Event(..)))
    };
    assert!(by_event(&facts));
    facts.features.trace_events = false;
    assert!(!by_event(&facts));
}

#[test]
fn a_kernel_without_trampolines_and_kprobes_is_served_by_tracepoints_and_says_why() {
    let mut facts = willing();
    facts.features.fentry = Support::Blocked("EPERM".to_owned());
    facts.features.kprobe = Support::No("no kprobes".to_owned());
    let plan = plan(&facts, Choice::Auto);
    assert_eq!(plan.check(), Ok(()));
    assert_eq!(backends(&plan, Hook::Alloc), [Backend::Tracepoint]);
    assert_eq!(
        of(&plan, Hook::Alloc).reasons().as_deref(),
        Some("fentry: EPERM; kprobe: no kprobes")
    );
    let owner = of(&plan, Hook::AcceptOwner);
    assert!(owner.candidates.is_empty());
    assert!(
        owner
            .reasons()
            .unwrap()
            .contains("no tracepoint or cgroup hook sees accept()")
    );
}

#[test]
fn a_forced_backend_is_the_only_one() {
    let plan = plan(&willing(), Choice::Only(Backend::Kprobe));
    assert_eq!(backends(&plan, Hook::Destroy), [Backend::Kprobe]);
    assert_eq!(backends(&plan, Hook::Inventory), [Backend::Iterator]);
}

#[test]
fn a_forced_backend_that_the_kernel_lacks_is_an_error_with_the_reason() {
    let mut facts = willing();
    facts.features.kprobe = Support::No("no kprobes".to_owned());
    let error = plan(&facts, Choice::Only(Backend::Kprobe))
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook `destroy` cannot be attached: kprobe: no kprobes"
    );
}

#[test]
fn a_changed_prototype_costs_the_backend_not_the_hook() {
    let mut facts = willing();
    let btf = facts.btf.as_mut().unwrap();
    btf.functions.insert(
        "tcp_create_openreq_child".to_owned(),
        proto(&["const struct sock *", "struct request_sock *"]),
    );
    let plan = plan(&facts, Choice::Auto);
    assert_eq!(
        backends(&plan, Hook::Accept),
        [Backend::Kprobe, Backend::Tracepoint]
    );
    let reasons = of(&plan, Hook::Accept).reasons().unwrap();
    assert!(
        reasons.contains("takes (const struct sock *, struct request_sock *)"),
        "{reasons}"
    );
}

#[test]
fn const_makes_no_difference() {
    let mut facts = willing();
    let btf = facts.btf.as_mut().unwrap();
    btf.tracepoints.insert(
        "inet_sock_set_state".to_owned(),
        proto(&["const struct sock *", "int", "int"]),
    );
    let plan = plan(&facts, Choice::Only(Backend::Tracepoint));
    assert_eq!(backends(&plan, Hook::Accept), [Backend::Tracepoint]);
}

#[test]
fn ipv6_may_be_absent_ipv4_may_not() {
    let mut facts = willing();
    let btf = facts.btf.as_mut().unwrap();
    btf.functions.remove("tcp_v6_init_sock");
    assert_eq!(
        backends(&plan(&facts, Choice::Auto), Hook::Alloc)[0],
        Backend::Fentry
    );
    facts
        .btf
        .as_mut()
        .unwrap()
        .functions
        .remove("tcp_v4_init_sock");
    assert_eq!(
        backends(&plan(&facts, Choice::Auto), Hook::Alloc),
        [Backend::Tracepoint]
    );
}

#[test]
fn a_missing_offset_costs_only_the_hooks_that_need_it() {
    let mut facts = willing();
    let btf = facts.btf.as_mut().unwrap();
    btf.fields.remove("SK_ACK_BACKLOG");
    btf.missing_fields.insert(
        "SK_ACK_BACKLOG".to_owned(),
        "sock has no sk_ack_backlog".to_owned(),
    );
    let plan = plan(&facts, Choice::Auto);
    assert!(of(&plan, Hook::Inventory).candidates.is_empty());
    assert!(
        of(&plan, Hook::Inventory)
            .reasons()
            .unwrap()
            .contains("no sk_ack_backlog")
    );
    assert_eq!(backends(&plan, Hook::Alloc)[0], Backend::Fentry);
}

#[test]
fn without_btf_nothing_can_be_read() {
    let mut facts = willing();
    facts.btf = Err("no BTF here".to_owned());
    let error = plan(&facts, Choice::Auto).check().unwrap_err();
    assert!(error.to_string().contains("no BTF here"), "{error}");
}

#[test]
fn old_kernels_walk_descriptors_by_the_address_of_socket_file_ops() {
    let mut facts = willing();
    facts.features.helpers.remove("sock_from_file");
    let inventory = of(&plan(&facts, Choice::Auto), Hook::Inventory).clone();
    assert!(inventory.candidates.is_empty(), "the address is not known");
    let symbol = Symbol {
        address: Some(0xffff_ffff_8200_0000),
        kind: 'r',
        module: None,
    };
    facts
        .symbols
        .as_mut()
        .unwrap()
        .found
        .insert("socket_file_ops".to_owned(), symbol);
    let inventory = of(&plan(&facts, Choice::Auto), Hook::Inventory).clone();
    assert_eq!(
        inventory.candidates[0].attachments[0].program,
        "iter_files_fop"
    );
}

#[test]
fn an_accept_hook_exists_on_both_sides_of_its_rename() {
    let mut facts = willing();
    facts
        .btf
        .as_mut()
        .unwrap()
        .functions
        .remove("__inet_accept");
    let plan = plan(&facts, Choice::Auto);
    let programs: Vec<&str> = of(&plan, Hook::AcceptOwner)
        .candidates
        .iter()
        .map(|variant| variant.attachments[0].program)
        .collect();
    assert_eq!(programs, ["fentry_graft", "kprobe_graft"]);
}

#[test]
fn without_a_cgroup2_mount_tracepoints_cannot_see_creation() {
    let mut facts = willing();
    facts.features.cgroup2 = None;
    let error = plan(&facts, Choice::Only(Backend::Tracepoint))
        .check()
        .unwrap_err();
    assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
}
