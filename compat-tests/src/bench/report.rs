//! The figures, as a table and as JSON, and what is wrong with them.

use std::fmt;

use serde::Serialize;

use super::figures::{Median, median};
use super::plan::{CHECK_PACE, Case};
use super::sender::Sent;
use super::subject::{Subject, Tally};

// The check's limits tell what has gone wrong from the noise of a machine: at 64 bytes libpcap costs 22 ns on one, 50 on
// another, and the others not in proportion.
/// The check's limit for (b), times libpcap.
const BACKEND_LIMIT: f64 = 1.5;
/// The check's limit for the facade, times the backend under it: it costs what that costs, but for noise.
const FACADE_LIMIT: f64 = 1.3;
/// The check's limit for (c) at 64 bytes, times libpcap.
const DEVICE_LIMIT: f64 = 6.0;

/// One run of one subject.
#[derive(Clone, Debug)]
pub struct Run {
    /// Who read.
    pub subject: Subject,
    /// What was sent.
    pub sent: Sent,
    /// What was read.
    pub tally: Tally,
}

/// Nanoseconds for each of so many packets.
fn each(nanos: u64, packets: u64) -> f64 {
    nanos as f64 / packets.max(1) as f64
}

impl Run {
    /// CPU nanoseconds for each packet received, the daemon's among them.
    pub fn nanos(&self) -> f64 {
        each(self.tally.cpu + self.tally.daemon_cpu, self.tally.received)
    }

    fn accounts_for_all(&self) -> bool {
        self.sent.packets == self.tally.received + self.tally.dropped && self.tally.intact
    }
}

/// A subject in a case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who read.
    pub subject: Subject,
    /// Packets sent, in all rounds.
    pub offered: u64,
    /// Packets read, in all rounds.
    pub received: u64,
    /// Packets the subject says were dropped, in all rounds.
    pub dropped: u64,
    /// Packets a second that were sent.
    pub pace: Option<Median>,
    /// CPU nanoseconds a packet, user and system, the daemon's among them.
    pub nanos: Option<Median>,
    /// The daemon's part of it.
    pub daemon_nanos: Option<Median>,
    /// Times libpcap's in the same round.
    pub ratio: Option<Median>,
    /// Rounds in which offered was not received + dropped, or the bytes were not those sent.
    pub failed: usize,
}

impl Row {
    /// Of these rounds.
    pub fn new(subject: Subject, rounds: &[&[Run]]) -> Row {
        let find = |runs: &[Run], who: Subject| runs.iter().find(|run| run.subject == who).cloned();
        let runs: Vec<Run> = rounds.iter().filter_map(|runs| find(runs, subject)).collect();
        let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum();
        let ratio = |runs: &&[Run]| {
            let native = find(runs, Subject::Libpcap)?.nanos();
            (native > 0.0).then_some(find(runs, subject)?.nanos() / native)
        };
        let daemon = |run: &Run| each(run.tally.daemon_cpu, run.tally.received);
        Row {
            subject,
            offered: sum(|run| run.sent.packets),
            received: sum(|run| run.tally.received),
            dropped: sum(|run| run.tally.dropped),
            pace: median(runs.iter().map(|run| 1e9 / each(run.sent.nanos, run.sent.packets))),
            nanos: median(runs.iter().map(Run::nanos)),
            daemon_nanos: subject.is_device().then(|| median(runs.iter().map(daemon))).flatten(),
            ratio: median(rounds.iter().filter_map(ratio)),
            failed: runs.iter().filter(|run| !run.accounts_for_all()).count(),
        }
    }

    /// How many times `other`'s CPU time it takes: in the middle of the rounds or, if that is less, best against best.
    fn times(&self, other: &Row) -> Option<f64> {
        let in_the_middle = self.ratio?.median / other.ratio?.median;
        let at_best = self.nanos?.min / other.nanos?.min;
        Some(in_the_middle.min(at_best))
    }
}

/// A case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Which.
    #[serde(flatten)]
    pub case: Case,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that do not.
    pub discarded: usize,
    /// Each subject.
    pub rows: Vec<Row>,
}

/// How long a packet takes from sending to reading in immediate mode, one packet a millisecond; nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Who read.
    pub subject: Subject,
    /// Packets sent.
    pub offered: u64,
    /// Packets read.
    pub received: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Half take no longer.
    pub p50: u64,
    /// 99 of 100 take no longer.
    pub p99: u64,
    /// None takes longer.
    pub max: u64,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// CPU time.
    pub cases: Vec<CaseReport>,
    /// Latencies.
    pub latency: Vec<Latency>,
}

impl Report {
    /// A line for each subject that lost packets nobody knows of.
    pub fn unaccounted(&self) -> Vec<String> {
        let rows = self.cases.iter().flat_map(|case| case.rows.iter().map(move |row| (case, row)));
        let mut lines: Vec<String> = rows
            .filter(|(_, row)| row.failed > 0)
            .map(|(case, row)| {
                let (offered, received, dropped) = (row.offered, row.received, row.dropped);
                format!(
                    "{}, {}: {} rounds failed (offered {offered}, received {received}, dropped {dropped})",
                    case.case,
                    row.subject.name().trim(),
                    row.failed,
                )
            })
            .collect();
        lines.extend(self.latency.iter().filter(|row| row.offered != row.received + row.dropped).map(
            |row| {
                format!("latency, {}: {} of {} packets", row.subject.name().trim(), row.received, row.offered)
            },
        ));
        lines
    }

