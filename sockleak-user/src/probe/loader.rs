//! Loads the object and attaches what the plan says.

use std::{collections::BTreeMap, fs::File, io, os::fd::AsFd};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf,
    maps::{Map, MapError},
    programs::{Iter, iter::IterLink},
};
use sockleak_ebpf::names::{globals, maps, programs};
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::{
    active::Active,
    blind,
    catalog::{Attachment, Hook, Target, Variant},
    constants::{Constants, ConstantsError},
    coverage::{self, Outcome},
    facts::TABLE_PERTURB,
    kernel_types,
    loading::{self, Refusals, both, explain, typed},
    misses::{self, ProbeLink},
    object::object,
    options::{LoadOptions, Stacks},
    plan::{HookPlan, Plan, PlanError, is_missing, plan_follow},
};
use crate::kernel::Facts;

/// Size of the ring buffer with `--events`, bytes.
const EVENTS_BYTES: u32 = 1 << 20;
/// Size of the ring buffer that tells of new stacks and executables in `run`, bytes.
const RUN_EVENTS_BYTES: u32 = 1 << 18;
/// The smallest ring buffer there is, for one that is not read: one page.
const RING_OFF: u32 = 4096;

/// aya-log's ring buffer; only an object built with `--log` has it.
const LOG_RING: &str = "AYA_LOGS";
/// aya-log's level, a `u8`: 0 nothing, then as [`log::LevelFilter`].
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
/// Whether that log is read. Its reader panics on records that make no sense, which a build that
/// aborts on panic cannot contain.
const READS_LOG: bool = cfg!(all(feature = "bpf-log", panic = "unwind"));
/// Size of that ring buffer when it is read, bytes.
const LOG_BYTES: u32 = 1 << 17;

/// That skipped hits of kprobes are counted nowhere.
const UNCOUNTED: &str = "a kprobe that is hit while another's handler runs on the same CPU is \
                         skipped, and this kernel does not say how often (Linux 6.7 and later do)";

