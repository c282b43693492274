//! `bpfdev demo`: the main job in one command, in namespaces of its own: the host's network is not touched.
//!
//! Needs no other program: the filter is the one tcpdump -d prints, and the frames are made here.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bpfdev_backend_bsd::{DeviceFile, records};
use bpfdev_backend_linux::rtnl::Rtnl;
use bpfdev_backend_linux::{MonotonicClock, PacketSockets};
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::abi::{FilterSource, Header, Request, Response};
use bpfdev_core::backend::{Inject, Network as _, Visible};
use bpfdev_core::cbpf::{Insn, disasm};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, EmulatedFile, Interest};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::replay::{INTERFACE, Pace, Replay};
use bpfdev_core::time::{SystemClock, Timestamp};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

use super::daemon::Daemon;
use super::probe::{self, Probe};
use super::refusal::{Host, Refusal};
use super::sandbox::{self, MOUNT, Network, Sandbox, VETH};
use crate::print;
use crate::savefile::{Format, SaveFile, Source};

/// Capture packets through the device in one command, without touching the host's network
///
/// Makes a veth pair in namespaces of its own, serves the device there, opens it as a client, sets the filter `tcp
/// and dst port 7070`, sends frames from the far end, and prints each packet captured and the counters. Exit status
/// 0 means that everything came as it must.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// What the packets go through; auto takes the first that this system allows, in this order: the device
    /// (FUSE), the same file in this process over a packet socket, a capture file played back
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    backend: Backend,
}

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    Auto,
    Device,
    PacketSocket,
    Replay,
}

/// `tcpdump -y EN10MB -d 'tcp and dst port 7070'`.
const FILTER: [Insn; 16] = [
    Insn::new(0x28, 0, 0, 12),
    Insn::new(0x15, 0, 7, 0x0800),
    Insn::new(0x30, 0, 0, 23),
    Insn::new(0x15, 0, 11, 6),
    Insn::new(0x28, 0, 0, 20),
    Insn::new(0x45, 9, 0, 0x1fff),
    Insn::new(0xb1, 0, 0, 14),
    Insn::new(0x48, 0, 0, 16),
    Insn::new(0x15, 5, 6, 7070),
    Insn::new(0x15, 0, 5, 0x86dd),
    Insn::new(0x30, 0, 0, 20),
    Insn::new(0x15, 0, 3, 6),
    Insn::new(0x28, 0, 0, 56),
    Insn::new(0x15, 0, 1, 7070),
    Insn::new(0x06, 0, 0, 262_144),
    Insn::new(0x06, 0, 0, 0),
];

/// println!, but a reader that has gone away is no failure of ours.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// How long the packets may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the subcommand.
///
/// # Errors
/// What a system refuses of the backend asked for; what came otherwise than it must.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let rungs = match args.backend {
        Backend::Auto => vec![Backend::Device, Backend::PacketSocket, Backend::Replay],
        one => vec![one],
    };
    let mut refused = String::new();
    for rung in rungs {
        match rung.refusal() {
            Some(refusal) if args.backend == Backend::Auto => {
                say!("{} is refused here: {refusal}", rung.name());
                refused += &format!("; {} was refused: {refusal}", rung.name());
            }
            Some(refusal) => return Err(refusal).context(rung.name()),
            None => {
                let outcome = rung.run().with_context(|| format!("demo over {} failed", rung.name()))?;
                say!("ok: {outcome}{refused}");
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    bail!("no backend is left")
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Device => "device",
            Backend::PacketSocket => "packet-socket",
            Backend::Replay => "replay",
        }
    }

    /// What this system refuses of what it needs: tried in children, so that the next rung starts clean.
    fn refusal(self) -> Option<Refusal> {
        let probes: &[Probe] = match self {
            Backend::Device => {
                if let Err(refusal) = probe::fuse_device() {
                    return Some(refusal);
                }
                &[Probe::Mount, Probe::FuseMount, Probe::Veth, Probe::PacketSocket, Probe::CallerMemory]
            }
            Backend::PacketSocket => &[Probe::Veth, Probe::PacketSocket],
            Backend::Auto | Backend::Replay => &[],
        };
        let user_namespace =
            (!probes.is_empty() && !Host::look().privileged()).then_some(Probe::UserNamespace);
        user_namespace.into_iter().chain(probes.iter().copied()).find_map(|probe| probe.in_child().err())
    }

    fn run(self) -> anyhow::Result<String> {
        match self {
            Backend::Auto | Backend::Device => over_device(),
            Backend::PacketSocket => over_packet_socket(),
            Backend::Replay => over_replay(),
        }
    }
}

