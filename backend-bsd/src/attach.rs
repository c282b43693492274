//! Where taps come from: a directory of bpf nodes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bpfdev_core::abi::hdr::Tail;
use bpfdev_core::abi::{Abi, Flag, Op, Request, Response};
use bpfdev_core::backend::{Direction, FilterBackend, Interface, Network, TapConfig, TapError};
use bpfdev_core::cbpf::Program;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::time::Clock;

use crate::clock::MonotonicClock;
use crate::device::{self, DeviceFile, OpenError};
use crate::errno::{errno_of, io_error};
use crate::interfaces::interfaces;
use crate::reader::Reader;
use crate::sys;
use crate::tap::{DeviceTap, direction_request, filter_source};

/// When a device hands on what it has buffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Each packet at once (BIOCIMMEDIATE); under load many come in one read(2) all the same.
    #[default]
    Immediate,
    /// When a buffer is full, or after this time: BIOCSRTIMEOUT, on OpenBSD BIOCSWTIMEOUT (at most five minutes). Zero is
    /// `Immediate`.
    Within(Duration),
}

/// OpenBSD's longest wait time-out.
const WITHIN_MOST: Duration = Duration::from_secs(300);
/// No smaller buffer is tried than one of so many bytes where the system has no memory for a larger one.
const BUFSIZE_LEAST: usize = 4096;
/// Longest interface name in bytes; a longer one would be cut by the device, and might so name another interface.
const NAME_MOST: usize = 15;

/// An interface: its network and its name.
type Key = (u64, String);

/// How many taps are attached where.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<Key, u32>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One tap, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    counts: Arc<Counts>,
    key: Key,
}

