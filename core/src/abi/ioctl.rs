//! Request numbers, decoded by table.

use super::{Abi, Arg};
use crate::errno::Errno;

/// Which way a request's argument moves, seen from the caller (`IOC_IN` etc.).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// No argument; a pointer that is given is not looked at.
    Void,
    /// Into the device.
    In,
    /// Out of the device.
    Out,
    /// Both.
    InOut,
}

/// How a request number is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// asm-generic/ioctl.h: direction in bits 30–31 (write is IN), size in 16–29.
    Linux,
    /// sys/ioccom.h: direction in bits 29–31 (VOID 0x20000000, OUT 0x40000000, IN 0x80000000), size in 16–28.
    Bsd,
}

impl Encoding {
    /// The number of a request.
    pub const fn number(self, dir: Dir, group: u8, number: u8, size: usize) -> u32 {
        let (dir_bits, mask) = match self {
            Encoding::Linux => (
                match dir {
                    Dir::Void => 0,
                    Dir::In => 1 << 30,
                    Dir::Out => 2 << 30,
                    Dir::InOut => 3 << 30,
                },
                0x3fff,
            ),
            Encoding::Bsd => (
                match dir {
                    Dir::Void => 0x2000_0000,
                    Dir::Out => 0x4000_0000,
                    Dir::In => 0x8000_0000,
                    Dir::InOut => 0xc000_0000,
                },
                0x1fff,
            ),
        };
        #[allow(clippy::cast_possible_truncation)] // masked to 14 bits at most
        let size = (size & mask) as u32;
        dir_bits | (size << 16) | ((group as u32) << 8) | number as u32
    }

    /// Direction and size of a number as this encoding has them; `None` where it has no such direction.
    pub const fn split(self, raw: u32) -> Option<(Dir, usize)> {
        Some(match self {
            Encoding::Linux => {
                let dir = match raw >> 30 {
                    0 => Dir::Void,
                    1 => Dir::In,
                    2 => Dir::Out,
                    _ => Dir::InOut,
                };
                (dir, (raw >> 16 & 0x3fff) as usize)
            }
            Encoding::Bsd => {
                let dir = match raw & 0xe000_0000 {
                    0x2000_0000 => Dir::Void,
                    0x4000_0000 => Dir::Out,
                    0x8000_0000 => Dir::In,
                    0xc000_0000 => Dir::InOut,
                    _ => return None,
                };
                (dir, (raw >> 16 & 0x1fff) as usize)
            }
        })
    }
}

/// What a request does, whatever its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants are Request's
pub enum Op {
    GBlen,
    SBlen,
    GDlt,
    GDltList,
    SDlt,
    Promisc,
    Flush,
    GetIf,
    SetIf,
    SRTimeout,
    GRTimeout,
    SWTimeout,
    GWTimeout,
    DWTimeout,
    GStats,
    Immediate,
    SetF,
    SetWf,
    SetFnr,
    Version,
    GRSig,
    SRSig,
    GHdrCmplt,
    SHdrCmplt,
    GDirection,
    SDirection,
    GSeeSent,
    SSeeSent,
    GFilDrop,
    SFilDrop,
    GFeedback,
    Feedback,
    GTStamp,
    STStamp,
    GBufMode,
    SBufMode,
    SetVlanPcp,
    GetTc,
    SetTc,
    GWriteMax,
    SWriteMax,
    GetFlag(Flag),
    SetFlag(Flag),
    GetUuid,
    AttachCount,
    GIfAddr,
    Lock,
    FionRead,
    FionBio,
    FioAsync,
    SetOwn,
    GetOwn,
    SetPgrp,
    GetPgrp,
    /// Answered with zeros: what it asks about is never so here.
    Zeros,
    /// In that system's header, and refused with this error.
    Refused(Errno),
}

/// A switch of macOS's device, on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// BIOCSEXTHDR: records have `struct bpf_hdr_ext`.
    ExtendedHeader,
    /// BIOCSHEADDROP: when there is no room the hold buffer goes, not the new packet.
    HeadDrop,
    /// BIOCSNOTSTAMP: time stamps are zero.
    NoTimestamp,
    /// BIOCSWANTPKTAP: DLT_PKTAP is wanted where an interface has it.
    WantPktap,
    /// BIOCSPKTHDRV2: of pktap's headers, the second version.
    PktapHeaderV2,
    /// BIOCSTRUNCATE: pktap cuts payloads.
    Truncate,
    /// BIOCSHDRCOMP: header compression is wanted.
    HeaderCompression,
    /// BIOCSBATCHWRITE: several frames a write.
    BatchWrite,
    /// BIOCSDVRTIN: what the interface receives does not reach the host.
    DivertIn,
}

