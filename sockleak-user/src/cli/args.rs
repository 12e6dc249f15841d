//! What can be typed. What it means is in [`super::config`].

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::duration;

const EXAMPLES: &str = "\
Examples:
  sudo sockleak diagnose              what is wrong, in a few seconds
  sudo sockleak watch                 follow all processes until Ctrl-C
  sudo sockleak watch -p 4684 -d 1m   one process, for a minute
  sudo sockleak snapshot              one look, also at what leaked long ago
  sudo sockleak ports --to 10.0.0.5:6379   room left towards one destination
  sudo sockleak probes                what this kernel allows
  sockleak report FILE                what watch --record FILE has seen
  sudo sockleak run -- make test      what a command leaves open, and where from
  sudo sockleak demo bound-leak       reproduce an incident and its report

Exit status:
  0  done      1  failed      2  wrong usage
  3  not allowed by this kernel or these privileges; the message says more
  4  diagnose --exit-code has a finding
  23 run --fail-on-leak has found a leak";

const WATCH_EXAMPLES: &str = "\
Examples:
  sudo sockleak watch                         everything, until Ctrl-C
  sudo sockleak watch --json -d 10 > FILE     ten seconds, an object per line
  sudo sockleak watch --comm java --older 5m  what java left idle for 5 minutes
  sudo sockleak watch --netns 4684 -6         IPv6 where process 4684 lives
  sudo sockleak watch --events | grep alloc   one line per event
  sudo sockleak watch --record FILE           keep all of it for sockleak report";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  sudo sockleak snapshot                      sockets by process, and ports
  sudo sockleak snapshot --sockets -p 4684    every socket of one process
  sudo sockleak snapshot --json | jq '.processes[] | [.pid, .unbound]'
  sockleak snapshot --no-bpf                  own processes, without root";

const PORTS_EXAMPLES: &str = "\
Examples:
  sudo sockleak ports                         the range, and who holds what
  sudo sockleak ports --to 10.0.0.5:6379      room left towards one destination
  sudo sockleak ports --netns 4684            where process 4684 lives
  sudo sockleak ports --json | jq '.outside'  ports in use outside of the range";

const DIAGNOSE_EXAMPLES: &str = "\
Examples:
  sudo sockleak diagnose                      what is wrong, and what to change
  sudo sockleak diagnose --what-if            and what each change comes to
  sudo sockleak diagnose --netns 4684         where process 4684 lives
  sudo sockleak diagnose --json | jq '.findings[0]'
  sudo sockleak diagnose --exit-code || page-somebody

Exit status:
  0  done      4  with --exit-code: there is a finding";

const REPORT_EXAMPLES: &str = "\
Examples:
  sockleak report FILE                   the last reports, as watch printed them
  sockleak report FILE --html OUT.html   a page to look at and to attach
  sockleak report FILE --json            all lines of watch --json
  sockleak report FILE --folded | flamegraph.pl > leaks.svg
  sockleak report FILE --mask --html OUT.html   without addresses, to be shared";

const PROBES_EXAMPLES: &str = "\
Examples:
  sudo sockleak probes                        every hook, and what is missing
  sudo sockleak probes --backend kprobe       would kprobes do?
  sockleak probes | grep -A1 ^fix             what an ordinary user lacks";

const RUN_EXAMPLES: &str = "\
Examples:
  sudo sockleak run -- ./server --selftest    what it leaves open, where from
  sudo -E sockleak run --fail-on-leak -- cargo test
  sudo sockleak run -- sudo -u $USER CMD      CMD without privileges
  sudo sockleak run --json --output FILE -- CMD

A socket is left open when no process of the command has closed it before the
last one that had it exited. It is a leak when it was good for nothing any more:
never used, or its connection refused, failed or closed by the peer. Listeners
and connections are listed as in use.

Exit status:
  the command's own, 128 + N when signal N ended it; except:
  23  with --fail-on-leak: the command succeeded and there is a leak
  3   not allowed by this kernel or these privileges; the command was not run
  127, 126  there is no such command, or it cannot be started";

