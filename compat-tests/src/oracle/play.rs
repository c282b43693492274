//! Plays recordings in a world and counts.

use std::fmt;

use bpfdev_core::abi::Abi;
use serde_json::{Value, json};

use super::answer::compare;
use super::call::{Call, Trouble, World};
use super::emulated::Emulated;
use super::file::{Filter, Recording, What};
use super::script::{Action, Needs, Step, needs};
use super::{corpus, trace};

/// How many recordings came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Played to the end without a difference.
    pub passed: usize,
    /// A difference, or not playable at all.
    pub failed: usize,
    /// Senseless in this world.
    pub skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Something that makes a fresh world for every recording.
pub trait Stage {
    /// Plays `scene` in a world that has what it needs.
    ///
    /// # Errors
    /// The scene's, or the world cannot be made.
    fn with_world(
        &mut self,
        needs: &Needs,
        scene: &mut dyn FnMut(&mut dyn World) -> Result<(), Trouble>,
    ) -> Result<(), Trouble>;

    /// Judges a filter program.
    ///
    /// # Errors
    /// [`Trouble`]; a difference is a failure.
    fn filter(&mut self, filter: &Filter) -> Result<(), Trouble>;
}

/// Plays every recording; `say` gets a line for each that does not pass.
pub fn all(recordings: &[Recording], stage: &mut dyn Stage, say: &mut dyn FnMut(String)) -> Tally {
    let mut tally = Tally::default();
    for recording in recordings {
        let result = match &recording.what {
            Ok(what) => play(what, stage),
            Err(what) => Err(Trouble::fail(what)),
        };
        let (count, verdict, why) = match result {
            Ok(()) => {
                tally.passed += 1;
                continue;
            }
            Err(Trouble::Fail(why)) => (&mut tally.failed, "FAIL", why),
            Err(Trouble::Skip(why) | Trouble::Unasked(why)) => (&mut tally.skipped, "SKIP", why),
        };
        *count += 1;
        say(format!("{verdict} {} {}: {}", recording.at, recording.id, why.replace('\n', " ")));
    }
    tally
}

/// Plays one recording.
///
/// # Errors
/// [`Trouble`]; a difference is a failure.
pub fn play(what: &What, stage: &mut dyn Stage) -> Result<(), Trouble> {
    match what {
        What::Filter(filter) => stage.filter(filter),
        What::Case(steps) => stage.with_world(&needs(steps), &mut |world| case(world, steps)),
        What::Trace(blen, ops) => stage.with_world(&Needs::default(), &mut |world| {
            trace::begin(world, *blen)?;
            for (i, op) in ops.iter().enumerate() {
                trace::play(world, *blen, op).map_err(|trouble| at(&format!("operation {i}"), trouble))?;
            }
            Ok(())
        }),
    }
}

fn at(place: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Fail(what) => Trouble::Fail(format!("{place}: {what}")),
        Trouble::Skip(what) => Trouble::Skip(format!("{place}: {what}")),
        Trouble::Unasked(what) => Trouble::Unasked(format!("{place}: {what}")),
    }
}

fn case(world: &mut dyn World, steps: &[Step]) -> Result<(), Trouble> {
    // the request a thread is in, for the value it answers with
    let mut requests = std::collections::BTreeMap::new();
    let mut unasked = None;
    for (i, step) in steps.iter().enumerate() {
        let place = format!("step {i} ({})", step.name);
        match play_step(world, step, &mut requests).map_err(|trouble| at(&place, trouble)) {
            Ok(()) => {}
            Err(Trouble::Unasked(why)) => unasked = unasked.or(Some(why)),
            Err(trouble) => return Err(trouble),
        }
    }
    // a case of which a step was left out has not passed, though all the others are right
    unasked.map_or(Ok(()), |why| Err(Trouble::Unasked(format!("{why} (the other steps are right)"))))
}

fn play_step(
    world: &mut dyn World,
    step: &Step,
    requests: &mut std::collections::BTreeMap<u64, u32>,
) -> Result<(), Trouble> {
    let number = |call: &Call| if let Call::Ioctl { cmd, .. } = call { Some(*cmd) } else { None };
    let (cmd, answer) = match &step.action {
        Action::Call(call) => (number(call), Some(world.call(call)?)),
        Action::Start(thread, call) => {
            world.start(*thread, call)?;
            if let Some(cmd) = number(call) {
                requests.insert(*thread, cmd);
            }
            return word(step.recorded.as_ref(), "started");
        }
        Action::Wait(thread, time) => (requests.get(thread).copied(), world.wait(*thread, *time)?),
    };
    match (&step.recorded, answer) {
        (None, _) => Ok(()),
        (Some(recorded), None) => word(Some(recorded), "still blocked"),
        (Some(recorded), Some(answer)) => {
            compare(recorded, cmd, &answer, world.tolerance(), world.abi()).map_err(Trouble::Fail)
        }
    }
}

fn word(recorded: Option<&Value>, here: &str) -> Result<(), Trouble> {
    match recorded {
        Some(recorded) if *recorded != json!(here) => {
            Err(Trouble::fail(format!("recorded {recorded}, here {here}")))
        }
        _ => Ok(()),
    }
}

/// The stage in this process, of one dialect.
pub struct InProcess(pub &'static Abi);

impl Stage for InProcess {
    fn with_world(
        &mut self,
        needs: &Needs,
        scene: &mut dyn FnMut(&mut dyn World) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        scene(&mut Emulated::new(self.0, &needs.down))
    }

    fn filter(&mut self, filter: &Filter) -> Result<(), Trouble> {
        corpus::interpret(filter, self.0.filter)
    }
}

/// Plays recordings in this process under the rules of `abi`.
pub fn emulated(recordings: &[Recording], abi: &'static Abi, say: &mut dyn FnMut(String)) -> Tally {
    all(recordings, &mut InProcess(abi), say)
}