impl Attached {
    fn new(counts: &Arc<Counts>, interface: &Interface) -> Attached {
        let key = (interface.network, interface.name.clone());
        *counts.lock().entry(key.clone()).or_default() += 1;
        Attached { counts: counts.clone(), key }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Taps through the bpf nodes of one directory, all of one dialect. A clone counts its taps with those of the original.
#[derive(Clone)]
pub struct Devices {
    abi: &'static Abi,
    dir: PathBuf,
    delivery: Delivery,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.abi.name;
        f.debug_struct("Devices").field("abi", &name).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Devices {
    /// The system's own nodes, in /dev, which speak `abi`.
    pub fn new(abi: &'static Abi) -> Devices {
        Devices {
            abi,
            dir: device::DEV.into(),
            delivery: Delivery::default(),
            clock: Arc::new(MonotonicClock),
            counts: Arc::default(),
        }
    }

    /// With the nodes of another directory: those that `bpfdev serve` has.
    #[must_use]
    pub fn in_dir(self, dir: impl AsRef<Path>) -> Devices {
        Devices { dir: dir.as_ref().to_owned(), ..self }
    }

    /// With another delivery for taps attached from now on.
    #[must_use]
    pub fn delivery(self, delivery: Delivery) -> Devices {
        let delivery =
            if delivery == Delivery::Within(Duration::ZERO) { Delivery::Immediate } else { delivery };
        Devices { delivery, ..self }
    }

    /// With another clock, by which [`Packet::arrival`](bpfdev_core::packet::Packet::arrival) is told; else it is
    /// [`MonotonicClock`].
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Devices {
        Devices { clock, ..self }
    }

    /// The dialect.
    pub fn abi(&self) -> &'static Abi {
        self.abi
    }

    /// Attaches a tap to the interface called `name`. Filter, direction and the rest are set before BIOCSETIF: no packet
    /// is seen that was not asked for. Time stamps are as fine as the system has them. Where the node may not be written,
    /// the tap only receives.
    ///
    /// # Errors
    /// [`TapError::Permission`] where the node may not be opened, or the interface not be captured from;
    /// [`TapError::NoSuchInterface`]; [`TapError::Unsupported`] for a direction or a link type that the system or the
    /// interface has not; [`TapError::NoBuffers`]; else the system's, such as EINVAL for a filter that it refuses and
    /// EBUSY when every node is in use.
    pub fn attach_tap(&self, name: &str, config: &TapConfig) -> Result<DeviceTap, TapError> {
        if name.len() > NAME_MOST || name.contains('\0') {
            return Err(TapError::NoSuchInterface(name.to_owned()));
        }
        let (file, writes) = self.open()?;
        let failed = |what: &str, errno: Errno| TapError::io(format!("{what} for {name}"), io_error(errno));
        let set = |what: &str, request: &Request| file.ioctl(request).map_err(|errno| failed(what, errno));

        match set("asking a device's version", &Request::Version)? {
            Response::Version { major: 1, .. } => {}
            _ => return Err(TapError::Unsupported("a filter language other than version 1")),
        }
        file.set_nonblocking(true).map_err(|errno| failed("making a device non-blocking", errno))?;
        // What the system has not of these two, it has not.
        if file.has(Op::STStamp) {
            let _ = file.ioctl(&Request::STStamp(BPF_T_NANOTIME));
        }
        if file.has(Op::SetFlag(Flag::ExtendedHeader)) {
            let _ = file.ioctl(&Request::SetFlag(Flag::ExtendedHeader, 1));
        }
        let wanted = u32::try_from(config.bufsize).unwrap_or(u32::MAX);
        file.set_bufsize(wanted).map_err(|errno| match errno {
            Errno::NoBufs | Errno::NoMem => TapError::NoBuffers("a device's buffers"),
            errno => failed("setting a device's buffer size", errno),
        })?;
        // Its frames are whole: who writes them has given them their source.
        set("setting header completion", &Request::SHdrCmplt(1))?;
        // Who looks at every packet again counts those it does not want, if it can tell them.
        let shows_hidden = config.counts_hidden && !config.judged && file.header().tail != Tail::None;
        direction_request(&file, if shows_hidden { Direction::InOut } else { config.direction })?;
        if let Some(program) = config.filter.as_ref().filter(|program| !program.is_empty()) {
            file.ioctl(&Request::SetF(filter_source(Some(program))))
                .map_err(|errno| refused(program, self.abi, errno))?;
        }
        self.set_delivery(&file).map_err(|errno| failed("choosing a device's delivery", errno))?;
        set_interface(&file, name)?;

        let interface = self.describe(&file, name, config)?;
        let bufsize = file.bufsize().map_err(|errno| failed("asking a device's buffer size", errno))?;
        let loopback = interface.loopback.then_some(config.loopback_way);
        let mut tap = DeviceTap {
            reader: Reader::new(bufsize, file.header(), loopback, self.clock.clone()),
            control: sys::control().map_err(|error| TapError::io("making a socket", error))?,
            _attached: Attached::new(&self.counts, &interface),
            writes: writes
                && self.abi.rules.write.linktypes.iter().any(|&(known, _)| known == interface.linktype),
            file: Arc::new(file),
            interface,
            delivery: self.delivery,
            shows_hidden,
            filtered: config.filter.as_ref().is_some_and(|program| !program.is_empty()),
            locked: false,
            promiscuous: false,
            counted: Default::default(),
            looked: std::time::Instant::now(),
        };
        tap.call(config.direction);
        Ok(tap)
    }

    /// Opens a node for reading and writing, or only for reading; whether it can be written.
    fn open(&self) -> Result<(DeviceFile, bool), TapError> {
        let open = |access| DeviceFile::open_in(&self.dir, self.abi, access);
        let opened = match open(Access::ReadWrite) {
            Ok(file) => Ok((file, true)),
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                open(Access::Read).map(|file| (file, false))
            }
            Err(error) => Err(error),
        };
        opened.map_err(|OpenError { path, source }| match source.kind() {
            io::ErrorKind::PermissionDenied => TapError::Permission {
                what: format!("opening {}", path.display()),
                cure: "run as root, or join the group of the node",
            },
            _ => {
                let what = format!("opening {}{}", path.display(), device::cure(&source));
                let source = match errno_of(&source) {
                    Errno::Io => source,
                    errno => io_error(errno),
                };
                TapError::io(what, source)
            }
        })
    }

    fn set_delivery(&self, file: &DeviceFile) -> Result<(), Errno> {
        let Delivery::Within(time) = self.delivery else {
            return file.ioctl(&Request::Immediate(1)).map(drop);
        };
        let time = time.max(Duration::from_micros(1));
        let timeval = |time: Duration| {
            (i64::try_from(time.as_secs()).unwrap_or(i64::MAX), i64::from(time.subsec_micros()))
        };
        if file.has(Op::SWTimeout) {
            let (sec, usec) = timeval(time.min(WITHIN_MOST));
            return file.ioctl(&Request::SWTimeout { sec, usec }).map(drop);
        }
        let (sec, usec) = timeval(time);
        file.ioctl(&Request::SRTimeout { sec, usec }).map(drop)
    }

    /// The interface that a device is attached to, with the link type that was asked for.
    fn describe(&self, file: &DeviceFile, name: &str, config: &TapConfig) -> Result<Interface, TapError> {
        let failed = |errno: Errno| match errno {
            // It has gone again.
            Errno::NxIo | Errno::Inval => TapError::NoSuchInterface(name.to_owned()),
            errno => TapError::io(format!("asking what {name} is"), io_error(errno)),
        };
        let mut linktype = file.linktype().map_err(failed)?;
        // The default first.
        let mut linktypes = vec![linktype];
        linktypes.extend(file.linktypes().unwrap_or_default().into_iter().filter(|&other| other != linktype));
        if let Some(wanted) = config.linktype.filter(|&wanted| wanted != linktype) {
            if !linktypes.contains(&wanted) {
                return Err(TapError::Unsupported("this link type on this interface"));
            }
            file.ioctl(&Request::SDlt(self.abi.dlt(wanted))).map_err(failed)?;
            linktype = wanted;
        }
        // A tap may have no interface behind it.
        let info = info(name)?.unwrap_or_default();
        Ok(Interface {
            name: name.to_owned(),
            index: info.index,
            network: network(),
            linktype,
            linktypes,
            loopback: info.flags.loopback,
            address: info.link_address.unwrap_or_default(),
        })
    }
}

/// Time stamps in nanoseconds.
const BPF_T_NANOTIME: u32 = 1;

/// BIOCSETIF, with smaller buffers as long as the system has not the memory for them.
fn set_interface(file: &DeviceFile, name: &str) -> Result<(), TapError> {
    loop {
        let Err(errno) = file.ioctl(&Request::SetIf(name.as_bytes().to_vec())) else { return Ok(()) };
        let bufsize = match errno {
            Errno::NoBufs | Errno::NoMem => file.bufsize().unwrap_or(0),
            errno => return Err(refused_interface(name, errno)),
        };
        let smaller = bufsize / 2;
        let set = u32::try_from(smaller).is_ok_and(|size| file.ioctl(&Request::SBlen(size)).is_ok());
        if smaller < BUFSIZE_LEAST || !set {
            return Err(TapError::NoBuffers("a device's buffers"));
        }
    }
}

fn refused_interface(name: &str, errno: Errno) -> TapError {
    match errno {
        Errno::NxIo => TapError::NoSuchInterface(name.to_owned()),
        Errno::NetDown => TapError::Down(name.to_owned()),
        Errno::Perm | Errno::Access => TapError::Permission {
            what: format!("capturing from {name}"),
            cure: "run as root; through bpfdev's device: with CAP_NET_RAW",
        },
        errno => TapError::io(format!("attaching to {name}"), io_error(errno)),
    }
}

/// A filter that the device has refused, with the reason that its rules give.
pub(crate) fn refused(program: &Program, abi: &'static Abi, errno: Errno) -> TapError {
    let what = match bpfdev_core::cbpf::validate(program.insns(), abi.filter) {
        Err(reject) if errno == Errno::Inval => format!("setting a filter ({reject})"),
        _ => "setting a filter".to_owned(),
    };
    TapError::io(what, io_error(errno))
}

/// What the system says of the interface called `name`.
fn info(name: &str) -> Result<Option<crate::interfaces::InterfaceInfo>, TapError> {
    let list = interfaces(Linktype::NULL).map_err(|error| TapError::io("listing interfaces", error))?;
    Ok(list.into_iter().find(|info| info.name == name))
}

/// The calling thread's network namespace, by its inode; 0 where there is no such thing, or no /proc that shows it.
fn network() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |metadata| metadata.ino())
}

