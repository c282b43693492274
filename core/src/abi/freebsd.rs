//! FreeBSD (13 to main of 2024-10), LP64 and its 32-bit callers. Source: sys/net/bpf.h and bpf.c; abi.json.

use std::time::Duration;

use super::Abi;
use super::hdr::{FREEBSD32, FREEBSD64};
use super::ioctl::{Arg, Dir, Encoding, Op, Row, row};
use super::rules::*;
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::linktype::Linktype;
use crate::packet::Way;

/// FreeBSD's requests; the last column: still works after BIOCLOCK.
pub(super) const REQUESTS: &[Row] = &[
    row("BIOCGBLEN", Op::GBlen, Dir::Out, b'B', 102, Arg::U32, true),
    row("BIOCSBLEN", Op::SBlen, Dir::InOut, b'B', 102, Arg::U32, false),
    row("BIOCSETF", Op::SetF, Dir::In, b'B', 103, Arg::Program64, false),
    row("BIOCSETF32", Op::SetF, Dir::In, b'B', 103, Arg::Program32, false),
    row("BIOCFLUSH", Op::Flush, Dir::Void, b'B', 104, Arg::Void, true),
    row("BIOCPROMISC", Op::Promisc, Dir::Void, b'B', 105, Arg::Void, false),
    row("BIOCGDLT", Op::GDlt, Dir::Out, b'B', 106, Arg::U32, true),
    row("BIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(32), true),
    row("BIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(32), false),
    row("BIOCSRTIMEOUT", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval64, true),
    row("BIOCSRTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval32, true),
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval64, true),
    row("BIOCGRTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval32, true),
    row("BIOCGSTATS", Op::GStats, Dir::Out, b'B', 111, Arg::Stats32, true),
    row("BIOCIMMEDIATE", Op::Immediate, Dir::In, b'B', 112, Arg::U32, true),
    row("BIOCVERSION", Op::Version, Dir::Out, b'B', 113, Arg::Version, true),
    row("BIOCGRSIG", Op::GRSig, Dir::Out, b'B', 114, Arg::U32, true),
    row("BIOCSRSIG", Op::SRSig, Dir::In, b'B', 115, Arg::U32, false),
    row("BIOCGHDRCMPLT", Op::GHdrCmplt, Dir::Out, b'B', 116, Arg::U32, true),
    row("BIOCSHDRCMPLT", Op::SHdrCmplt, Dir::In, b'B', 117, Arg::U32, false),
    row("BIOCGDIRECTION", Op::GDirection, Dir::Out, b'B', 118, Arg::U32, false),
    row("BIOCSDIRECTION", Op::SDirection, Dir::In, b'B', 119, Arg::U32, false),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 120, Arg::U32, false),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 121, Arg::DltList64, true),
    row("BIOCGDLTLIST32", Op::GDltList, Dir::InOut, b'B', 121, Arg::DltList32, true),
    row("BIOCLOCK", Op::Lock, Dir::Void, b'B', 122, Arg::Void, true),
    row("BIOCSETWF", Op::SetWf, Dir::In, b'B', 123, Arg::Program64, false),
    row("BIOCSETWF32", Op::SetWf, Dir::In, b'B', 123, Arg::Program32, false),
    row("BIOCFEEDBACK", Op::Feedback, Dir::In, b'B', 124, Arg::U32, true),
    row("BIOCSETFNR", Op::SetFnr, Dir::In, b'B', 130, Arg::Program64, false),
    row("BIOCSETFNR32", Op::SetFnr, Dir::In, b'B', 130, Arg::Program32, false),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, false),
    row("FIOASYNC", Op::FioAsync, Dir::In, b'f', 125, Arg::U32, false),
    row("FIOSETOWN", Op::SetOwn, Dir::In, b'f', 124, Arg::U32, false),
    row("FIOGETOWN", Op::GetOwn, Dir::Out, b'f', 123, Arg::U32, false),
    row("TIOCSPGRP", Op::SetOwn, Dir::In, b't', 118, Arg::U32, false),
    row("TIOCGPGRP", Op::GetOwn, Dir::Out, b't', 119, Arg::U32, true),
];

/// FreeBSD's rules (semantics.md, column F).
pub(super) const RULES: Rules = Rules {
    bufsize: 4096,
    bufsize_min: 32,
    bufsize_max: 524_288,
    timeout: TimeoutRule {
        tick: Duration::from_millis(1),
        round_up: true,
        check: TimevalCheck::UpTo(100_000_000),
    },
    direction: DirectionRule::InInoutOut,
    feedback: FeedbackRule::Once,
    name: NameRule::AsIs,
    unattached: Unattached::NxIo,
    unattached_polls_ready: true,
    removal: Removal::Wakes,
    write_filter_flushes: false,
    empty_filter_ignores_pointer: true,
    down_checked_first: true,
    ethertype_zero_is_length: false,
    loopback_write: LoopbackWrite::Family,
    loopback_way: Way::In,
    dlt_list_partial: false,
    dlt_keeps_promiscuous: true,
    any_request_marks_ilp32: false,
    root_ignores_lock: false,
};

/// FreeBSD's framing of lo0.
pub(super) const LOOPBACK: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };

/// The dialect `freebsd`.
pub static FREEBSD: Abi = Abi {
    name: "freebsd",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: FREEBSD64,
    header32: FREEBSD32,
    filter: &cbpf::FREEBSD,
    loopback: LOOPBACK,
    rules: RULES,
};