/// The device, served by a daemon of our own.
fn over_device() -> anyhow::Result<String> {
    let sandbox = Sandbox::enter(Network::Own)?;
    say!("sandbox: {}", sandbox.describe());
    let served = ["--front", "fuse", "--mount", MOUNT, "--link", "/dev"].map(OsString::from);
    let mut daemon = Daemon::start(served)?;
    let file = DeviceFile::open_any(&LINUX, Access::ReadWrite)?;
    let path = file.path().display().to_string();
    say!("opened {path}, dialect {}, served by process {}", LINUX.name, daemon.pid());
    let (frames, mut far) = veth()?;
    let header = file.header();
    let session = Session { file: &file, interface: VETH[0], filter_first: false, header: &header };
    let done = session.run(&frames, &mut |frame| Ok(far.inject(frame, Visible::ToTaps)?));
    if let Some(status) = daemon.ended()? {
        bail!("the daemon ended ({status}) while the device was in use");
    }
    let summary = done?;
    drop(file);
    daemon.stop()?;
    Ok(format!("device ({path}, served by FUSE): {summary}"))
}

/// The same file emulated in this process.
fn over_packet_socket() -> anyhow::Result<String> {
    if !Host::look().privileged() {
        sandbox::enter_user_namespace()?;
    }
    sandbox::own_network()?;
    say!("sandbox: a network namespace of its own, with lo and the veth pair {}, {}", VETH[0], VETH[1]);
    let network = Arc::new(PacketSockets::default());
    let file = EmulatedFile::open(&LINUX, Access::ReadWrite, network, Arc::new(MonotonicClock));
    say!("opened the file in this process, dialect {}", LINUX.name);
    let (frames, mut far) = veth()?;
    let session = Session { file: &file, interface: VETH[0], filter_first: false, header: &LINUX.header };
    let summary = session.run(&frames, &mut |frame| Ok(far.inject(frame, Visible::ToTaps)?))?;
    Ok(format!("packet-socket (the device's file in this process, over a packet socket): {summary}"))
}

/// The same file over a capture file.
fn over_replay() -> anyhow::Result<String> {
    let frames = frames([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])?;
    let recording = Recording::new(&frames).context("cannot write a capture file to play")?;
    say!("playing {} on {INTERFACE}: no privilege, no network", recording.0.display());
    let clock = Arc::new(SystemClock::new());
    let network = Arc::new(Replay::new(&recording.0, Pace::AsRead, clock.clone()));
    let file = EmulatedFile::open(&LINUX, Access::ReadWrite, network, clock);
    // The file's packets are there the moment the interface is.
    let session = Session { file: &file, interface: INTERFACE, filter_first: true, header: &LINUX.header };
    let summary = session.run(&frames, &mut |_| Ok(()))?;
    Ok(format!("replay (the device's file in this process, over a capture file): {summary}"))
}

/// The frames for the veth pair, and its far end, where they are sent.
fn veth() -> anyhow::Result<(Vec<Frame>, Box<dyn Inject>)> {
    let mut rtnl = Rtnl::open()?;
    let mut address = |name| -> anyhow::Result<[u8; 6]> {
        let mac = rtnl.link(name)?.mac;
        mac.try_into().map_err(|mac| anyhow::anyhow!("{name} has the address {mac:?}"))
    };
    let (near, far) = (address(VETH[0])?, address(VETH[1])?);
    let config = LINUX.tap_config(4096);
    // The sending half outlives the tap.
    let injector = PacketSockets::default().attach(VETH[1], &config)?.injector()?;
    Ok((frames(far, near)?, injector))
}

/// A frame to send, and whether the filter lets it through.
struct Frame {
    what: &'static str,
    bytes: Vec<u8>,
    matches: bool,
}

