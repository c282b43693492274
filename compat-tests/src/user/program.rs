//! A program of the user's: run once on a target while known traffic passes, and what it wrote compared with what a packet
//! capture of this project got of the same traffic.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bpfdev::capture::Capture;
use bpfdev_core::abi::Abi;
use bpfdev_core::abi::rules::Nodes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::capture::{Packet, captured, compare, savefile};
use super::{Ends, NO_ENDS, dev, kind, skipped, traffic};
use crate::conformance::report::{Outcome, TargetInfo};
use crate::oracle::call::Trouble;
use crate::oracle::pair::Pair;

/// How long the program has from the moment it is attached until traffic comes: to set its filter, and what flushes.
const SETTLE: Duration = Duration::from_millis(500);

/// How long after the last packet it may go on by itself: a read time-out of one second passes in it.
const QUIET: Duration = Duration::from_millis(1500);

/// Without a way to see that it is attached, it is so after this time.
const BLIND: Duration = Duration::from_secs(1);

/// How long a frame may take.
const ARRIVAL: Duration = Duration::from_secs(2);

const LOOK: Duration = Duration::from_millis(10);

/// Where a program captures.
trait Ground {
    /// The interface.
    fn interface(&self) -> &str;

    /// Sends a frame to it from the other end of its wire.
    fn send(&mut self, frame: &[u8]) -> Result<(), Trouble>;

    /// How many taps the interface has, where that can be known.
    fn taps(&self) -> Option<usize>;
}

impl Ground for Pair {
    fn interface(&self) -> &str {
        self.observe()
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        self.receive(frame)
    }

    fn taps(&self) -> Option<usize> {
        None
    }
}

/// Runs the program on one target.
pub fn play(command: &str, target: &TargetInfo, timeout: Duration, ends: &Ends) -> Outcome {
    let (kind, abi) = kind(target);
    let played = match (kind, abi, ends.both()) {
        #[cfg(target_os = "linux")]
        ("device", Some(abi), _) => linux::on_device(abi, &|ground| run(command, abi, timeout, ground)),
        ("native", Some(abi), Some((observe, inject))) => {
            Pair::new(dev(), abi, observe, inject).and_then(|mut pair| run(command, abi, timeout, &mut pair))
        }
        ("native", _, None) => return skipped(NO_ENDS),
        ("cuse", ..) => {
            return skipped("a program opens /dev/bpf, which through CUSE is everybody's on this machine");
        }
        _ => return skipped("a program opens a node: this target has none"),
    };
    played.unwrap_or_else(|error| failed("preparing the target", "a device and a wire", format!("{error:#}")))
}

fn failed(step: &str, expected: &str, seen: impl Into<String>) -> Outcome {
    Outcome::Failed { step: step.into(), expected: expected.into(), seen: seen.into() }
}

fn troubled(trouble: Trouble) -> anyhow::Error {
    let (Trouble::Fail(what) | Trouble::Skip(what) | Trouble::Unasked(what)) = trouble;
    anyhow::anyhow!(what)
}

