//! `bpfdev filter graph`: a program's control flow graph.

use std::path::PathBuf;
use std::process::ExitCode;

use bpfdev_core::cbpf::graph::Graph;

use super::input;

/// Draw a program's control flow graph, as Graphviz DOT
///
/// The graph of McCanne and Jacobson's paper: a box for each run of instructions up to a predicate, edges for true and
/// false, ellipses for the returns. Dashed boxes cannot be reached. To see it: bpfdev filter graph FILE | dot -Tsvg
#[derive(Debug, clap::Args)]
pub(super) struct GraphArgs {
    /// The program, as tcpdump -d, -dd or -ddd prints it; - is stdin
    file: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be read.
pub(super) fn run(args: GraphArgs) -> anyhow::Result<ExitCode> {
    input::print(&Graph::new(&input::program(&args.file)?).to_string())
}
