//! The capturing process: one subject, one run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use bpfdev::capture::Capture;
use bpfdev_backend_linux::{PacketSocket, PacketSockets};
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::backend::{FilterBackend, TapConfig};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::time::ClockId;

use super::frame::{self, Work};
use super::part::{ReadPart, clock, now, tell, when_told_to_stop};
use super::subject::{Subject, Tally};
use super::{RING, device, emulated, sys};

/// The read time-out of those that have one: what tcpdump asks for.
pub const TIMEOUT: Duration = Duration::from_millis(100);
/// A reader of the ring that has found packets lets others come for so long: 300,000 a second fill a quarter of it.
const NAP: Duration = Duration::from_millis(8);
/// Octets of `struct bpf_hdr` before a packet of Ethernet.
const RECORD_OVERHEAD: usize = 26;

/// Counts, works, and takes the time.
#[derive(Debug)]
pub struct Gauge {
    work: Work,
    expected: u64,
    latency: bool,
    latencies: Vec<u64>,
    stop: Arc<AtomicBool>,
    cpu: u64,
}

impl Gauge {
    fn new(part: &ReadPart) -> Gauge {
        Gauge {
            work: Work::new(part.workload),
            expected: part.packets,
            latency: part.latency,
            latencies: Vec::new(),
            stop: Arc::default(),
            cpu: 0,
        }
    }

    /// Says that packets may come, and starts the clock. `on_stop` is called from another thread.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn begin(&mut self, on_stop: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        when_told_to_stop(move || {
            stop.store(true, Ordering::Relaxed);
            on_stop();
        });
        tell(&"ready")?;
        self.cpu = clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
        Ok(())
    }

    /// Takes a packet.
    #[inline]
    pub fn packet(&mut self, data: &[u8]) {
        if self.latency {
            self.latencies
                .extend(frame::stamped(data).zip(now().ok()).map(|(then, now)| now.saturating_sub(then)));
        }
        self.work.packet(data);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.work.packets
    }

    /// Every packet has come.
    pub fn is_full(&self) -> bool {
        self.work.packets >= self.expected
    }

    /// No packet will come any more.
    pub fn is_told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Stops the clock.
    ///
    /// # Errors
    /// None that is known.
    pub fn end(self, part: &ReadPart, dropped: u64) -> anyhow::Result<Tally> {
        let cpu = clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)? - self.cpu;
        Ok(Tally {
            received: self.work.packets,
            dropped,
            cpu,
            daemon_cpu: 0,
            // A stamped frame is another each time.
            intact: self.latency || self.work.proves(&frame::frame(part.frame)),
            latencies: self.latencies,
        })
    }
}

/// Captures with one subject, and tells what came.
///
/// # Errors
/// The subject's.
pub fn run(part: &ReadPart) -> anyhow::Result<()> {
    let gauge = Gauge::new(part);
    let tally = match part.subject {
        Subject::Recv => packet_socket(part, gauge),
        Subject::Libpcap => libpcap(part, gauge),
        Subject::Backend => backend(part, gauge),
        Subject::Facade => facade(part, gauge),
        Subject::Emulated => emulated::read(part, gauge),
        Subject::Device | Subject::DeviceApart => device::read(part, gauge),
    };
    tell(&tally.with_context(|| format!("capturing with {}", part.subject.name().trim()))?)
}

