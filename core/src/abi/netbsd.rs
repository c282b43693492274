//! NetBSD: 10 and -current as `netbsd`, and 7.99.34, whose recorded answers are in compat-tests/oracle, as `netbsd7`.
//! Source: sys/net/bpf.h and bpf.c; abi.json; the recordings.

use std::time::Duration;

use super::hdr::{NETBSD32, NETBSD64};
use super::ioctl::{Dir, Encoding, Op, Row, row};
use super::rules::*;
use super::{Abi, Arg};
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::errno::Errno;
use crate::linktype::Linktype;
use crate::packet::Way;

const REQUESTS: &[Row] = &[
    row("BIOCGBLEN", Op::GBlen, Dir::Out, b'B', 102, Arg::U32, true),
    row("BIOCSBLEN", Op::SBlen, Dir::InOut, b'B', 102, Arg::U32, false),
    row("BIOCSETF", Op::SetF, Dir::In, b'B', 103, Arg::Program64, false),
    row("BIOCSETF32", Op::SetF, Dir::In, b'B', 103, Arg::Program32, false),
    row("BIOCFLUSH", Op::Flush, Dir::Void, b'B', 104, Arg::Void, true),
    row("BIOCPROMISC", Op::Promisc, Dir::Void, b'B', 105, Arg::Void, false),
    row("BIOCGDLT", Op::GDlt, Dir::Out, b'B', 106, Arg::U32, true),
    row("BIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(144), true),
    row("BIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(144), false),
    row("OBIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(32), false),
    row("OBIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(32), false),
    row("BIOCSORTIMEOUT", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval64, false),
    row("BIOCSORTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval32, false),
    row("BIOCGORTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval64, false),
    row("BIOCGORTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval32, false),
    row("BIOCGSTATS", Op::GStats, Dir::Out, b'B', 111, Arg::Stats64, true),
    row("BIOCGSTATSOLD", Op::GStats, Dir::Out, b'B', 111, Arg::Stats32, false),
    row("BIOCIMMEDIATE", Op::Immediate, Dir::In, b'B', 112, Arg::U32, true),
    row("BIOCVERSION", Op::Version, Dir::Out, b'B', 113, Arg::Version, true),
    row("BIOCSTCPF", Op::Refused(Errno::Inval), Dir::In, b'B', 114, Arg::Program64, false),
    row("BIOCSTCPF32", Op::Refused(Errno::Inval), Dir::In, b'B', 114, Arg::Program32, false),
    row("BIOCSUDPF", Op::Refused(Errno::Inval), Dir::In, b'B', 115, Arg::Program64, false),
    row("BIOCSUDPF32", Op::Refused(Errno::Inval), Dir::In, b'B', 115, Arg::Program32, false),
    row("BIOCGHDRCMPLT", Op::GHdrCmplt, Dir::Out, b'B', 116, Arg::U32, true),
    row("BIOCSHDRCMPLT", Op::SHdrCmplt, Dir::In, b'B', 117, Arg::U32, false),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 118, Arg::U32, false),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 119, Arg::DltList64, true),
    row("BIOCGDLTLIST32", Op::GDltList, Dir::InOut, b'B', 119, Arg::DltList32, true),
    row("BIOCGDIRECTION", Op::GDirection, Dir::Out, b'B', 120, Arg::U32, false),
    row("BIOCSDIRECTION", Op::SDirection, Dir::In, b'B', 121, Arg::U32, false),
    row("BIOCSRTIMEOUT", Op::SRTimeout, Dir::In, b'B', 122, Arg::TimevalUsec32, true),
    row("BIOCSRTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 122, Arg::Timeval12, true),
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 123, Arg::TimevalUsec32, true),
    row("BIOCGRTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 123, Arg::Timeval12, true),
    row("BIOCGFEEDBACK", Op::GFeedback, Dir::Out, b'B', 124, Arg::U32, false),
    row("BIOCSFEEDBACK", Op::Feedback, Dir::In, b'B', 125, Arg::U32, false),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, false),
    row("FIOASYNC", Op::FioAsync, Dir::In, b'f', 125, Arg::U32, false),
    row("FIOSETOWN", Op::SetOwn, Dir::In, b'f', 124, Arg::U32, false),
    row("FIOGETOWN", Op::GetOwn, Dir::Out, b'f', 123, Arg::U32, false),
    row("TIOCSPGRP", Op::SetPgrp, Dir::In, b't', 118, Arg::U32, false),
    row("TIOCGPGRP", Op::GetPgrp, Dir::Out, b't', 119, Arg::U32, true),
    // not in 7.99.34: `NETBSD7` leaves these out
    row("BIOCLOCK", Op::Lock, Dir::Void, b'B', 126, Arg::Void, true),
    row("BIOCSETWF", Op::SetWf, Dir::In, b'B', 127, Arg::Program64, false),
    row("BIOCSETWF32", Op::SetWf, Dir::In, b'B', 127, Arg::Program32, false),
];

const SINCE_NETBSD_10: usize = 3;

/// Link types that can be written, with their headers' lengths (ARCNET and ECONET, which Linux has not, left out).
const WRITABLE: &[(Linktype, usize)] = &[
    (Linktype::EN10MB, 14),
    (Linktype::NULL, 4),
    (Linktype::PPP, 0),
    (Linktype::SLIP, 0),
    (Linktype::FDDI, 0),
];

pub(super) const RULES: Rules = Rules {
    nodes: Nodes::Cloning { numbered: 16 },
    write_only_is_writer: false,
    bufsize: 32_768,
    bufsize_min: 32,
    bufsize_max: 1 << 20,
    buffers_fix_bufsize: true,
    sblen_makes_buffers: false,
    timeout: TimeoutRule { tick: Duration::from_millis(10), round_up: false, check: TimevalCheck::Clamp },
    immediate: ImmediateRule::Flag,
    direction: DirectionRule::InInoutOut,
    direction_default: 1,
    feedback: FeedbackRule::Hidden,
    name: NameRule::NeedsUnit,
    unattached: Unattached::Waits,
    nothing_reads_zero: false,
    one_deadline: false,
    signal_gives_buffered: false,
    fionread_counts_hold: true,
    header_must_fit: false,
    poll: PollRules { unattached: UnattachedPoll::Same, writable: true, starts_timer: true },
    removal: Removal::Silent,
    counts_hidden: false,
    write_filter_flushes: true,
    empty_filter_ignores_pointer: true,
    removing_filter_flushes: false,
    write: WriteRules {
        up_first: false,
        linktypes: WRITABLE,
        short: Errno::MsgSize,
        complete_has_no_header: false,
        leeway: 0,
        largest: None,
        filter_passes_whole: false,
        ethertype_zero_is_length: true,
        loopback: LoopbackWrite::Family,
    },
    loopback_way: Way::Out,
    dlt_list_partial: true,
    dlt_keeps_promiscuous: true,
    ilp32: Ilp32Rule::Last,
    root_ignores_lock: false,
};

const LOOPBACK: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 24 };

/// The dialect `netbsd`: NetBSD 10 and -current.
pub static NETBSD: Abi = Abi {
    name: "netbsd",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: NETBSD64,
    header32: NETBSD32,
    extended: None,
    filter: &cbpf::NETBSD,
    loopback: LOOPBACK,
    dlts: &[],
    rules: RULES,
};

/// The dialect `netbsd7`: the version the recordings were made on.
pub static NETBSD7: Abi = Abi {
    name: "netbsd7",
    requests: REQUESTS.split_at(REQUESTS.len() - SINCE_NETBSD_10).0,
    rules: Rules {
        timeout: TimeoutRule { check: TimevalCheck::None, ..RULES.timeout },
        nodes: Nodes::Cloning { numbered: 0 },
        buffers_fix_bufsize: false,
        direction: DirectionRule::SeeSent,
        write: WriteRules { loopback: LoopbackWrite::Refused, ..RULES.write },
        ..RULES
    },
    ..NETBSD
};
