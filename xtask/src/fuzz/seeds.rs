//! The first inputs: real ones wherever there are any.

use std::{
    fs,
    mem::offset_of,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};
use serde_json::Value;
use sockleak_ebpf::{
    AF_INET, CodeStack, Counters, EventRecord, Executable, InventoryRecord, LeftKey, LeftStats,
    RunEvent, RunTotals, SocketEntry, names::maps,
};

use crate::{
    bundle::Bundle,
    cmd::{self, note},
    guest_build::{self, Profile, SOCKLEAK},
};

/// Maps of the kernel side, and the number by which the target `records` knows what is in them.
const MAPS: [(&str, u8); 6] = [
    ("PROCESSES", 2),
    ("SEARCHES", 3),
    ("FAILURES", 4),
    (maps::COUNTERS, 5),
    ("ENDINGS", 6),
    ("SITES", 7),
];
/// Elements of each map that are kept.
const ELEMENTS: usize = 6;

/// Writes them.
pub fn write(root: &Path, corpus: &Path) -> Result<()> {
    recordings(root, corpus)?;
    btf(root, corpus)?;
    for (target, name, text) in TEXTS {
        put(corpus, target, name, text)?;
    }
    shapes(corpus)?;
    records(root, corpus)
}

/// Records that no map holds, empty but of the right size; and a course of samples of each kind.
fn shapes(corpus: &Path) -> Result<()> {
    let family = AF_INET.to_ne_bytes();
    for (name, number, len, at) in [
        (
            "event",
            0,
            size_of::<EventRecord>(),
            offset_of!(EventRecord, family),
        ),
        (
            "inventory",
            1,
            size_of::<InventoryRecord>(),
            offset_of!(InventoryRecord, family),
        ),
        (
            "left",
            8,
            size_of::<LeftKey>() + size_of::<LeftStats>(),
            offset_of!(LeftKey, family),
        ),
        ("code", 9, size_of::<CodeStack>(), 0),
        ("run-event", 10, size_of::<RunEvent>(), 0),
        ("executable", 10, size_of::<Executable>(), 0),
        ("run-totals", 11, size_of::<RunTotals>(), 0),
        ("socket", 11, size_of::<SocketEntry>(), 0),
    ] {
        let mut data = vec![0; 1 + len];
        if let Some(place) = data.get_mut(1 + at..3 + at) {
            place.copy_from_slice(&family);
        }
        if let Some(first) = data.first_mut() {
            *first = number;
        }
        put(corpus, "records", name, &data)?;
    }
    let script: Vec<u8> = (0..1536_u32).map(|n| (n * n / 7 % 251) as u8).collect();
    put(corpus, "tracker", "steps", &script)?;
    put(corpus, "tracker", "looks", &[1, 7, 7, 5, 9, 0, 0, 0, 0, 7])
}

fn put(corpus: &Path, target: &str, name: &str, data: &[u8]) -> Result<()> {
    let dir = corpus.join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(format!("seed-{name}")), data)
        .with_context(|| format!("could not write below {}", dir.display()))
}

/// The recording of another kernel: its beginning as a file, and each kind of line that any recording has.
fn recordings(root: &Path, corpus: &Path) -> Result<()> {
    let source = root.join("sockleak-user/src");
    let recorded = fs::read(source.join("cli/recorded/linux-6.12.rec"))?;
    for len in [6 << 10, 16 << 10] {
        let part = recorded.get(..len).unwrap_or(&recorded);
        put(corpus, "recording", &format!("{len}"), part)?;
    }
    let lines = fs::read_to_string(source.join("report/recorded/format-1.jsonl"))?;
    let header = lines
        .lines()
        .next()
        .context("the recorded lines are empty")?;
    let mut seen = Vec::new();
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).context("a recorded line is not JSON")?;
        let kind = value["type"].as_str().unwrap_or("none").to_owned();
        if !seen.contains(&kind) {
            put(
                corpus,
                "lines",
                &kind,
                format!("{header}\n{line}").as_bytes(),
            )?;
            seen.push(kind);
        }
    }
    Ok(())
}

/// What a compiler has written: that of the kernel side.
fn btf(root: &Path, corpus: &Path) -> Result<()> {
    let file = fs::read(root.join("sockleak-user/bpf/sockleak-x86_64.bpf.o"))?;
    let object = object::File::parse(&*file).context("the committed object is no ELF file")?;
    let section = object.section_by_name(".BTF").context("it has no BTF")?;
    put(corpus, "btf", "object", section.data()?)
}