impl Network for Devices {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        Ok(Box::new(self.attach_tap(name, config)?))
    }

    /// Those of this value and its clones: what other programs have attached no system tells, but macOS.
    fn attached(&self, name: &str) -> Result<u32, TapError> {
        if info(name)?.is_none() {
            return Err(TapError::NoSuchInterface(name.to_owned()));
        }
        Ok(self.counts.lock().get(&(network(), name.to_owned())).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::{freebsd::FREEBSD, openbsd::OPENBSD};
    use bpfdev_core::cbpf::{self, Insn};

    fn nowhere() -> Devices {
        Devices::new(&FREEBSD).in_dir("/nonexistent")
    }

    #[test]
    fn what_cannot_be_attached_is_told_by_its_kind() {
        let config = FREEBSD.tap_config(4096);
        let error = nowhere().attach_tap("em0", &config).expect_err("no node");
        assert!(error.to_string().starts_with("opening /nonexistent/bpf (is the device served?"), "{error}");
        assert_eq!(Errno::from(&error), Errno::NoEnt);
        let long = nowhere().attach_tap("a234567890123456", &config).expect_err("16 bytes");
        assert!(matches!(long, TapError::NoSuchInterface(_)));
        assert!(matches!(nowhere().attached("nosuch9"), Err(TapError::NoSuchInterface(_))));
        assert!(matches!(refused_interface("em0", Errno::Access), TapError::Permission { .. }));
        assert!(matches!(refused_interface("em0", Errno::NxIo), TapError::NoSuchInterface(_)));
    }

    #[test]
    fn a_refused_filter_is_told_why() {
        // OpenBSD has no MOD (semantics.md 9)
        let insns = [Insn::stmt(0x20, 0), Insn::stmt(0x94, 7), Insn::stmt(0x16, 0)];
        let program = cbpf::validate(&insns, &cbpf::FREEBSD).expect("valid there");
        let error = refused(&program, &OPENBSD, Errno::Inval);
        assert!(
            error.to_string().contains("instruction (001): code 0x0094 is no instruction on OpenBSD"),
            "{error}"
        );
        assert_eq!(Errno::from(&error), Errno::Inval);
    }
}
