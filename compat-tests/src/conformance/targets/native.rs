//! `native:SYSTEM`: a BSD's own /dev/bpf, in real time.
//!
//! The wire is made with the system's own tools: a tap(4) interface, whose far end is its character device, or on macOS a
//! pair of feth interfaces, whose far end is a descriptor of its own.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bpfdev_backend_bsd::{DeviceFile, records};
use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};

use super::{Available, Target, abi};
use crate::conformance::report::TargetInfo;
use crate::conformance::stage::{Call, Event, Needs, SharedFile, Stage, Trouble};
use crate::conformance::system::System;

/// A virtual machine may notice something so much later.
const SLACK: Duration = Duration::from_millis(1500);
/// After this time an interface has what was given to it, and whoever looks at it has seen it.
const SETTLED: Duration = Duration::from_millis(5);
/// After this time a system has said what it says by itself when an interface comes up.
const QUIET: Duration = Duration::from_millis(1500);
/// How long frames that ought to come out at the far end are waited for.
const SOON: Duration = Duration::from_secs(2);

/// The system this program was built for.
fn system() -> Option<System> {
    Some(match std::env::consts::OS {
        "freebsd" => System::FreeBsd,
        "netbsd" => System::NetBsd,
        "openbsd" => System::OpenBsd,
        "dragonfly" => System::DragonFly,
        "macos" => System::MacOs,
        _ => return None,
    })
}

/// The target of this module.
pub fn here() -> Vec<Available> {
    let target = system().map(|system| {
        Available::new(format!("native:{}", system.name()), move || Ok(Box::new(Native { system })))
    });
    target.into_iter().collect()
}

struct Native {
    system: System,
}

impl Target for Native {
    fn info(&self) -> TargetInfo {
        let about = "the system's own /dev/bpf".into();
        TargetInfo { name: format!("native:{}", self.system.name()), about, system: self.system }
    }

    fn with_stage(&self, act: &mut (dyn FnMut(Arc<dyn Stage>) + Send)) -> anyhow::Result<()> {
        let abi = abi(self.system)?;
        let failed = |trouble: Trouble| anyhow::anyhow!("{trouble}");
        let wire = Wire::new(self.system, abi).map_err(failed)?;
        let (interface, other) = (wire.near.clone(), wire.other.clone());
        let address = address_of(&interface).map_err(failed)?;
        let stage = Arc::new_cyclic(|this| OnHost {
            system: self.system,
            abi,
            interface,
            other,
            address,
            wire: Mutex::new(wire),
            events: Mutex::default(),
            begin: Instant::now(),
            this: this.clone(),
        });
        act(stage);
        Ok(())
    }
}

fn failure(what: impl std::fmt::Display) -> Trouble {
    Trouble::Fail(what.to_string())
}

