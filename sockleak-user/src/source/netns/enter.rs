//! Running something inside another network namespace.

use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{NetnsError, NetnsHandle};
use crate::rights;

/// Runs `inside` on a thread of its own that has entered `netns` and ends afterwards, so no
/// other thread ever changes its namespace. The calling thread's own namespace need not be
/// entered, which would take CAP_SYS_ADMIN.
///
/// Paths below `/proc/self/net` and `/proc/net` still show the namespace of the main thread;
/// `/proc/thread-self/net` and `/proc/sys/net` show the entered one.
///
/// # Errors
///
/// [`NetnsError::Enter`] when setns() or the creation of the thread fails. A panic of `inside`
/// is passed on.
pub fn in_netns<T: Send>(
    netns: &NetnsHandle,
    inside: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    if super::current().is_ok_and(|here| here == netns.inode) {
        return Ok(inside());
    }
    let failed = |source| NetnsError::Enter {
        inode: netns.inode,
        source,
    };
    thread::scope(|scope| {
        let entered = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                use std::os::fd::AsFd;
                rights::take_reserve(caps::Capability::CAP_SYS_ADMIN);
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<T, rustix::io::Errno>(inside())
            })
            .map_err(failed)?;
        match entered.join() {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(errno)) => Err(failed(std::io::Error::from(errno))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
