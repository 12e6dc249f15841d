//! iter/task_file: the inventory; iter/tcp: orphans. aya has no macro for iterators, the section name is enough.

use crate::hooks::{
    inventory::{TaskFile, file, file_by_operations},
    orphans::{TcpSocket, socket},
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_files(ctx: *const TaskFile) -> i32 {
    // SAFETY: the kernel passes a valid context.
    file(unsafe { &*ctx });
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_files_fop(ctx: *const TaskFile) -> i32 {
    // SAFETY: the kernel passes a valid context.
    file_by_operations(unsafe { &*ctx });
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *const TcpSocket) -> i32 {
    // SAFETY: the kernel passes a valid context.
    socket(unsafe { &*ctx });
    0
}