/// Runs ifconfig(8); its output.
fn ifconfig(arguments: &[&str]) -> Result<String, Trouble> {
    let output = Command::new("ifconfig").args(arguments).output();
    let output = output.map_err(|error| failure(format!("ifconfig: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failure(format!("ifconfig {}: {}", arguments.join(" "), said.trim())))
}

/// The Ethernet address ifconfig(8) shows: behind `ether`, `lladdr` or `address:`.
fn address_of(interface: &str) -> Result<[u8; 6], Trouble> {
    let shown = ifconfig(&[interface])?;
    let words: Vec<_> = shown.split_whitespace().collect();
    let label = |word: &&str| matches!(*word, "ether" | "lladdr" | "address:");
    let found = words.windows(2).find(|pair| label(&pair[0])).map(|pair| pair[1]);
    let bytes = found
        .map(|text| text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Vec<_>>());
    let no_address = || failure(format!("{interface} has no Ethernet address"));
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(no_address)
}

/// What is at the far end.
enum Far {
    Tap(File),
    Peer(DeviceFile),
    /// The interface was removed.
    Gone,
}

struct Wire {
    system: System,
    abi: &'static Abi,
    near: String,
    other: String,
    far: Far,
    /// Keeps the other interface running.
    _other: Option<File>,
    changed: bool,
}

/// Numbers that are tried for tap interfaces: nodes for the first four are there on every system.
const TAPS: std::ops::Range<u32> = 0..4;
/// The pair of macOS: numbers that nobody else takes.
const FETH: [&str; 2] = ["feth1701", "feth1702"];

/// Makes a tap interface and opens its device.
fn tap() -> Result<(String, File), Trouble> {
    let mut refused = failure("no tap interface");
    for number in TAPS {
        let name = format!("tap{number}");
        match ifconfig(&[&name, "create"]) {
            Ok(_) => {}
            Err(trouble) => {
                refused = trouble;
                continue;
            }
        }
        return open_tap(&name).map(|file| (name, file));
    }
    Err(refused)
}

fn open_tap(name: &str) -> Result<File, Trouble> {
    let path = format!("/dev/{name}");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(&path).map_err(|error| failure(format!("{path}: {error}")))?;
    ifconfig(&[name, "up"])?;
    Ok(file)
}

/// A descriptor at the far end, which sees what comes out there.
fn peer(name: &str, abi: &'static Abi) -> Result<DeviceFile, Trouble> {
    let file = DeviceFile::open_any(abi, Access::ReadWrite).map_err(failure)?;
    let requests = [
        Request::SetIf(name.as_bytes().to_vec()),
        Request::Immediate(1),
        Request::SHdrCmplt(1),
        Request::SSeeSent(0),
    ];
    for request in requests {
        file.ioctl(&request).map_err(|errno| failure(format!("{request:?} at the far end: {errno}")))?;
    }
    file.set_nonblocking(true).map_err(failure)?;
    Ok(file)
}

impl Wire {
    fn new(system: System, abi: &'static Abi) -> Result<Wire, Trouble> {
        let wire = if system == System::MacOs {
            let [near, other] = FETH;
            let far = Wire::feth(abi)?;
            Wire { system, abi, near: near.into(), other: other.into(), far, _other: None, changed: false }
        } else {
            let (near, far) = tap()?;
            let (other, file) = tap()?;
            Wire { system, abi, near, other, far: Far::Tap(far), _other: Some(file), changed: false }
        };
        thread::sleep(QUIET);
        Ok(wire)
    }

    fn feth(abi: &'static Abi) -> Result<Far, Trouble> {
        let [near, far] = FETH;
        for name in FETH {
            if ifconfig(&[name]).is_err() {
                ifconfig(&[name, "create"])?;
            }
        }
        ifconfig(&[near, "peer", far])?;
        for name in FETH {
            ifconfig(&[name, "up"])?;
        }
        peer(far, abi).map(Far::Peer)
    }

    fn reset(&mut self) -> Result<(), Trouble> {
        if matches!(self.far, Far::Gone) {
            self.far = if self.system == System::MacOs {
                Wire::feth(self.abi)?
            } else {
                ifconfig(&[&self.near, "create"])?;
                Far::Tap(open_tap(&self.near)?)
            };
            thread::sleep(QUIET);
        } else if self.changed {
            ifconfig(&[&self.near, "mtu", "1500"])?;
            ifconfig(&[&self.near, "up"])?;
            thread::sleep(QUIET);
        }
        self.changed = false;
        self.frames();
        Ok(())
    }

    fn receive(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let sent = match &mut self.far {
            Far::Tap(file) => file.write(frame).map(drop).map_err(failure),
            Far::Peer(file) => file.write(frame).map(drop).map_err(failure),
            Far::Gone => Ok(()),
        };
        thread::sleep(SETTLED);
        // what comes while the interface is down is lost, however the far end says so
        if self.changed { Ok(()) } else { sent }
    }

    fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        match &mut self.far {
            Far::Tap(file) => {
                let mut frame = vec![0; 1 << 16];
                loop {
                    match file.read(&mut frame) {
                        Ok(0) => break,
                        Ok(length) => frames.push(frame[..length].to_vec()),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(_) => break,
                    }
                }
            }
            Far::Peer(file) => {
                while let Ok(mut buffer) = file.read_buffer()
                    && let Ok(length) = file.read(&mut buffer)
                    && length > 0
                {
                    frames.extend(records(&buffer[..length], file.header()).map(|r| r.data.to_vec()));
                }
            }
            Far::Gone => {}
        }
        frames
    }

    fn remove(&mut self) -> Result<(), Trouble> {
        // a tap whose device is open cannot go
        self.far = Far::Gone;
        ifconfig(&[&self.near, "destroy"]).map(drop)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let gone = matches!(self.far, Far::Gone);
        self.far = Far::Gone;
        self._other = None;
        for name in [&self.near, &self.other] {
            if gone && *name == self.near {
                continue;
            }
            if let Err(trouble) = ifconfig(&[name, "destroy"]) {
                eprintln!("bpfdev-compat: {trouble}");
            }
        }
    }
}

struct OnHost {
    system: System,
    abi: &'static Abi,
    interface: String,
    other: String,
    address: [u8; 6],
    wire: Mutex<Wire>,
    /// Threads in which something is to happen.
    events: Mutex<Vec<thread::JoinHandle<()>>>,
    begin: Instant,
    this: Weak<OnHost>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A datagram through the loopback interface, which comes back to its sender.
fn over_loopback(payload: &[u8]) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(SOON))?;
    socket.send_to(payload, socket.local_addr()?)?;
    socket.recv(&mut [0; 2048]).map(drop)
}

impl Stage for OnHost {
    fn system(&self) -> System {
        self.system
    }

    fn reset(&self, needs: Needs) -> Result<(), Trouble> {
        for event in std::mem::take(&mut *lock(&self.events)) {
            // what it had to say it has said
            let _ = event.join();
        }
        if needs.address_filter {
            let why = "taps see every frame of these interfaces, which have no address filter";
            return Err(Trouble::Skip(why.into()));
        }
        lock(&self.wire).reset()
    }

    fn open(&self, access: Access) -> Result<SharedFile, Errno> {
        match DeviceFile::open_any(self.abi, access) {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) => Err(Errno::from(&error)),
        }
    }

    fn happen(&self, event: &Event) -> Result<(), Trouble> {
        let mut wire = lock(&self.wire);
        match event {
            Event::Receive(frame) => wire.receive(frame),
            Event::Up(up) => {
                wire.changed = true;
                ifconfig(&[&self.interface, if *up { "up" } else { "down" }])?;
                if *up {
                    thread::sleep(QUIET);
                    wire.changed = false;
                }
                Ok(())
            }
            Event::Mtu(mtu) => {
                ifconfig(&[&self.interface, "mtu", &mtu.to_string()])?;
                wire.changed = true;
                Ok(())
            }
            Event::Remove => wire.remove(),
            Event::Loopback(payload) => {
                drop(wire);
                let sent = over_loopback(payload);
                sent.map_err(|error| failure(format!("a datagram through the loopback interface: {error}")))
            }
        }
    }

    fn after(&self, delay: Duration, event: Event) {
        let Some(this) = self.this.upgrade() else { return };
        let spawned = thread::Builder::new().name("an event".into()).spawn(move || {
            thread::sleep(delay);
            if let Err(trouble) = this.happen(&event) {
                eprintln!("bpfdev-compat: {event:?}: {trouble}");
            }
        });
        match spawned {
            Ok(handle) => lock(&self.events).push(handle),
            Err(error) => eprintln!("bpfdev-compat: starting a thread: {error}"),
        }
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn clock(&self) -> Duration {
        self.begin.elapsed()
    }

    fn together(&self, calls: Vec<Call<'_>>) {
        thread::scope(|threads| {
            for call in calls {
                threads.spawn(call);
                // they are to begin in this order
                thread::sleep(Duration::from_millis(10));
            }
        });
    }

    fn promiscuous(&self) -> Result<bool, Trouble> {
        Ok(ifconfig(&[&self.interface])?.lines().take(1).any(|flags| flags.contains("PROMISC")))
    }

    fn far_end(&self, count: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut frames = Vec::new();
        let end = Instant::now() + if count == 0 { SETTLED } else { SOON };
        while frames.len() < count.max(1) && Instant::now() < end {
            let came = lock(&self.wire).frames();
            if came.is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            frames.extend(came);
        }
        Ok(frames)
    }

    fn interface(&self) -> &str {
        &self.interface
    }

    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn other_interface(&self) -> &str {
        &self.other
    }

    fn loopback(&self) -> &str {
        "lo0"
    }

    fn root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn slack(&self) -> Duration {
        SLACK
    }
}
