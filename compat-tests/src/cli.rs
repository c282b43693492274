//! The bpfdev-compat program: one module a subcommand, each with its arguments and a `run`.
//!
//! Exit status 2 means wrong arguments, 1 a failure.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

#[cfg(target_os = "linux")]
use crate::{bench, clients, fuzz, oracle, soak};
use crate::{conformance, user};

/// Conformance of the BSD packet filter device on Linux
#[derive(Debug, Parser)]
#[command(name = "bpfdev-compat", version)]
struct Cli {
    #[command(subcommand)]
    command: Subcommand,
}

/// A new subcommand is its module, a line here and a line in `dispatch`.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Run(conformance::cli::RunArgs),
    Record(user::record::RecordArgs),
    Compare(conformance::compare::cli::CompareArgs),
    #[cfg(target_os = "linux")]
    Oracle(oracle::OracleArgs),
    #[cfg(target_os = "linux")]
    Clients(clients::ClientsArgs),
    #[cfg(target_os = "linux")]
    Bench(bench::BenchArgs),
    #[cfg(target_os = "linux")]
    Fuzz(fuzz::FuzzArgs),
    #[cfg(target_os = "linux")]
    Soak(soak::SoakArgs),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    BenchPart(bench::PartArgs),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    SoakClient(soak::ClientArgs),
}

fn dispatch(command: &Subcommand) -> anyhow::Result<ExitCode> {
    match command {
        Subcommand::Run(args) => conformance::cli::run(args),
        Subcommand::Record(args) => user::record::run(args),
        Subcommand::Compare(args) => conformance::compare::cli::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::Oracle(args) => oracle::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::Clients(args) => clients::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::Bench(args) => bench::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::Fuzz(args) => fuzz::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::Soak(args) => soak::run(args),
        #[cfg(target_os = "linux")]
        Subcommand::BenchPart(args) => bench::run_part(args),
        #[cfg(target_os = "linux")]
        Subcommand::SoakClient(args) => soak::run_client(args),
    }
}

/// Arguments that are wrong together: exit status 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The subcommands of bpfdev with which it starts a device from its own program file, so from ours.
#[cfg(target_os = "linux")]
const OF_BPFDEV: [&str; 3] = ["serve", "launch", "wrap"];

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|word| OF_BPFDEV.iter().any(|ours| word == *ours)) {
        return bpfdev::cli::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    dispatch(&cli.command).unwrap_or_else(|error| {
        eprintln!("bpfdev-compat: {error:#}");
        ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
    })
}

/// Prints help as it is, and an error as one line.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // a reader that has gone away is no failure of ours
        let _ = error.print();
        return ExitCode::from(if asked { 0 } else { 2 });
    }
    let text = error.to_string();
    let words = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<_> = words.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let said = said.join(" ");
    eprintln!("bpfdev-compat: {} (see bpfdev-compat --help)", said.trim_start_matches("error: "));
    ExitCode::from(2)
}
