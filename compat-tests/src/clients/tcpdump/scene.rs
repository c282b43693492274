//! Both tcpdumps between the two hosts: ours on the device, Debian's on packet sockets.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::savefile::{self, Packet};
use crate::clients::host::{Device, Stage};
use crate::clients::process::{AT_ONCE, Finished, PATIENCE, Running};
use crate::clients::traffic;

/// The hosts, the device and the program on it.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The hosts.
    pub stage: &'a Stage,
    device: Device,
    program: PathBuf,
}

impl<'a> Scene<'a> {
    /// Serves a device with these options of `bpfdev wrap`.
    ///
    /// # Errors
    /// It cannot be served.
    pub fn new(stage: &'a Stage, options: &[&str]) -> anyhow::Result<Scene<'a>> {
        let program = stage.built("tcpdump")?.join("bin/tcpdump");
        Ok(Scene { stage, device: stage.here.device("linux", options)?, program })
    }

    /// The tcpdump built against our headers, on the device.
    pub fn ours(&self) -> Command {
        self.device.command(&self.program)
    }

    /// Debian's, on packet sockets.
    pub fn native(&self) -> Command {
        self.stage.here.command("tcpdump")
    }

    /// Where it writes.
    pub fn file(&self, name: &str) -> PathBuf {
        self.stage.scratch().join(name).with_extension("pcap")
    }

    /// Starts both with the same arguments.
    ///
    /// # Errors
    /// One does not start to capture.
    pub fn pair(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Pair> {
        let one = |command, whose| Tcpdump::start(command, self.file(&format!("{name}-{whose}")), arguments);
        Ok(Pair { ours: one(self.ours(), "ours")?, native: one(self.native(), "native")? })
    }

    /// Starts Debian's on all of the interface, with room for all of it.
    ///
    /// # Errors
    /// It does not start to capture.
    pub fn witness(&self, name: &str) -> anyhow::Result<Tcpdump> {
        let arguments = ["-i", self.stage.here.interface, "-B", "16384"];
        Tcpdump::start(self.native(), self.file(&format!("{name}-witness")), &arguments)
    }

    /// All kinds of packets, so many times, and then one each way that is known by its length.
    ///
    /// # Errors
    /// Something did not arrive.
    pub fn traffic(&self, times: usize) -> anyhow::Result<()> {
        on_one_cpu(|| {
            (0..times).try_for_each(|_| traffic::mixed(self.stage))?;
            self.mark()
        })
    }

    /// Sends the last packet each way.
    ///
    /// # Errors
    /// It did not arrive.
    pub fn mark(&self) -> anyhow::Result<()> {
        let (here, there) = (&self.stage.here, &self.stage.there);
        traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), LAST)?;
        traffic::udp((there, there.ipv4.into()), (here, here.ipv4.into()), LAST)
    }

    /// This host has sent the frame.
    pub fn is_out(&self, packet: &Packet) -> bool {
        packet.data.get(6..12) == Some(&self.stage.here.mac[..])
    }

    /// Both packets of [`Scene::mark`] are there.
    pub fn is_over(&self, packets: &[Packet]) -> bool {
        let last = |out| packets.iter().any(|packet| is_last(packet) && self.is_out(packet) == out);
        last(true) && last(false)
    }

    /// What Debian's tcpdump chooses from a file by this expression: to it a tag is part of the frame, as it is on a BSD.
    ///
    /// # Errors
    /// It refuses the expression.
    pub fn choose(&self, from: &Path, name: &str, expression: &str) -> anyhow::Result<Vec<Packet>> {
        let to = self.file(&format!("{name}-chosen"));
        let mut command = self.native();
        command.args(["-n", "-r"]).arg(from).arg("-w").arg(&to).arg(expression);
        Running::start(&mut command)?.finish(PATIENCE)?.success()?;
        Ok(savefile::read(&to)?.packets)
    }
}

/// Octets of the payload of the last packets; no other has as many.
const LAST: usize = 333;

fn is_last(packet: &Packet) -> bool {
    usize::try_from(packet.len) == Ok(14 + 20 + 8 + LAST)
}

