//! `bpfdev filter explain`: what Linux makes of a program.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bpfdev_backend_linux::filter::{LinkKind, rewrite, try_attach};
use bpfdev_core::abi;
use bpfdev_core::cbpf::{self, Insn, Program, Rules, disasm};
use serde::Serialize;

use super::{ebpf, input};
use crate::cli::refusal::sysctl;

/// Say which plan Linux runs a program by, why, and what becomes of it
///
/// The plans, from the first choice to the last: ebpf, translated and in the kernel, with exact counters; cbpf,
/// rewritten for SO_ATTACH_FILTER and in the kernel; process, interpreted in this process. Each is tried on this
/// machine, as the device does.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The program, as tcpdump -d, -dd or -ddd prints it; - is stdin
    file: PathBuf,
    /// Whose program it is: linux (the device's own dialect), freebsd, netbsd, openbsd, dragonfly or macos
    #[arg(long, value_name = "DIALECT", default_value = "linux", value_parser = input::dialect)]
    abi: &'static Rules,
    /// The kind of interface
    #[arg(long, value_name = "KIND", default_value = "ethernet")]
    link: Link,
    /// Print what the program becomes by this plan, instead of the one that Linux uses
    #[arg(long, value_name = "PLAN")]
    plan: Option<Plan>,
    /// Write one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Kinds of interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Link {
    Ethernet,
    Loopback,
    /// Without a link header
    Raw,
}

impl Link {
    fn kind(self, rules: &Rules) -> LinkKind {
        match self {
            Link::Ethernet => LinkKind::Ethernet,
            Link::Raw => LinkKind::Raw,
            Link::Loopback => {
                let dialect = abi::ALL.iter().find(|abi| abi.filter == rules);
                LinkKind::Loopback(dialect.map_or(abi::linux::LINUX.loopback, |abi| abi.loopback))
            }
        }
    }
}

/// The plans, from the first choice to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Plan {
    Ebpf,
    Cbpf,
    Process,
}

impl Plan {
    fn word(self) -> &'static str {
        match self {
            Plan::Ebpf => "ebpf",
            Plan::Cbpf => "cbpf",
            Plan::Process => "process",
        }
    }
}

/// A plan tried.
#[derive(Serialize)]
struct Tried {
    plan: Plan,
    /// Whether this kernel takes the program by it.
    works: bool,
    /// What was seen, or what stands in the way.
    seen: String,
    /// What the program becomes.
    #[serde(skip)]
    listing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<usize>,
}

impl Tried {
    fn ebpf(program: &Program, kind: LinkKind) -> Tried {
        let plan = Plan::Ebpf;
        let Ok(translated) = ebpf::translate(program, kind) else {
            return Tried {
                plan,
                works: false,
                seen: "too long for eBPF".into(),
                listing: None,
                instructions: None,
            };
        };
        let (works, seen) = match translated.load() {
            Ok(seen) => (true, seen),
            Err(refusal) => (false, refusal),
        };
        let instructions = Some(translated.len());
        Tried { plan, works, seen, listing: Some(translated.listing()), instructions }
    }

    fn cbpf(program: &Program, kind: LinkKind) -> Tried {
        let plan = Plan::Cbpf;
        let insns = match rewrite(program, kind) {
            Ok(rewritten) => rewritten.insns,
            Err(error) => {
                return Tried {
                    plan,
                    works: false,
                    seen: error.to_string(),
                    listing: None,
                    instructions: None,
                };
            }
        };
        let (works, seen) = match try_attach(&insns) {
            Ok(()) => (true, "the kernel takes it".to_owned()),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => (
                false,
                format!(
                    "{error}: longer than net.core.optmem_max allows; sudo sysctl net.core.optmem_max=131072"
                ),
            ),
            Err(error) => (false, format!("the kernel refuses it: {error}")),
        };
        Tried { plan, works, seen, listing: Some(disasm(&insns)), instructions: Some(insns.len()) }
    }

    fn process(program: &Program) -> Tried {
        let (seen, listing) =
            ("as it is, each packet is copied first".to_owned(), Some(disasm(program.insns())));
        Tried { plan: Plan::Process, works: true, seen, listing, instructions: Some(program.len()) }
    }
}

/// What net.core.bpf_jit_enable says.
fn jit() -> (Option<String>, &'static str) {
    let value = sysctl("net.core.bpf_jit_enable");
    let means = match value.as_deref() {
        Some("0") => "the kernel interprets filters; sudo sysctl net.core.bpf_jit_enable=1 has them compiled",
        Some("1") => "the kernel compiles filters to machine code",
        Some(_) => "the kernel compiles filters to machine code, and logs it (for developers, slow)",
        None => "not readable by this user, or not in this kernel",
    };
    (value, means)
}

#[derive(Serialize)]
struct Explained<'a> {
    rules: &'static str,
    link: Link,
    instructions: usize,
    plan: Plan,
    plans: &'a [Tried],
    jit_enable: Option<String>,
    /// What is shown: the program by this plan.
    shown: Plan,
    listing: Option<&'a str>,
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be read; a program that is not valid.
pub(super) fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let program = input::valid(&args.file, args.abi)?;
    let kind = args.link.kind(args.abi);
    let plans = [Tried::ebpf(&program, kind), Tried::cbpf(&program, kind), Tried::process(&program)];
    let plan = plans.iter().find(|tried| tried.works).map_or(Plan::Process, |tried| tried.plan);
    let shown = args.plan.unwrap_or(plan);
    let listing = plans.iter().find(|tried| tried.plan == shown).and_then(|tried| tried.listing.as_deref());
    let (jit_enable, jit_means) = jit();
    if args.json {
        return input::print_json(&Explained {
            rules: args.abi.name,
            link: args.link,
            instructions: program.len(),
            plan,
            plans: &plans,
            jit_enable,
            shown,
            listing,
        });
    }
    let mut text = format!("program  {} instructions, valid: {}\n", program.len(), args.abi.name);
    for Tried { plan, works, seen, instructions, .. } in &plans {
        let works = if *works { "yes" } else { "no " };
        let size = instructions.map(|n| format!("{n} instructions; ")).unwrap_or_default();
        writeln!(text, "{:<8} {works}  {size}{seen}", plan.word())?;
    }
    let jit_enable = jit_enable.unwrap_or_else(|| "?".to_owned());
    writeln!(text, "jit      net.core.bpf_jit_enable = {jit_enable}: {jit_means}")?;
    writeln!(text, "plan     {}", plan.word())?;
    match listing {
        Some(listing) => write!(text, "\nby the plan {}:\n{listing}", shown.word())?,
        None => writeln!(text, "\nby the plan {} there is no program", shown.word())?,
    }
    input::print(&text)
}

/// `compile --ebpf`: the translation for an interface of the link type.
pub(super) fn print_ebpf(insns: &[Insn], linktype: &str) -> anyhow::Result<ExitCode> {
    let rules = &cbpf::LINUX_ABI;
    let program = cbpf::validate(insns, rules)?;
    let link = match linktype.to_uppercase().as_str() {
        "EN10MB" => Link::Ethernet,
        "NULL" | "LOOP" => Link::Loopback,
        _ => Link::Raw,
    };
    input::print(&ebpf::translate(&program, link.kind(rules))?.listing())
}
