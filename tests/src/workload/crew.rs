//! Further processes of a workload, forked and led over a socket pair.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A forked process. Dropping it ends and reaps it.
#[derive(Debug)]
pub(super) struct Member {
    pid: Pid,
    orders: Option<UnixStream>,
    answers: BufReader<UnixStream>,
}

impl Member {
    /// Forks a process that runs `obey` on its end of the channel and then exits.
    pub(super) fn fork(
        obey: impl FnOnce(UnixStream) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        // SAFETY: a workload has a single thread, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("cannot fork"),
            0 => {
                drop(ours);
                let outcome = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                    .map_err(anyhow::Error::from)
                    .and_then(|()| obey(theirs));
                let status = match outcome {
                    Ok(()) => 0,
                    Err(error) => {
                        let _ = writeln!(std::io::stderr(), "workload member: {error:#}");
                        1
                    }
                };
                // SAFETY: ends the process without running the parent's destructors; what is
                // still open is closed by the kernel, as at any exit.
                unsafe { libc::_exit(status) }
            }
            pid => Ok(Self {
                pid: Pid::from_raw(pid).context("fork returned no pid")?,
                answers: BufReader::new(ours.try_clone()?),
                orders: Some(ours),
            }),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Gives an order and waits for the answer.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, order: u8) -> anyhow::Result<T> {
        let mut channel = self
            .orders
            .as_ref()
            .context("the member has been sent off")?;
        channel
            .write_all(&[order])
            .context("a member does not listen")?;
        let mut text = String::new();
        self.answers
            .read_line(&mut text)
            .context("a member does not answer")?;
        if text.is_empty() {
            bail!("member {} has ended", self.pid());
        }
        serde_json::from_str(&text).context("a member's answer makes no sense")
    }

    /// Lets it exit with everything open, and waits until it has.
    pub(super) fn dismiss(&mut self) -> anyhow::Result<()> {
        if let Some(orders) = self.orders.take() {
            orders.shutdown(Shutdown::Both)?;
        }
        rustix::process::waitpid(Some(self.pid), WaitOptions::empty())?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A pid that has been waited for may belong to somebody else; `dismiss` takes the channel.
        if self.orders.take().is_some() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// The member's side: carries out orders until the channel closes.
pub(super) fn obey<T: Serialize>(
    mut channel: UnixStream,
    mut carry_out: impl FnMut(u8) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let mut order = [0];
    while channel.read(&mut order)? == 1 {
        let [order] = order;
        let answer = carry_out(order)?;
        writeln!(channel, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}