/// The frames, made from `source` to `destination`. The last one matches: when it has come, so has everything.
fn frames(source: [u8; 6], destination: [u8; 6]) -> anyhow::Result<Vec<Frame>> {
    const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 2], [192, 0, 2, 1]);
    const V6: ([u8; 16], [u8; 16]) = (v6(2), v6(1));
    let link = || PacketBuilder::ethernet2(source, destination);
    let ip = || link().ipv4(V4.0, V4.1, 64);
    let ip6 = || link().ipv6(V6.0, V6.1, 64);
    let who_has = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &source,
        &V4.0,
        &[0; 6],
        &V4.1,
    )?;
    let mut frames = Vec::new();
    let mut add = |what, matches, make: &dyn Fn(&mut Vec<u8>) -> Result<(), String>| {
        let mut bytes = Vec::new();
        let made = make(&mut bytes).map_err(anyhow::Error::msg);
        frames.push(Frame { what, bytes, matches });
        made
    };
    let e = |error: etherparse::err::packet::BuildWriteError| error.to_string();
    add("TCP to port 7070", true, &|b| ip().tcp(40_000, 7070, 1, 64_240).syn().write(b, &[]).map_err(e))?;
    add("UDP to port 7070", false, &|b| ip().udp(40_000, 7070).write(b, b"udp").map_err(e))?;
    add("TCP from port 7070", false, &|b| ip().tcp(7070, 40_000, 1, 64_240).write(b, &[]).map_err(e))?;
    add("TCP to port 7071", false, &|b| ip().tcp(40_000, 7071, 1, 64_240).syn().write(b, &[]).map_err(e))?;
    add("ARP", false, &|b| link().arp(who_has.clone()).write(b).map_err(e))?;
    add("TCP over IPv6 to port 7070", true, &|b| {
        ip6().tcp(40_001, 7070, 1, 64_800).syn().write(b, &[]).map_err(e)
    })?;
    add("UDP over IPv6 to port 7070", false, &|b| ip6().udp(40_001, 7070).write(b, b"udp").map_err(e))?;
    add("TCP with data to port 7070", true, &|b| {
        ip().tcp(40_000, 7070, 2, 502).psh().ack(1).write(b, b"hello, /dev/bpf\n").map_err(e)
    })?;
    Ok(frames)
}

/// 2001:db8::N, for documentation (RFC 3849).
const fn v6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// A capture file of the frames, removed at the end.
struct Recording(PathBuf);

impl Recording {
    fn new(frames: &[Frame]) -> anyhow::Result<Recording> {
        let path = std::env::temp_dir().join(format!("bpfdev-demo-{}.pcap", std::process::id()));
        let output = BufWriter::new(File::create_new(&path).with_context(|| path.display().to_string())?);
        let recording = Recording(path);
        let source = Source { interface: INTERFACE, linktype: Linktype::EN10MB, snaplen: 65_535 };
        let mut file = SaveFile::new(output, Format::of(Path::new("a.pcap")), source)?;
        for frame in frames {
            let now = Timestamp::from_system(std::time::SystemTime::now());
            file.write(now, u32::try_from(frame.bytes.len())?, &frame.bytes)?;
        }
        file.flush()?;
        Ok(recording)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // In a temporary directory, where somebody else may have cleaned up.
        let _ = fs::remove_file(&self.0);
    }
}

/// A client of the device.
struct Session<'a> {
    file: &'a dyn BpfFile,
    interface: &'a str,
    /// The filter is set before the interface instead of after it.
    filter_first: bool,
    header: &'a Header,
}