/// Nothing can be watched.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel offers no way.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A hook that everything rests on was refused although it looked possible.
    #[error("hook `{hook}` was refused by the kernel: {reasons}")]
    Refused {
        /// Name of the hook.
        hook: &'static str,
        /// Every attempt with its reason.
        reasons: String,
    },
    /// What is handed to aya of the kernel's BTF makes no sense to it.
    #[error("cannot use the kernel's type information: {0}")]
    Btf(#[source] aya::BtfError),
    /// The object itself was refused: maps could not be created.
    #[error("cannot load the BPF object: {0}")]
    Object(#[source] Box<aya::EbpfError>),
    /// The object, or where the kernel's structures have their members, is not what programs can use.
    #[error(transparent)]
    Constants(ConstantsError),
    /// The inventory iterator could not be opened.
    #[error("cannot start the inventory iterator: {0}")]
    Iterator(String),
}

/// What is attached. Dropping it detaches everything; the kernel does the same when the process
/// dies, because nothing is pinned.
pub struct Attached {
    ebpf: Ebpf,
    /// Programs that were not accepted when all were loaded.
    refused: Refusals,
    outcomes: Vec<Outcome>,
    iterator: Option<&'static str>,
    active: Active,
    /// Of the kprobes among them, if this kernel counts there.
    links: Vec<ProbeLink>,
}

impl Attached {
    /// Processes of a command that can live at a time; 72 bytes of kernel memory each.
    pub const FOLLOWED: u32 = 1 << 17;
    /// Kinds of sockets that exited processes left and that user space has not read yet.
    pub const LEFT: u32 = 1 << 16;
    /// Stacks of a command; 5.6 KiB of kernel memory each.
    pub const CODE_STACKS: u32 = 2048;
    /// Executables of a command.
    pub const EXECUTABLES: u32 = 1024;

    /// Loads and attaches everything that `plan` has a candidate for.
    ///
    /// # Errors
    /// When creation or destruction of sockets cannot be seen at all.
    pub fn load(facts: &Facts, plan: &Plan, options: &LoadOptions) -> Result<Self, LoadError> {
        plan.check()?;
        let (mut attached, btf) = Self::load_object_and_types(facts, options)?;
        let follow = options.follow.then(|| plan_follow(facts));
        // Two runs per connection, and nobody asks.
        let no_release = !options.follow && !options.events;
        let hooks = follow.iter().chain(&plan.hooks);
        let hooks = hooks.filter(|planned| planned.hook != Hook::Release || !no_release);
        let firsts = hooks
            .clone()
            .filter_map(|planned| planned.candidates.first())
            .flat_map(|variant| present(facts, variant))
            .map(|attachment| (attachment.program, attachment.target));
        attached.refused = loading::load_all(&mut attached.ebpf, &btf, firsts);
        for planned in hooks {
            let outcome = attached.attach_hook(facts, &btf, planned);
            let essential = match planned.hook {
                Hook::Alloc | Hook::Destroy | Hook::Follow => true,
                // Without it, nobody knows what a process leaves behind.
                Hook::Release => options.follow,
                _ => false,
            };
            if essential && outcome.served.is_none() {
                return Err(LoadError::Refused {
                    hook: planned.hook.name(),
                    reasons: outcome.reason.unwrap_or_default(),
                });
            }
            attached.outcomes.push(outcome);
        }
        // Now that nothing is unloaded any more: a duplicate would keep its probe in place.
        attached.links = ProbeLink::all().unwrap_or_else(|error| {
            log::debug!("cannot look for links in /proc/self/fd: {error}");
            Vec::new()
        });
        Ok(attached)
    }

    /// Loads only the inventory iterator, for `snapshot`.
    ///
    /// # Errors
    /// When it cannot be had; the message says why.
    pub fn load_inventory(facts: &Facts, plan: &Plan) -> Result<Self, LoadError> {
        let options = LoadOptions {
            sockets: 1,
            processes: 1,
            searches: 1,
            events: false,
            stacks: Stacks::Never,
            follow: false,
        };
        let (mut attached, btf) = Self::load_object_and_types(facts, &options)?;
        let planned = plan
            .hooks
            .iter()
            .find(|planned| planned.hook == Hook::Inventory);
        if let Some(planned) = planned {
            let outcome = attached.attach_hook(facts, &btf, planned);
            if outcome.served.is_none() {
                return Err(LoadError::Iterator(outcome.reason.unwrap_or_default()));
            }
            attached.outcomes.push(outcome);
        }
        Ok(attached)
    }

    /// Both at a time: each is some ten milliseconds of parsing.
    fn load_object_and_types(
        facts: &Facts,
        options: &LoadOptions,
    ) -> Result<(Self, Btf), LoadError> {
        let (types, object) = both(
            || kernel_types::of(facts),
            || Self::load_object(facts, options),
        );
        Ok((object?, types.map_err(LoadError::Btf)?))
    }

    fn load_object(facts: &Facts, options: &LoadOptions) -> Result<Self, LoadError> {
        let socket_file_ops = facts
            .symbols
            .as_ref()
            .ok()
            .and_then(|symbols| symbols.address("socket_file_ops"))
            .unwrap_or(0);
        let table_perturb = facts
            .symbols
            .as_ref()
            .ok()
            .and_then(|symbols| symbols.address(TABLE_PERTURB))
            .unwrap_or(0);
        let log_level = if READS_LOG { log::max_level() as u8 } else { 0 };
        let (_, stacks) = options.stacks.numbers();
        let size = |entries| if options.follow { entries } else { 1 };
        let (buckets, overflow) = options.socket_tables();
        let process_slots = options.process_slots();
        let mut loader = blind::loader();
        loader
            .override_global(globals::SOCKET_FILE_OPS, &socket_file_ops, true)
            .override_global(globals::TABLE_PERTURB, &table_perturb, true)
            .override_global(LOG_LEVEL, &log_level, false)
            .map_max_entries(LOG_RING, if READS_LOG { LOG_BYTES } else { RING_OFF })
            .map_max_entries(maps::SOCKETS, buckets)
            .map_max_entries(maps::OVERFLOW, overflow)
            .map_max_entries(maps::PROCESSES, process_slots)
            .map_max_entries(maps::PROCESS_CLAIMS, process_slots)
            .map_max_entries(maps::SUSPECTS, process_slots)
            .map_max_entries(maps::SEARCHES, options.searches)
            .map_max_entries(maps::SEARCH_CLAIMS, options.searches)
            .map_max_entries(maps::FAILURES, options.searches)
            .map_max_entries(maps::ENDINGS, options.searches)
            .map_max_entries(maps::STACKS, stacks)
            .map_max_entries(maps::SITES, stacks.saturating_mul(2))
            .map_max_entries(maps::FOLLOWED, size(Self::FOLLOWED))
            .map_max_entries(maps::LEFT, size(Self::LEFT))
            .map_max_entries(maps::CODE_STACKS, size(Self::CODE_STACKS))
            .map_max_entries(maps::EXECUTABLES, size(Self::EXECUTABLES))
            .map_max_entries(
                maps::RUN_EVENTS,
                if options.follow {
                    RUN_EVENTS_BYTES
                } else {
                    RING_OFF
                },
            )
            .map_max_entries(
                maps::EVENTS,
                if options.events {
                    EVENTS_BYTES
                } else {
                    RING_OFF
                },
            );
        let mut object = object();
        Constants::new(facts, options)
            .write_into(object.as_mut_bytes())
            .map_err(LoadError::Constants)?;
        let ebpf = loader
            .load(object.as_bytes())
            .map_err(|error| LoadError::Object(Box::new(error)))?;
        Ok(Self {
            ebpf,
            refused: Refusals::new(),
            outcomes: Vec::new(),
            iterator: None,
            active: Active::default(),
            links: Vec::new(),
        })
    }

    fn attach_hook(&mut self, facts: &Facts, btf: &Btf, planned: &HookPlan) -> Outcome {
        let mut failures: Vec<String> = Vec::new();
        let joined = |first: Option<String>, then: Vec<String>| {
            let all: Vec<String> = first.into_iter().chain(then).collect();
            (!all.is_empty()).then(|| all.join("; "))
        };
        for variant in &planned.candidates {
            match self.attach_variant(facts, btf, variant) {
                Ok(()) => {
                    return Outcome {
                        hook: planned.hook,
                        served: Some(variant),
                        reason: joined(planned.passed_over(), failures),
                    };
                }
                Err(error) => failures.push(format!("{}: {error}", variant.backend)),
            }
        }
        Outcome {
            hook: planned.hook,
            served: None,
            reason: joined(planned.reasons(), failures),
        }
    }

    fn attach_variant(
        &mut self,
        facts: &Facts,
        btf: &Btf,
        variant: &Variant,
    ) -> Result<(), String> {
        let mut done: Vec<&'static str> = Vec::new();
        for attachment in present(facts, variant) {
            if let Err(error) = self.attach_one(facts, btf, attachment) {
                self.unload(variant);
                return Err(format!("{}: {error}", attachment.program));
            }
            done.push(attachment.program);
        }
        if let Some(Target::IterFiles | Target::IterFilesByOperations) = variant
            .attachments
            .first()
            .map(|attachment| attachment.target)
        {
            self.iterator = done.first().copied();
        }
        self.active.add(done);
        Ok(())
    }

    fn attach_one(
        &mut self,
        facts: &Facts,
        btf: &Btf,
        attachment: &Attachment,
    ) -> Result<(), String> {
        let name = attachment.program;
        if self.active.contains(name) {
            // Another hook has it attached.
            return Ok(());
        }
        if let Some(reason) = self.refused.remove(name) {
            return Err(reason);
        }
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| format!("the object has no program {name}"))?;
        loading::load(program, attachment.target, btf)?;
        let cgroup = facts.features.cgroup2.as_deref();
        let cgroup = cgroup.unwrap_or("/sys/fs/cgroup");
        loading::attach(program, attachment.target, cgroup)
    }

    /// Takes the programs of a variant out of the kernel again, except those that serve another hook.
    fn unload(&mut self, variant: &Variant) {
        for attachment in variant.attachments {
            let name = attachment.program;
            if self.active.contains(name) {
                continue;
            }
            if let Some(Err(error)) = self.ebpf.program_mut(name).map(loading::unload) {
                log::debug!("{name}: {error}");
            }
        }
    }

    /// What came of every hook.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What is not visible, one sentence per gap, for verdicts.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = coverage::gaps(&self.outcomes);
        let uncounted = |(name, runs): (&str, misses::Runs)| {
            name == programs::KPROBE_DESTROY && misses::missed(&self.links, runs.id).is_none()
        };
        if self.runs().any(uncounted) {
            gaps.push(UNCOUNTED.to_owned());
        }
        gaps
    }

    /// Takes a map out of the object, by the names of [`sockleak_ebpf::names::maps`].
    pub fn take_map(&mut self, name: &str) -> Option<Map> {
        self.ebpf.take_map(name)
    }

    /// Takes a map out of the object as what it has to be.
    ///
    /// # Errors
    /// When the object lacks the map or its layout is not the agreed one.
    pub fn take<T: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> anyhow::Result<T> {
        let map = self.take_map(name);
        let map = map.ok_or_else(|| anyhow::anyhow!("the BPF object has no map {name}"))?;
        T::try_from(map).with_context(|| format!("map {name} has an unexpected layout"))
    }

    /// Takes the reader of the programs' own log out of the object.
    ///
    /// # Errors
    /// When the object was built without log, or this build cannot contain a panic of the reader.
    #[cfg(feature = "bpf-log")]
    pub fn take_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, String> {
        if !READS_LOG {
            let why = "this build aborts when its reader panics; build without --release";
            return Err(why.to_owned());
        }
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|error| match error {
            aya_log::Error::MapNotFound => "the BPF object has none; build one that has with \
                 `cargo xtask build-bpf --log` and name it in SOCKLEAK_BPF_OBJ at build time"
                .to_owned(),
            other => loading::chain(&other),
        })
    }

    /// Starts one walk over all descriptors; the file yields
    /// [`sockleak_ebpf::InventoryRecord`]s.
    ///
    /// # Errors
    /// When the iterator is not loaded or the kernel refuses to start it.
    pub fn start_inventory(&mut self) -> Result<File, LoadError> {
        let name = self
            .iterator
            .ok_or_else(|| LoadError::Iterator("no iterator is loaded".to_owned()))?;
        let link = self.iterate(name)?;
        link.into_file()
            .map_err(|error| LoadError::Iterator(error.to_string()))
    }

    /// Whether [`Self::orphan_walk`] is there.
    pub fn sees_orphans(&self) -> bool {
        self.active.contains(programs::ITER_TCP)
    }

    /// A walk over the connections of one network namespace, that of the thread which makes a file of
    /// it; the file yields the [`sockleak_ebpf::ProcessKey`] of every orphan that is known.
    ///
    /// # Errors
    /// When the iterator is not loaded or the kernel refuses to start it.
    pub fn orphan_walk(&mut self) -> Result<IterLink, LoadError> {
        self.iterate(programs::ITER_TCP)
    }

    fn iterate(&mut self, name: &str) -> Result<IterLink, LoadError> {
        let failed = |error: String| LoadError::Iterator(error);
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| failed(format!("the object has no program {name}")))?;
        let program: &mut Iter = typed(program).map_err(failed)?;
        let link = program.attach().map_err(|error| failed(explain(error)))?;
        program
            .take_link(link)
            .map_err(|error| failed(explain(error)))
    }

    /// Runs that the kernel skipped, by program; only those that are not zero.
    pub fn missed_runs(&self) -> BTreeMap<String, u64> {
        self.runs()
            .filter_map(|(name, runs)| Some((name.to_owned(), runs.misses.filter(|n| *n > 0)?)))
            .collect()
    }

    /// Births and deaths among the skipped runs.
    pub fn unseen(&self) -> misses::Unseen {
        let missed = self.runs();
        misses::Unseen::of(missed.map(|(name, runs)| (name, runs.misses.unwrap_or(0))))
    }

    /// Time spent in all programs, ns; `None` unless kernel.bpf_stats_enabled.
    pub fn run_time_ns(&self) -> Option<u64> {
        let total = self.runs().map(|(_, runs)| runs.run_time_ns).sum();
        (total > 0).then_some(total)
    }

    fn runs(&self) -> impl Iterator<Item = (&'static str, misses::Runs)> {
        self.active.iter().filter_map(|name| {
            let fd = self.ebpf.program(name)?.fd().ok()?;
            let mut runs = misses::runs(fd.as_fd()).ok()?;
            if let Some(missed) = misses::missed(&self.links, runs.id) {
                runs.misses = Some(runs.misses.unwrap_or(0) + missed);
            }
            Some((name, runs))
        })
    }
}

/// The attachments of a variant that this kernel has a place for.
fn present<'a>(
    facts: &'a Facts,
    variant: &Variant,
) -> impl Iterator<Item = &'static Attachment> + use<'a> {
    let is_present = |one: &&Attachment| !(one.optional && is_missing(facts, one.target));
    variant.attachments.iter().filter(is_present)
}

impl LoadError {
    /// Whether the cause is missing privileges or kernel support (exit status 3).
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Plan(_)
            | Self::Refused { .. }
            | Self::Btf(_)
            | Self::Constants(_)
            | Self::Iterator(_) => true,
            Self::Object(error) => {
                let mut source: Option<&dyn std::error::Error> = Some(error);
                while let Some(cause) = source {
                    if let Some(io) = cause.downcast_ref::<io::Error>() {
                        return io.kind() == io::ErrorKind::PermissionDenied;
                    }
                    source = cause.source();
                }
                false
            }
        }
    }
}
