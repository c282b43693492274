//! `bpfdev filter compile`: an expression as a program.

use std::process::ExitCode;

use bpfdev_core::cbpf::Insn;
use bpfdev_core::cbpf::text::{Form, write};
use serde::Serialize;

use super::input;
use crate::cli::UsageError;

/// Compile an expression, as in pcap-filter(7), and print the program
///
/// libpcap compiles it; the output is that of tcpdump with the same -d, -dd, -ddd, -y and -s.
#[derive(Debug, clap::Args)]
pub(super) struct CompileArgs {
    /// -d prints a listing (so does no -d at all), -dd initialisers of a C array, -ddd decimal numbers
    #[arg(short, action = clap::ArgAction::Count)]
    dump: u8,
    /// Print the eBPF program that Linux runs for it instead
    #[arg(long, conflicts_with_all = ["dump", "json"])]
    ebpf: bool,
    /// Print one JSON object instead
    #[arg(long, conflicts_with = "dump")]
    json: bool,
    /// Link type of the packets, as libpcap names it
    #[arg(short = 'y', long, value_name = "LINKTYPE", default_value = "EN10MB")]
    linktype: String,
    /// Bytes to keep of an accepted packet, to 262144; 0 is the default
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144,
          value_parser = clap::value_parser!(u32).range(0..=262_144))]
    snapshot_length: u32,
    /// The expression; without one the program accepts every packet
    #[arg(value_name = "EXPR")]
    expression: Vec<String>,
}

#[derive(Serialize)]
struct Compiled<'a> {
    expression: &'a str,
    linktype: &'a str,
    snaplen: u32,
    instructions: Vec<input::JsonInsn>,
}

/// Runs the subcommand.
///
/// # Errors
/// An expression that libpcap refuses, in its words.
pub(super) fn run(args: CompileArgs) -> anyhow::Result<ExitCode> {
    let expression = args.expression.join(" ");
    let snaplen = if args.snapshot_length == 0 { 262_144 } else { args.snapshot_length };
    let insns = compile(&expression, &args.linktype, snaplen)?;
    if args.json {
        return input::print_json(&Compiled {
            expression: &expression,
            linktype: &args.linktype,
            snaplen,
            instructions: input::json(&insns),
        });
    }
    if args.ebpf {
        return super::explain::print_ebpf(&insns, &args.linktype);
    }
    let form = match args.dump {
        0 | 1 => Form::Listing,
        2 => Form::C,
        _ => Form::Decimal,
    };
    input::print(&write(&insns, form))
}

#[cfg(feature = "expr")]
fn compile(expression: &str, linktype: &str, snaplen: u32) -> anyhow::Result<Vec<Insn>> {
    let known = crate::expr::linktype(linktype).ok_or_else(|| {
        UsageError(format!("{linktype:?} is no link type that libpcap knows; try EN10MB, RAW or NULL"))
    })?;
    Ok(crate::expr::compile(expression, known, snaplen)?)
}

#[cfg(not(feature = "expr"))]
fn compile(expression: &str, linktype: &str, snaplen: u32) -> anyhow::Result<Vec<Insn>> {
    Err(UsageError(format!(
        "expressions are compiled by libpcap, and this bpfdev is built without the feature expr: \
         tcpdump -ddd -y {linktype} -s {snaplen} '{expression}' prints the program"
    ))
    .into())
}