/// Does it with one processor: then the packets of both ways have one order, whoever watches.
///
/// # Errors
/// Those of the work; the processor cannot be chosen.
pub fn on_one_cpu<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let this_thread = Pid::from_raw(0);
    let before = sched_getaffinity(this_thread)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true));
    one.set(first.context("no processor")?)?;
    sched_setaffinity(this_thread, &one)?;
    let result = work();
    sched_setaffinity(this_thread, &before)?;
    result
}

/// Both at the same time.
#[derive(Debug)]
pub struct Pair {
    /// On the device.
    pub ours: Tcpdump,
    /// On packet sockets.
    pub native: Tcpdump,
}

impl Pair {
    /// Ends both when each has written so many packets.
    ///
    /// # Errors
    /// They have not, or do not end.
    pub fn end_after(self, count: usize) -> anyhow::Result<[Capture; 2]> {
        let one = |tcpdump: Tcpdump, whose| {
            tcpdump.wait(|packets| packets.len() >= count).and_then(|()| tcpdump.end()).context(whose)
        };
        Ok([one(self.ours, "ours")?, one(self.native, "Debian's")?])
    }
}

/// One that writes what it captures to a file.
#[derive(Debug)]
pub struct Tcpdump {
    running: Running,
    path: PathBuf,
}

/// What it has captured.
#[derive(Debug)]
pub struct Capture {
    /// The file.
    pub path: PathBuf,
    /// The file's link type.
    pub link_type: u32,
    /// The file's packets.
    pub packets: Vec<Packet>,
    /// What it said at the end.
    pub statistics: Statistics,
}

/// tcpdump's last lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Packets captured.
    pub captured: usize,
    /// Packets received by filter.
    pub received: usize,
    /// Packets dropped by kernel.
    pub dropped: usize,
}

impl Statistics {
    /// Finds them among the lines of standard error.
    ///
    /// # Errors
    /// One is missing.
    pub fn of(finished: &Finished) -> anyhow::Result<Statistics> {
        let number = |what: &str| {
            let lines = finished.stderr.iter();
            let found = lines
                .filter(|line| line.ends_with(what))
                .find_map(|line| line.split(' ').next()?.parse().ok());
            found.with_context(|| format!("no line \"N packets {what}\": {}", finished.stderr.join(" | ")))
        };
        Ok(Statistics {
            captured: number(" captured")?,
            received: number(" received by filter")?,
            dropped: number(" dropped by kernel")?,
        })
    }
}

impl Tcpdump {
    /// Starts it, writing each packet at once, and waits until it captures.
    ///
    /// # Errors
    /// It does not.
    pub fn start(mut command: Command, path: PathBuf, arguments: &[&str]) -> anyhow::Result<Tcpdump> {
        command.args(["-n", "-U", "-w"]).arg(&path).args(arguments);
        let running = Running::start(&mut command)?;
        running.wait_for_line(|line| line.contains("listening on "), PATIENCE)?;
        Ok(Tcpdump { running, path })
    }

    /// The process.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Waits until what it has written is enough.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait(&self, enough: impl Fn(&[Packet]) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let written = savefile::read(&self.path)?;
            if enough(&written.packets) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("only {} packets after {} s", written.packets.len(), PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Interrupts it as Ctrl-C does.
    ///
    /// # Errors
    /// It does not end at once with statistics and a whole file.
    pub fn end(self) -> anyhow::Result<Capture> {
        let Tcpdump { running, path } = self;
        Capture::of(&running.interrupt(AT_ONCE)?.success()?, path)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not, or fails.
    pub fn finish(self) -> anyhow::Result<Capture> {
        let Tcpdump { running, path } = self;
        Capture::of(&running.finish(PATIENCE)?.success()?, path)
    }
}

impl Capture {
    fn of(finished: &Finished, path: PathBuf) -> anyhow::Result<Capture> {
        let statistics = Statistics::of(finished)?;
        let file = savefile::read(&path)?;
        ensure!(file.rest == 0, "the file ends with a part of a packet: {} octets", file.rest);
        ensure!(
            statistics.captured == file.packets.len(),
            "{} packets captured, it says, and {} are in the file",
            statistics.captured,
            file.packets.len()
        );
        Ok(Capture { path, link_type: file.link_type, packets: file.packets, statistics })
    }
}
