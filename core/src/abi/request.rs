//! Requests and answers without a number or a layout: what every dialect's ioctl comes down to.

use super::ioctl::{Flag, Op};
use crate::cbpf::Insn;
use crate::errno::Errno;

/// The instructions a `struct bpf_program` points at, fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterSource {
    /// `bf_len`.
    pub len: u32,
    /// `bf_insns` is a null pointer.
    pub null: bool,
    /// The instructions; empty when `len` is 0, above what any system takes, or the pointer is null. `None` when they
    /// could not be read.
    pub insns: Option<Vec<Insn>>,
}

impl FilterSource {
    /// A program as a caller with good pointers gives it.
    pub fn new(insns: &[Insn]) -> FilterSource {
        let len = u32::try_from(insns.len()).unwrap_or(u32::MAX);
        FilterSource { len, null: insns.is_empty(), insns: Some(insns.to_vec()) }
    }
}

/// A request of bpf(4), its argument decoded. The variants follow bpf(4)'s order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// BIOCGBLEN: size of a buffer.
    GBlen,
    /// BIOCSBLEN: ask for a size of the buffers, bytes.
    SBlen(u32),
    /// BIOCGDLT: the link type.
    GDlt,
    /// BIOCGDLTLIST: the link types; `None` for a null list (count only), else room for so many.
    GDltList(Option<u32>),
    /// BIOCSDLT: change the link type.
    SDlt(u32),
    /// BIOCPROMISC: see every frame on the wire.
    Promisc,
    /// BIOCFLUSH: drop what is buffered, zero the counters.
    Flush,
    /// BIOCGETIF: the interface's name.
    GetIf,
    /// BIOCSETIF: attach to the interface of this name, as the bytes before the first NUL of the 16 given.
    SetIf(Vec<u8>),
    /// BIOCSRTIMEOUT: seconds and microseconds.
    SRTimeout {
        /// Seconds.
        sec: i64,
        /// Microseconds.
        usec: i64,
    },
    /// BIOCGRTIMEOUT.
    GRTimeout,
    /// BIOCSWTIMEOUT (OpenBSD): how long a packet may wait for more, seconds and microseconds.
    SWTimeout {
        /// Seconds.
        sec: i64,
        /// Microseconds.
        usec: i64,
    },
    /// BIOCGWTIMEOUT.
    GWTimeout,
    /// BIOCDWTIMEOUT: a packet may wait for ever.
    DWTimeout,
    /// BIOCGSTATS, and its old form.
    GStats,
    /// BIOCIMMEDIATE.
    Immediate(u32),
    /// BIOCSETF: replace the read filter and flush.
    SetF(FilterSource),
    /// BIOCSETWF: replace the write filter.
    SetWf(FilterSource),
    /// BIOCSETFNR: replace the read filter, flush nothing.
    SetFnr(FilterSource),
    /// BIOCVERSION.
    Version,
    /// BIOCGRSIG: the signal for FIOASYNC.
    GRSig,
    /// BIOCSRSIG.
    SRSig(u32),
    /// BIOCGHDRCMPLT.
    GHdrCmplt,
    /// BIOCSHDRCMPLT: nonzero leaves the link source address of written frames alone.
    SHdrCmplt(u32),
    /// BIOCGDIRECTION, BIOCGDIRFILT, BIOCGSEESENT.
    GDirection,
    /// BIOCSDIRECTION, BIOCSDIRFILT, BIOCSSEESENT.
    SDirection(u32),
    /// BIOCGSEESENT where it is a request beside BIOCGDIRECTION (macOS).
    GSeeSent,
    /// BIOCSSEESENT (macOS).
    SSeeSent(u32),
    /// BIOCGFILDROP (OpenBSD).
    GFilDrop,
    /// BIOCSFILDROP: whether accepted packets reach the host.
    SFilDrop(u32),
    /// BIOCGFEEDBACK (NetBSD).
    GFeedback,
    /// BIOCFEEDBACK, BIOCSFEEDBACK.
    Feedback(u32),
    /// BIOCGTSTAMP (FreeBSD): the format of time stamps.
    GTStamp,
    /// BIOCSTSTAMP.
    STStamp(u32),
    /// BIOCGETBUFMODE (FreeBSD).
    GBufMode,
    /// BIOCSETBUFMODE.
    SBufMode(u32),
    /// BIOCSETVLANPCP (FreeBSD 14): 802.1p priority of written frames.
    SetVlanPcp(u32),
    /// BIOCGETTC (macOS): traffic class of written frames.
    GetTc,
    /// BIOCSETTC.
    SetTc(i32),
    /// BIOCGWRITEMAX (macOS).
    GWriteMax,
    /// BIOCSWRITEMAX: frames longer than the interface's MTU may be written, up to so many bytes.
    SWriteMax(u32),
    /// A request that tells a switch of macOS.
    GetFlag(Flag),
    /// A request that sets one.
    SetFlag(Flag, u32),
    /// BIOCGETUUID (macOS): the descriptor's identity.
    GetUuid,
    /// BIOCGIFATTACHCOUNT (macOS): descriptors attached to the interface of this name.
    AttachCount(Vec<u8>),
    /// SIOCGIFADDR: the attached interface's link-layer address, as its driver answers.
    GIfAddr,
    /// BIOCLOCK: from now on only harmless requests.
    Lock,
    /// FIONREAD: bytes buffered.
    FionRead,
    /// FIONBIO: the file layer's non-blocking flag, from a caller whose number the host's file layer does not know.
    FionBio(i32),
    /// FIOASYNC.
    FioAsync(i32),
    /// FIOSETOWN: a process (positive) or a process group (negative) is signalled.
    SetOwn(i32),
    /// FIOGETOWN.
    GetOwn,
    /// TIOCSPGRP: a process group (positive) is signalled.
    SetPgrp(i32),
    /// TIOCGPGRP.
    GetPgrp,
    /// A question about what never is so here.
    Zeros,
    /// Refused with this error, whatever the descriptor's state.
    Refused(Errno),
}