impl Session<'_> {
    fn ask(&self, name: &str, request: Request) -> anyhow::Result<Response> {
        let answer = self.file.ioctl(&request).with_context(|| name.to_owned())?;
        say!("ioctl {name}: ok");
        Ok(answer)
    }

    fn set_filter(&self) -> anyhow::Result<()> {
        say!("filter: tcp and dst port 7070\n{}", disasm(&FILTER).trim_end());
        self.ask("BIOCSETF", Request::SetF(FilterSource::new(&FILTER))).map(drop)
    }

    /// Captures what `send` sends, prints and checks it; what there is to say in a line.
    fn run(
        &self,
        frames: &[Frame],
        send: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let Response::U32(size) = self.ask("BIOCGBLEN", Request::GBlen)? else {
            bail!("BIOCGBLEN: no number")
        };
        if self.filter_first {
            self.set_filter()?;
        }
        self.ask("BIOCIMMEDIATE", Request::Immediate(1))?;
        self.ask(
            &format!("BIOCSETIF {}", self.interface),
            Request::SetIf(self.interface.as_bytes().to_vec()),
        )?;
        let linktype = self.ask("BIOCGDLT", Request::GDlt)?;
        ensure!(linktype == Response::U32(Linktype::EN10MB.0), "BIOCGDLT told {linktype:?}, not DLT_EN10MB");
        if !self.filter_first {
            self.set_filter()?;
        }
        self.file.set_nonblocking(true).context("O_NONBLOCK")?;
        let expected: Vec<_> = frames.iter().filter(|frame| frame.matches).collect();
        for frame in frames {
            say!("sent: {}", frame.what);
            send(&frame.bytes).with_context(|| format!("sending {}", frame.what))?;
        }
        let captured = self.capture(size as usize, expected.len())?;
        let answer = self.file.ioctl(&Request::GStats).context("BIOCGSTATS")?;
        let Response::Stats { recv, drop, .. } = answer else { bail!("BIOCGSTATS: no counters") };
        say!("{} packets captured, {recv} received by filter, {drop} dropped", captured.len());

        let mut wrong = Vec::new();
        for (i, frame) in expected.iter().enumerate() {
            match captured.get(i) {
                None => {
                    wrong.push(format!("{} was not captured within {} s", frame.what, PATIENCE.as_secs()))
                }
                Some(packet) if *packet != frame.bytes => {
                    wrong.push(format!("packet {} is not the frame sent, {}", i + 1, frame.what));
                }
                Some(_) => {}
            }
        }
        if captured.len() > expected.len() {
            wrong.push(format!("{} packets more than match", captured.len() - expected.len()));
        }
        if (recv as usize) < captured.len() || drop != 0 {
            wrong.push(format!("the counters tell {recv} received and {drop} dropped"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(format!("{} of {} frames captured, as the filter says", captured.len(), frames.len()))
    }

    /// Reads and prints until `count` packets have come, and what is there besides.
    fn capture(&self, size: usize, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut captured = Vec::new();
        let mut buf = vec![0; size];
        let end = Instant::now() + PATIENCE;
        loop {
            let n = match self.file.read(&mut buf) {
                Ok(n) => n,
                Err(Errno::Again | Errno::Intr) => 0,
                Err(errno) => return Err(errno).context("read"),
            };
            let whole = buf.get(..n).context("read gave more than was asked for")?;
            let mut walk = records(whole, self.header);
            for record in walk.by_ref() {
                let line = print::packet(Linktype::EN10MB, record.data, record.wirelen);
                say!("{} {line}", print::time_of_day(record.timestamp));
                captured.push(record.data.to_vec());
            }
            ensure!(walk.rest().is_empty(), "{} bytes of a read are no record", walk.rest().len());
            if n > 0 {
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if captured.len() >= count || left.is_zero() {
                return Ok(captured);
            }
            match self.file.poll(Interest::READ, Some(left)) {
                Ok(_) | Err(Errno::Intr) => {}
                Err(errno) => return Err(errno).context("poll"),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bpfdev_core::cbpf;

    #[test]
    fn the_frames_are_what_the_filter_tells_apart() {
        for rules in [&cbpf::LINUX_ABI, &cbpf::FREEBSD, &cbpf::NETBSD] {
            let program = cbpf::validate(&FILTER, rules).unwrap();
            for frame in frames([2; 6], [4; 6]).unwrap() {
                let verdict = program.run(&frame.bytes, frame.bytes.len() as u32);
                assert_eq!(verdict != 0, frame.matches, "{}", frame.what);
            }
        }
        assert!(frames([2; 6], [4; 6]).unwrap().last().unwrap().matches);
    }

    #[test]
    fn the_program_is_tcpdumps() {
        let listing = disasm(&FILTER);
        assert_eq!(listing.lines().count(), 16);
        assert!(listing.contains("(007) ldh      [x + 16]\n(008) jeq      #0x1b9e          jt 14\tjf 15"));
    }
}
