//! What each system's bpf(4) looks like from outside: its request numbers, structures and rules, as data.
//!
//! A dialect is one `const` table, built and tested on every host. [`ioctl`] decodes numbers by table and moves
//! arguments in and out; [`hdr`] writes the header before each packet; [`rules`] holds what else differs. The numbers are
//! those of each system's net/bpf.h (`abi.json` in compat-tests has the list with sources).

pub mod freebsd;
pub mod hdr;
pub mod ioctl;
pub mod linux;
pub mod netbsd;
pub mod request;
pub mod rules;

use crate::backend::LoopbackFraming;
use crate::cbpf;

pub use hdr::{Header, Stamp};
pub use ioctl::{Arg, Call, CallerMemory, Dir, Encoding, Op, Row};
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
    /// What a filter may contain and means.
    pub filter: &'static cbpf::Rules,
    /// How a loopback interface is framed.
    pub loopback: LoopbackFraming,
    /// What else differs.
    pub rules: Rules,
}

/// Every dialect, the default first.
pub static ALL: [&Abi; 4] = [&linux::LINUX, &freebsd::FREEBSD, &netbsd::NETBSD, &netbsd::NETBSD7];

impl Abi {
    /// The dialect of this name.
    pub fn by_name(name: &str) -> Option<&'static Abi> {
        ALL.into_iter().find(|abi| abi.name == name)
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