/// One request of a dialect.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in that system's header.
    pub name: &'static str,
    /// What it does.
    pub op: Op,
    /// Which way its argument moves.
    pub dir: Dir,
    /// Group letter.
    pub group: u8,
    /// Number within the group.
    pub number: u8,
    /// Its argument.
    pub arg: Arg,
    /// It still works after BIOCLOCK.
    pub while_locked: bool,
}

/// A table row.
pub(super) const fn row(
    name: &'static str,
    op: Op,
    dir: Dir,
    group: u8,
    number: u8,
    arg: Arg,
    while_locked: bool,
) -> Row {
    Row { name, op, dir, group, number, arg, while_locked }
}

/// A request number, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The request.
    pub row: &'static Row,
    /// Size of its argument in bytes, as the number says.
    pub size: usize,
    /// How the number was put together.
    pub encoding: Encoding,
}

/// What every number that a table does not have comes to: EINVAL, or what comes before it (EPERM when locked).
static UNKNOWN: Row = row("unknown", Op::Refused(Errno::Inval), Dir::Void, 0, 0, Arg::Void, false);

impl Abi {
    /// The request with this number, or one that is refused as unknown ones are.
    pub fn decode_or_refuse(&self, raw: u32) -> Call {
        self.decode(raw).unwrap_or(Call { row: &UNKNOWN, size: 0, encoding: Encoding::Bsd })
    }

    /// The request with this number, or `None`: EINVAL on every system.
    pub fn decode(&self, raw: u32) -> Option<Call> {
        #[allow(clippy::cast_possible_truncation)] // one byte each, by definition
        let (group, number) = ((raw >> 8) as u8, raw as u8);
        self.encodings.iter().find_map(|&encoding| {
            let (dir, size) = encoding.split(raw)?;
            self.requests
                .iter()
                .find(|row| {
                    row.number == number && row.group == group && row.dir == dir && row.arg.takes(size)
                })
                .map(|row| Call { row, size, encoding })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    #[test]
    fn numbers_are_those_of_net_bpf_h() {
        let bsd = |name: &str, abi: &Abi| {
            let row = abi.requests.iter().find(|row| row.name == name).expect("in the table");
            Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size())
        };
        for (name, value) in [
            ("BIOCGBLEN", 0x4004_4266),
            ("BIOCSBLEN", 0xc004_4266),
            ("BIOCSETF", 0x8010_4267),
            ("BIOCFLUSH", 0x2000_4268),
            ("BIOCSETIF", 0x8020_426c),
            ("BIOCGDLTLIST", 0xc010_4279),
            ("FIONREAD", 0x4004_667f),
        ] {
            assert_eq!(bsd(name, &abi::freebsd::FREEBSD), value, "{name} of FreeBSD");
        }
        assert_eq!(bsd("BIOCSETIF", &abi::netbsd::NETBSD), 0x8090_426c, "NetBSD's ifreq has 144 bytes");
        assert_eq!(bsd("BIOCGSTATS", &abi::netbsd::NETBSD), 0x4080_426f);
    }

    #[test]
    fn no_number_means_two_requests_of_one_dialect() {
        for abi in abi::TABLES {
            let mut seen = std::collections::HashMap::new();
            for row in abi.requests {
                for &encoding in abi.encodings {
                    let number = encoding.number(row.dir, row.group, row.number, row.arg.size());
                    // an INOUT number is the same in both encodings
                    let other = seen.insert(number, row.name).unwrap_or(row.name);
                    assert_eq!(other, row.name, "{}: {number:#x} means two requests", abi.name);
                    let call = abi.decode(number).expect("decodes");
                    assert_eq!(call.row.name, row.name, "{}: {number:#x}", abi.name);
                }
            }
        }
    }

    #[test]
    fn the_linux_dialect_takes_both_encodings_and_any_ifreq() {
        let linux = &abi::linux::LINUX;
        for number in [0x4020_426c, 0x4028_426c, 0x8020_426c, 0x8028_426c] {
            assert_eq!(linux.decode(number).map(|call| call.row.op), Some(Op::SetIf), "{number:#x}");
        }
        assert!(linux.decode(0x400f_426c).is_none(), "15 bytes hold no interface name");
        assert!(abi::freebsd::FREEBSD.decode(0x8028_426c).is_none(), "FreeBSD knows 32 bytes only");
        assert!(linux.decode(0x2000_42c8).is_none(), "an unknown request");
    }
}
