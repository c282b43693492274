//! What the tests stand on: a network in simulated time, open files on it, requests by name and by number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::abi::{Abi, CallerMemory, FilterSource, Request, Response};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Caller, EmulatedFile, Interest, PendingRead, ReadStep, Ready};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::{Clock, Moment, SimulatedClock};

use crate::dressed::{Dressed, Wardrobe};

pub use bpfdev_core::abi::dragonfly::DRAGONFLY;
pub use bpfdev_core::abi::freebsd::FREEBSD;
pub use bpfdev_core::abi::linux::LINUX;
pub use bpfdev_core::abi::macos::MACOS;
pub use bpfdev_core::abi::netbsd::{NETBSD, NETBSD7};
pub use bpfdev_core::abi::openbsd::OPENBSD;

/// The systems of semantics.md, and the two dialects that are variants of one.
pub const EVERY: [&Abi; 7] = [&FREEBSD, &NETBSD, &OPENBSD, &DRAGONFLY, &MACOS, &LINUX, &NETBSD7];

/// em0's address.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// em1's, on the same wire.
pub const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Nobody's.
pub const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

pub const NONE_READY: Ready = Ready { read: false, write: false, hangup: false };
pub const READ_READY: Ready = Ready { read: true, write: false, hangup: false };
pub const WRITE_READY: Ready = Ready { read: false, write: true, hangup: false };
pub const BOTH_READY: Ready = Ready { read: true, write: true, hangup: false };
pub const HANGUP: Ready = Ready { read: false, write: false, hangup: true };

/// em0 and em1 on one wire, and lo0. Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<SimulatedClock>,
    pub network: LoopbackNetwork,
    wardrobe: Wardrobe,
}

impl World {
    pub fn new() -> World {
        let clock = Arc::new(SimulatedClock::new());
        let network = LoopbackNetwork::new(clock.clone());
        network.add_ethernet("em0", MAC, 1);
        network.add_ethernet("em1", PEER, 1);
        network.add_loopback("lo0");
        World { clock, network, wardrobe: Wardrobe::default() }
    }

    /// Opens the device read-write.
    pub fn open(&self, abi: &'static Abi) -> Fd {
        self.open_for(abi, Access::ReadWrite)
    }

    pub fn open_for(&self, abi: &'static Abi, access: Access) -> Fd {
        let network = Arc::new(Dressed { inner: self.network.clone(), wardrobe: self.wardrobe.clone() });
        Fd { world: self.clone(), file: EmulatedFile::open(abi, access, network, self.clock.clone()) }
    }

    /// The open device on an interface.
    pub fn on(&self, abi: &'static Abi, interface: &str) -> Fd {
        let fd = self.open(abi);
        fd.ok(set_if(interface));
        fd
    }

    /// The interface offers these link types from now on, the first by default.
    pub fn linktypes(&self, interface: &str, linktypes: &[Linktype]) {
        self.wardrobe.dress(interface, |dress| dress.linktypes = linktypes.to_vec());
    }

    /// Its output routine fails with this error (a number of Linux's).
    pub fn inject_fails(&self, interface: &str, errno: i32) {
        self.wardrobe.dress(interface, |dress| dress.inject_fails = Some(errno));
    }

    /// It cannot be made promiscuous.
    pub fn promiscuous_fails(&self, interface: &str, errno: i32) {
        self.wardrobe.dress(interface, |dress| dress.promiscuous_fails = Some(errno));
    }

    /// em0 receives a broadcast frame of so many bytes.
    pub fn rx(&self, len: usize) {
        self.rx_frame(&frame(len));
    }

    pub fn rx_frame(&self, frame: &[u8]) {
        assert!(self.network.receive("em0", frame), "em0 is up");
    }

    pub fn sleep(&self, ms: u64) {
        self.sleep_ns(ms * 1_000_000);
    }

    pub fn sleep_ns(&self, ns: u64) {
        self.clock.advance_to(self.clock.now() + Duration::from_nanos(ns));
    }
}

