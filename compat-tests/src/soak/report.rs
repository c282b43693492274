//! What a soak has seen, in a few lines; the last has the figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::client::Figures;
use super::crowd::Deeds;

/// What is printed of what was wrong.
const MOST: usize = 20;

/// The outcome.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub time: Duration,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// Rounds that were settled.
    pub rounds: u64,
    /// What was done to clients.
    pub deeds: Deeds,
    /// What they did.
    pub figures: Figures,
    /// Frames sent, all wires.
    pub sent: u64,
    /// What was done to the third wire.
    pub disturbances: BTreeMap<&'static str, u64>,
    /// How the daemon was ended before the last time, and how often.
    pub daemons: BTreeMap<&'static str, u64>,
    /// The daemon's memory when nobody was there, KiB: the first time, and the last.
    pub memory: Option<(u64, u64)>,
    /// Its descriptors and threads when nobody was there.
    pub holds: Option<(usize, u64)>,
    /// What must not be.
    pub wrong: Vec<String>,
}

fn list<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    let words: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { deeds, figures, .. } = self;
        writeln!(f, "interface: {}", list(&self.disturbances))?;
        writeln!(f, "daemon ended: {}; clients were told: {}", list(&self.daemons), list(&figures.ended))?;
        writeln!(f, "refused: {}", list(&figures.refused))?;
        if let (Some((first, last)), Some((fds, threads))) = (self.memory, self.holds) {
            writeln!(
                f,
                "idle daemon: {first} KiB at first, {last} at last; {fds} descriptors, {threads} threads"
            )?;
        }
        for what in self.wrong.iter().take(MOST) {
            writeln!(f, "WRONG: {what}")?;
        }
        if self.wrong.len() > MOST {
            writeln!(f, "and {} more", self.wrong.len() - MOST)?;
        }
        write!(f, "soak{}: ", if self.interrupted { ", interrupted" } else { "" })?;
        write!(f, "{} s, seed {}, {} rounds: ", self.time.as_secs(), self.seed, self.rounds)?;
        write!(f, "{} clients ({} killed, {} stopped), ", deeds.started, deeds.killed, deeds.stopped)?;
        write!(f, "{} opens ({} passed on), ", figures.opened, figures.passed)?;
        write!(f, "{} frames sent, {} written, ", self.sent, figures.written)?;
        write!(f, "{} read, {} dropped, {} accounts exact, ", figures.read, figures.dropped, figures.exact)?;
        write!(f, "{} requests, ", figures.requests)?;
        write!(f, "{} interface faults, ", self.disturbances.values().sum::<u64>())?;
        write!(f, "{} daemons ended; ", self.daemons.values().sum::<u64>())?;
        writeln!(f, "{} wrong", self.wrong.len())
    }
}
