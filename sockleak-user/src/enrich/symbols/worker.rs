//! The helper process: answers one question after the other until its socket closes.

mod confine;
mod elf;
mod known;
mod modules;
mod resolve;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::fs::{FileType, fstat};

use super::frame::Frame;
use super::protocol::{self, Question, Reply};
use super::{MAX_ADDRESSES, WORKER_COMMAND};
use crate::rights;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use elf::address_of;
use resolve::Resolver;

/// Is the helper when the command line says so; a binary that wants to be one calls this before
/// anything else, while it has one thread and no files open.
pub fn work_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != WORKER_COMMAND {
        return None;
    }
    let parent = arguments.next().and_then(|pid| pid.to_str()?.parse().ok());
    Some(match work(parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Seen only by who types the command by hand.
            let _ = writeln!(io::stderr(), "sockleak: {error}");
            ExitCode::FAILURE
        }
    })
}

fn work(parent: Option<u32>) -> io::Result<()> {
    let stat = fstat(io::stdin())?;
    let (Some(parent), FileType::Socket) = (parent, FileType::from_raw_mode(stat.st_mode)) else {
        return Err(io::Error::other(format!(
            "{WORKER_COMMAND} is started by sockleak itself"
        )));
    };
    confine::follow(parent)?;
    confine::close_all_but_standard()?;
    confine::bound_resources()?;
    // Where that is refused it goes on as it is: the agent runs with the same.
    rights::keep_for_looking();
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut resolver = Resolver::new();
    while let Some(mut question) = protocol::read::<Question>(&mut socket)? {
        question.addresses.truncate(MAX_ADDRESSES);
        let reply = resolver.answer(&question);
        let message = protocol::encode(&reply).or_else(|_| protocol::encode(&brief(&reply)))?;
        socket.write_all(&message)?;
        resolver.make_room();
    }
    Ok(())
}

/// The same without what makes it too long.
fn brief(reply: &Reply) -> Reply {
    let outer = |frames: &Vec<Frame>| {
        let frame = frames.last()?;
        Some(Frame {
            function: None,
            module: None,
            source: None,
            inlined: false,
            ..frame.clone()
        })
    };
    Reply {
        frames: reply
            .frames
            .iter()
            .map(|frames| outer(frames).into_iter().collect())
            .collect(),
        why: reply.why.clone(),
    }
}
