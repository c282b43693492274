//! Requests and answers without a number or a layout: what every dialect's ioctl comes down to.

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
    /// BIOCGDIRECTION, BIOCGSEESENT.
    GDirection,
    /// BIOCSDIRECTION, BIOCSSEESENT.
    SDirection(u32),
    /// BIOCGFEEDBACK (NetBSD).
    GFeedback,
    /// BIOCFEEDBACK, BIOCSFEEDBACK.
    Feedback(u32),
    /// BIOCLOCK: from now on only harmless requests.
    Lock,
    /// FIONREAD: bytes buffered.
    FionRead,
    /// FIONBIO: the file layer's non-blocking flag, from a caller whose number the host's file layer does not know.
    FionBio(i32),
    /// FIOASYNC.
    FioAsync(i32),
    /// FIOSETOWN, TIOCSPGRP.
    SetOwn(i32),
    /// FIOGETOWN, TIOCGPGRP.
    GetOwn,
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