fn packet_socket(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    let socket = sys::packet_socket(&part.interface, libc::ETH_P_ALL as u16)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
    let mut buf = vec![0; 65536];
    gauge.begin(|| {})?;
    while !gauge.is_full() && !gauge.is_told_to_stop() {
        match recv(std::os::fd::AsRawFd::as_raw_fd(&socket), &mut buf, MsgFlags::empty()) {
            Ok(len) => gauge.packet(&buf[..len]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    gauge.end(part, 0)
}

fn libpcap(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    let mut capture = pcap::Capture::from_device(part.interface.as_str())?
        .snaplen(65535)
        .buffer_size(i32::try_from(RING)?)
        .timeout(i32::try_from(TIMEOUT.as_millis())?)
        .immediate_mode(part.latency)
        .open()?;
    let handle = capture.breakloop_handle();
    gauge.begin(move || handle.breakloop())?;
    while !gauge.is_full() {
        if let Err(error) = capture.dispatch(None, |packet| gauge.packet(packet.data)) {
            if gauge.is_told_to_stop() {
                break;
            }
            return Err(error.into());
        }
    }
    let mut capture = capture.setnonblock()?;
    while capture.dispatch(None, |packet| gauge.packet(packet.data))? > 0 {}
    let dropped = capture.stats()?.dropped;
    gauge.end(part, dropped.into())
}

/// What our own backend is asked for.
fn config() -> TapConfig {
    LINUX.tap_config(device::BUFFER)
}

fn backend(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    let sockets = PacketSockets { ring_bytes: Some(RING), ..PacketSockets::default() };
    let mut tap = PacketSocket::attach(&part.interface, &config(), sockets)?;
    let waiter = tap.waiter()?;
    gauge.begin(|| {})?;
    while !gauge.is_full() {
        let before = gauge.packets();
        let stopping = gauge.is_told_to_stop();
        let mut batch = tap.try_batch()?;
        while let Some(packet) = batch.next() {
            gauge.packet(packet.data);
        }
        drop(batch);
        match gauge.packets() - before {
            0 if stopping => break,
            0 => waiter.wait(Some(TIMEOUT)),
            _ if part.latency => {}
            _ => std::thread::sleep(NAP),
        }
    }
    let dropped = tap.stats()?.dropped;
    gauge.end(part, dropped)
}

fn facade(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    let sockets = PacketSockets { ring_bytes: Some(RING), ..PacketSockets::default() };
    let options = Capture::options().immediate(part.latency).read_timeout(TIMEOUT);
    let mut capture = options.open_on(&sockets, &part.interface)?;
    gauge.begin(|| {})?;
    while !gauge.is_full() {
        let before = gauge.packets();
        let stopping = gauge.is_told_to_stop();
        let mut batch = capture.next_batch()?.context("an interface has no end")?;
        while let Some(packet) = batch.next() {
            gauge.packet(packet.data);
        }
        drop(batch);
        if stopping && gauge.packets() == before {
            break;
        }
    }
    let dropped = capture.stats()?.dropped;
    gauge.end(part, dropped)
}

/// The packets in a buffer that read(2) gave: records of our own header.
#[inline]
pub fn records(mut buffer: &[u8], mut packet: impl FnMut(&[u8])) {
    while let Some((header, _)) = buffer.split_first_chunk::<RECORD_OVERHEAD>() {
        let [.., c0, c1, c2, c3, _, _, _, _, h0, h1] = *header;
        let hdrlen = usize::from(u16::from_ne_bytes([h0, h1]));
        let end = hdrlen + u32::from_ne_bytes([c0, c1, c2, c3]) as usize;
        let Some(data) = buffer.get(hdrlen..end) else { return };
        packet(data);
        buffer = buffer.get(end.next_multiple_of(8)..).unwrap_or_default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bpfdev_core::abi::hdr::Record;
    use bpfdev_core::packet::Way;
    use bpfdev_core::time::Timestamp;

    #[test]
    fn records_are_walked_to_the_last_whole_one() {
        let mut buffer = Vec::new();
        for packet in [&b"abc"[..], b"defghijklm"] {
            buffer.resize(buffer.len().next_multiple_of(8), 0);
            let mut header = [0; RECORD_OVERHEAD];
            let len = u32::try_from(packet.len()).unwrap();
            let record = Record {
                timestamp: Timestamp::default(),
                caplen: len,
                datalen: 99,
                way: Way::In,
                ifindex: 1,
            };
            LINUX.header.write(&mut header, &record);
            buffer.extend_from_slice(&header);
            buffer.extend_from_slice(packet);
        }
        let seen = |buffer: &[u8]| {
            let mut seen = Vec::new();
            records(buffer, |packet| seen.push(packet.to_vec()));
            seen
        };
        assert_eq!(seen(&buffer), [b"abc".to_vec(), b"defghijklm".to_vec()]);
        assert_eq!(seen(&buffer[..buffer.len() - 1]), [b"abc".to_vec()]);
        assert!(seen(&[]).is_empty());
    }
}
