//! The BSD packet filter device, and packet capture in its terms, on Linux and the BSDs.
//!
//! [`capture::Capture`] is an interface's packets in batches, the same on Linux and on a BSD: most programs need no more.
//!
//! Below it, [`file::BpfFile`] is an open /dev/bpf as a program sees it: ioctl, read, write, poll. [`native::open`] opens this
//! system's own; [`DeviceFile`] opens a node, of a BSD or of `bpfdev serve`; [`file::EmulatedFile`] is the device in
//! this process over any [`backend::FilterBackend`]: packet sockets, a capture file ([`replay`]), or a network that
//! exists nowhere ([`loopback`]), on which everything can be tried with no privilege:
//!
//! ```
//! use std::sync::Arc;
//! use bpfdev::abi::{FilterSource, Request, linux::LINUX};
//! use bpfdev::cbpf::text;
//! use bpfdev::file::{Access, BpfFile, EmulatedFile};
//! use bpfdev::loopback::LoopbackNetwork;
//! use bpfdev::records;
//! use bpfdev::time::SystemClock;
//!
//! let clock = Arc::new(SystemClock::new());
//! let network = LoopbackNetwork::new(clock.clone());
//! network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
//!
//! let file = EmulatedFile::open(&LINUX, Access::ReadWrite, Arc::new(network.clone()), clock);
//! file.ioctl(&Request::SetIf(b"em0".to_vec()))?;
//! // What `tcpdump -ddd arp` prints.
//! let arp = text::read("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n")?;
//! file.ioctl(&Request::SetF(FilterSource::new(&arp)))?;
//! file.ioctl(&Request::Immediate(1))?;
//!
//! let frame = |kind: [u8; 2]| [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &kind, &[0; 46]].concat();
//! network.receive("em0", &frame([0x08, 0x00]));
//! network.receive("em0", &frame([0x08, 0x06]));
//!
//! let mut buf = vec![0; 4096]; // BIOCGBLEN of a fresh descriptor
//! let n = file.read(&mut buf)?;
//! let packets: Vec<_> = records(&buf[..n], &LINUX.header).collect();
//! assert_eq!((packets.len(), packets[0].wirelen), (1, 60), "one record: the ARP frame");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without features it pulls in neither FUSE, nor a command line, nor a C library. `expr` adds filter expressions by libpcap,
//! `tokio` [`capture`]'s asynchronous form. `daemon` adds the bpfdev program; the modules it exports are the program's own, and
//! may change in any release.

pub mod capture;
#[cfg(feature = "expr")]
pub mod expr;
pub mod interfaces;
pub mod native;
#[cfg(feature = "daemon")]
pub mod print;
pub mod savefile;

pub use bpfdev_backend_bsd::{
    Delivery, DeviceFile, DeviceTap, Devices, Malformed, OpenError, Record, Records, records,
};
pub use bpfdev_core::{abi, backend, cbpf, errno, file, linktype, loopback, packet, replay, time};

#[cfg(feature = "daemon")]
pub mod chardev;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod cuse;
#[cfg(feature = "daemon")]
pub mod fuse;
#[cfg(feature = "daemon")]
pub mod service;
#[cfg(feature = "daemon")]
pub mod serving;
#[cfg(feature = "daemon")]
mod sys;
