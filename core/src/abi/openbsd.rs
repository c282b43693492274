//! OpenBSD 7.3, on every machine. Source: sys/net/bpf.h and bpf.c 1.221; abi.json. It has no emulation of 32-bit callers on
//! 64-bit machines: their requests have i386's layouts here, and the records are the same.

use std::time::Duration;

use super::ioctl::{Dir, Encoding, Op, Row, row};
use super::rules::*;
use super::{Abi, Arg, hdr};
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::errno::Errno;
use crate::linktype::Linktype;
use crate::packet::Way;

/// OpenBSD's requests; the last column: still works after BIOCLOCK.
const REQUESTS: &[Row] = &[
    row("BIOCGBLEN", Op::GBlen, Dir::Out, b'B', 102, Arg::U32, true),
    row("BIOCSBLEN", Op::SBlen, Dir::InOut, b'B', 102, Arg::U32, false),
    row("BIOCSETF", Op::SetF, Dir::In, b'B', 103, Arg::Program64, false),
    row("BIOCSETF32", Op::SetF, Dir::In, b'B', 103, Arg::Program32, false),
    row("BIOCFLUSH", Op::Flush, Dir::Void, b'B', 104, Arg::Void, true),
    row("BIOCPROMISC", Op::Promisc, Dir::Void, b'B', 105, Arg::Void, false),
    row("BIOCGDLT", Op::GDlt, Dir::Out, b'B', 106, Arg::U32, true),
    row("BIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(32), true),
    row("BIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(32), false),
    row("BIOCGSTATS", Op::GStats, Dir::Out, b'B', 111, Arg::Stats32, true),
    row("BIOCIMMEDIATE", Op::Immediate, Dir::In, b'B', 112, Arg::U32, true),
    row("BIOCVERSION", Op::Version, Dir::Out, b'B', 113, Arg::Version, true),
    row("BIOCGHDRCMPLT", Op::GHdrCmplt, Dir::Out, b'B', 116, Arg::U32, true),
    row("BIOCSHDRCMPLT", Op::SHdrCmplt, Dir::In, b'B', 117, Arg::U32, false),
    row("BIOCSRTIMEOUT", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval64, true),
    row("BIOCSRTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval12, true),
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval64, true),
    row("BIOCGRTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval12, true),
    row("BIOCSRSIG", Op::SRSig, Dir::In, b'B', 114, Arg::U32, false),
    row("BIOCGRSIG", Op::GRSig, Dir::Out, b'B', 115, Arg::U32, true),
    row("BIOCLOCK", Op::Lock, Dir::Void, b'B', 118, Arg::Void, true),
    row("BIOCSETWF", Op::SetWf, Dir::In, b'B', 119, Arg::Program64, false),
    row("BIOCSETWF32", Op::SetWf, Dir::In, b'B', 119, Arg::Program32, false),
    row("BIOCGFILDROP", Op::GFilDrop, Dir::Out, b'B', 120, Arg::U32, false),
    row("BIOCSFILDROP", Op::SFilDrop, Dir::In, b'B', 121, Arg::U32, false),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 122, Arg::U32, false),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 123, Arg::DltList64, true),
    row("BIOCGDLTLIST32", Op::GDltList, Dir::InOut, b'B', 123, Arg::DltList32, true),
    row("BIOCGDIRFILT", Op::GDirection, Dir::Out, b'B', 124, Arg::U32, true),
    row("BIOCSDIRFILT", Op::SDirection, Dir::In, b'B', 125, Arg::U32, false),
    row("BIOCSWTIMEOUT", Op::SWTimeout, Dir::In, b'B', 126, Arg::Timeval64, true),
    row("BIOCSWTIMEOUT32", Op::SWTimeout, Dir::In, b'B', 126, Arg::Timeval12, true),
    row("BIOCGWTIMEOUT", Op::GWTimeout, Dir::Out, b'B', 126, Arg::Timeval64, true),
    row("BIOCGWTIMEOUT32", Op::GWTimeout, Dir::Out, b'B', 126, Arg::Timeval12, true),
    row("BIOCDWTIMEOUT", Op::DWTimeout, Dir::Void, b'B', 126, Arg::Void, true),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, false),
    row("FIOASYNC", Op::FioAsync, Dir::In, b'f', 125, Arg::U32, false),
    row("FIOSETOWN", Op::SetOwn, Dir::In, b'f', 124, Arg::U32, false),
    row("FIOGETOWN", Op::GetOwn, Dir::Out, b'f', 123, Arg::U32, false),
    row("TIOCSPGRP", Op::SetPgrp, Dir::In, b't', 118, Arg::U32, false),
    row("TIOCGPGRP", Op::GetPgrp, Dir::Out, b't', 119, Arg::U32, true),
];

/// Link types that can be written, with their headers' lengths.
const WRITABLE: &[(Linktype, usize)] = &[
    (Linktype::EN10MB, 14),
    (Linktype::LOOP, 4),
    (Linktype::NULL, 4),
    (Linktype::RAW, 0),
    (Linktype::PPP, 0),
    (Linktype::SLIP, 0),
    (Linktype::IEEE802_11, 0),
    (Linktype::IEEE802_11_RADIO, 0),
];

/// OpenBSD's rules (semantics.md, column O).
const RULES: Rules = Rules {
    nodes: Nodes::Cloning { numbered: 1 },
    write_only_is_writer: false,
    bufsize: 32_768,
    bufsize_min: 32,
    bufsize_max: 2 << 20,
    buffers_fix_bufsize: false,
    sblen_makes_buffers: false,
    timeout: TimeoutRule {
        tick: Duration::from_micros(1),
        round_up: false,
        check: TimevalCheck::Nanoseconds,
    },
    immediate: ImmediateRule::WaitTimeout,
    direction: DirectionRule::HideMask,
    direction_default: 0,
    feedback: FeedbackRule::Once, // there is no such request
    name: NameRule::AsIs,
    unattached: Unattached::NxIoFirst,
    nothing_reads_zero: true,
    one_deadline: true,
    signal_gives_buffered: false,
    fionread_counts_hold: true,
    header_must_fit: false,
    poll: PollRules { unattached: UnattachedPoll::Same, writable: false, starts_timer: false },
    removal: Removal::Revokes,
    counts_hidden: true,
    write_filter_flushes: true,
    empty_filter_ignores_pointer: false,
    removing_filter_flushes: false,
    write: WriteRules {
        up_first: true,
        linktypes: WRITABLE,
        short: Errno::Inval,
        complete_has_no_header: false,
        leeway: 0,
        // MAXMCLBYTES
        largest: Some(Largest { bytes: 65_536, errno: Errno::MsgSize, before_mtu: true }),
        filter_passes_whole: true,
        ethertype_zero_is_length: false,
        loopback: LoopbackWrite::Family,
    },
    loopback_way: Way::Out,
    dlt_list_partial: true,
    dlt_keeps_promiscuous: false,
    ilp32: Ilp32Rule::Layout,
    root_ignores_lock: true,
};

/// The dialect `openbsd`.
pub static OPENBSD: Abi = Abi {
    name: "openbsd",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: hdr::OPENBSD,
    header32: hdr::OPENBSD,
    extended: None,
    filter: &cbpf::OPENBSD,
    loopback: LoopbackFraming { linktype: Linktype::LOOP, network_order: true, af_inet6: 24 },
    dlts: &[(Linktype::LOOP, 12), (Linktype::RAW, 14)],
    rules: RULES,
};