/// A broadcast frame.
pub fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame.iter_mut().take(6).for_each(|byte| *byte = 0xff);
    frame
}

/// A frame to somebody.
pub fn frame_to(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[..6].copy_from_slice(&to);
    frame
}

pub fn set_if(name: &str) -> Request {
    Request::SetIf(name.as_bytes().to_vec())
}

/// `ret #k`.
pub fn ret(k: u32) -> FilterSource {
    FilterSource::new(&[Insn::stmt(6, k)])
}

/// Accepts whole the frames whose byte 14 is this.
pub fn tagged(byte: u8) -> FilterSource {
    FilterSource::new(&[
        Insn::stmt(0x30, 14),
        Insn::jump(0x15, u32::from(byte), 0, 1),
        Insn::stmt(6, u32::MAX),
        Insn::stmt(6, 0),
    ])
}

/// A broadcast frame of 60 bytes with this byte 14.
pub fn tagged_frame(byte: u8) -> Vec<u8> {
    let mut frame = frame(60);
    frame[14] = byte;
    frame
}

pub const fn timeval(sec: i64, usec: i64) -> Response {
    Response::Timeval { sec, usec }
}

pub fn at(ms: u64) -> Option<Moment> {
    Some(Moment::from_nanos(ms * 1_000_000))
}

/// Fields of these widths in host order.
pub fn fields(list: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(width, value) in list {
        match width {
            1 => bytes.push(u8::try_from(value).unwrap()),
            2 => bytes.extend_from_slice(&u16::try_from(value).unwrap().to_ne_bytes()),
            4 => bytes.extend_from_slice(&u32::try_from(value).unwrap().to_ne_bytes()),
            8 => bytes.extend_from_slice(&value.to_ne_bytes()),
            _ => bytes.extend(std::iter::repeat_n(0, width - 8)),
        }
    }
    bytes
}

/// A 32-bit argument.
pub fn word(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
}

/// An open file.
pub struct Fd {
    pub world: World,
    pub file: EmulatedFile,
}

impl Fd {
    pub fn new(abi: &'static Abi) -> Fd {
        World::new().open(abi)
    }

    /// Attached to em0.
    pub fn on_em0(abi: &'static Abi) -> Fd {
        World::new().on(abi, "em0")
    }

    /// Attached to em0, with buffers of this size.
    pub fn sized(abi: &'static Abi, bufsize: u32) -> Fd {
        let fd = Fd::new(abi);
        fd.ok(Request::SBlen(bufsize));
        fd.ok(set_if("em0"));
        fd
    }

    pub fn ok(&self, request: Request) -> Response {
        self.file.ioctl(&request).unwrap_or_else(|errno| panic!("{request:?}: {errno}"))
    }

    pub fn refused(&self, request: Request) -> Errno {
        match self.file.ioctl(&request) {
            Ok(response) => panic!("{request:?} was accepted: {response:?}"),
            Err(errno) => errno,
        }
    }

    pub fn by_root(&self, request: Request) -> Result<Response, Errno> {
        self.file.ioctl_as(request, Caller { root: true, ..Caller::default() })
    }

    pub fn rx(&self, len: usize) {
        self.world.rx(len);
    }

    pub fn sleep(&self, ms: u64) {
        self.world.sleep(ms);
    }

    pub fn bufsize(&self) -> usize {
        self.file.with(|file, _| file.descriptor().bufsize())
    }

    /// A non-blocking read of the right length.
    pub fn read(&self) -> Result<Vec<u8>, Errno> {
        self.file.set_nonblocking(true).unwrap();
        let mut buf = vec![0; self.bufsize()];
        let n = self.file.read(&mut buf)?;
        buf.truncate(n);
        Ok(buf)
    }

    /// Its length.
    pub fn read_len(&self) -> Result<usize, Errno> {
        self.read().map(|bytes| bytes.len())
    }

