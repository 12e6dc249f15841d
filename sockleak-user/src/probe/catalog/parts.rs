//! What variants are made of: attachments, parameter types, members that are read.

use super::{Attachment, Target};

pub(super) const SOCK: &[&str] = &["struct sock *"];
pub(super) const SOCKET: &[&str] = &["struct socket *"];
pub(super) const SET_STATE: &[&str] = &["const struct sock *", "const int", "const int"];

/// Identity, name and namespace of the current process.
pub(super) const PROCESS: &[&str] = &[
    "TASK_TGID",
    "TASK_GROUP_LEADER",
    "TASK_START_BOOTTIME",
    "TASK_COMM",
    "TASK_NSPROXY",
    "NSPROXY_NET",
    "NET_INUM",
];
/// Is it a TCP socket?
pub(super) const IS_TCP: &[&str] = &["SK_FAMILY", "SK_PROTOCOL", "SK_TYPE"];
pub(super) const SOCKET_SK: &[&str] = &["SOCKET_SK"];
/// State and addresses.
pub(super) const CONNECTION: &[&str] = &[
    "SK_STATE",
    "SK_NUM",
    "SK_DPORT",
    "SK_DADDR",
    "SK_RCV_SADDR",
    "SK_V6_DADDR",
    "SK_V6_RCV_SADDR",
    "SK_NET",
    "SK_ACK_BACKLOG",
    "NET_INUM",
];

pub(super) const fn on(program: &'static str, target: Target) -> Attachment {
    Attachment {
        program,
        target,
        optional: false,
    }
}

pub(super) const fn if_built_in(program: &'static str, target: Target) -> Attachment {
    Attachment {
        program,
        target,
        optional: true,
    }
}