const DEMO_EXAMPLES: &str = "\
Examples:
  sockleak demo                               list the incidents
  sudo sockleak demo bound-leak               reproduce one, show the report
  sudo sockleak demo closed-leak --hold       only run it, until Ctrl-C";

/// Finds the process that leaks TCP sockets or runs out of local ports, and says why.
#[derive(Debug, Parser)]
#[command(name = "sockleak", bin_name = "sockleak", version, max_term_width = 80, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Say more on standard error; twice for more still.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach, follow, and report who leaks sockets.
    Watch(WatchArgs),
    /// Say in a few seconds what is wrong, and what to change.
    Diagnose(DiagnoseArgs),
    /// One look at every process's TCP sockets, also those leaked long ago.
    Snapshot(SnapshotArgs),
    /// Show who holds the local ports, and what room is left.
    Ports(PortsArgs),
    /// Show the reports of a recording, on any machine, without privileges.
    Report(ReportArgs),
    /// Run a command and report the sockets that it leaves open.
    Run(RunArgs),
    /// Show what this kernel allows, and how to allow more.
    Probes(ProbesArgs),
    /// Reproduce an incident and show what is said about it.
    Demo(DemoArgs),
}

/// `sockleak watch`
#[derive(Clone, Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    // Five seconds: what leaks grows over minutes, and each report looks at every descriptor of
    // the host, which takes up to 0.1 s where there are 100,000 sockets (2 % of a core then).
    /// Time between reports; SIGUSR1 asks for one at once.
    #[arg(short, long, value_name = "DUR", default_value = "5s", value_parser = duration::interval)]
    pub interval: Duration,

    /// Stop after this time; without it, at Ctrl-C or SIGTERM.
    #[arg(short, long, value_name = "DUR", value_parser = duration::positive)]
    pub duration: Option<Duration>,

    /// How long a CLOSED socket may idle before it counts as leaked.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration::parse)]
    pub older: Duration,

    /// Processes to show; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// How to hook the kernel.
    #[command(flatten)]
    pub hooks: HookArgs,

    /// Print one line per event as well.
    #[arg(long)]
    pub events: bool,

    // 128 bytes of kernel memory each: 48 + key + value + 16 in a preallocated hash.
    /// Sockets recorded at a time; by default twice those there are, at least 262144.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_sockets: Option<u32>,

    /// Record everything in a new file, for `sockleak report`.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub record: Option<PathBuf>,

    /// Plain tables, also on a terminal.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub plain: bool,

    /// Whom to watch.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How to hook the kernel.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    /// How to hook the kernel: auto, fentry, kprobe or tracepoint.
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "NAME",
        hide_possible_values = true
    )]
    pub backend: BackendArg,
}

/// How to hook the kernel, and what to note there.
#[derive(Clone, Debug, Args)]
pub struct HookArgs {
    /// How to hook the kernel.
    #[command(flatten)]
    pub attach: AttachArgs,

    /// When to note where a socket is created: auto, always or never.
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub stacks: StacksArg,
}

/// `sockleak diagnose`
#[derive(Clone, Debug, Args)]
#[command(after_help = DIAGNOSE_EXAMPLES)]
pub struct DiagnoseArgs {
    /// How long to watch.
    #[arg(short, long, value_name = "DUR", default_value = "5s", value_parser = duration::positive)]
    pub duration: Duration,

    /// How long a CLOSED socket has to idle to count as leaked; by default 3/5 of the time
    /// watched, at most 30s.
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub older: Option<Duration>,

    /// Exit with status 4 when there is a finding.
    #[arg(long)]
    pub exit_code: bool,

    /// Say what changes would come to, in ports and connections per second.
    #[arg(long)]
    pub what_if: bool,

    /// How to hook the kernel.
    #[command(flatten)]
    pub hooks: HookArgs,

    /// Use /proc, socket attributes and sock_diag only: sees no calls.
    #[arg(long, conflicts_with = "backend")]
    pub no_bpf: bool,

