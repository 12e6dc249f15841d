//! Children that hold sockets or make connections until their standard input ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};

/// Descriptors that a child needs besides its sockets.
const SPARE: u64 = 64;

/// A child of this program; killed when dropped.
pub struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts `load WORDS...` and waits for its first line.
    pub fn start(words: &[&str]) -> Result<(Self, String)> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `load {}`", words.join(" ")))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("a child without output")?;
        let mut helper = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        let first = helper.line()?;
        ensure!(
            !first.is_empty(),
            "`load {}` ended at once",
            words.join(" ")
        );
        Ok((helper, first))
    }

    /// Sends a line and returns the answer.
    pub fn ask(&mut self) -> Result<String> {
        let input = self.input.as_mut().context("the child has been ended")?;
        input.write_all(b"?\n").context("asking a child")?;
        self.line()
    }

    /// Ends its input, and waits until it is gone.
    pub fn end(mut self) -> Result<()> {
        drop(self.input.take());
        self.child.wait().context("waiting for a child")?;
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("reading from a child")?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that together hold `live` sockets: five, or more where the limit on descriptors wants it.
pub fn holders(live: u32) -> Result<Vec<Helper>> {
    const WANTED: u32 = 5;
    if live == 0 {
        return Ok(Vec::new());
    }
    let room = lift_limit(u64::from(live.div_ceil(WANTED)) + SPARE).saturating_sub(SPARE);
    let room = u32::try_from(room.max(1)).unwrap_or(u32::MAX);
    let processes = WANTED.max(live.div_ceil(room));
    let mut left = live;
    let mut helpers = Vec::new();
    for at in 0..processes {
        let share = left.div_ceil(processes - at);
        left -= share;
        let (helper, _) = Helper::start(&["hold", &share.to_string()])?;
        helpers.push(helper);
    }
    Ok(helpers)
}

/// The child: holds sockets that nothing was done with.
pub fn hold(count: u32) -> Result<()> {
    die_with_parent()?;
    lift_limit(u64::from(count) + SPARE);
    let sockets = (0..count)
        .map(|_| {
            rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )
        })
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("creating {count} sockets"))?;
    println!("{}", sockets.len());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

/// The parent may have been killed.
pub fn die_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the parent")
}

/// Raises the limit on descriptors as far as `wanted` needs and the system lets; what it is now.
fn lift_limit(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    for maximum in [now.maximum.map(|hard| hard.max(wanted)), now.maximum] {
        let current = maximum.map_or(wanted, |hard| hard.min(wanted));
        let lifted = Rlimit {
            current: Some(current.max(now.current.unwrap_or(0))),
            maximum,
        };
        if setrlimit(Resource::Nofile, lifted).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}
