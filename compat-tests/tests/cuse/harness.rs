//! Runs cases one after the other, and says of each how it ended, as `cargo test` does.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Its name, and what it does.
pub type Case = (&'static str, fn());

macro_rules! cases {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($case)), crate::$module::$case as fn())),+),+]
    };
}
pub(crate) use cases;

/// Of all cases those that the arguments want, as `cargo test`'s own harness has them: FILTER..., --exact, --skip FILTER, --list.
/// Its other flags say how to show them, which is the same here.
pub fn chosen(all: &[Case]) -> Vec<Case> {
    let (mut names, mut skipped, mut exact, mut list) = (Vec::new(), Vec::new(), false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(arguments.next()),
            "--exact" => exact = true,
            "--list" => list = true,
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => names.push(argument),
        }
    }
    let matches = |case: &str, name: &String| if exact { case == name } else { case.contains(name) };
    let wanted = |case: &str| {
        (names.is_empty() || names.iter().any(|name| matches(case, name)))
            && !skipped.iter().any(|name| matches(case, name))
    };
    let cases: Vec<_> = all.iter().copied().filter(|(name, _)| wanted(name)).collect();
    if list {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        std::process::exit(0);
    }
    cases
}

fn result(word: &str, [passed, failed, ignored]: [usize; 3]) {
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored\n");
}

/// A case that is not over after this time never is.
const PATIENCE: Duration = Duration::from_secs(180);

/// Ends the process where `name` takes longer, until what it gives is dropped.
fn watched(name: &'static str) -> Sender<()> {
    let (over, heard) = channel();
    std::thread::spawn(move || {
        if heard.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            println!("test {name} ... FAILED, not over after {} s", PATIENCE.as_secs());
            std::process::exit(101);
        }
    });
    over
}

/// Runs them.
pub fn run(cases: &[Case]) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    let mut failed = Vec::new();
    for (name, case) in cases {
        let (begin, _watched) = (Instant::now(), watched(name));
        let verdict = if catch_unwind(case).is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({:.1} s)", begin.elapsed().as_secs_f64());
        if verdict != "ok" {
            failed.push(name);
        }
    }
    failed.iter().for_each(|name| println!("failed: {name}"));
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    result(word, [cases.len() - failed.len(), failed.len(), 0]);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Says that none of them can be run, and why.
pub fn ignore(cases: &[Case], why: &str) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    cases.iter().for_each(|(name, _)| println!("test {name} ... ignored, {why}"));
    eprintln!("cuse: {why}: nothing of the device through CUSE has been tested");
    result("ok", [0, 0, cases.len()]);
    ExitCode::SUCCESS
}
