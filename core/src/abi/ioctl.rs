//! Request numbers decoded by table, arguments moved in and out.

use super::{Abi, FilterSource, Request, Response};
use crate::cbpf::Insn;
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

    fn split(self, raw: u32) -> Option<(Dir, usize)> {
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

/// An argument's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// None.
    Void,
    /// `u_int` or `int`.
    U32,
    /// `struct ifreq` of exactly so many bytes, the name in the first 16.
    Ifreq(usize),
    /// `struct ifreq` of any size that holds a name.
    AnyIfreq,
    /// `struct timeval`, 64-bit seconds and microseconds.
    Timeval64,
    /// `struct timeval`, 32-bit seconds and microseconds.
    Timeval32,
    /// `struct timeval`, 64-bit seconds, 32-bit microseconds, 4 bytes of padding.
    TimevalUsec32,
    /// The same without padding (i386, arm).
    Timeval12,
    /// `struct bpf_program` with a 64-bit pointer.
    Program64,
    /// `struct bpf_program` with a 32-bit pointer.
    Program32,
    /// `struct bpf_dltlist` with a 64-bit pointer.
    DltList64,
    /// `struct bpf_dltlist` with a 32-bit pointer.
    DltList32,
    /// `struct bpf_stat`: two u32.
    Stats32,
    /// `struct bpf_stat`: sixteen u64, three of them used.
    Stats64,
    /// `struct bpf_version`: two u16.
    Version,
}

impl Arg {
    /// Its size in bytes; `AnyIfreq`'s is the smallest.
    pub const fn size(self) -> usize {
        match self {
            Arg::Void => 0,
            Arg::U32 | Arg::Version => 4,
            Arg::Ifreq(size) => size,
            Arg::AnyIfreq | Arg::Timeval64 | Arg::TimevalUsec32 | Arg::Program64 | Arg::DltList64 => 16,
            Arg::Timeval32 | Arg::Program32 | Arg::DltList32 | Arg::Stats32 => 8,
            Arg::Timeval12 => 12,
            Arg::Stats64 => 128,
        }
    }

    const fn takes(self, size: usize) -> bool {
        match self {
            Arg::AnyIfreq => size >= 16,
            _ => size == self.size(),
        }
    }

    const fn is_ilp32(self) -> bool {
        matches!(self, Arg::Timeval32 | Arg::Timeval12 | Arg::Program32 | Arg::DltList32)
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
    GFeedback,
    Feedback,
    Lock,
    FionRead,
    FionBio,
    FioAsync,
    SetOwn,
    GetOwn,
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

/// The memory of the thread that issued a request.
pub trait CallerMemory {
    /// Copies `buf.len()` bytes from `address`.
    ///
    /// # Errors
    /// `Fault` when not all of it can be read.
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno>;
    /// Copies `bytes` to `address`.
    ///
    /// # Errors
    /// `Fault` when not all of it can be written.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno>;
}

/// A caller whose memory cannot be reached: every pointer faults.
#[derive(Debug)]
pub struct NoMemory;

impl CallerMemory for NoMemory {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::Fault)
    }
    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::Fault)
    }
}

/// No system takes a longer program than this from bpf(4): more is refused without being read.
const MAX_FETCHED_INSNS: u32 = 4096;

impl Abi {
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

fn u32_at(arg: &[u8], at: usize) -> Result<u32, Errno> {
    arg.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes).ok_or(Errno::Fault)
}

fn u64_at(arg: &[u8], at: usize) -> Result<u64, Errno> {
    arg.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes).ok_or(Errno::Fault)
}

fn i32_at(arg: &[u8], at: usize) -> Result<i64, Errno> {
    Ok(i64::from(u32_at(arg, at)?.cast_signed()))
}

impl Call {
    /// The request's argument holds a pointer that must be followed.
    pub const fn needs_memory(&self) -> bool {
        matches!(self.row.arg, Arg::Program64 | Arg::Program32 | Arg::DltList64 | Arg::DltList32)
    }

    /// Bytes of the argument that go into the device.
    pub const fn arg_in(&self) -> usize {
        match self.row.dir {
            Dir::In | Dir::InOut => self.size,
            Dir::Void | Dir::Out => 0,
        }
    }

    /// Bytes of the argument that come out.
    pub const fn arg_out(&self) -> usize {
        match self.row.dir {
            Dir::Out | Dir::InOut => self.size,
            Dir::Void | Dir::In => 0,
        }
    }

