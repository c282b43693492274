//! What is measured, and how often.

use serde::Serialize;

use super::frame::Workload;
use super::subject::Subject;

/// The pace at which nothing should be lost, packets a second.
pub const PACE: u64 = 300_000;
/// The pace at which the check allows the device no loss, packets a second.
pub const CHECK_PACE: u64 = 100_000;

/// Frames of one kind at one pace, and what is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Length of a frame, bytes.
    pub frame: usize,
    /// What a reader does.
    pub workload: Workload,
    /// Packets a second; `None`: as fast as the sender can.
    pub rate: Option<u64>,
}

/// A whole bench.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is compared in which case.
    pub cases: Vec<(Case, &'static [Subject])>,
    /// Rounds that count.
    pub rounds: u32,
    /// Packets of one run: what comes in so many milliseconds at the case's pace.
    pub millis: u64,
    /// Packets whose latency is taken, for each subject.
    pub latencies: u64,
}

const ALL: &[Subject] = &[
    Subject::Libpcap,
    Subject::Backend,
    Subject::Facade,
    Subject::Emulated,
    Subject::Device,
    Subject::DeviceApart,
];
/// At full speed the sender has its CPU to itself.
const ON_ONE_CPU: &[Subject] =
    &[Subject::Libpcap, Subject::Backend, Subject::Facade, Subject::Emulated, Subject::Device];
const CHECKED: &[Subject] = &[Subject::Libpcap, Subject::Backend, Subject::Facade, Subject::Device];

/// Whose latency is taken.
pub const LATENCY: [Subject; 4] = [Subject::Recv, Subject::Libpcap, Subject::Backend, Subject::Device];

const SIZES: [usize; 2] = [64, 1514];

impl Plan {
    /// Everything.
    pub fn whole(rounds: u32) -> Plan {
        let mut cases = Vec::new();
        for frame in SIZES {
            for workload in [Workload::Touch, Workload::Use] {
                cases.push((Case { frame, workload, rate: Some(PACE) }, ALL));
                cases.push((Case { frame, workload, rate: None }, ON_ONE_CPU));
            }
        }
        Plan { cases, rounds, millis: 1000, latencies: 1000 }
    }

    /// A little of everything.
    pub fn quick(rounds: u32) -> Plan {
        let cases = SIZES.map(|frame| (Case { frame, workload: Workload::Use, rate: Some(PACE) }, ALL));
        Plan { cases: cases.to_vec(), rounds, millis: 200, latencies: 200 }
    }

    /// What [`violations`](super::report::Report::violations) judges.
    pub fn check(rounds: u32) -> Plan {
        let paced = |frame, rate| Case { frame, workload: Workload::Use, rate: Some(rate) };
        let mut cases: Vec<_> = SIZES.iter().map(|&frame| (paced(frame, PACE), CHECKED)).collect();
        cases.push((paced(64, CHECK_PACE), &[Subject::Device][..]));
        Plan { cases, rounds, millis: 400, latencies: 0 }
    }
}

impl Case {
    /// How many packets a run sends.
    pub fn packets(&self, millis: u64) -> u64 {
        self.rate.unwrap_or(2 * PACE) * millis / 1000
    }
}
