//! Arguments of requests: their layouts, moved in and out.

use super::ioctl::{Call, Dir, Op};
use super::{FilterSource, Request, Response};
use crate::cbpf::Insn;
use crate::errno::Errno;

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
    /// macOS's `struct bpf_dltlist`: the 64-bit pointer is not aligned; the same for 32-bit callers.
    DltListPacked,
    /// `struct bpf_stat`: two u32.
    Stats32,
    /// `struct bpf_stat`: sixteen u64, three of them used.
    Stats64,
    /// `struct bpf_version`: two u16.
    Version,
    /// So many bytes that are not looked at, or a `uuid_t`.
    Bytes(usize),
}

impl Arg {
    /// Its size in bytes; `AnyIfreq`'s is the smallest.
    pub const fn size(self) -> usize {
        match self {
            Arg::Void => 0,
            Arg::U32 | Arg::Version => 4,
            Arg::Ifreq(size) | Arg::Bytes(size) => size,
            Arg::AnyIfreq | Arg::Timeval64 | Arg::TimevalUsec32 | Arg::Program64 | Arg::DltList64 => 16,
            Arg::Timeval32 | Arg::Program32 | Arg::DltList32 | Arg::Stats32 => 8,
            Arg::Timeval12 | Arg::DltListPacked => 12,
            Arg::Stats64 => 128,
        }
    }

    /// Whether a number that says this size can mean it.
    pub const fn takes(self, size: usize) -> bool {
        match self {
            Arg::AnyIfreq => size >= 16,
            _ => size == self.size(),
        }
    }

    /// Only 32-bit callers have this layout.
    pub const fn is_ilp32(self) -> bool {
        matches!(self, Arg::Timeval32 | Arg::Timeval12 | Arg::Program32 | Arg::DltList32)
    }
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

fn u32_at(arg: &[u8], at: usize) -> Result<u32, Errno> {
    arg.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes).ok_or(Errno::Fault)
}

fn u64_at(arg: &[u8], at: usize) -> Result<u64, Errno> {
    arg.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes).ok_or(Errno::Fault)
}

/// The name at the beginning of a `struct ifreq`: its sixteenth byte is made NUL, as every bpf_setif does.
fn name(arg: &[u8]) -> Result<Vec<u8>, Errno> {
    let name = arg.get(..16).ok_or(Errno::Fault)?;
    Ok(name[..15].iter().copied().take_while(|&b| b != 0).collect())
}

fn i32_at(arg: &[u8], at: usize) -> Result<i64, Errno> {
    Ok(i64::from(u32_at(arg, at)?.cast_signed()))
}