fn run(command: &str, abi: &Abi, timeout: Duration, ground: &mut dyn Ground) -> anyhow::Result<Outcome> {
    let frames = traffic::frames();
    let open = Capture::options().immediate(true).promiscuous(false).open(ground.interface());
    let mut reference = open.context("the reference capture")?;
    let room = Room::new()?;
    let before = ground.taps();
    let end = Instant::now() + timeout;
    let mut program = Program::start(command, abi, ground.interface(), frames.len(), &room)?;
    if let Some(before) = before {
        while ground.taps().is_some_and(|now| now <= before) && !program.ended()? && Instant::now() < end {
            thread::sleep(LOOK);
        }
        if ground.taps().is_some_and(|now| now <= before) && !program.ended()? {
            program.kill()?;
            let expected = format!("a capture of {}", ground.interface());
            let seen = format!("none within {} s; it was killed{}", timeout.as_secs(), room.complaint());
            return Ok(failed("attaching", &expected, seen));
        }
        thread::sleep(SETTLE);
    } else {
        thread::sleep(BLIND);
    }
    let mut expected: Vec<Packet> = Vec::new();
    for frame in &frames {
        ground.send(frame).map_err(troubled)?;
        let came = captured(&mut reference, 1, ARRIVAL).map_err(anyhow::Error::msg)?;
        expected.extend(came);
    }
    anyhow::ensure!(
        expected.len() == frames.len(),
        "{} of {} frames were captured",
        expected.len(),
        frames.len()
    );
    let interrupted = program.finish(Instant::now() + QUIET, end)?;
    let Some(status) = program.status else {
        program.kill()?;
        let expected = format!("an end within {} s, at SIGINT", timeout.as_secs());
        return Ok(failed("the program's end", &expected, "it was killed, with its process group"));
    };
    // what it left behind in its group
    program.kill()?;
    if !interrupted && !status.success() {
        return Ok(failed(
            "the program's end",
            "exit status 0",
            format!("{}{}", told(status), room.complaint()),
        ));
    }
    let Some(written) = room.written() else {
        let seen = format!("nothing{}", room.complaint());
        return Ok(failed("what it wrote", "a pcap or pcapng file in $BPF_OUTPUT, or as its output", seen));
    };
    let packets = match savefile(&written) {
        Ok(packets) => packets,
        Err(error) => return Ok(failed("what it wrote", "a pcap or pcapng file", error)),
    };
    Ok(compare(&expected, &packets).map_or(Outcome::Passed, |(step, expected, seen)| Outcome::Failed {
        step,
        expected,
        seen,
    }))
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A directory for what the program writes. Dropping it removes it.
struct Room(PathBuf);

impl Room {
    fn new() -> anyhow::Result<Room> {
        let begin = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unique = begin.map_or(0, |since| since.as_nanos());
        let path = std::env::temp_dir().join(format!("bpfdev-program-{}-{unique}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        Ok(Room(path))
    }

    fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    fn file(&self, name: &str) -> io::Result<File> {
        File::create(self.0.join(name))
    }

    /// Where the packets are: in the file it was told of, or what it said.
    fn written(&self) -> Option<PathBuf> {
        let has_bytes = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() > 0);
        [self.output(), self.0.join("stdout")].into_iter().find(has_bytes)
    }

    /// The last it said on its standard error.
    fn complaint(&self) -> String {
        let said = fs::read(self.0.join("stderr")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map_or_else(String::new, |line| format!("; it said {line:?}"))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("bpfdev-compat: removing {}: {error}", self.0.display());
        }
    }
}

/// The program under way, in a process group of its own. Dropping it kills the group.
struct Program {
    child: Child,
    group: Pid,
    status: Option<ExitStatus>,
}

impl Program {
    fn start(
        command: &str,
        abi: &Abi,
        interface: &str,
        count: usize,
        room: &Room,
    ) -> anyhow::Result<Program> {
        let cloning = !matches!(abi.rules.nodes, Nodes::OneOpenerEach { .. });
        let node = dev().join(if cloning { "bpf" } else { "bpf0" });
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).process_group(0);
        shell.env("BPF_DEVICE", node).env("BPF_INTERFACE", interface);
        shell.env("BPF_COUNT", count.to_string()).env("BPF_OUTPUT", room.output());
        shell.stdin(Stdio::null()).stdout(room.file("stdout")?).stderr(room.file("stderr")?);
        crate::signals_by_default(&mut shell);
        let child = shell.spawn().context("starting the program")?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Program { child, group, status: None })
    }

    fn ended(&mut self) -> io::Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    /// Waits for its end: by itself until `quiet`, then interrupted, at most until `end`. Whether it was interrupted.
    fn finish(&mut self, quiet: Instant, end: Instant) -> anyhow::Result<bool> {
        while !self.ended()? && Instant::now() < quiet.min(end) {
            thread::sleep(LOOK);
        }
        if self.ended()? {
            return Ok(false);
        }
        killpg(self.group, Signal::SIGINT).context("interrupting the program")?;
        while !self.ended()? && Instant::now() < end {
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    /// Ends its whole group.
    fn kill(&mut self) -> anyhow::Result<()> {
        match killpg(self.group, Signal::SIGKILL) {
            // nobody is left, or (macOS) nobody but those that wait to be reaped
            Ok(()) | Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EPERM) => {}
            Err(errno) => return Err(errno).context("killing the program"),
        }
        if self.status.is_none() {
            self.child.wait().context("waiting for the program")?;
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.status.is_none()
            && let Err(error) = self.kill()
        {
            eprintln!("bpfdev-compat: {error:#}");
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::sync::Arc;

    use bpfdev::cli::daemon::Daemon;
    use bpfdev::cli::sandbox;
    use bpfdev_backend_linux::netns::Namespace;

    use super::*;
    use crate::wire::{OBSERVED, Wire};

    /// Every tap of a network namespace, one a line (packet(7)).
    const PACKET_SOCKETS: &str = "/proc/thread-self/net/packet";

    struct Veth {
        wire: Wire,
        index: u32,
    }

    impl Ground for Veth {
        fn interface(&self) -> &str {
            OBSERVED
        }

        fn send(&mut self, frame: &[u8]) -> Result<(), Trouble> {
            self.wire.receive(frame)
        }

        fn taps(&self) -> Option<usize> {
            let table = fs::read_to_string(PACKET_SOCKETS).ok()?;
            let index = self.index.to_string();
            Some(table.lines().filter(|line| line.split_whitespace().nth(4) == Some(&index)).count())
        }
    }

    /// Runs `act` in namespaces of its own, with a device of this dialect in a private /dev, and a veth pair.
    pub fn on_device(
        abi: &'static Abi,
        act: &(dyn Fn(&mut dyn Ground) -> anyhow::Result<Outcome> + Sync),
    ) -> anyhow::Result<Outcome> {
        let namespace = Arc::new(Namespace::new()?);
        namespace.enter(|| -> anyhow::Result<Outcome> {
            sandbox::enter_mount_namespace()?;
            sandbox::private_dev()?;
            let mut wire = Wire::new(Arc::clone(&namespace)).context("the veth pair")?;
            let index = wire.link(OBSERVED).map_err(troubled)?.index;
            let options = ["--mount", sandbox::MOUNT, "--link", super::super::DEV, "--abi", abi.name];
            let options = ["--front", "fuse"].into_iter().chain(options);
            let mut daemon = Daemon::start(options.map(OsString::from))?;
            let outcome = act(&mut Veth { wire, index });
            if let Some(status) = daemon.ended()? {
                anyhow::bail!("the device ended meanwhile ({status})");
            }
            daemon.stop()?;
            outcome
        })?
    }
}
