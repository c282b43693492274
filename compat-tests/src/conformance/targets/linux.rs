//! `packet-socket:DIALECT`, `device:DIALECT` and, where the kernel has CUSE, `cuse:DIALECT`: real interfaces in a network
//! namespace of their own, in real time. Other targets are in a virtual machine ([`machine`]).
//!
//! The observed interface and its far end are a veth pair; where a case needs an address filter, the former is a bridge over
//! it ([`crate::wire`]).

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bpfdev::cli::daemon::Daemon;
use bpfdev_backend_bsd::DeviceFile;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_backend_linux::{MonotonicClock, PacketSockets};
use bpfdev_core::abi::Abi;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, EmulatedFile};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Available, Target, abi, machine};
use crate::conformance::report::TargetInfo;
use crate::conformance::stage::{Call, Event, Needs, SharedFile, Stage, Trouble};
use crate::conformance::system::System;
use crate::oracle::call;
use crate::oracle::mask::OWN_ADDRESS;
use crate::oracle::script;
use crate::place::{DEV_CUSE, Front, Place};
use crate::wire::{LOOPBACK, OBSERVED, PEER, Wire};

/// A busy machine may notice something so much later.
const SLACK: Duration = Duration::from_millis(1500);

/// How long frames that ought to come out at the far end are waited for, and those that ought not.
const SOON: Duration = Duration::from_secs(2);
const A_WHILE: Duration = Duration::from_millis(10);

/// The targets of this module, and those in a virtual machine: only these without the right to make namespaces and to mount.
pub fn here() -> Vec<Available> {
    let on_older_kernel = System::ALL.into_iter().map(machine::older_fuse);
    if !nix::unistd::geteuid().is_root() {
        return System::ALL.into_iter().map(machine::cuse).chain(on_older_kernel).collect();
    }
    let over_sockets = System::ALL.into_iter().map(|system| {
        Available::new(format!("packet-socket:{}", system.name()), move || {
            Ok(Box::new(OnWire { system, device: None }))
        })
    });
    let on_device = System::ALL.into_iter().map(|system| served(Front::Fuse, system));
    // opening it loads the module, where there is one
    let has_cuse = File::options().read(true).write(true).open(DEV_CUSE).is_ok();
    let on_character_device = System::ALL
        .into_iter()
        .map(|system| if has_cuse { served(Front::Cuse, system) } else { machine::cuse(system) });
    over_sockets.chain(on_device).chain(on_character_device).chain(on_older_kernel).collect()
}

fn served(front: Front, system: System) -> Available {
    Available::new(format!("{}:{}", kind(front), system.name()), move || {
        Ok(Box::new(OnWire { system, device: Some(Served::start(front, system)?) }))
    })
}

/// What targets are called whose device is served so.
fn kind(front: Front) -> &'static str {
    match front {
        Front::Fuse => "device",
        Front::Cuse => "cuse",
    }
}

/// A daemon for one target: what one case leaves to be closed in the background delays no other target.
struct Served {
    /// Its nodes of the target's system.
    nodes: PathBuf,
    front: Front,
    daemon: Mutex<Daemon>,
}

