//! Runs cases one after the other, and says of each how it ended, as `cargo test` does.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// Its name, and what it does.
pub type Case = (&'static str, fn());

macro_rules! cases {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($case)), crate::$module::$case as fn())),+),+]
    };
}
pub(crate) use cases;

/// The arguments that name cases: flags of `cargo test`'s own harness say how to show them, which is the same here.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--test-threads" | "--format" | "--color" | "--logfile" | "--skip" | "-Z" => {
                arguments.next();
            }
            flag if flag.starts_with('-') => {}
            _ => names.push(argument),
        }
    }
    names
}

/// Of all cases those that were asked for: all, or each with such a part in its name.
pub fn chosen(all: &[Case]) -> Vec<Case> {
    let names = names();
    let asked = |case: &str| names.is_empty() || names.iter().any(|name| case.contains(name));
    let cases: Vec<_> = all.iter().copied().filter(|(name, _)| asked(name)).collect();
    if std::env::args().any(|argument| argument == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        std::process::exit(0);
    }
    cases
}

fn result(word: &str, [passed, failed, ignored]: [usize; 3]) {
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored\n");
}

/// Runs them.
pub fn run(cases: &[Case]) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    let mut failed = Vec::new();
    for (name, case) in cases {
        let begin = Instant::now();
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
