//! Where it happens: a namespace with a veth pair, the sender, and one reader after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bpfdev_backend_linux::netns::Namespace;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::device::END;
use super::figures::{median, percentile};
use super::frame::{SMALLEST, Workload};
use super::part::{Part, ReadPart, Role, Running};
use super::plan::{Case, LATENCY, Plan};
use super::report::{CaseReport, Latency, Report, Row, Run};
use super::sender::{Order, Sent};
use super::subject::{Subject, Tally};

const SENDER_END: &str = "bench0";
const READER_END: &str = "bench1";
/// How far libpcap may be from its median in a round that counts.
const OFF: f64 = 1.5;
/// Packets of the latency runs, a second.
const LATENCY_PACE: u64 = 1000;
/// When so long after the last packet a reader has not all of them, some were dropped.
const LINGER: Duration = Duration::from_millis(400);

/// A directory that is removed when it is no longer needed.
#[derive(Debug)]
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> anyhow::Result<TemporaryDir> {
        let path = std::env::temp_dir().join(format!("bpfdev-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(TemporaryDir(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What is mounted there is so in namespaces that have ended.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Everything a run needs.
#[derive(Debug)]
pub struct Ground {
    sender: Running,
    namespace: Namespace,
    dir: TemporaryDir,
    /// The sender's CPU and the readers'.
    cpus: [usize; 2],
}

/// The first two CPUs this process may use.
fn two_cpus() -> anyhow::Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    cpus.next().zip(cpus.next()).map(|(a, b)| [a, b]).context("the bench needs two CPUs")
}

impl Ground {
    /// Makes the namespace and starts the sender.
    ///
    /// # Errors
    /// Without root or a second CPU.
    pub fn new() -> anyhow::Result<Ground> {
        let cpus = two_cpus()?;
        let namespace = Namespace::new().context("the bench needs root")?;
        namespace.veth_pair(SENDER_END, READER_END)?;
        let part = Part { cpu: cpus[0], role: Role::Send(SENDER_END.to_owned()) };
        let sender = Running::start(&part, Some(&namespace))?;
        Ok(Ground { sender, namespace, dir: TemporaryDir::new()?, cpus })
    }

    /// Runs the whole plan.
    ///
    /// # Errors
    /// A subject fails.
    pub fn run(&mut self, plan: &Plan) -> anyhow::Result<Report> {
        let mut cases = Vec::new();
        for (case, subjects) in &plan.cases {
            cases.push(self.case(*case, subjects, plan)?);
        }
        let mut latency = Vec::new();
        if plan.latencies > 0 {
            for subject in LATENCY {
                latency.push(self.latency(subject, plan.latencies)?);
            }
        }
        Ok(Report { cases, latency })
    }

    fn case(&mut self, case: Case, subjects: &[Subject], plan: &Plan) -> anyhow::Result<CaseReport> {
        let wanted = plan.rounds as usize;
        let mut rounds: Vec<Vec<Run>> = Vec::new();
        let mut count = 0;
        for turn in 0..2 * wanted {
            let mut runs = Vec::new();
            for i in 0..subjects.len() {
                // there and back again: nobody always follows the same neighbour
                let i = if turn % 2 == 0 { i } else { subjects.len() - 1 - i };
                let Some(&subject) = subjects.get(i) else { continue };
                runs.push(self.once(subject, case, plan.millis)?);
            }
            rounds.push(runs);
            count = steady(&rounds).len();
            if count >= wanted {
                break;
            }
        }
        let kept = steady(&rounds);
        let rows = subjects.iter().map(|&subject| Row::new(subject, &kept)).collect();
        Ok(CaseReport { case, rounds: count, discarded: rounds.len() - count, rows })
    }

    fn once(&mut self, subject: Subject, case: Case, millis: u64) -> anyhow::Result<Run> {
        let packets = case.packets(millis);
        let order = Order { frame: case.frame, packets, rate: case.rate, stamped: false };
        let (sent, tally) = self.measure(subject, case.workload, order)?;
        Ok(Run { subject, sent, tally })
    }

    fn latency(&mut self, subject: Subject, packets: u64) -> anyhow::Result<Latency> {
        let order = Order { frame: SMALLEST.max(64), packets, rate: Some(LATENCY_PACE), stamped: true };
        let (sent, tally) = self.measure(subject, Workload::Touch, order)?;
        let mut latencies = tally.latencies;
        latencies.sort_unstable();
        let at = |percent| percentile(&latencies, percent).unwrap_or(0);
        Ok(Latency {
            subject,
            offered: sent.packets,
            received: tally.received,
            dropped: tally.dropped,
            p50: at(50),
            p99: at(99),
            max: at(100),
        })
    }

    /// One run of one subject.
    fn measure(
        &mut self,
        subject: Subject,
        workload: Workload,
        order: Order,
    ) -> anyhow::Result<(Sent, Tally)> {
        let [senders, readers] = self.cpus;
        let read = ReadPart {
            subject,
            interface: READER_END.to_owned(),
            workload,
            frame: order.frame,
            packets: order.packets,
            latency: order.stamped,
            dir: self.dir.path().to_owned(),
            daemon_cpu: if subject == Subject::DeviceApart { senders } else { readers },
        };
        let part = Part { cpu: readers, role: Role::Read(read) };
        let mut reader = Running::start(&part, Some(&self.namespace))?;
        self.sender.say(&order)?;
        let sent: Sent =
            self.sender.hear(Duration::from_secs(60))?.context("the sender does not come to an end")?;
        let tally = match reader.hear(LINGER)? {
            Some(tally) => tally,
            None => {
                reader.stop();
                reader.hear(END)?.with_context(|| format!("no answer from {}", subject.name()))?
            }
        };
        reader.wait()?;
        ensure!(sent.packets == order.packets, "{} of {} packets were sent", sent.packets, order.packets);
        Ok((sent, tally))
    }
}

/// The rounds that count: where libpcap is near its median.
fn steady(rounds: &[Vec<Run>]) -> Vec<&[Run]> {
    let native = |runs: &[Run]| runs.iter().find(|run| run.subject == Subject::Libpcap).map(Run::nanos);
    let middle = median(rounds.iter().filter_map(|runs| native(runs)));
    let near = |runs: &&[Run]| match (native(runs), middle) {
        (Some(nanos), Some(middle)) => nanos <= OFF * middle.median && middle.median <= OFF * nanos,
        _ => true,
    };
    rounds.iter().map(Vec::as_slice).filter(near).collect()
}
