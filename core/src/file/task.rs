//! What may take milliseconds: it runs off the loop, on any thread, with the tap in its hands.

use super::open::Tap;
use crate::backend::{Direction, FilterBackend, Network, Queued, TapConfig, TapError};
use crate::cbpf::Program;

/// A piece of slow work that a request needs.
#[derive(Debug)]
pub struct Task {
    pub(super) work: Work,
    pub(super) tap: Option<Tap>,
}

#[derive(Debug)]
pub(super) enum Work {
    /// BIOCSETIF.
    Attach { name: String, config: TapConfig },
    /// BIOCSDLT: attach to the same interface with another link type.
    Linktype { name: String, config: TapConfig, promiscuous: bool },
    /// BIOCSETF, BIOCSETFNR; the directions wanted from then on, where the filter changes them.
    Filter { program: Option<Program>, queued: Queued, direction: Option<Direction> },
    /// BIOCPROMISC.
    Promiscuous,
    /// BIOCSDIRECTION.
    Direction(Direction),
    /// BIOCGIFATTACHCOUNT.
    Count { name: String },
}

/// A [`Task`] that has run.
#[derive(Debug)]
pub struct Finished {
    pub(super) work: Work,
    /// The tap that was lent for the work.
    pub(super) tap: Option<Tap>,
    pub(super) result: Result<Outcome, TapError>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing but that it is done.
    Done,
    /// A tap.
    Tap(NewTap),
    /// A number.
    Count(u32),
}

/// A tap that was attached.
pub(super) struct NewTap(pub Box<dyn FilterBackend>);

impl std::fmt::Debug for NewTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NewTap").field(self.0.interface()).finish()
    }
}

impl Task {
    /// The interface it looks up, where it does: then the thread that runs it must be in the caller's network
    /// namespace.
    pub fn attaches_to(&self) -> Option<&str> {
        match &self.work {
            Work::Attach { name, .. } | Work::Linktype { name, .. } | Work::Count { name } => Some(name),
            Work::Filter { .. } | Work::Promiscuous | Work::Direction(_) => None,
        }
    }

    /// What the tap it attaches is asked for, where it attaches one.
    pub fn config(&self) -> Option<&TapConfig> {
        match &self.work {
            Work::Attach { config, .. } | Work::Linktype { config, .. } => Some(config),
            Work::Count { .. } | Work::Filter { .. } | Work::Promiscuous | Work::Direction(_) => None,
        }
    }

    /// Ends it without doing anything, as if the tap had answered `error`.
    pub fn fail(self, error: TapError) -> Finished {
        Finished { work: self.work, tap: self.tap, result: Err(error) }
    }

    /// Does the work. Interfaces are looked up in `network`.
    pub fn run(mut self, network: &dyn Network) -> Finished {
        let result = match &self.work {
            Work::Attach { name, config } => {
                network.attach(name, config).map(|tap| Outcome::Tap(NewTap(tap)))
            }
            Work::Linktype { name, config, promiscuous, .. } => {
                network.attach(name, config).and_then(|mut tap| {
                    if *promiscuous {
                        tap.set_promiscuous(true)?;
                    }
                    Ok(Outcome::Tap(NewTap(tap)))
                })
            }
            Work::Filter { program, queued, direction } => match &mut self.tap {
                Some(tap) => {
                    let set = tap.backend.set_filter(program.as_ref(), *queued);
                    if let (Ok(_), Some(direction)) = (&set, direction) {
                        // the descriptor checks every packet itself: a tap that cannot choose costs time, not truth
                        let _ = tap.backend.set_direction(*direction);
                    }
                    set.map(|_| Outcome::Done)
                }
                None => Ok(Outcome::Done),
            },
            Work::Count { name } => network.attached(name).map(Outcome::Count),
            Work::Promiscuous => match &mut self.tap {
                Some(tap) => tap.backend.set_promiscuous(true).map(|()| Outcome::Done),
                None => Ok(Outcome::Done),
            },
            Work::Direction(direction) => {
                // the descriptor checks every packet itself: a tap that cannot choose costs time, not truth
                let _ = self.tap.as_mut().map(|tap| tap.backend.set_direction(*direction));
                Ok(Outcome::Done)
            }
        };
        Finished { work: self.work, tap: self.tap, result }
    }
}
