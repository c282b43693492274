//! The bpfdev program: one file a subcommand, each with its arguments and a `run`.
//!
//! Exit status 2 means wrong arguments, 1 a failure; `wrap` passes on its command's.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

pub mod abi;
pub mod capture;
pub mod completions;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod filter;
pub mod launch;
pub mod probe;
pub mod refusal;
pub mod sandbox;
pub mod serve;
pub mod stat;
pub mod wrap;

/// The BSD packet filter device, /dev/bpf, on Linux
#[derive(Debug, Parser)]
#[command(name = "bpfdev", version)]
struct Cli {
    /// Say more on stderr: once for info, twice for debug, three times for trace (RUST_LOG goes before it)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Subcommand,
}

/// A new subcommand is its module above, a line here and a line in `dispatch`.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Serve(serve::ServeArgs),
    Wrap(wrap::WrapArgs),
    Capture(capture::CaptureArgs),
    Demo(demo::DemoArgs),
    Filter(filter::FilterArgs),
    Abi(abi::AbiArgs),
    Doctor(doctor::DoctorArgs),
    Stat(stat::StatArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Launch(launch::LaunchArgs),
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
    #[command(hide = true)]
    ProbePeer(probe::PeerArgs),
}

fn dispatch(command: Subcommand) -> anyhow::Result<ExitCode> {
    match command {
        Subcommand::Serve(args) => serve::run(args),
        Subcommand::Wrap(args) => wrap::run(args),
        Subcommand::Capture(args) => capture::run(args),
        Subcommand::Demo(args) => demo::run(args),
        Subcommand::Filter(args) => filter::run(args),
        Subcommand::Abi(args) => abi::run(args),
        Subcommand::Doctor(args) => doctor::run(args),
        Subcommand::Stat(args) => stat::run(args),
        Subcommand::Completions(args) => completions::run(args),
        Subcommand::Launch(args) => launch::run(args),
        Subcommand::Probe(args) => probe::run(args),
        Subcommand::ProbePeer(args) => probe::run_peer(args),
    }
}

/// Arguments that are wrong together, or for this machine: exit status 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Parses the command line and runs it. Starts no thread before the subcommand does: a user namespace can only
/// be entered by a process with one.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(cli.verbose);
    dispatch(cli.command).unwrap_or_else(|error| {
        eprintln!("bpfdev: {}", in_one_line(&error));
        ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
    })
}

/// The error and its causes. Some errors already end with what caused them.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said.replace('\n', " ")
}

/// Prints help as it is, and an error as one line.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader that has gone away is no failure of ours.
        let _ = error.print();
        return ExitCode::from(if asked { 0 } else { 2 });
    }
    eprintln!("bpfdev: {}", one_line(&error.to_string()));
    ExitCode::from(2)
}

/// clap's message up to its usage, tips included, in one line that ends with where to read on.
fn one_line(message: &str) -> String {
    let words = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<_> = words.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let said = said.join(" ");
    format!("{} (see bpfdev --help)", said.strip_prefix("error: ").unwrap_or(&said))
}

fn log_to_stderr(verbose: u8) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose).min(3)];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What a manual says below a heading of that name.
    fn section<'a>(manual: &'a str, name: &str) -> &'a str {
        let (_, rest) =
            manual.split_once(&format!(".Ss {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
        let end = [".Ss ", ".Sh "].into_iter().filter_map(|heading| rest.find(heading)).min();
        &rest[..end.unwrap_or(rest.len())]
    }

    fn is_described(manual: &str, command: &clap::Command) {
        let said = section(manual, command.get_name());
        for long in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long) {
            if matches!(long, "help" | "version" | "verbose") {
                continue;
            }
            let items = said.lines().filter(|line| line.starts_with(".It Fl "));
            let mut flags = items.flat_map(str::split_whitespace);
            assert!(flags.any(|word| word == format!("-{long}")), "{}: --{long}", command.get_name());
        }
    }

    #[test]
    fn every_long_option_is_described_in_a_manual() {
        let (service, filter) =
            (include_str!("../../man/bpfdev.8"), include_str!("../../man/bpfdev-filter.1"));
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
            match command.get_name() {
                "help" => {}
                "filter" => {
                    let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
                    commands.for_each(|command| is_described(filter, command));
                }
                _ => is_described(service, command),
            }
        }
    }

    #[test]
    fn a_wrong_argument_is_one_line() {
        for (line, says) in [
            (&["bpfdev", "wrap"][..], "required arguments were not provided: <COMMAND>..."),
            (&["bpfdev", "wrap", "--abi", "plan9", "true"], "invalid value 'plan9' for '--abi <DIALECT>'"),
            (&["bpfdev", "doctor", "--jsn"], "unexpected argument '--jsn' found"),
            (&["bpfdev", "frobnicate"], "unrecognized subcommand 'frobnicate'"),
        ] {
            let text = one_line(&Cli::try_parse_from(line).unwrap_err().to_string());
            assert!(text.contains(says) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let refused = || std::io::Error::from_raw_os_error(libc::EPERM);
        let wrapped = bpfdev_core::backend::TapError::io("attaching", refused());
        let error = anyhow::Error::new(wrapped).context("capture");
        assert_eq!(in_one_line(&error), "capture: attaching: Operation not permitted (os error 1)");
        let error = anyhow::Error::new(refused()).context("capture");
        assert_eq!(in_one_line(&error), "capture: Operation not permitted (os error 1)");
    }

    #[test]
    fn what_follows_the_command_is_its_own() {
        for line in [&["bpfdev", "wrap", "--", "ls", "-l"][..], &["bpfdev", "wrap", "ls", "-l", "--abi"]] {
            Cli::try_parse_from(line).unwrap();
        }
    }
}
