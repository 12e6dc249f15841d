//! Programs into the kernel, on to what they are attached to, and out again.

use std::{
    collections::BTreeMap,
    fs::File,
    num::NonZero,
    os::fd::AsFd,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSock, FEntry, FExit, Iter, KProbe, Program,
        ProgramError, TracePoint,
    },
};

use super::catalog::Target;

/// Programs that the kernel refused, and why.
pub(super) type Refusals = BTreeMap<&'static str, String>;

/// Loads programs that are to be attached. The verifier takes longer than all else at a start, up to 50 ms
/// for one of them, and takes no lock for whoever has the capabilities: each processor verifies one.
pub(super) fn load_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    wanted: impl IntoIterator<Item = (&'static str, Target)>,
) -> Refusals {
    let mut programs: BTreeMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let queue: Vec<_> = wanted
        .into_iter()
        .filter_map(|(name, target)| Some((name, target, programs.remove(name)?)))
        .collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(queue.len());
    let queue = Mutex::new(queue.into_iter());
    let refusals = Mutex::new(Refusals::new());
    let work = || {
        loop {
            // Not in the loop's condition, where it would stay locked while the program is loaded.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((name, target, program)) = next else {
                break;
            };
            if let Err(reason) = load(program, target, btf) {
                let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
                refusals.insert(name, reason);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let helper = thread::Builder::new().spawn_scoped(scope, work);
            if helper.is_err() {
                // This thread does it all, then.
                break;
            }
        }
        work();
    });
    refusals
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// The results of two functions that run at the same time, the first on a thread of its own if there is one.
pub(super) fn both<A: Send, B>(a: impl Fn() -> A + Sync, b: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, &a);
        let b = b();
        let a = match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => a(),
        };
        (a, b)
    })
}

/// Loads a program unless it is there already.
pub(super) fn load(program: &mut Program, target: Target, btf: &Btf) -> Result<(), String> {
    if program.fd().is_ok() {
        return Ok(());
    }
    match target {
        Target::Fentry(function, _) => typed::<FEntry>(program)?.load(function, btf),
        Target::Fexit(function, _) => typed::<FExit>(program)?.load(function, btf),
        Target::Kprobe(_) | Target::Kretprobe(_) => typed::<KProbe>(program)?.load(),
        Target::TpBtf(tracepoint, _) => typed::<BtfTracePoint>(program)?.load(tracepoint, btf),
        Target::Event(..) => typed::<TracePoint>(program)?.load(),
        Target::CgroupCreate | Target::CgroupRelease => typed::<CgroupSock>(program)?.load(),
        Target::IterFiles | Target::IterFilesByOperations => {
            typed::<Iter>(program)?.load("task_file", btf)
        }
        Target::IterTcp => typed::<Iter>(program)?.load("tcp", btf),
    }
    .map_err(explain)
}

/// Attaches a program that is loaded; iterators run when they are read. `cgroup` is the root of cgroup v2.
pub(super) fn attach(program: &mut Program, target: Target, cgroup: &str) -> Result<(), String> {
    match target {
        Target::Fentry(..) => typed::<FEntry>(program)?.attach().map(drop),
        Target::Fexit(..) => typed::<FExit>(program)?.attach().map(drop),
        Target::Kprobe(function) | Target::Kretprobe(function) => {
            typed::<KProbe>(program)?.attach(function, 0).map(drop)
        }
        Target::TpBtf(..) => typed::<BtfTracePoint>(program)?.attach().map(drop),
        Target::Event(category, event) => typed::<TracePoint>(program)?
            .attach(category, event)
            .map(drop),
        Target::CgroupCreate | Target::CgroupRelease => {
            let root = File::open(cgroup).map_err(|error| format!("{cgroup}: {error}"))?;
            // A link (5.7+) lives beside other programs on the root whatever the mode, and
            // the kernel accepts no flags with it.
            typed::<CgroupSock>(program)?
                .attach(root.as_fd(), CgroupAttachMode::Single)
                .map(drop)
        }
        Target::IterFiles | Target::IterFilesByOperations | Target::IterTcp => Ok(()),
    }
    .map_err(explain)
}

/// Takes a program and its links out of the kernel again; one that was never loaded answers
/// with an error that says just that.
pub(super) fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::BtfTracePoint(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        Program::Iter(program) => program.unload(),
        _ => Ok(()),
    }
}

/// A program as what it has to be.
pub(super) fn typed<'p, T>(program: &'p mut Program) -> Result<&'p mut T, String>
where
    &'p mut T: TryFrom<&'p mut Program, Error = ProgramError>,
{
    program.try_into().map_err(explain)
}

/// With which the lines begin that the verifier writes after its verdict.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// The whole chain of causes; of a verifier log only the last lines, which hold the verdict.
pub(super) fn explain(error: ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = &error
    {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let verdict = lines
            .iter()
            .rev()
            .find(|line| !STATISTICS.iter().any(|word| line.starts_with(word)))
            .copied()
            .unwrap_or("no verifier log");
        log::debug!("verifier log: {log}");
        return format!("load refused: {io_error} ({verdict})");
    }
    chain(&error)
}

/// The whole chain of causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
