//! The BTF reader against bpftool, which reads the same bytes with libbpf: every member of every
//! named struct, every function, every enumerator, every tracepoint; and nested paths against
//! what gcc makes of the header that bpftool writes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sockleak::kernel::btf::VMLINUX;
use sockleak::kernel::{Btf, BtfError};

#[derive(Deserialize)]
struct Dump {
    types: Vec<Type>,
}

/// A type as `bpftool --json btf dump ... format raw` prints it. Types without a name are called
/// `(anon)`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Type {
    kind: String,
    name: String,
    encoding: String,
    size: Option<u32>,
    type_id: Option<u32>,
    ret_type_id: Option<u32>,
    nr_elems: Option<u32>,
    members: Vec<Member>,
    params: Vec<Param>,
    values: Vec<Value>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    type_id: u32,
    bits_offset: u32,
    #[serde(default)]
    bitfield_size: u32,
}

#[derive(Deserialize)]
struct Param {
    name: String,
    type_id: u32,
}

#[derive(Deserialize)]
struct Value {
    name: String,
    val: serde_json::Number,
}

impl Type {
    /// An enumerator's value. bpftool extends the sign of unsigned ones too.
    fn value(&self, number: &serde_json::Number) -> Result<i64> {
        let unsigned = number.as_u64().map(u64::cast_signed);
        let value = unsigned
            .or(number.as_i64())
            .context("an enumerator that is no integer")?;
        Ok(match (self.kind.as_str(), self.encoding.as_str()) {
            ("ENUM", "UNSIGNED") => i64::from(value as u32),
            _ => value,
        })
    }
}

impl Dump {
    fn of_this_kernel() -> Result<Self> {
        let output = Command::new("bpftool")
            .args(["--json", "btf", "dump", "file", VMLINUX, "format", "raw"])
            .output()
            .context("running bpftool")?;
        ensure!(output.status.success(), "bpftool failed: {output:?}");
        serde_json::from_slice(&output.stdout).context("reading bpftool's JSON")
    }

    fn ty(&self, id: u32) -> &Type {
        &self.types[id as usize - 1]
    }

    fn named(&self, kinds: &'static [&'static str]) -> impl Iterator<Item = &Type> {
        self.types
            .iter()
            .filter(|ty| kinds.contains(&ty.kind.as_str()) && ty.name != "(anon)")
    }

    /// Size in bytes, worked out from the dump alone.
    fn size(&self, id: u32) -> u32 {
        let ty = self.ty(id);
        match ty.kind.as_str() {
            "PTR" => 8,
            "ARRAY" => ty.nr_elems.unwrap() * self.size(ty.type_id.unwrap()),
            _ => ty.size.unwrap_or_else(|| self.size(ty.type_id.unwrap())),
        }
    }

    fn pointer_to_named(&self, id: u32) -> Option<String> {
        // Id 0 is void, or of a parameter the dots of a variadic function.
        let pointer = (id != 0).then(|| self.ty(id))?;
        let target = pointer
            .type_id
            .filter(|id| *id != 0 && pointer.kind == "PTR")?;
        let target = self.ty(target);
        let keyword = match target.kind.as_str() {
            "STRUCT" => "struct ",
            "UNION" => "union ",
            "INT" | "TYPEDEF" => "",
            _ => return None,
        };
        (target.name != "(anon)").then(|| format!("{keyword}{} *", target.name))
    }
}

