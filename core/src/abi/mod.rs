//! What each system's bpf(4) looks like from outside: its request numbers, structures and rules, as data.
//!
//! A dialect is one `const` table, built and tested on every host. [`ioctl`] decodes numbers by table, [`arg`] moves
//! arguments in and out; [`hdr`] writes the header before each packet; [`rules`] holds what else differs. The numbers are
//! those of each system's net/bpf.h (`abi.json` in compat-tests has the list with sources).

pub mod arg;
pub mod dragonfly;
pub mod freebsd;
pub mod hdr;
pub mod illumos;
pub mod ioctl;
pub mod linux;
pub mod macos;
pub mod netbsd;
pub mod openbsd;
pub mod request;
pub mod rules;

use crate::backend::{Direction, LoopbackFraming, TapConfig};
use crate::cbpf;
use crate::linktype::Linktype;

pub use arg::{Arg, CallerMemory};
pub use hdr::{Header, Stamp};
pub use ioctl::{Call, Dir, Encoding, Flag, Op, Row};
pub use request::{FilterSource, Request, Response};
pub use rules::Rules;

/// One system's device, seen from outside.
#[derive(Debug)]
pub struct Abi {
    /// The word `--abi` takes.
    pub name: &'static str,
    /// How request numbers are put together, in the order they are tried.
    pub encodings: &'static [Encoding],
    /// Every request, in bpf(4)'s order.
    pub requests: &'static [Row],
    /// The record header of a 64-bit caller.
    pub header: Header,
    /// The record header of a descriptor used by a 32-bit caller.
    pub header32: Header,
    /// The record header after BIOCSEXTHDR, where there is that request.
    pub extended: Option<Header>,
    /// What a filter may contain and means.
    pub filter: &'static cbpf::Rules,
    /// How a loopback interface is framed.
    pub loopback: LoopbackFraming,
    /// Link types whose `DLT_` number is another than [`Linktype`]'s.
    pub dlts: &'static [(Linktype, u32)],
    /// What else differs.
    pub rules: Rules,
}

/// Every dialect that is served, the default first.
pub static ALL: [&Abi; 7] = [
    &linux::LINUX,
    &freebsd::FREEBSD,
    &netbsd::NETBSD,
    &netbsd::NETBSD7,
    &openbsd::OPENBSD,
    &dragonfly::DRAGONFLY,
    &macos::MACOS,
];

/// Every table: the dialects, and illumos, whose device is not served.
pub static TABLES: [&Abi; 8] = [
    &linux::LINUX,
    &freebsd::FREEBSD,
    &netbsd::NETBSD,
    &netbsd::NETBSD7,
    &openbsd::OPENBSD,
    &dragonfly::DRAGONFLY,
    &macos::MACOS,
    &illumos::ILLUMOS,
];

impl Abi {
    /// The dialect of this name.
    pub fn by_name(name: &str) -> Option<&'static Abi> {
        ALL.into_iter().find(|abi| abi.name == name)
    }

    /// The `DLT_` number of a link type.
    pub fn dlt(&self, linktype: Linktype) -> u32 {
        self.dlts.iter().find(|(known, _)| *known == linktype).map_or(linktype.0, |(_, dlt)| *dlt)
    }

    /// The link type that this system has under a `DLT_` number; `None` where that number is another's name for it only.
    pub fn linktype(&self, dlt: u32) -> Option<Linktype> {
        let known = self.dlts.iter().find(|(_, known)| *known == dlt).map(|(linktype, _)| *linktype);
        let linktype = known.unwrap_or(Linktype(dlt));
        (self.dlt(linktype) == dlt).then_some(linktype)
    }

    /// What a tap is asked for by a fresh descriptor whose buffers have so many bytes.
    pub fn tap_config(&self, bufsize: usize) -> TapConfig {
        TapConfig {
            bufsize,
            record_overhead: self.header.hdrlen(14),
            filter: None,
            direction: Direction::InOut,
            counts_hidden: self.rules.counts_hidden,
            loopback: self.loopback,
            loopback_way: self.rules.loopback_way,
            linktype: None,
            judged: false,
        }
    }

    /// The header of records for a 64-bit or a 32-bit caller.
    pub const fn header_for(&self, ilp32: bool) -> &Header {
        if ilp32 { &self.header32 } else { &self.header }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_found_by_its_name() {
        for abi in ALL {
            assert_eq!(Abi::by_name(abi.name).map(|found| found.name), Some(abi.name));
        }
        assert!(Abi::by_name("plan9").is_none());
    }
}
