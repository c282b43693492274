//! `bpfdev filter check`: which systems take a program.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bpfdev_core::cbpf::{Reject, Rules, validate};
use serde::Serialize;

use super::input::{self, SYSTEMS};

/// Say which systems' validators take a program
///
/// A line for each system: its name, `accepted` or `refused`, and for a refusal the instruction and the rule. linux is
/// SO_ATTACH_FILTER of the Linux kernel. Exit status 0 when every system asked takes the program, 1 when one refuses.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The program, as tcpdump -d, -dd or -ddd prints it; - is stdin
    file: PathBuf,
    /// The system: freebsd, netbsd, openbsd, dragonfly, macos, linux or all
    #[arg(long, value_name = "SYSTEM", default_value = "all", value_parser = systems)]
    abi: Systems,
    /// Write a JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// The systems asked.
#[derive(Debug, Clone)]
struct Systems(Vec<(&'static str, &'static Rules)>);

fn systems(word: &str) -> Result<Systems, String> {
    let asked: Vec<_> = SYSTEMS.iter().filter(|(name, _)| word == "all" || *name == word).copied().collect();
    if asked.is_empty() { Err(input::no_such_system(", all")) } else { Ok(Systems(asked)) }
}

#[derive(Serialize)]
struct Verdict {
    system: &'static str,
    accepted: bool,
    /// From 0; absent where the program as a whole is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be read.
pub(super) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let insns = input::program(&args.file)?;
    let verdicts: Vec<_> =
        args.abi.0.iter().map(|(name, rules)| (*name, validate(&insns, rules).err())).collect();
    if args.json {
        let verdict = |(system, reject): &(&'static str, Option<Reject>)| Verdict {
            system,
            accepted: reject.is_none(),
            instruction: reject.and_then(|reject| reject.pc),
            rule: reject.map(|reject| reject.reason.to_string()),
        };
        input::print_json(&verdicts.iter().map(verdict).collect::<Vec<_>>())?;
    } else {
        let mut lines = String::new();
        for (name, reject) in &verdicts {
            match reject {
                None => writeln!(lines, "{name:<9}  accepted")?,
                Some(reject) => writeln!(lines, "{name:<9}  refused   {reject}")?,
            }
        }
        input::print(&lines)?;
    }
    let refused = verdicts.iter().any(|(_, reject)| reject.is_some());
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
