//! What the arguments mean.

use std::env;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{
    BackendArg, ColorArg, DiagnoseArgs, FilterArgs, OutputArgs, PortsArgs, SnapshotArgs, StacksArg,
    WatchArgs,
};
use super::exit::Failure;
use super::printer::Format;
use crate::model::Family;
use crate::probe::{Backend, Choice, Stacks};
use crate::sanitize::printable;
use crate::tui;

pub use crate::model::{Filter, Subject};

/// `watch`, as meant.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Whom to watch.
    pub filter: Filter,
    /// Time between reports.
    pub interval: Duration,
    /// When to stop; `None` is at a signal.
    pub duration: Option<Duration>,
    /// Idle time after which a CLOSED socket counts as leaked.
    pub older: Duration,
    /// Processes to show in an interval; `usize::MAX` shows all.
    pub top: usize,
    /// How to hook the kernel.
    pub choice: Choice,
    /// When to take stacks.
    pub stacks: Stacks,
    /// One line per event as well.
    pub events: bool,
    /// Sockets recorded at a time; `None` follows the number there are.
    pub max_sockets: Option<u32>,
    /// File to be made, with everything in it.
    pub record: Option<PathBuf>,
    /// How to print.
    pub format: Format,
    /// Show it on a screen of its own instead; `format` is that of the last reports then.
    pub screen: Option<tui::Options>,
}

impl WatchConfig {
    /// Looks up what has to be looked up.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a namespace that is not there.
    pub fn new(args: &WatchArgs) -> Result<Self, Failure> {
        Ok(Self {
            filter: filter(&args.filter)?,
            interval: args.interval,
            duration: args.duration,
            older: args.older,
            top: if args.top == 0 { usize::MAX } else { args.top },
            choice: choice(args.hooks.attach.backend),
            stacks: stacks(args.hooks.stacks),
            events: args.events,
            max_sockets: args.max_sockets,
            record: args.record.clone(),
            format: format(&args.output),
            screen: screen(args),
        })
    }
}

/// `diagnose`, as meant.
#[derive(Clone, Debug)]
pub struct DiagnoseConfig {
    /// Whom to look at.
    pub filter: Filter,
    /// How long to watch.
    pub duration: Duration,
    /// Idle time after which a CLOSED socket counts as leaked.
    pub older: Duration,
    /// How to hook the kernel; `None` not at all.
    pub choice: Option<Choice>,
    /// When to take stacks.
    pub stacks: Stacks,
    /// Say what changes would come to.
    pub what_if: bool,
    /// A finding is exit status 4.
    pub exit_code: bool,
    /// How to print.
    pub format: Format,
}

/// `--older` of `diagnose` where nothing else is said: as `watch` has it, if there is time.
const OLDER: Duration = Duration::from_secs(30);

impl DiagnoseConfig {
    /// Looks up what has to be looked up.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a namespace that is not there.
    pub fn new(args: &DiagnoseArgs) -> Result<Self, Failure> {
        // What idles through most of the time is all that can be known of older sockets.
        let most = (args.duration * 3 / 5).min(OLDER);
        Ok(Self {
            filter: filter(&args.filter)?,
            duration: args.duration,
            older: args.older.unwrap_or(most),
            choice: (!args.no_bpf).then(|| choice(args.hooks.attach.backend)),
            stacks: stacks(args.hooks.stacks),
            what_if: args.what_if,
            exit_code: args.exit_code,
            format: format(&args.output),
        })
    }
}

/// `snapshot`, as meant.
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// Whom to look at.
    pub filter: Filter,
    /// List every socket.
    pub sockets: bool,
    /// Without BPF.
    pub no_bpf: bool,
    /// How to print.
    pub format: Format,
}

impl SnapshotConfig {
    /// Looks up what has to be looked up.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a namespace that is not there.
    pub fn new(args: &SnapshotArgs) -> Result<Self, Failure> {
        Ok(Self {
            filter: filter(&args.filter)?,
            sockets: args.sockets,
            no_bpf: args.no_bpf,
            format: format(&args.output),
        })
    }
}

/// `ports`, as meant.
#[derive(Clone, Debug)]
pub struct PortsConfig {
    /// The namespace to look at; `None` is sockleak's own.
    pub netns: Option<PathBuf>,
    /// Destination to ask about.
    pub to: Option<SocketAddr>,
    /// Source address to ask about.
    pub from: Option<IpAddr>,
    /// Holders to show.
    pub filter: Filter,
    /// Rows of each list; `None` shows all.
    pub top: Option<usize>,
    /// Without BPF.
    pub no_bpf: bool,
    /// How to print.
    pub format: Format,
}

