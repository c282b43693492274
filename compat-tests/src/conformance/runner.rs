//! Plays cases on targets: each alone, so that neither a panic nor a hang of one harms another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::case::Case;
use super::gaps::Gap;
use super::report::{Cell, Check, Outcome};
use super::scene::{Done, Progress, Scene, Stop};
use super::stage::Stage;
use super::targets::Target;

/// No call of a case may last longer.
const LONGEST: Duration = Duration::from_secs(5);

/// How often a case is looked after.
const LOOK: Duration = Duration::from_millis(250);

/// What one case came to.
struct Played {
    outcome: Outcome,
    checks: Vec<Check>,
    /// It is still there: the stage is lost to it.
    hung: bool,
}

/// Plays every case on a target.
pub fn play_all(target: &dyn Target, cases: &[Arc<Case>], gaps: &[Gap]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    while cells.len() < cases.len() {
        let rest = &cases[cells.len()..];
        let mut played = Vec::new();
        let staged = target.with_stage(&mut |stage| {
            for case in rest {
                let begin = Instant::now();
                let Played { outcome, checks, hung } = play(case, &stage);
                let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                let target = target.info().name;
                let outcome = declared(outcome, gaps, &target, &case.id);
                played.push(Cell { target, case: case.id.clone(), outcome, checks, duration_ms });
                if hung {
                    return;
                }
            }
        });
        cells.append(&mut played);
        if let Err(error) = staged {
            let seen = format!("{error:#}");
            cells.extend(cases[cells.len()..].iter().map(|case| Cell {
                target: target.info().name,
                case: case.id.clone(),
                outcome: Outcome::Failed {
                    step: "preparing the target".into(),
                    expected: "a stage".into(),
                    seen: seen.clone(),
                },
                checks: Vec::new(),
                duration_ms: 0,
            }));
        }
    }
    cells
}

/// Plays a case in a thread of its own.
fn play(case: &Arc<Case>, stage: &Arc<dyn Stage>) -> Played {
    let checks: Arc<Mutex<Vec<Check>>> = Arc::default();
    let progress: Progress = Arc::new(Mutex::new(("the stage is set".into(), Instant::now())));
    let (sender, receiver) = channel();
    let mut scene = Scene::new(stage.clone(), checks.clone(), progress.clone());
    let (case, stage) = (case.clone(), stage.clone());
    let spawned = thread::Builder::new().name(case.id.clone()).spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(|| -> Done {
            stage.closed();
            stage.reset(case.needs)?;
            case.play(&mut scene)
        }));
        let done = done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(Stop::Failed(failure("the case itself", "no panic", text)))
        });
        // nobody waits any more after a hang
        let _ = sender.send(done);
    });
    let take = |checks: &Mutex<Vec<Check>>| checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let handle = match spawned {
        Ok(handle) => handle,
        Err(error) => {
            let check = failure("starting a thread", "a thread", &error.to_string());
            return Played { outcome: failed(check), checks: Vec::new(), hung: false };
        }
    };
    let done = loop {
        match receiver.recv_timeout(LOOK) {
            Ok(done) => break done,
            Err(RecvTimeoutError::Timeout) => {
                let (step, since) = progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if since.elapsed() > LONGEST {
                    let seen = format!("nothing within {} s", LONGEST.as_secs());
                    let check = failure(&step, "an answer", &seen);
                    return Played { outcome: failed(check), checks: take(&checks), hung: true };
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Err(Stop::Failed(failure("the case itself", "an end", "its thread is gone")));
            }
        }
    };
    // it has sent all it had to send
    let _ = handle.join();
    let outcome = match done {
        Ok(()) => Outcome::Passed,
        Err(Stop::Skip(reason)) => Outcome::Skipped { reason },
        Err(Stop::Failed(check)) => failed(check),
    };
    Played { outcome, checks: take(&checks), hung: false }
}

fn failure(step: &str, expected: &str, seen: &str) -> Check {
    Check { step: step.to_owned(), expected: expected.to_owned(), seen: seen.to_owned() }
}

fn failed(check: Check) -> Outcome {
    let Check { step, expected, seen } = check;
    Outcome::Failed { step, expected, seen }
}

/// A failure that is declared is a gap; a gap that no longer is one is a failure.
fn declared(outcome: Outcome, gaps: &[Gap], target: &str, case: &str) -> Outcome {
    let Some(gap) = gaps.iter().find(|gap| gap.is_for(target, case)) else { return outcome };
    match outcome {
        Outcome::Failed { expected, seen, .. } if seen == gap.seen => {
            Outcome::Gap { reason: gap.reason.to_owned(), expected, seen }
        }
        Outcome::Passed => Outcome::Failed {
            step: "comparing with the declared gaps".into(),
            expected: format!("a difference: {}", gap.reason),
            seen: "none".into(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::system::System;
    use crate::conformance::targets::emulated;

    const GAPS: &[Gap] = &[
        Gap { targets: &["emulated:*"], case: "t::known", seen: "3", reason: "known" },
        Gap { targets: &["emulated:*"], case: "t::worse", seen: "3", reason: "known" },
        Gap { targets: &["emulated:*"], case: "t::mended", seen: "3", reason: "was known" },
    ];

    fn case(id: &str, play: impl Fn(&mut Scene) -> Done + Send + Sync + 'static) -> Arc<Case> {
        Arc::new(Case::new(id, "a title", "a rule", play))
    }

    #[test]
    fn a_panic_a_hang_and_a_difference_fail_their_own_case_only() {
        let cases = [
            case("t::panics", |_| panic!("on purpose")),
            case("t::differs", |scene| scene.check("adding", "2", "3")),
            case("t::waits", |scene| {
                let bpf = scene.blocking_tap()?;
                scene.read(&bpf, "1")
            }),
            case("t::known", |scene| scene.check("adding", "2", "3")),
            case("t::worse", |scene| scene.check("adding", "2", "4")),
            case("t::mended", |scene| scene.check("adding", "2", "2")),
            case("t::skips", |_| Err(Stop::Skip("no".into()))),
            case("t::passes", |scene| scene.check("adding", "2", "2")),
        ];
        let target = emulated(System::Linux, None);
        let cells = play_all(&*target, &cases, GAPS);
        let seen: Vec<_> = cells.iter().map(|cell| cell.outcome.clone()).collect();
        let failed = |step: &str, expected: &str, seen: &str| {
            failed(Check { step: step.into(), expected: expected.into(), seen: seen.into() })
        };
        let expected = [
            failed("the case itself", "no panic", "on purpose"),
            failed("adding", "2", "3"),
            failed("read", "1", "it waits for ever"),
            Outcome::Gap { reason: "known".into(), expected: "2".into(), seen: "3".into() },
            failed("adding", "2", "4"),
            failed("comparing with the declared gaps", "a difference: was known", "none"),
            Outcome::Skipped { reason: "no".into() },
            Outcome::Passed,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_case_that_never_ends_costs_its_own_time_only() {
        let cases = [
            case("t::sleeps", |_| {
                thread::sleep(Duration::from_secs(3600));
                Ok(())
            }),
            case("t::passes", |_| Ok(())),
        ];
        let cells = play_all(&*emulated(System::Linux, None), &cases, &[]);
        let step = "the stage is set";
        assert!(matches!(&cells[0].outcome, Outcome::Failed { step: at, .. } if at == step), "{cells:?}");
        assert_eq!(cells[1].outcome, Outcome::Passed);
    }
}
