//! `bpfdev stat`: who has the device open, and what each file and limit stands at.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::service::control;
use crate::service::report::{File, Report};
use crate::serving::DEFAULT_MOUNT;

/// Show who has the device open: packets, buffers, filters, and the daemon's limits
///
/// One line a file, as netstat -B does on a BSD. The flags are p promiscuous, i immediate, f source addresses are filled in,
/// s sent packets are seen too (o: they alone), b feedback, a signals, l locked. Recv are packets shown to the filter, Match
/// those it accepted, Drop those without room; Sblen and Hblen bytes in the store and the hold buffer. Below are the limits:
/// what there is, what there may be in all and for one user other than root, and how often more was refused.
#[derive(Debug, clap::Args)]
pub struct StatArgs {
    /// Where the daemon is mounted
    #[arg(long, value_name = "DIR", default_value = DEFAULT_MOUNT)]
    mount: PathBuf,
    /// Its control socket [default: that of its mount, in /run/bpfdev]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Write one JSON object, one a line with --watch
    #[arg(long)]
    json: bool,
    /// Go on until it is interrupted; on a terminal the table stays where it is
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "watch")]
    interval: Duration,
    /// End after so many looks
    #[arg(long, value_name = "NUMBER", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = "seconds are a number from 0.1 to 86400";
    let seconds: f64 = text.parse().map_err(|_| wanted.to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wanted.to_owned())
    }
}

/// Runs the subcommand.
///
/// # Errors
/// No daemon, no permission, no answer; stdout that cannot be written.
pub fn run(args: StatArgs) -> anyhow::Result<ExitCode> {
    let mount = args.mount.canonicalize().unwrap_or(args.mount);
    let socket = args.control.unwrap_or_else(|| control::path_for(&mount));
    let mut out = std::io::stdout().lock();
    let in_place = args.watch && !args.json && out.is_terminal();
    let mut looks = 0;
    loop {
        let report = control::ask(&socket)?;
        let text = if args.json { serde_json::to_string(&report)? + "\n" } else { table(&report) };
        let shown = if in_place { on_screen(&text) } else { text };
        match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            // A reader that has gone away is no failure of ours.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result?,
        }
        looks += 1;
        if !args.watch || args.count.is_some_and(|count| looks >= count) {
            return Ok(ExitCode::SUCCESS);
        }
        if !in_place && !args.json {
            writeln!(out)?;
        }
        std::thread::sleep(args.interval);
    }
}

/// The text over what was shown before, as much of it as the terminal has room for.
fn on_screen(text: &str) -> String {
    let (rows, columns) = crate::sys::window_size(std::io::stdout()).unwrap_or((24, 80));
    let mut shown = String::from("\x1b[H");
    let mut lines = text.lines().peekable();
    for row in 1..=rows {
        let Some(line) = lines.next() else { break };
        let cut = row == rows && lines.peek().is_some();
        let line = if cut { "… (a larger terminal shows the rest)" } else { line };
        shown.extend(line.chars().take(columns));
        shown.push_str("\x1b[K");
        if row < rows {
            shown.push_str("\r\n");
        }
    }
    shown + "\x1b[J"
}

/// What a column is called, whether it is a number, and what it shows of a file.
type Column = (&'static str, bool, fn(&File) -> String);

const COLUMNS: [Column; 13] = [
    ("Pid", true, |file| file.pid.to_string()),
    ("Uid", true, |file| file.uid.to_string()),
    ("Netif", false, |file| file.interface.clone().unwrap_or_else(|| "-".into())),
    ("Flags", false, |file| file.flags.clone()),
    ("Recv", true, |file| file.received.to_string()),
    ("Drop", true, |file| file.dropped.to_string()),
    ("Match", true, |file| file.matched.to_string()),
    ("Sblen", true, |file| file.stored.to_string()),
    ("Hblen", true, |file| file.held.to_string()),
    ("Buffer", true, |file| file.buffer.to_string()),
    ("Plan", false, |file| file.plan.clone().unwrap_or_else(|| "-".into())),
    ("Dialect", false, |file| file.dialect.clone()),
    ("Command", false, |file| file.command.as_deref().map_or_else(|| "-".into(), printable)),
];

/// A command chooses its own name: it must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn table(report: &Report) -> String {
    let head = COLUMNS.map(|(name, ..)| name.to_owned());
    let rows = report.files.iter().map(|file| COLUMNS.map(|(_, _, show)| show(file)));
    let mut text = aligned(std::iter::once(head).chain(rows), &COLUMNS.map(|(_, number, _)| number));
    text.push('\n');
    let head = ["Limit", "Used", "All", "User", "Refused"].map(str::to_owned);
    let limits = report.limits.iter().map(|limit| {
        let amount = |number: usize| if limit.what == "memory" { bytes(number) } else { number.to_string() };
        let [used, all, user] = [limit.used, limit.all, limit.per_user].map(amount);
        [limit.what.clone(), used, all, user, limit.refused.to_string()]
    });
    let helpers = report.helpers.iter().map(|pool| {
        let numbers = [pool.working, pool.all, pool.per_user].map(|number| number.to_string());
        let [used, all, user] = numbers;
        [format!("{} helpers", pool.what), used, all, user, pool.refused.to_string()]
    });
    let lines = std::iter::once(head).chain(limits).chain(helpers);
    text.push_str(&aligned(lines, &[false, true, true, true, true]));
    let _ = writeln!(
        text,
        "\n{} files at {} ({}), daemon {} for {} s",
        report.files.len(),
        report.mount.display(),
        report.dialect,
        report.pid,
        report.uptime
    );
    text
}

/// Mebibytes, or bytes where that would be nothing.
fn bytes(number: usize) -> String {
    if number == 0 || number >= 100 << 10 {
        let tenths = number.saturating_mul(10) >> 20;
        format!("{}.{}M", tenths / 10, tenths % 10)
    } else {
        number.to_string()
    }
}

/// Lines of columns, numbers to the right.
fn aligned<const N: usize>(rows: impl Iterator<Item = [String; N]>, numbers: &[bool; N]) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            let _ =
                if numbers[at] { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file() -> File {
        serde_json::from_value(serde_json::json!({
            "file": 1, "pid": 77, "command": "a\u{1b}[2J", "uid": 0, "interface": "eth0", "network": 1,
            "flags": "pif----", "received": 12, "dropped": 1, "matched": 3, "stored": 40, "held": 0,
            "buffer": 4096, "memory": 0, "plan": "ebpf", "dialect": "freebsd", "waiting": 0,
        }))
        .unwrap()
    }

    #[test]
    fn a_file_is_a_line_and_cannot_command_the_terminal() {
        let rows = [COLUMNS.map(|(name, ..)| name.to_owned()), COLUMNS.map(|(_, _, show)| show(&file()))];
        let text = aligned(rows.into_iter(), &COLUMNS.map(|(_, number, _)| number));
        assert!(text.ends_with("ebpf  freebsd  a?[2J\n"), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn what_the_screen_has_no_room_for_is_said() {
        let shown = on_screen(&"x\n".repeat(500));
        assert!(shown.starts_with("\x1b[H") && shown.ends_with("\x1b[J"));
        assert!(shown.contains("larger terminal"));
        assert_eq!(on_screen("a\n"), "\x1b[Ha\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!([0, 8192, 1 << 20, 268_435_456].map(bytes), ["0.0M", "8192", "1.0M", "256.0M"]);
    }

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "x", "nan", "inf", "1e9"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
