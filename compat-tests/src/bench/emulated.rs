//! The device in this process: what read(2) gives, without FUSE.

use std::sync::Arc;

use bpfdev_backend_linux::{MonotonicClock, PacketSockets};
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, EmulatedFile};

use super::RING;
use super::device::BUFFER;
use super::part::ReadPart;
use super::reader::{Gauge, TIMEOUT, records};
use super::subject::Tally;

/// Captures through an emulated file.
///
/// # Errors
/// The file's.
pub fn read(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    let network = Arc::new(PacketSockets { ring_bytes: Some(RING), ..PacketSockets::default() });
    let file = EmulatedFile::open(&LINUX, Access::ReadWrite, network, Arc::new(MonotonicClock));
    let ask = |request: Request| {
        file.ioctl(&request).map_err(|errno: Errno| anyhow::anyhow!("{request:?}: {errno:?}"))
    };
    ask(Request::SBlen(u32::try_from(BUFFER)?))?;
    ask(Request::SRTimeout { sec: 0, usec: i64::from(TIMEOUT.subsec_micros()) })?;
    ask(Request::Immediate(part.latency.into()))?;
    ask(Request::SetIf(part.interface.clone().into_bytes()))?;
    let mut buffer = vec![0; BUFFER];
    gauge.begin(|| {})?;
    while !gauge.is_full() {
        let stopping = gauge.is_told_to_stop();
        let n = file.read(&mut buffer).map_err(|errno| anyhow::anyhow!("reading: {errno:?}"))?;
        records(&buffer[..n], |packet| gauge.packet(packet));
        if n == 0 && stopping {
            break;
        }
    }
    let dropped = match ask(Request::GStats)? {
        Response::Stats { drop, .. } => drop,
        other => anyhow::bail!("{other:?} instead of counters"),
    };
    gauge.end(part, dropped)
}