/// Says past the capture of the test harness why a test did not run.
fn skip(test: &str, reason: &str) {
    // The message is lost only if stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

fn runs(program: &str) -> bool {
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Whether the comparison can be made here.
fn can_compare(test: &str, programs: &[&str]) -> bool {
    for program in programs {
        if !runs(program) {
            skip(
                test,
                &format!("{program} is missing: sudo apt-get install {program}"),
            );
            return false;
        }
    }
    match std::fs::File::open(VMLINUX) {
        Ok(_) => true,
        Err(error) => {
            skip(test, &format!("{VMLINUX}: {error}"));
            false
        }
    }
}

#[test]
fn every_type_is_read_as_bpftool_reads_it() -> Result<()> {
    if !can_compare("every_type_is_read_as_bpftool_reads_it", &["bpftool"]) {
        return Ok(());
    }
    let dump = Dump::of_this_kernel()?;
    let btf = Btf::load(VMLINUX)?;
    ensure!(btf.len() == dump.types.len());
    let members = members(&dump, &btf)?;
    let functions = functions(&dump, &btf)?;
    let enumerators = enumerators(&dump, &btf)?;
    let tracepoints = tracepoints(&dump, &btf)?;
    println!(
        "{members} members, {functions} functions, {enumerators} enumerators, \
         {tracepoints} tracepoints agree"
    );
    // Far below what any distribution kernel has: guards against comparing nothing.
    ensure!(members > 20_000 && functions > 10_000 && enumerators > 1_000 && tracepoints > 100);
    Ok(())
}

/// Where a member lies, in bits, in each struct of one name.
type Places = BTreeSet<(u32, u32, u32)>;

fn members(dump: &Dump, btf: &Btf<'_>) -> Result<usize> {
    // What the structs of one name say, by member.
    let mut structs: BTreeMap<&str, BTreeMap<&str, Places>> = BTreeMap::new();
    for ty in dump.named(&["STRUCT", "UNION"]) {
        let members = structs.entry(&ty.name).or_default();
        for member in ty.members.iter().filter(|member| member.name != "(anon)") {
            members.entry(&member.name).or_default().insert((
                member.bits_offset,
                member.bitfield_size,
                dump.size(member.type_id),
            ));
        }
    }
    let mut compared = 0;
    for (name, members) in &structs {
        for (member, expected) in members {
            let ours = btf.member(name, member);
            match &ours {
                Ok(ours) => {
                    let ours = (ours.bit_offset, ours.bit_size, ours.byte_size);
                    ensure!(
                        expected.len() == 1 && expected.contains(&ours),
                        "{name}.{member}: {ours:?} {expected:?}"
                    );
                }
                Err(BtfError::Ambiguous { .. }) => ensure!(expected.len() > 1, "{name}.{member}"),
                Err(error) => anyhow::bail!("{name}.{member}: {error}"),
            }
            compared += 1;
        }
    }
    Ok(compared)
}

fn functions(dump: &Dump, btf: &Btf<'_>) -> Result<usize> {
    let mut seen = BTreeSet::new();
    for func in dump.named(&["FUNC"]).filter(|func| seen.insert(&func.name)) {
        let proto = dump.ty(func.type_id.context("a function without prototype")?);
        let ours = btf.func(&func.name).with_context(|| func.name.clone())?;
        let names: Vec<_> = ours
            .params
            .iter()
            .map(|param| param.name.as_str())
            .collect();
        let expected: Vec<_> = proto
            .params
            .iter()
            .map(|param| param.name.as_str())
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|name| name.replace("(anon)", ""))
            .collect();
        ensure!(names == expected, "{}: {ours}", func.name);
        for (ours, theirs) in ours.params.iter().zip(&proto.params) {
            if let Some(text) = dump.pointer_to_named(theirs.type_id) {
                ensure!(
                    ours.type_text == text,
                    "{}: {} {text}",
                    func.name,
                    ours.type_text
                );
            }
        }
        if proto.ret_type_id == Some(0) {
            ensure!(ours.ret == "void", "{}: {ours}", func.name);
        }
    }
    Ok(seen.len())
}

fn enumerators(dump: &Dump, btf: &Btf<'_>) -> Result<usize> {
    let mut values: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for ty in &dump.types {
        for value in &ty.values {
            values
                .entry(&value.name)
                .or_default()
                .insert(ty.value(&value.val)?);
        }
    }
    // Each question looks through all enums; every seventh keeps the test short.
    let sample: Vec<_> = values.iter().step_by(7).collect();
    for (name, expected) in &sample {
        let ours = btf.enum_value(name).with_context(|| (*name).to_string())?;
        ensure!(expected.contains(&ours), "{name}: {ours}, not {expected:?}");
    }
    Ok(sample.len())
}

fn tracepoints(dump: &Dump, btf: &Btf<'_>) -> Result<usize> {
    let mut compared = 0;
    for typedef in dump.named(&["TYPEDEF"]) {
        let Some(name) = typedef.name.strip_prefix("btf_trace_") else {
            continue;
        };
        let proto = typedef.type_id.and_then(|id| dump.ty(id).type_id);
        let proto = dump.ty(proto.context("a tracepoint without prototype")?);
        let ours = btf.tracepoint(name).context(name.to_owned())?;
        ensure!(ours.nargs() + 1 == proto.params.len(), "{name}: {ours}");
        compared += 1;
    }
    Ok(compared)
}

/// Paths of the kind that the hooks need. What this kernel lacks is left out.
const PATHS: [(&str, &str); 24] = [
    ("sock", "__sk_common.skc_num"),
    ("sock", "__sk_common.skc_dport"),
    ("sock", "__sk_common.skc_daddr"),
    ("sock", "__sk_common.skc_state"),
    ("sock", "__sk_common.skc_net.net"),
    ("sock", "__sk_common.skc_v6_daddr.in6_u.u6_addr32"),
    ("sock", "__sk_common.skc_cookie.counter"),
    ("sock", "sk_socket"),
    ("sock", "sk_protocol"),
    ("sock", "sk_type"),
    ("inet_sock", "sk.__sk_common.skc_num"),
    ("inet_sock", "inet_sport"),
    ("inet_connection_sock", "icsk_bind_hash"),
    (
        "inet_connection_sock",
        "icsk_inet.sk.__sk_common.skc_rcv_saddr",
    ),
    ("tcp_sock", "inet_conn.icsk_inet.sk.__sk_common.skc_family"),
    ("net", "ns.inum"),
    ("net", "ipv4.ip_local_ports.range"),
    ("net", "ipv4.sysctl_tcp_tw_reuse"),
    ("net", "ipv4.sysctl_local_reserved_ports"),
    ("proto", "sockets_allocated"),
    ("inet_bind_bucket", "fastreuse"),
    ("task_struct", "se.avg.util_avg"),
    ("file", "f_op"),
    ("socket", "wq.fasync_list"),
];

#[test]
fn nested_paths_agree_with_the_compiler() -> Result<()> {
    if !can_compare("nested_paths_agree_with_the_compiler", &["bpftool", "gcc"]) {
        return Ok(());
    }
    let btf = Btf::load(VMLINUX)?;
    let header = Command::new("bpftool")
        .args(["btf", "dump", "file", VMLINUX, "format", "c"])
        .output()
        .context("running bpftool")?;
    ensure!(header.status.success(), "bpftool failed: {header:?}");
    let mut source = header.stdout;
    let mut compared = 0;
    for (name, path) in PATHS {
        let Ok(member) = btf.member(name, path) else {
            continue;
        };
        compared += 1;
        let (offset, size) = (member.byte_offset(), member.byte_size);
        writeln!(
            source,
            "_Static_assert(__builtin_offsetof(struct {name}, {path}) == {offset}, \"offset\");\n\
             _Static_assert(sizeof(((struct {name} *)0)->{path}) == {size}, \"size\");"
        )?;
    }
    ensure!(
        compared > 15,
        "only {compared} of the paths exist on this kernel"
    );
    let mut gcc = Command::new("gcc")
        .args(["-fsyntax-only", "-w", "-std=gnu11", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running gcc")?;
    let mut stdin = gcc.stdin.take().context("gcc without stdin")?;
    stdin.write_all(&source).context("writing to gcc")?;
    drop(stdin);
    let output = gcc.wait_with_output()?;
    ensure!(
        output.status.success(),
        "gcc disagrees:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{compared} paths agree with gcc");
    Ok(())
}