impl Call {
    /// The request's argument holds a pointer that must be followed.
    pub const fn needs_memory(&self) -> bool {
        matches!(
            self.row.arg,
            Arg::Program64 | Arg::Program32 | Arg::DltList64 | Arg::DltList32 | Arg::DltListPacked
        ) && !matches!(self.row.op, Op::Refused(_))
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
    ///
    /// # Errors
    /// `Fault` when `arg` is shorter than that.
    pub fn pointer(&self, arg: &[u8]) -> Result<(u32, u64), Errno> {
        let count = u32_at(arg, 0)?;
        let address = match self.row.arg {
            Arg::Program32 | Arg::DltList32 => u64::from(u32_at(arg, 4)?),
            Arg::DltListPacked => u64_at(arg, 4)?,
            _ => u64_at(arg, 8)?,
        };
        Ok((count, address))
    }

    /// Makes of a 32-bit caller's argument what [`Call::parse`] reads: in macOS's `struct bpf_dltlist` such a caller sets
    /// only the first half of the union that holds the pointer, and xnu looks at no more (bpf_getdltlist).
    pub fn widen(&self, arg: &mut [u8]) {
        if self.row.arg == Arg::DltListPacked
            && let Ok(pointer) = u32_at(arg, 4)
            && let Some(union) = arg.get_mut(4..12)
        {
            union.copy_from_slice(&u64::from(pointer).to_ne_bytes());
        }
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
        let value = || u32_at(arg, 0);
        let signed = || u32_at(arg, 0).map(u32::cast_signed);
        Ok(match self.row.op {
            Op::GBlen => Request::GBlen,
            Op::SBlen => Request::SBlen(value()?),
            Op::GDlt => Request::GDlt,
            Op::GDltList => {
                let (count, address) = self.pointer(arg)?;
                Request::GDltList((address != 0).then_some(count))
            }
            Op::SDlt => Request::SDlt(value()?),
            Op::Promisc => Request::Promisc,
            Op::Flush => Request::Flush,
            Op::GetIf => Request::GetIf,
            Op::SetIf => Request::SetIf(name(arg)?),
            Op::SRTimeout => {
                let (sec, usec) = self.timeval(arg)?;
                Request::SRTimeout { sec, usec }
            }
            Op::GRTimeout => Request::GRTimeout,
            Op::SWTimeout => {
                let (sec, usec) = self.timeval(arg)?;
                Request::SWTimeout { sec, usec }
            }
            Op::GWTimeout => Request::GWTimeout,
            Op::DWTimeout => Request::DWTimeout,
            Op::GStats => Request::GStats,
            Op::Immediate => Request::Immediate(value()?),
            Op::SetF => Request::SetF(self.program(arg, memory)?),
            Op::SetWf => Request::SetWf(self.program(arg, memory)?),
            Op::SetFnr => Request::SetFnr(self.program(arg, memory)?),
            Op::Version => Request::Version,
            Op::GRSig => Request::GRSig,
            Op::SRSig => Request::SRSig(value()?),
            Op::GHdrCmplt => Request::GHdrCmplt,
            Op::SHdrCmplt => Request::SHdrCmplt(value()?),
            Op::GDirection => Request::GDirection,
            Op::SDirection => Request::SDirection(value()?),
            Op::GSeeSent => Request::GSeeSent,
            Op::SSeeSent => Request::SSeeSent(value()?),
            Op::GFilDrop => Request::GFilDrop,
            Op::SFilDrop => Request::SFilDrop(value()?),
            Op::GFeedback => Request::GFeedback,
            Op::Feedback => Request::Feedback(value()?),
            Op::GTStamp => Request::GTStamp,
            Op::STStamp => Request::STStamp(value()?),
            Op::GBufMode => Request::GBufMode,
            Op::SBufMode => Request::SBufMode(value()?),
            Op::SetVlanPcp => Request::SetVlanPcp(value()?),
            Op::GetTc => Request::GetTc,
            Op::SetTc => Request::SetTc(signed()?),
            Op::GWriteMax => Request::GWriteMax,
            Op::SWriteMax => Request::SWriteMax(value()?),
            Op::GetFlag(flag) => Request::GetFlag(flag),
            Op::SetFlag(flag) => Request::SetFlag(flag, value()?),
            Op::GetUuid => Request::GetUuid,
            Op::AttachCount => Request::AttachCount(name(arg)?),
            Op::GIfAddr => Request::GIfAddr,
            Op::Lock => Request::Lock,
            Op::FionRead => Request::FionRead,
            Op::FionBio => Request::FionBio(signed()?),
            Op::FioAsync => Request::FioAsync(signed()?),
            Op::SetOwn => Request::SetOwn(signed()?),
            Op::GetOwn => Request::GetOwn,
            Op::SetPgrp => Request::SetPgrp(signed()?),
            Op::GetPgrp => Request::GetPgrp,
            Op::Zeros => Request::Zeros,
            Op::Refused(errno) => Request::Refused(errno),
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
            // for AttachCount it is ifr_intval, behind the name
            Response::U32(value) if self.row.op == Op::AttachCount => put(16, &value.to_ne_bytes()),
            Response::U32(value) => put(0, &value.to_ne_bytes()),
            Response::Uuid(uuid) => put(0, uuid),
            // sa_data of the address in the ifreq, behind its length and family
            Response::LinkAddress(address) => put(18, address),
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