    /// A blocking read of the right length begins.
    pub fn blocking(&self) -> PendingRead {
        PendingRead::new(self.bufsize(), false)
    }

    pub fn step(&self, pending: &mut PendingRead) -> ReadStep {
        self.file.with(|file, now| file.read(pending, now))
    }

    /// The bytes of a read that ended with `Hold`.
    pub fn take(&self) -> Vec<u8> {
        self.file.with(|file, _| {
            let bytes = file.hold().to_vec();
            file.free_hold();
            bytes
        })
    }

    pub fn interrupt(&self, pending: &PendingRead) -> ReadStep {
        self.file.with(|file, _| file.interrupt_read(pending))
    }

    pub fn write(&self, frame: &[u8]) -> Result<usize, Errno> {
        self.file.write(frame)
    }

    pub fn poll(&self) -> Ready {
        self.file.with(|file, now| file.poll(Interest::BOTH, now))
    }

    pub fn readable(&self) -> bool {
        self.file.with(|file, now| file.poll(Interest::READ, now)).read
    }

    /// Received and dropped.
    pub fn stats(&self) -> (u64, u64) {
        match self.ok(Request::GStats) {
            Response::Stats { recv, drop, .. } => (recv, drop),
            other => panic!("BIOCGSTATS gave {other:?}"),
        }
    }

    pub fn fionread(&self) -> u32 {
        match self.ok(Request::FionRead) {
            Response::U32(bytes) => bytes,
            other => panic!("FIONREAD gave {other:?}"),
        }
    }

    /// Wake-ups so far, without a request.
    pub fn wakeups(&self) -> u64 {
        self.file.with(|file, _| file.wakeups())
    }

    /// A request by its number, with its argument as a 64-bit caller gives it; what comes back over it.
    pub fn number(&self, number: u32, arg: &[u8]) -> Result<Vec<u8>, Errno> {
        self.number_with(number, arg, &mut Memory::default(), false)
    }

    /// The same by a 32-bit caller.
    pub fn number32(&self, number: u32, arg: &[u8]) -> Result<Vec<u8>, Errno> {
        self.number_with(number, arg, &mut Memory::default(), true)
    }

    pub fn number_with(
        &self,
        number: u32,
        arg: &[u8],
        memory: &mut Memory,
        ilp32: bool,
    ) -> Result<Vec<u8>, Errno> {
        let abi = self.file.with(|file, _| file.descriptor().abi());
        let Some(call) = abi.decode(number) else {
            // an unknown number is a request like any other, until the driver does not find it
            let caller = Caller { ilp32, while_locked: Some(false), ..Caller::default() };
            return Err(self.file.ioctl_as(Request::Refused(Errno::Inval), caller).unwrap_err());
        };
        let request = call.parse(arg, memory)?;
        let caller = Caller {
            ilp32,
            ilp32_request: call.is_ilp32(),
            while_locked: Some(call.row.while_locked),
            ..Caller::default()
        };
        let response = self.file.ioctl_as(request, caller)?;
        call.reply(&response, arg, memory)
    }
}

/// A caller's memory: pieces at addresses, the rest unmapped.
#[derive(Default)]
pub struct Memory(pub BTreeMap<u64, Vec<u8>>);

impl Memory {
    pub fn of(address: u64, bytes: Vec<u8>) -> Memory {
        Memory(BTreeMap::from([(address, bytes)]))
    }

    fn piece(&mut self, address: u64, len: usize) -> Result<&mut [u8], Errno> {
        let (start, piece) = self.0.range_mut(..=address).next_back().ok_or(Errno::Fault)?;
        let at = usize::try_from(address - start).map_err(|_| Errno::Fault)?;
        piece.get_mut(at..at + len).ok_or(Errno::Fault)
    }
}

impl CallerMemory for Memory {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        buf.copy_from_slice(self.piece(address, buf.len())?);
        Ok(())
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.piece(address, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
}
