//! A client of the device, and the daemon it is a client of: two processes.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bpfdev::fuse::{Daemon, ServeOptions};
use bpfdev_backend_linux::{MonotonicClock, PacketSockets};
use bpfdev_core::abi::linux::LINUX;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::time::ClockId;

use super::RING;
use super::part::{Part, ReadPart, Role, Running, clock, tell, when_told_to_stop};
use super::reader::{Gauge, TIMEOUT, records};
use super::subject::Tally;
use super::sys::Bpf;

/// BIOCSBLEN, bytes.
pub const BUFFER: usize = 512 * 1024;

/// Serves the device at `dir` until the parent has enough of it.
///
/// # Errors
/// What was refused.
pub fn serve(dir: &Path) -> anyhow::Result<()> {
    let network = Arc::new(PacketSockets { ring_bytes: Some(RING), ..PacketSockets::default() });
    let options = ServeOptions {
        mount: dir.to_owned(),
        link: None,
        ..ServeOptions::new(&LINUX, network, Arc::new(MonotonicClock))
    };
    let daemon = Daemon::start(options)?;
    let (sender, stop) = std::sync::mpsc::channel::<()>();
    when_told_to_stop(move || drop(sender));
    tell(&"ready")?;
    let _ = stop.recv(); // an error is what is waited for: the sender is gone
    daemon.stop()?;
    Ok(())
}

/// Captures through a device of its own, which only it and the daemon see.
///
/// # Errors
/// The daemon's, the device's.
pub fn read(part: &ReadPart, mut gauge: Gauge) -> anyhow::Result<Tally> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    let serve = Part { cpu: part.daemon_cpu, role: Role::Serve(part.dir.clone()) };
    let daemon = Running::start(&serve, None)?;
    let daemon_clock = ClockId::pid_cpu_clock_id(daemon.pid()?)?;

    let mut file = open(part)?;
    let mut buffer = vec![0; BUFFER];
    let daemon_before = clock(daemon_clock)?;
    gauge.begin(|| {})?;
    while !gauge.is_full() {
        let stopping = gauge.is_told_to_stop();
        let n = file.read(&mut buffer).context("reading")?;
        records(&buffer[..n], |packet| gauge.packet(packet));
        if n == 0 && stopping {
            break;
        }
    }
    let daemon_cpu = clock(daemon_clock)? - daemon_before;
    let dropped = Bpf(&file).dropped()?.into();
    let tally = Tally { daemon_cpu, ..gauge.end(part, dropped)? };
    drop(file);
    daemon.wait()?;
    Ok(tally)
}

fn open(part: &ReadPart) -> anyhow::Result<File> {
    let path = part.dir.join("bpf");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let bpf = Bpf(&file);
    bpf.set_buffer_length(u32::try_from(BUFFER)?).context("BIOCSBLEN")?;
    bpf.set_timeout(TIMEOUT).context("BIOCSRTIMEOUT")?;
    bpf.set_immediate(part.latency).context("BIOCIMMEDIATE")?;
    bpf.set_interface(&part.interface).context("BIOCSETIF")?;
    Ok(file)
}

/// How long a part may take to come to an end.
pub const END: Duration = Duration::from_secs(10);