    /// The layout is one that only a 32-bit caller uses.
    pub const fn is_ilp32(&self) -> bool {
        self.row.arg.is_ilp32()
    }

    /// The embedded pointer of `arg`, with the count beside it.
    fn pointer(&self, arg: &[u8]) -> Result<(u32, u64), Errno> {
        let count = u32_at(arg, 0)?;
        let address = match self.row.arg {
            Arg::Program32 | Arg::DltList32 => u64::from(u32_at(arg, 4)?),
            _ => u64_at(arg, 8)?,
        };
        Ok((count, address))
    }

    fn program(&self, arg: &[u8], memory: &mut dyn CallerMemory) -> Result<FilterSource, Errno> {
        let (len, address) = self.pointer(arg)?;
        let null = address == 0;
        if len == 0 || null || len > MAX_FETCHED_INSNS {
            return Ok(FilterSource { len, null, insns: Some(Vec::new()) });
        }
        let mut bytes = vec![0; len as usize * 8];
        let read = memory.read(address, &mut bytes);
        let insns = read.ok().map(|()| {
            bytes
                .chunks_exact(8)
                .map(|b| Insn::from_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect()
        });
        Ok(FilterSource { len, null, insns })
    }

    fn timeval(&self, arg: &[u8]) -> Result<(i64, i64), Errno> {
        Ok(match self.row.arg {
            Arg::Timeval32 => (i32_at(arg, 0)?, i32_at(arg, 4)?),
            Arg::TimevalUsec32 | Arg::Timeval12 => (u64_at(arg, 0)?.cast_signed(), i32_at(arg, 8)?),
            _ => (u64_at(arg, 0)?.cast_signed(), u64_at(arg, 8)?.cast_signed()),
        })
    }

    /// Decodes the argument. `arg` holds [`Call::arg_in`] bytes; pointers in it are followed through `memory`, once.
    ///
    /// # Errors
    /// `Fault` when `arg` is shorter than the request needs.
    pub fn parse(&self, arg: &[u8], memory: &mut dyn CallerMemory) -> Result<Request, Errno> {
        Ok(match self.row.op {
            Op::GBlen => Request::GBlen,
            Op::SBlen => Request::SBlen(u32_at(arg, 0)?),
            Op::GDlt => Request::GDlt,
            Op::GDltList => {
                let (count, address) = self.pointer(arg)?;
                Request::GDltList((address != 0).then_some(count))
            }
            Op::SDlt => Request::SDlt(u32_at(arg, 0)?),
            Op::Promisc => Request::Promisc,
            Op::Flush => Request::Flush,
            Op::GetIf => Request::GetIf,
            Op::SetIf => {
                let name = arg.get(..16).ok_or(Errno::Fault)?;
                // the sixteenth byte is made NUL, as every bpf_setif does
                Request::SetIf(name[..15].iter().copied().take_while(|&b| b != 0).collect())
            }
            Op::SRTimeout => {
                let (sec, usec) = self.timeval(arg)?;
                Request::SRTimeout { sec, usec }
            }
            Op::GRTimeout => Request::GRTimeout,
            Op::GStats => Request::GStats,
            Op::Immediate => Request::Immediate(u32_at(arg, 0)?),
            Op::SetF => Request::SetF(self.program(arg, memory)?),
            Op::SetWf => Request::SetWf(self.program(arg, memory)?),
            Op::SetFnr => Request::SetFnr(self.program(arg, memory)?),
            Op::Version => Request::Version,
            Op::GRSig => Request::GRSig,
            Op::SRSig => Request::SRSig(u32_at(arg, 0)?),
            Op::GHdrCmplt => Request::GHdrCmplt,
            Op::SHdrCmplt => Request::SHdrCmplt(u32_at(arg, 0)?),
            Op::GDirection => Request::GDirection,
            Op::SDirection => Request::SDirection(u32_at(arg, 0)?),
            Op::GFeedback => Request::GFeedback,
            Op::Feedback => Request::Feedback(u32_at(arg, 0)?),
            Op::Lock => Request::Lock,
            Op::FionRead => Request::FionRead,
            Op::FionBio => Request::FionBio(u32_at(arg, 0)?.cast_signed()),
            Op::FioAsync => Request::FioAsync(u32_at(arg, 0)?.cast_signed()),
            Op::SetOwn => Request::SetOwn(u32_at(arg, 0)?.cast_signed()),
            Op::GetOwn => Request::GetOwn,
        })
    }

    /// Encodes the answer: the [`Call::arg_out`] bytes to copy back over the argument. `arg` is what came in. A list of
    /// link types goes to the caller's memory first.
    ///
    /// # Errors
    /// `Fault` when the list cannot be written; the error that goes with a list too long for its room.
    pub fn reply(
        &self,
        response: &Response,
        arg: &[u8],
        memory: &mut dyn CallerMemory,
    ) -> Result<Vec<u8>, Errno> {
        let mut out = vec![0; self.arg_out()];
        if self.row.dir == Dir::InOut {
            let n = out.len().min(arg.len());
            out[..n].copy_from_slice(&arg[..n]);
        }
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = out.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        match response {
            Response::Done => {}
            Response::U32(value) => put(0, &value.to_ne_bytes()),
            Response::Name(name) => {
                let bytes = name.as_bytes();
                put(0, &bytes[..bytes.len().min(15)]);
            }
            Response::Timeval { sec, usec } => {
                #[allow(clippy::cast_possible_truncation)] // the field's own width
                match self.row.arg {
                    Arg::Timeval32 => {
                        put(0, &(*sec as i32).to_ne_bytes());
                        put(4, &(*usec as i32).to_ne_bytes());
                    }
                    Arg::TimevalUsec32 | Arg::Timeval12 => {
                        put(0, &sec.to_ne_bytes());
                        put(8, &(*usec as i32).to_ne_bytes());
                    }
                    _ => {
                        put(0, &sec.to_ne_bytes());
                        put(8, &usec.to_ne_bytes());
                    }
                }
            }
            Response::Stats { recv, drop, capt } => {
                #[allow(clippy::cast_possible_truncation)] // the counters of this form are 32 bits wide
                if self.row.arg == Arg::Stats64 {
                    put(0, &recv.to_ne_bytes());
                    put(8, &drop.to_ne_bytes());
                    put(16, &capt.to_ne_bytes());
                } else {
                    put(0, &(*recv as u32).to_ne_bytes());
                    put(4, &(*drop as u32).to_ne_bytes());
                }
            }
            Response::Version { major, minor } => {
                put(0, &major.to_ne_bytes());
                put(2, &minor.to_ne_bytes());
            }
            Response::DltList { count, list, error } => {
                if !list.is_empty() {
                    let (_, address) = self.pointer(arg)?;
                    let bytes: Vec<u8> = list.iter().flat_map(|dlt| dlt.to_ne_bytes()).collect();
                    memory.write(address, &bytes)?;
                }
                if let Some(errno) = error {
                    return Err(*errno);
                }
                if let Some(count) = count {
                    put(0, &count.to_ne_bytes());
                }
            }
        }
        Ok(out)
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
        for abi in abi::ALL {
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

    #[test]
    fn every_row_is_in_the_list_of_that_system() {
        let list: serde_json::Value =
            serde_json::from_str(include_str!("../../../compat-tests/abi.json")).expect("abi.json is JSON");
        for (os, abi) in [("freebsd", &abi::freebsd::FREEBSD), ("netbsd", &abi::netbsd::NETBSD)] {
            let rows = list["os"][os]["ioctls"].as_array().expect("a list");
            for row in abi.requests {
                let base = row.name.strip_suffix("32").unwrap_or(row.name);
                let Some(known) = rows.iter().find(|known| known["name"] == base) else {
                    assert!(row.group != b'B', "{os}: {base} is not in abi.json");
                    continue;
                };
                let size = if row.arg.is_ilp32() { &known["size_ilp32"] } else { &known["size"] };
                assert_eq!(size.as_u64(), Some(row.arg.size() as u64), "{os} {}: size", row.name);
                assert_eq!(known["number"].as_u64(), Some(u64::from(row.number)), "{os} {}", row.name);
                assert_eq!(
                    known["lock_allowed"].as_bool(),
                    Some(row.while_locked),
                    "{os} {}: works after BIOCLOCK",
                    row.name
                );
                let dir = match row.dir {
                    Dir::Void => "VOID",
                    Dir::In => "IN",
                    Dir::Out => "OUT",
                    Dir::InOut => "INOUT",
                };
                assert_eq!(known["direction"], dir, "{os} {}", row.name);
            }
        }
    }
}