impl PortsConfig {
    /// Looks up what has to be looked up.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a namespace that is not there, a destination without a port, or
    /// addresses of different families.
    pub fn new(args: &PortsArgs) -> Result<Self, Failure> {
        // Says what is wrong with it.
        args.netns.as_deref().map(netns_inode).transpose()?;
        let refused = |why: &str| Err(Failure::Usage(why.to_owned()));
        if let Some(to) = args.to {
            let is_v4 = |ip: IpAddr| ip.to_canonical().is_ipv4();
            if to.port() == 0 || to.ip().is_unspecified() {
                return refused("--to needs an address and a port to connect to");
            }
            if args.from.is_some_and(|from| is_v4(from) != is_v4(to.ip())) {
                return refused("--from and --to must be both IPv4 or both IPv6");
            }
        }
        Ok(Self {
            netns: args.netns.as_deref().map(netns_path),
            to: args.to,
            from: args.from,
            filter: Filter {
                pids: args.pid.clone(),
                comm: args.comm.as_deref().map(kernel_comm),
                ..Filter::default()
            },
            top: (args.top != 0).then_some(args.top),
            no_bpf: args.no_bpf,
            format: format(&args.output),
        })
    }
}

/// How to hook the kernel.
pub fn choice(backend: BackendArg) -> Choice {
    match backend {
        BackendArg::Auto => Choice::Auto,
        BackendArg::Fentry => Choice::Only(Backend::Fentry),
        BackendArg::Kprobe => Choice::Only(Backend::Kprobe),
        BackendArg::Tracepoint => Choice::Only(Backend::Tracepoint),
    }
}

/// When to take stacks.
pub fn stacks(args: StacksArg) -> Stacks {
    match args {
        StacksArg::Auto => Stacks::Auto,
        StacksArg::Always => Stacks::Always,
        StacksArg::Never => Stacks::Never,
    }
}

/// Whether `watch` has a screen of its own: on a terminal that can be drawn on, read from and
/// written to, unless something else is asked for.
fn screen(args: &WatchArgs) -> Option<tui::Options> {
    let terminals = io::stdin().is_terminal() && io::stdout().is_terminal();
    let term = env::var_os("TERM").filter(|term| !term.is_empty());
    let can_draw = term.is_some_and(|term| term != "dumb");
    if args.plain || args.output.json || !terminals || !can_draw {
        return None;
    }
    let Format::Plain { color } = format(&args.output) else {
        return None;
    };
    // As the C library looks for the character set (setlocale(3)).
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL")
        .or_else(|| set("LC_CTYPE"))
        .or_else(|| set("LANG"));
    Some(tui::Options {
        color,
        unicode: locale.is_some_and(|name| is_unicode(&name)),
        events: args.events,
    })
}

/// `en_GB.UTF-8`, `C.utf8`
fn is_unicode(locale: &str) -> bool {
    let name = locale.to_ascii_lowercase();
    name.ends_with("utf-8") || name.ends_with("utf8")
}

/// Form of the output, from the flags, the environment and what standard output is.
pub fn format(args: &OutputArgs) -> Format {
    format_for(args, io::stdout().is_terminal())
}

/// The same for another stream than standard output, which is a terminal or not.
pub fn format_for(args: &OutputArgs, terminal: bool) -> Format {
    if args.json {
        return Format::Json;
    }
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    Format::Plain {
        color: color(args.color, set("NO_COLOR") || dumb, terminal),
    }
}

/// <https://no-color.org>: a flag is stronger than the variable.
fn color(wanted: ColorArg, unwanted: bool, terminal: bool) -> bool {
    match wanted {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => terminal && !unwanted,
    }
}

/// Whom and what to look at.
///
/// # Errors
/// [`Failure::Usage`] for a namespace that is not there.
pub fn filter(args: &FilterArgs) -> Result<Filter, Failure> {
    Ok(Filter {
        pids: args.pid.clone(),
        comm: args.comm.as_deref().map(kernel_comm),
        cgroup: args.cgroup.as_deref().map(cgroup_path),
        netns: args.netns.as_deref().map(netns_inode).transpose()?,
        family: match (args.ipv4, args.ipv6) {
            (true, false) => Some(Family::V4),
            (false, true) => Some(Family::V6),
            _ => None,
        },
    })
}