    /// Whom to look at.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sockleak snapshot`
#[derive(Clone, Debug, Args)]
#[command(after_help = SNAPSHOT_EXAMPLES)]
pub struct SnapshotArgs {
    /// List every socket.
    #[arg(long)]
    pub sockets: bool,

    /// Use /proc, socket attributes and sock_diag only.
    #[arg(long)]
    pub no_bpf: bool,

    /// Whom to look at.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sockleak ports`
#[derive(Clone, Debug, Args)]
#[command(after_help = PORTS_EXAMPLES)]
pub struct PortsArgs {
    /// The destination of a connect().
    #[arg(long, value_name = "IP:PORT")]
    pub to: Option<SocketAddr>,

    /// Its source address; by default the one that the kernel would choose.
    #[arg(long, value_name = "IP", requires = "to")]
    pub from: Option<IpAddr>,

    /// This network namespace: a file, a name of `ip netns`, or a process in it.
    #[arg(long, value_name = "PATH|PID")]
    pub netns: Option<String>,

    /// Only holders with this process id; may be given several times.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: Vec<u32>,

    /// Only holders of this name.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,

    /// Rows of each list; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Use /proc, socket attributes and sock_diag only.
    #[arg(long)]
    pub no_bpf: bool,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sockleak report`
#[derive(Clone, Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// What `watch --record` wrote; - reads standard input.
    pub file: PathBuf,

    /// Hide addresses behind names such as ip-1, the same everywhere.
    #[arg(long)]
    pub mask: bool,

    /// Folded stacks of leaked sockets, for flame graph tools.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub folded: bool,

    /// One page of HTML that needs no network; - writes to standard output.
    #[arg(long, value_name = "OUT", conflicts_with_all = ["json", "folded"], help_heading = "Output")]
    pub html: Option<PathBuf>,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sockleak run`
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Exit with status 23 when the command succeeds but leaks.
    #[arg(long)]
    pub fail_on_leak: bool,

    /// How to hook the kernel.
    #[command(flatten)]
    pub attach: AttachArgs,

    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,

    /// Report into this file; otherwise to standard error.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// How to print.
    #[command(flatten)]
    pub print: OutputArgs,
}

/// `sockleak probes`
#[derive(Clone, Debug, Args)]
#[command(after_help = PROBES_EXAMPLES)]
pub struct ProbesArgs {
    /// How to hook the kernel.
    #[command(flatten)]
    pub attach: AttachArgs,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `sockleak demo`
#[derive(Clone, Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoArgs {
    /// The incident; without it, they are listed.
    pub name: Option<String>,

    /// Only run it, until Ctrl-C.
    #[arg(long, requires = "name")]
    pub hold: bool,

    /// How to hook the kernel.
    #[command(flatten)]
    pub attach: AttachArgs,

    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whom and what to look at.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only this process; may be given several times.
    // PID_MAX_LIMIT of include/linux/threads.h is 4 * 1024 * 1024.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: Vec<u32>,

    /// Only processes of this name.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,

    /// Only processes in this cgroup or below it.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// Only this network namespace: a file, a name of `ip netns`, or a process in it.
    #[arg(long, value_name = "PATH|PID")]
    pub netns: Option<String>,

    /// Only IPv4 sockets.
    #[arg(short = '4', long)]
    pub ipv4: bool,

    /// Only IPv6 sockets.
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// How to print.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// JSON, one object per line.
    #[arg(long)]
    pub json: bool,

    /// Use colour: auto, always or never.
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: ColorArg,
}

/// `--backend`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// The best that the kernel offers, for each hook.
    #[default]
    Auto,
    /// BPF trampolines.
    Fentry,
    /// kprobes.
    Kprobe,
    /// Tracepoints and cgroup hooks.
    Tracepoint,
}

/// `--stacks`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StacksArg {
    /// Of processes whose forgotten sockets grow, and of a sample.
    #[default]
    Auto,
    /// Of every socket.
    Always,
    /// Of none.
    Never,
}

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
