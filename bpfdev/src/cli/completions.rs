//! `bpfdev completions SHELL`: what a shell completes command lines with.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Print the completions of a shell: where it looks for them is up to the shell
///
/// For bash: bpfdev completions bash > /usr/share/bash-completion/completions/bpfdev
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Runs the subcommand.
///
/// # Errors
/// stdout that cannot be written.
pub fn run(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bpfdev", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