impl Request {
    /// The operation.
    pub const fn op(&self) -> Op {
        match self {
            Request::GBlen => Op::GBlen,
            Request::SBlen(_) => Op::SBlen,
            Request::GDlt => Op::GDlt,
            Request::GDltList(_) => Op::GDltList,
            Request::SDlt(_) => Op::SDlt,
            Request::Promisc => Op::Promisc,
            Request::Flush => Op::Flush,
            Request::GetIf => Op::GetIf,
            Request::SetIf(_) => Op::SetIf,
            Request::SRTimeout { .. } => Op::SRTimeout,
            Request::GRTimeout => Op::GRTimeout,
            Request::SWTimeout { .. } => Op::SWTimeout,
            Request::GWTimeout => Op::GWTimeout,
            Request::DWTimeout => Op::DWTimeout,
            Request::GStats => Op::GStats,
            Request::Immediate(_) => Op::Immediate,
            Request::SetF(_) => Op::SetF,
            Request::SetWf(_) => Op::SetWf,
            Request::SetFnr(_) => Op::SetFnr,
            Request::Version => Op::Version,
            Request::GRSig => Op::GRSig,
            Request::SRSig(_) => Op::SRSig,
            Request::GHdrCmplt => Op::GHdrCmplt,
            Request::SHdrCmplt(_) => Op::SHdrCmplt,
            Request::GDirection => Op::GDirection,
            Request::SDirection(_) => Op::SDirection,
            Request::GSeeSent => Op::GSeeSent,
            Request::SSeeSent(_) => Op::SSeeSent,
            Request::GFilDrop => Op::GFilDrop,
            Request::SFilDrop(_) => Op::SFilDrop,
            Request::GFeedback => Op::GFeedback,
            Request::Feedback(_) => Op::Feedback,
            Request::GTStamp => Op::GTStamp,
            Request::STStamp(_) => Op::STStamp,
            Request::GBufMode => Op::GBufMode,
            Request::SBufMode(_) => Op::SBufMode,
            Request::SetVlanPcp(_) => Op::SetVlanPcp,
            Request::GetTc => Op::GetTc,
            Request::SetTc(_) => Op::SetTc,
            Request::GWriteMax => Op::GWriteMax,
            Request::SWriteMax(_) => Op::SWriteMax,
            Request::GetFlag(flag) => Op::GetFlag(*flag),
            Request::SetFlag(flag, _) => Op::SetFlag(*flag),
            Request::GetUuid => Op::GetUuid,
            Request::AttachCount(_) => Op::AttachCount,
            Request::GIfAddr => Op::GIfAddr,
            Request::Lock => Op::Lock,
            Request::FionRead => Op::FionRead,
            Request::FionBio(_) => Op::FionBio,
            Request::FioAsync(_) => Op::FioAsync,
            Request::SetOwn(_) => Op::SetOwn,
            Request::GetOwn => Op::GetOwn,
            Request::SetPgrp(_) => Op::SetPgrp,
            Request::GetPgrp => Op::GetPgrp,
            Request::Zeros => Op::Zeros,
            Request::Refused(errno) => Op::Refused(*errno),
        }
    }

    /// The number it carries, where its argument is one number.
    pub const fn value(&self) -> Option<u32> {
        match self {
            Request::SBlen(value)
            | Request::SDlt(value)
            | Request::Immediate(value)
            | Request::SRSig(value)
            | Request::SHdrCmplt(value)
            | Request::SDirection(value)
            | Request::SSeeSent(value)
            | Request::SFilDrop(value)
            | Request::Feedback(value)
            | Request::STStamp(value)
            | Request::SBufMode(value)
            | Request::SetVlanPcp(value)
            | Request::SWriteMax(value)
            | Request::SetFlag(_, value) => Some(*value),
            Request::SetTc(value)
            | Request::FionBio(value)
            | Request::FioAsync(value)
            | Request::SetOwn(value)
            | Request::SetPgrp(value) => Some(value.cast_unsigned()),
            _ => None,
        }
    }
}

/// What a request answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Nothing but success.
    Done,
    /// One number.
    U32(u32),
    /// An interface name.
    Name(String),
    /// A descriptor's identity.
    Uuid([u8; 16]),
    /// A link-layer address, at most 14 bytes.
    LinkAddress(Vec<u8>),
    /// A time: seconds and microseconds.
    Timeval {
        /// Seconds.
        sec: i64,
        /// Microseconds.
        usec: i64,
    },
    /// Counters since the last reset.
    Stats {
        /// bs_recv.
        recv: u64,
        /// bs_drop.
        drop: u64,
        /// bs_capt (NetBSD).
        capt: u64,
    },
    /// Version of the filter language.
    Version {
        /// bv_major.
        major: u16,
        /// bv_minor.
        minor: u16,
    },
    /// Link types.
    DltList {
        /// bfl_len to give back; `None` leaves it as it was.
        count: Option<u32>,
        /// What is copied to bfl_list.
        list: Vec<u32>,
        /// The error to answer with after copying.
        error: Option<Errno>,
    },
}