    /// A line for each limit of the check that is not held: neither in the middle of the rounds, nor when the best round
    /// is held against the other's best.
    pub fn violations(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for CaseReport { case, rows, .. } in &self.cases {
            for row in rows {
                let name = row.subject.name().trim();
                let limit = match row.subject {
                    Subject::Backend => Some((Subject::Libpcap, BACKEND_LIMIT)),
                    Subject::Facade => Some((Subject::Backend, FACADE_LIMIT)),
                    Subject::Device if case.frame == 64 => Some((Subject::Libpcap, DEVICE_LIMIT)),
                    _ => None,
                };
                if let Some((other, limit)) = limit
                    && let Some(times) =
                        rows.iter().find(|row| row.subject == other).and_then(|other| row.times(other))
                    && times > limit
                {
                    let other = other.name().trim();
                    lines.push(format!("{case}: {name} costs {times:.2} times {other} (limit {limit})"));
                }
                if row.subject.is_device() && case.rate == Some(CHECK_PACE) && row.dropped > 0 {
                    lines.push(format!("{case}: {name} dropped {} packets", row.dropped));
                }
            }
        }
        lines
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}, ", self.frame, self.workload.name())?;
        match self.rate {
            Some(rate) => write!(f, "{rate} packets/s"),
            None => f.write_str("full speed"),
        }
    }
}

/// A cell of the table: `median (min–max)`.
struct Spread(Option<Median>, usize);

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread(Some(m), digits) = self else { return f.pad("-") };
        f.pad(&format!("{:.digits$} ({:.digits$}-{:.digits$})", m.median, m.min, m.max, digits = *digits))
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CaseReport { case, rounds, discarded, rows } = self;
        writeln!(f, "{case}; rounds: {rounds} ({discarded} discarded)")?;
        writeln!(
            f,
            "  {:<28}{:>9}{:>10}{:>10}{:>9}{:>20}{:>9}{:>20}",
            "", "sent/s", "offered", "received", "dropped", "CPU ns/packet", "daemon", "ratio to (a)"
        )?;
        for row in rows {
            write!(
                f,
                "  {:<28}{:>9.0}{:>10}{:>10}{:>9}{:>20}{:>9}{:>20}",
                row.subject.name(),
                row.pace.map_or(0.0, |pace| pace.median),
                row.offered,
                row.received,
                row.dropped,
                Spread(row.nanos, 0).to_string(),
                row.daemon_nanos.map_or_else(String::new, |nanos| format!("{:.0}", nanos.median)),
                Spread(row.ratio, 2).to_string(),
            )?;
            writeln!(f, "{}", if row.failed > 0 { "  FAILED" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            writeln!(f, "{case}")?;
        }
        if self.latency.is_empty() {
            return Ok(());
        }
        writeln!(f, "Immediate mode, from send to read, microseconds")?;
        writeln!(f, "  {:<28}{:>10}{:>10}{:>10}{:>10}", "", "packets", "p50", "p99", "max")?;
        for row in &self.latency {
            let [p50, p99, max] = [row.p50, row.p99, row.max].map(|nanos| nanos as f64 / 1000.0);
            writeln!(f, "  {:<28}{:>10}{p50:>10.1}{p99:>10.1}{max:>10.1}", row.subject.name(), row.received)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::frame::Workload;
    use super::*;

    fn run(subject: Subject, cpu: u64, dropped: u64) -> Run {
        let sent = Sent { packets: 100, nanos: 1_000_000 };
        let received = 100 - dropped;
        Run { subject, sent, tally: Tally { received, dropped, cpu, intact: true, ..Tally::default() } }
    }

    fn report(case: Case, runs: &[Run]) -> Report {
        let rows = runs.iter().map(|run| Row::new(run.subject, &[runs])).collect();
        Report { cases: vec![CaseReport { case, rounds: 1, discarded: 0, rows }], latency: Vec::new() }
    }

    const SMALL: Case = Case { frame: 64, workload: Workload::Touch, rate: Some(CHECK_PACE) };

    #[test]
    fn the_limits_are_those_of_the_check() {
        let native = run(Subject::Libpcap, 10_000, 0);
        for (subject, cpu, dropped, lines) in [
            (Subject::Backend, 14_900, 0, 0),
            (Subject::Backend, 15_100, 0, 1),
            (Subject::Backend, 10_000, 50, 1), // what it received cost twice as much
            (Subject::Facade, 12_900, 0, 0),
            (Subject::Facade, 13_100, 0, 1),
            (Subject::Device, 59_900, 0, 0),
            (Subject::Device, 60_100, 0, 1),
            (Subject::Device, 10_000, 1, 1),
        ] {
            let mut runs = vec![native.clone(), run(subject, cpu, dropped)];
            if subject == Subject::Facade {
                runs.push(run(Subject::Backend, 10_000, 0));
            }
            let found = report(SMALL, &runs).violations();
            assert_eq!(found.len(), lines, "{subject:?} {cpu} {dropped}: {found:?}");
        }
        let large = Case { frame: 1514, ..SMALL };
        assert!(report(large, &[native, run(Subject::Device, 90_000, 0)]).violations().is_empty());
    }

    #[test]
    fn a_packet_nobody_knows_of_is_told() {
        let mut lossy = run(Subject::Device, 1, 0);
        lossy.tally.received -= 1;
        let mut wrong = run(Subject::Backend, 1, 0);
        wrong.tally.intact = false;
        assert_eq!(report(SMALL, &[lossy, wrong, run(Subject::Libpcap, 1, 3)]).unaccounted().len(), 2);
    }

    #[test]
    fn the_table_has_a_line_for_each_subject() {
        let text =
            report(SMALL, &[run(Subject::Libpcap, 5_000, 0), run(Subject::Device, 9_000, 0)]).to_string();
        let line = text.lines().find(|line| line.contains("(c)")).unwrap();
        assert!(line.contains("90 (90-90)") && line.contains("1.80 (1.80-1.80)"), "{text}");
    }
}
