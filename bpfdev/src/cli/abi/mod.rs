//! `bpfdev abi`: each system's request numbers, layouts and rules, printed and compared.

mod compare;
mod list;
mod notes;
mod number;
mod sheet;
mod text;
mod words;

use std::process::ExitCode;

use bpfdev_core::abi::{Abi, TABLES};
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::UsageError;
use sheet::Sheet;

/// Print and compare what each system's bpf(4) looks like: request numbers, layouts, rules
///
/// Without SYSTEM it lists the systems. One prints its table, several are put side by side, and what differs is marked
/// with *. What was not verified is marked with (u). With --number the exit status is 1 when no system has the request.
#[derive(Debug, clap::Args)]
pub struct AbiArgs {
    /// The systems
    #[arg(value_name = "SYSTEM", value_parser = systems())]
    systems: Vec<&'static Abi>,
    /// Only what differs between the systems
    #[arg(long)]
    differences: bool,
    /// Tell what a request number is, on each system in each encoding: 0x8020426c, 2149597804 or `_IOW('B', 108, 32)`
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, conflicts_with_all = ["systems", "differences"])]
    number: Option<number::Asked>,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
}

fn systems() -> impl TypedValueParser<Value = &'static Abi> {
    PossibleValuesParser::new(TABLES.iter().map(|abi| abi.name))
        .try_map(|name| table(&name).ok_or("no such system"))
}

fn table(name: &str) -> Option<&'static Abi> {
    TABLES.into_iter().find(|abi| abi.name == name)
}

/// Runs the subcommand.
///
/// # Errors
/// `--differences` without two systems, a system that is named twice, and a stdout that cannot be written.
pub fn run(args: AbiArgs) -> anyhow::Result<ExitCode> {
    if let Some(asked) = args.number {
        return number::run(&asked, args.json);
    }
    for (i, abi) in args.systems.iter().enumerate() {
        if args.systems[..i].iter().any(|earlier| earlier.name == abi.name) {
            return Err(UsageError(format!("{} is named twice", abi.name)).into());
        }
    }
    match args.systems[..] {
        [] | [_] if args.differences => {
            Err(UsageError("--differences needs two systems, such as freebsd openbsd".into()).into())
        }
        [] => list::run(args.json),
        [abi] if args.json => text::print_json(&Sheet::of(abi)),
        [abi] => text::print(&Sheet::of(abi).to_string()),
        _ => compare::run(&args.systems, args.differences, args.json),
    }
}
