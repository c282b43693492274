//! Checks that a system's tests fill with that system's literals.

use std::collections::BTreeSet;

use bpfdev_core::abi::{Abi, Encoding, Request, Response};
use bpfdev_core::backend::{Interface, LinkState};
use bpfdev_core::descriptor::{Caller, Descriptor, Effect, Opened};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::support::*;

/// BIOCLOCK's list: requests by number that still work, and all the others that the system has.
pub struct LockList {
    pub allowed: &'static [u32],
    pub refused: &'static [u32],
}

impl LockList {
    /// Each number against a locked, attached descriptor; and that no request of the system is missing here.
    pub fn check(&self, abi: &'static Abi, lock: u32) {
        let listed: BTreeSet<u32> = self.allowed.iter().chain(self.refused).copied().collect();
        assert_eq!(listed.len(), self.allowed.len() + self.refused.len(), "{}: listed twice", abi.name);
        for row in abi.requests {
            let number = Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size());
            assert!(listed.contains(&number), "{}: {} ({number:#x}) is not listed", abi.name, row.name);
        }
        let locked = || {
            let fd = Fd::on_em0(abi);
            fd.number(lock, &[]).unwrap();
            fd
        };
        for &number in self.allowed {
            let outcome = argument(&locked(), number);
            assert_ne!(outcome, Err(Errno::Perm), "{}: {number:#x} works while locked", abi.name);
        }
        for &number in self.refused {
            assert_eq!(argument(&locked(), number), Err(Errno::Perm), "{}: {number:#x}", abi.name);
        }
        // 3: "Others then EPERM": unknown ones too
        assert_eq!(argument(&locked(), 0x2000_42c8), Err(Errno::Perm), "{}: an unknown request", abi.name);
    }
}

/// Issues a request with an argument that is good for most: zeros.
pub fn argument(fd: &Fd, number: u32) -> Result<Vec<u8>, Errno> {
    let size = if number & 0xe000_0000 == 0x2000_0000 { 0 } else { (number >> 16 & 0x1fff) as usize };
    fd.number(number, &vec![0; size])
}

/// A frame and what writing it comes to.
pub type Write = (&'static str, usize, Result<usize, Errno>);

pub fn writes(fd: &Fd, cases: &[Write]) {
    let name = fd.file.with(|file, _| file.descriptor().abi().name);
    for &(what, len, expected) in cases {
        let mut frame = frame(len);
        if len >= 14 {
            // an IPv4 ethertype: a length of 0 there has a meaning of its own on NetBSD
            frame[12] = 8;
        }
        assert_eq!(fd.write(&frame), expected, "{name}: {what} ({len} bytes)");
    }
}

/// Seconds and microseconds given to BIOCSRTIMEOUT, and those BIOCGRTIMEOUT then says.
pub type Timeout = ((i64, i64), Result<(i64, i64), Errno>);

pub fn timeouts(abi: &'static Abi, cases: &[Timeout]) {
    for &((sec, usec), kept) in cases {
        let fd = Fd::new(abi);
        fd.ok(Request::SRTimeout { sec: 77, usec: 0 });
        match kept {
            Ok((s, u)) => {
                fd.ok(Request::SRTimeout { sec, usec });
                assert_eq!(fd.ok(Request::GRTimeout), timeval(s, u), "{}: {sec} s {usec} us", abi.name);
            }
            Err(errno) => {
                let refused = fd.refused(Request::SRTimeout { sec, usec });
                assert_eq!(refused, errno, "{}: {sec} s {usec} us", abi.name);
                assert_eq!(fd.ok(Request::GRTimeout), timeval(77, 0), "{}: as it was", abi.name);
            }
        }
    }
}

/// Writes a packet of 20 bytes behind this family word to lo0.
pub fn loopback_write(abi: &'static Abi, word: [u8; 4]) -> Result<usize, Errno> {
    let fd = World::new().on(abi, "lo0");
    fd.write(&[&word[..], &[0x45; 20]].concat())
}

/// The record of a packet on an interface of this link type, from a tap of these types.
pub fn record(fd: &Fd, interface: &str, packet: &[u8]) -> Vec<u8> {
    fd.ok(set_if(interface));
    assert!(fd.world.network.receive(interface, packet), "{interface} is up");
    fd.read().unwrap()
}

/// A world with tun0, an interface of packets with nothing before them.
pub fn tunnel() -> World {
    let world = World::new();
    world.network.add_ethernet("tun0", [2, 0, 0, 0, 0, 5], 5);
    world.linktypes("tun0", &[Linktype::RAW]);
    world
}

/// What writing a frame of so many bytes comes to on an interface of this link type.
pub fn length_check(abi: &'static Abi, dlt: u32, len: usize) -> Result<(), Errno> {
    let mut descriptor = Descriptor::new(abi, Opened::default());
    let Some(linktype) = abi.linktype(dlt) else { return Err(Errno::Io) };
    let interface = Interface {
        name: "x0".into(),
        index: 1,
        network: 0,
        linktype,
        linktypes: vec![linktype],
        loopback: false,
        address: Vec::new(),
    };
    descriptor.attach(interface, false);
    descriptor.check_write(&vec![0; len], LinkState { up: true, mtu: 1500 }).map(drop)
}

/// What SIOCGIFADDR comes to on an interface with this link-level address.
pub fn link_address(abi: &'static Abi, loopback: bool, address: &[u8]) -> Result<Response, Errno> {
    let mut descriptor = Descriptor::new(abi, Opened::default());
    let interface = Interface {
        name: "x0".into(),
        index: 1,
        network: 0,
        linktype: Linktype::RAW,
        linktypes: vec![Linktype::RAW],
        loopback,
        address: address.to_vec(),
    };
    descriptor.attach(interface, false);
    match descriptor.ioctl(Request::GIfAddr, Caller::default())? {
        Effect::Done(response) => Ok(response),
        other => panic!("{}: {other:?}", abi.name),
    }
}

/// Which of these link types can be written on a descriptor: `Err(Io)` for those that cannot.
pub fn writable(abi: &'static Abi, linktypes: &[u32]) -> Vec<u32> {
    let can = |dlt: u32| match length_check(abi, dlt, 100) {
        Ok(()) => true,
        Err(errno) => {
            assert_eq!(errno, Errno::Io, "{}: DLT {dlt}", abi.name);
            false
        }
    };
    linktypes.iter().copied().filter(|&dlt| can(dlt)).collect()
}

/// Every DLT number of link types some system can write, and three that none can.
pub const DLTS: [u32; 15] = [0, 1, 8, 9, 10, 11, 12, 14, 105, 108, 127, 138, 3, 4, 113];

/// A descriptor's value by one of its requests.
pub fn value(fd: &Fd, request: Request) -> u32 {
    match fd.ok(request.clone()) {
        Response::U32(value) => value,
        other => panic!("{request:?} gave {other:?}"),
    }
}

/// What a direction shows: packets received, sent.
pub fn shown(fd: &Fd) -> (bool, bool) {
    fd.ok(Request::Flush);
    let mut seen = [false; 2];
    for (way, seen) in seen.iter_mut().enumerate() {
        if way == 0 {
            fd.rx(60);
        } else {
            fd.write(&frame(60)).unwrap();
        }
        *seen = fd.fionread() > 0;
        fd.ok(Request::Flush);
    }
    (seen[0], seen[1])
}