/// Elements of the maps while an incident is watched; as root.
fn records(root: &Path, corpus: &Path) -> Result<()> {
    let sockleak = guest_build::build(root, &[SOCKLEAK], Profile::Guest)?;
    let sockleak = sockleak.first().context("sockleak was not built")?;
    let bpftool = match cmd::which("bpftool") {
        Some(path) => path,
        None => Bundle::provide("bpftool", &[&["bookworm"], &["trixie"]])?
            .path_entry("usr/sbin/bpftool")?
            .join("bpftool"),
    };
    note("looking into the maps while `sockleak demo bound-leak` runs");
    let mut demo = Demo::start(sockleak)?;
    // It attaches, leaks for some seconds, and says what it saw.
    thread::sleep(Duration::from_secs(4));
    let mut written = 0;
    for (map, number) in MAPS {
        let mut dump = Command::new(&bpftool);
        dump.args(["--json", "map", "dump", "name", map]);
        let Ok(text) = cmd::output(&mut dump) else {
            continue;
        };
        let elements: Value = serde_json::from_str(&text).context("bpftool prints no JSON")?;
        for (index, element) in elements
            .as_array()
            .into_iter()
            .flatten()
            .take(ELEMENTS)
            .enumerate()
        {
            let mut data = vec![number];
            let value = match element["values"].get(0) {
                Some(first) => &first["value"],
                None => {
                    if map != maps::COUNTERS {
                        data.extend(bytes(&element["key"]));
                    }
                    &element["value"]
                }
            };
            // An ending and a site are keys, and only counted.
            if !matches!(map, "ENDINGS" | "SITES") {
                data.extend(bytes(value));
            }
            if map == maps::COUNTERS {
                // One CPU's is enough.
                data.truncate(1 + size_of::<Counters>());
            }
            put(
                corpus,
                "records",
                &format!("{}-{index}", map.trim_start_matches(".bss.").to_lowercase()),
                &data,
            )?;
            written += 1;
        }
    }
    demo.wait()?;
    if written == 0 {
        bail!("no map had elements: was the demo allowed to attach?");
    }
    note(format!("{written} records"));
    Ok(())
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    digits
        .filter_map(|digits| u8::from_str_radix(digits.trim_start_matches("0x"), 16).ok())
        .collect()
}

/// An incident that is going on.
struct Demo(Child);

impl Demo {
    fn start(sockleak: &Path) -> Result<Self> {
        let mut command = Command::new(sockleak);
        command
            .args(["demo", "bound-leak"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn().context("could not start the demo")?))
    }

    fn wait(&mut self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files of /proc and the like, as kernels write them (the first byte is the target's choice of parser).
const TEXTS: [(&str, &str, &[u8]); 20] = [
    ("proc", "stat", b"\x00412 (a) b (c) S 1 412 412 0 -1 4194304 219 0 0 0 3 1 0 0 20 0 4 0 8123 10240000 512 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n"),
    ("proc", "links", b"\x01socket:[48123]\nnet:[4026531840]\nsocket:[00017]\npipe:[12]\nsocket:[4294967296]"),
    ("proc", "cgroup", b"\x029:name=systemd:/init.scope\n4:memory:/docker/4f66ff0ce8c9bd2c0ba3bfb5ea1a3f4b3f1f0b1b2c3d4e5f60718293a4b5c6d7\n0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0a1b_2c3d_4e5f_0a1b2c3d4e5f.slice/cri-containerd-4f66ff0ce8c9bd2c0ba3bfb5ea1a3f4b3f1f0b1b2c3d4e5f60718293a4b5c6d7.scope\n"),
    ("proc", "limits", b"\x02Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 1048576              files     \n"),
    ("proc", "status", b"\x02Name:\tnginx\nState:\tS (sleeping)\nPid:\t812\nNSpid:\t812\t7\n"),
    ("proc", "mounts", b"\x03530 22 0:4 net:[4026532345] /run/netns/blue rw shared:9 - nsfs nsfs rw\n532 22 0:4 net:[4026532347] /run/netns/a\\040b\\134 rw - nsfs nsfs rw\n"),
    ("proc", "kallsyms", b"\x040000000000000000 T tcp_v4_init_sock\nffffffff81a00000 t t\nffffffffc0000000 t nf_hook\t[nf_tables]\n"),
    ("proc", "sockstat", b"\x05sockets: used 290\nTCP: inuse 12 orphan 0 tw 3 alloc 64999 mem 35\nUDP: inuse 2 mem 0\n"),
    ("proc", "file-nr", b"\x063264\t0\t9223372036854775807\n"),
    ("proc", "tcp-mem", b"\x06188319\t251092\t376638\n"),
    ("proc", "netstat", b"\x07TcpExt: SyncookiesSent TCPAbortOnMemory TCPAbortOnTimeout\nTcpExt: 1 22 333\nIpExt: InNoRoutes\nIpExt: 0\n"),
    ("proc", "ports", b"\x088080,9000-9010,32768-60999\n"),
    ("proc", "range", b"\x0832768\t60999\n"),
    ("proc", "mountinfo", b"\x0934 23 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n40 23 0:30 /part /mnt/a\\040b rw - cgroup2 none rw\n"),
    ("perf_map", "node", b"7f10 40 LazyCompile:*connect net.js:12\n7f20 10 Function:~\xc3\xa9\n0x7f00 8 stub\n10 20 a\n18 4 b\n"),
    ("perf_map", "cut", b"10 4 f\n14 4 g\n7fff"),
    ("symbols", "maps", b"\x0055d0c0000000-55d0c0004000 r-xp 00002000 fe:00 1234                       /usr/bin/app\n7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n7ffd0000-7ffd2000 r-xp 00000000 00:00 0                          [vdso]\n"),
    ("symbols", "elf", b"\x01\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0\0\0\0\0\0"),
    ("netlink", "socket", b"\x58\0\0\0\x14\0\0\0\x07\0\0\0\0\0\0\0\x02\x0a\0\0\x1f\x90\0\0\x7f\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\x80\0\0\0\xe8\x03\0\0\x67\x12\0\0"),
    ("netlink", "done", b"\x14\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0\xfe\xff\xff\xff"),
];
