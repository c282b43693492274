//! What is compared.

use serde::{Deserialize, Serialize};

/// A way to capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A packet socket's recv(2), one packet a call: only for latencies.
    Recv,
    /// Native libpcap.
    Libpcap,
    /// Our Linux backend in process, packets in its ring.
    Backend,
    /// The same by way of `bpfdev::capture`.
    Facade,
    /// The device in process: read(2)'s buffers without FUSE.
    Emulated,
    /// A client of the device, on the daemon's CPU.
    Device,
    /// A client of the device, on another CPU than the daemon.
    DeviceApart,
}

impl Subject {
    /// As the table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Recv => "    packet socket, recv(2)",
            Subject::Libpcap => "(a) libpcap",
            Subject::Backend => "(b) backend in process",
            Subject::Facade => "    bpfdev::capture",
            Subject::Emulated => "    read buffers in process",
            Subject::Device => "(c) device, one CPU",
            Subject::DeviceApart => "    device, two CPUs",
        }
    }

    /// It has a daemon.
    pub const fn is_device(self) -> bool {
        matches!(self, Subject::Device | Subject::DeviceApart)
    }
}

/// What a reader has to say at its end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Packets read.
    pub received: u64,
    /// Packets the system under test says it lost.
    pub dropped: u64,
    /// CPU time of the reader, user and system, nanoseconds.
    pub cpu: u64,
    /// CPU time of the daemon, where there is one.
    pub daemon_cpu: u64,
    /// The bytes read were those sent.
    pub intact: bool,
    /// Time from sending to reading, nanoseconds, where it was asked for.
    pub latencies: Vec<u64>,
}