/// TASK_COMM_LEN of include/linux/sched.h is 16, with the NUL.
fn kernel_comm(name: &str) -> String {
    let bytes = name.as_bytes();
    printable(bytes.get(..15).unwrap_or(bytes))
}

/// From the root of the hierarchy, wherever that is mounted.
fn cgroup_path(path: &str) -> String {
    let mounts = [
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup",
    ];
    let below = |mount: &&str| {
        let rest = path.strip_prefix(*mount)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    let path = mounts.iter().find_map(below).unwrap_or(path);
    match path.trim_matches('/') {
        "" => String::new(),
        path => printable(format!("/{path}").as_bytes()),
    }
}

/// `f_type` of a file that is a namespace (include/uapi/linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Inode number of a network namespace, by which the kernel and all reports name it.
fn netns_inode(text: &str) -> Result<u32, Failure> {
    let path = netns_path(text);
    let refused = |why: String| {
        let path = path.display();
        Failure::Usage(format!("--netns {text}: {path} {why}"))
    };
    let metadata =
        std::fs::metadata(&path).map_err(|error| refused(format!("cannot be opened: {error}")))?;
    let system =
        rustix::fs::statfs(&path).map_err(|error| refused(format!("cannot be opened: {error}")))?;
    if system.f_type != NSFS_MAGIC {
        return Err(refused("is not a namespace".to_owned()));
    }
    u32::try_from(metadata.ino()).map_err(|_| refused("has an unexpected inode".to_owned()))
}

/// A pid, a name of `ip netns`, or a path.
fn netns_path(text: &str) -> PathBuf {
    match text.parse::<u32>() {
        Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        Err(_) if text.contains('/') => PathBuf::from(text),
        Err(_) => Path::new("/run/netns").join(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_unless_the_flag_says_otherwise() {
        assert!(color(ColorArg::Auto, false, true));
        assert!(!color(ColorArg::Auto, true, true));
        assert!(!color(ColorArg::Auto, false, false));
        assert!(color(ColorArg::Always, true, false));
        assert!(!color(ColorArg::Never, false, true));
    }

    #[test]
    fn locales_say_their_character_set() {
        for name in ["C.utf8", "en_GB.UTF-8", "de_DE.utf-8"] {
            assert!(is_unicode(name), "{name}");
        }
        for name in ["C", "POSIX", "en_US", "de_DE.ISO-8859-1"] {
            assert!(!is_unicode(name), "{name}");
        }
    }

    #[test]
    fn names_are_compared_as_the_kernel_keeps_them() {
        assert_eq!(kernel_comm("java"), "java");
        assert_eq!(kernel_comm("a-very-long-process-name"), "a-very-long-pro");
        assert_eq!(kernel_comm("\x1b[31m"), "\\x1b[31m");
    }

    #[test]
    fn cgroups_start_at_their_root() {
        assert_eq!(
            cgroup_path("/system.slice/a.service/"),
            "/system.slice/a.service"
        );
        assert_eq!(cgroup_path("system.slice"), "/system.slice");
        assert_eq!(cgroup_path("/sys/fs/cgroup/system.slice"), "/system.slice");
        assert_eq!(cgroup_path("/sys/fs/cgroup/unified/x"), "/x");
        assert_eq!(cgroup_path("/sys/fs/cgroupx"), "/sys/fs/cgroupx");
        assert_eq!(cgroup_path("/"), "");
    }

    #[test]
    fn namespaces_are_found_and_checked() {
        let own = std::fs::metadata("/proc/self/ns/net").map(|metadata| metadata.ino());
        let own = own.expect("/proc is mounted");
        let by_path = netns_inode("/proc/self/ns/net").map(u64::from);
        assert_eq!(by_path.ok(), Some(own));
        let by_pid = netns_inode(&std::process::id().to_string()).map(u64::from);
        assert_eq!(by_pid.ok(), Some(own));
        let message = |text| netns_inode(text).err().map(|error| error.to_string());
        assert_eq!(
            message("/proc/version").as_deref(),
            Some("--netns /proc/version: /proc/version is not a namespace")
        );
        assert!(message("no-such").is_some_and(|text| text.contains("/run/netns/no-such")));
        assert_eq!(netns_path("blue"), Path::new("/run/netns/blue"));
    }
}