impl Served {
    fn start(front: Front, system: System) -> anyhow::Result<Served> {
        let place = Place::new(front, &format!("conformance-{}", system.name()));
        let (dialect, nodes) = match (front, system) {
            // every mount has a directory for each system, but for a variant of one
            (
                Front::Fuse,
                System::FreeBsd | System::NetBsd | System::OpenBsd | System::DragonFly | System::MacOs,
            ) => (System::Linux, place.dir().join(system.name())),
            // a character device takes one of the kernel's few dynamic numbers: no more nodes than are needed
            _ => (system, place.dir().to_owned()),
        };
        if front == Front::Fuse {
            hide_mounts()?;
        }
        let mut arguments = place.arguments(abi(dialect)?);
        // further options of `serve`, for tests of what the device can do without
        let more = std::env::var("BPFDEV_COMPAT_SERVE").unwrap_or_default();
        arguments.extend(more.split_whitespace().map(OsString::from));
        let daemon = Daemon::start(arguments).context("serving the device")?;
        Ok(Served { nodes, front, daemon: Mutex::new(daemon) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let daemon = self.daemon.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = daemon.stop() {
            eprintln!("bpfdev-compat: stopping the device at {}: {error:#}", self.nodes.display());
        }
    }
}

/// Descriptors over a wire: in this process, or of a served device.
struct OnWire {
    system: System,
    device: Option<Served>,
}

impl Target for OnWire {
    fn info(&self) -> TargetInfo {
        let (kind, about) = match self.device.as_ref().map(|served| served.front) {
            None => ("packet-socket", "in this process, over packet sockets on a veth pair"),
            Some(front @ Front::Fuse) => {
                (kind(front), "the served device, through its nodes, on a veth pair")
            }
            Some(front @ Front::Cuse) => (kind(front), "the device as character devices, on a veth pair"),
        };
        TargetInfo {
            name: format!("{kind}:{}", self.system.name()),
            about: about.into(),
            system: self.system,
        }
    }

    fn with_stage(&self, act: &mut (dyn FnMut(Arc<dyn Stage>) + Send)) -> anyhow::Result<()> {
        let opener = match &self.device {
            None => Opener::Here(abi(self.system)?),
            Some(served) => {
                let ended = served.daemon.lock().unwrap_or_else(PoisonError::into_inner).ended()?;
                if let Some(status) = ended {
                    anyhow::bail!("the daemon has ended ({status})");
                }
                Opener::Device { abi: abi(self.system)?, nodes: served.nodes.clone() }
            }
        };
        let namespace = Arc::new(Namespace::new()?);
        namespace.enter(|| -> anyhow::Result<()> {
            let wire = Wire::new(Arc::clone(&namespace)).context("the veth pair")?;
            let stage = Arc::new_cyclic(|this| OnVeth {
                system: self.system,
                opener,
                wire: Mutex::new(wire),
                events: Mutex::default(),
                begin: Instant::now(),
                this: this.clone(),
            });
            act(stage);
            Ok(())
        })?
    }
}

/// How files are opened.
enum Opener {
    Here(&'static Abi),
    Device { abi: &'static Abi, nodes: PathBuf },
}

struct OnVeth {
    system: System,
    opener: Opener,
    wire: Mutex<Wire>,
    /// Threads in which something is to happen.
    events: Mutex<Vec<thread::JoinHandle<()>>>,
    begin: Instant,
    this: Weak<OnVeth>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<call::Trouble> for Trouble {
    fn from(trouble: call::Trouble) -> Trouble {
        match trouble {
            call::Trouble::Skip(why) | call::Trouble::Unasked(why) => Trouble::Skip(why),
            call::Trouble::Fail(what) => Trouble::Fail(what),
        }
    }
}

impl OnVeth {
    /// A datagram through the loopback interface, which comes back to its sender.
    fn over_loopback(&self, payload: &[u8]) -> Result<(), Trouble> {
        lock(&self.wire).add_address(LOOPBACK, Ipv4Addr::LOCALHOST, 8)?;
        let send = || -> std::io::Result<()> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(SOON))?;
            socket.send_to(payload, socket.local_addr()?)?;
            socket.recv(&mut [0; 2048]).map(drop)
        };
        send().map_err(|error| Trouble::Fail(format!("a datagram through the loopback interface: {error}")))
    }
}

impl Stage for OnVeth {
    fn system(&self) -> System {
        self.system
    }

    fn reset(&self, needs: Needs) -> Result<(), Trouble> {
        for event in std::mem::take(&mut *lock(&self.events)) {
            // what it had to say it has said
            let _ = event.join();
        }
        let mut wire = lock(&self.wire);
        wire.reset(&script::Needs { down: Vec::new(), own_interface: needs.address_filter })?;
        wire.listen_far()?;
        Ok(())
    }

    fn open(&self, access: Access) -> Result<SharedFile, Errno> {
        match &self.opener {
            Opener::Here(abi) => {
                let (network, clock) = (Arc::new(PacketSockets::default()), Arc::new(MonotonicClock));
                Ok(Arc::new(EmulatedFile::open(abi, access, network, clock)))
            }
            Opener::Device { abi, nodes } => match DeviceFile::open_in(nodes, abi, access) {
                Ok(file) => Ok(Arc::new(file)),
                Err(error) => Err(Errno::from(&error)),
            },
        }
    }

    fn closed(&self) {
        if let Opener::Device { nodes, .. } = &self.opener {
            // A file system hears of a close before anything that is asked of it later; a failure shows at the next open.
            // A character device has heard of it when close(2) returns.
            let _ = nix::sys::statvfs::statvfs(nodes);
        }
    }

    fn happen(&self, event: &Event) -> Result<(), Trouble> {
        match event {
            Event::Receive(frame) => lock(&self.wire).receive(frame)?,
            Event::Up(up) => lock(&self.wire).set_up(OBSERVED, *up)?,
            Event::Mtu(mtu) => lock(&self.wire).set_mtu(OBSERVED, *mtu)?,
            Event::Remove => lock(&self.wire).destroy(OBSERVED)?,
            Event::Loopback(payload) => self.over_loopback(payload)?,
        }
        Ok(())
    }

    fn after(&self, delay: Duration, event: Event) {
        let Some(this) = self.this.upgrade() else { return };
        let name = "an event";
        // a machine that stood still wakes them all at once: they happen in the order in which they were asked for
        let before = lock(&self.events).pop();
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            thread::sleep(delay);
            if let Some(before) = before {
                // what it had to say it has said
                let _ = before.join();
            }
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
        // a packet socket is closed in the background: what it asked for may last a little longer
        let end = Instant::now() + A_WHILE * 10;
        loop {
            let promiscuous = lock(&self.wire).link(OBSERVED)?.promiscuity > 0;
            if !promiscuous || Instant::now() > end {
                return Ok(promiscuous);
            }
            thread::sleep(A_WHILE / 5);
        }
    }

    fn far_end(&self, count: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut wire = lock(&self.wire);
        let mut frames = Vec::new();
        let end = Instant::now() + if count == 0 { A_WHILE } else { SOON };
        while frames.len() < count.max(1) && Instant::now() < end {
            let came = wire.far_frames();
            if came.is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            frames.extend(came);
        }
        Ok(frames)
    }

    fn interface(&self) -> &str {
        OBSERVED
    }

    fn address(&self) -> [u8; 6] {
        OWN_ADDRESS
    }

    fn other_interface(&self) -> &str {
        PEER
    }

    fn loopback(&self) -> &str {
        LOOPBACK
    }

    fn root(&self) -> bool {
        // the emulation knows of no users
        matches!(self.opener, Opener::Device { .. })
    }

    fn slack(&self) -> Duration {
        SLACK
    }
}

/// Gives this process a mount namespace of its own, once: nobody else sees the device.
fn hide_mounts() -> anyhow::Result<()> {
    static HIDDEN: Mutex<bool> = Mutex::new(false);
    let mut hidden = lock(&HIDDEN);
    if !*hidden {
        unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("making mounts private")?;
        *hidden = true;
    }
    Ok(())
}
