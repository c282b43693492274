//! `bpfdev filter`: filter programs, looked at from every side.

mod check;
mod compile;
mod ebpf;
mod explain;
mod graph;
mod input;
mod run;

use std::process::ExitCode;

pub(in crate::cli) use ebpf::load_smallest;

/// Compile, check, run, draw and explain filter programs
///
/// FILE is a program in any of the forms that `tcpdump -d`, `-dd` and `-ddd` print; - is stdin.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Compile(compile::CompileArgs),
    Check(check::CheckArgs),
    Run(run::RunArgs),
    Graph(graph::GraphArgs),
    Explain(explain::ExplainArgs),
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be read, and programs that are not valid.
pub fn run(args: FilterArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Subcommand::Compile(args) => compile::run(args),
        Subcommand::Check(args) => check::run(args),
        Subcommand::Run(args) => run::run(args),
        Subcommand::Graph(args) => graph::run(args),
        Subcommand::Explain(args) => explain::run(args),
    }
}
