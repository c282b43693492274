//! DragonFly, amd64 only. Source: sys/net/bpf.h and bpf.c of 2016, request numbers of later ones by golang.org/x/sys; abi.json.
//! What BIOCFEEDBACK does was not read (it came later): it is taken to do as FreeBSD's.

use std::time::Duration;

use super::hdr::NETBSD64;
use super::ioctl::{Dir, Encoding, Op, Row, row};
use super::rules::*;
use super::{Abi, Arg};
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::errno::Errno;
use crate::linktype::Linktype;
use crate::packet::Way;

/// DragonFly's requests; the last column: still works after BIOCLOCK.
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
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval64, true),
    row("BIOCGRSIG", Op::GRSig, Dir::Out, b'B', 114, Arg::U32, true),
    row("BIOCSRSIG", Op::SRSig, Dir::In, b'B', 115, Arg::U32, false),
    row("BIOCGSEESENT", Op::GDirection, Dir::Out, b'B', 118, Arg::U32, false),
    row("BIOCSSEESENT", Op::SDirection, Dir::In, b'B', 119, Arg::U32, false),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 120, Arg::U32, false),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 121, Arg::DltList64, true),
    row("BIOCGDLTLIST32", Op::GDltList, Dir::InOut, b'B', 121, Arg::DltList32, true),
    row("BIOCLOCK", Op::Lock, Dir::Void, b'B', 122, Arg::Void, true),
    row("BIOCSETWF", Op::SetWf, Dir::In, b'B', 123, Arg::Program64, false),
    row("BIOCSETWF32", Op::SetWf, Dir::In, b'B', 123, Arg::Program32, false),
    row("BIOCGFEEDBACK", Op::GFeedback, Dir::Out, b'B', 124, Arg::U32, false),
    row("BIOCSFEEDBACK", Op::Feedback, Dir::In, b'B', 125, Arg::U32, false),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, false),
    row("FIOASYNC", Op::FioAsync, Dir::In, b'f', 125, Arg::U32, false),
    row("FIOSETOWN", Op::SetOwn, Dir::In, b'f', 124, Arg::U32, false),
    row("FIOGETOWN", Op::GetOwn, Dir::Out, b'f', 123, Arg::U32, false),
    row("TIOCSPGRP", Op::SetPgrp, Dir::In, b't', 118, Arg::U32, false),
    row("TIOCGPGRP", Op::GetPgrp, Dir::Out, b't', 119, Arg::U32, true),
    row("SIOCGIFADDR", Op::GIfAddr, Dir::InOut, b'i', 33, Arg::Ifreq(32), false),
];

/// Link types that can be written, with their headers' lengths.
const WRITABLE: &[(Linktype, usize)] = &[
    (Linktype::EN10MB, 14),
    (Linktype::NULL, 4),
    (Linktype::RAW, 0),
    (Linktype::PPP, 0),
    (Linktype::SLIP, 0),
    (Linktype::ATM_RFC1483, 0),
    (Linktype::IEEE802_11, 0),
];

/// DragonFly's rules (semantics.md, column D).
const RULES: Rules = Rules {
    nodes: Nodes::CloningAndFixed { fixed: 4 },
    write_only_is_writer: false,
    bufsize: 4096,
    bufsize_min: 32,
    bufsize_max: 524_288,
    buffers_fix_bufsize: false,
    sblen_makes_buffers: false,
    timeout: TimeoutRule {
        tick: Duration::from_millis(10),
        round_up: false,
        check: TimevalCheck::UpTo(100_000_000),
    },
    immediate: ImmediateRule::Flag,
    direction: DirectionRule::SeeSent,
    direction_default: 1,
    feedback: FeedbackRule::Once,
    name: NameRule::AsIs,
    unattached: Unattached::NxIo,
    nothing_reads_zero: false,
    one_deadline: false,
    signal_gives_buffered: false,
    fionread_counts_hold: true,
    header_must_fit: false,
    poll: PollRules { unattached: UnattachedPoll::Nothing, writable: false, starts_timer: true },
    removal: Removal::Wakes,
    counts_hidden: false,
    write_filter_flushes: true,
    empty_filter_ignores_pointer: false,
    removing_filter_flushes: false,
    write: WriteRules {
        up_first: false,
        linktypes: WRITABLE,
        short: Errno::Perm,
        complete_has_no_header: false,
        leeway: 0,
        // MCLBYTES
        largest: Some(Largest { bytes: 2048, errno: Errno::Io, before_mtu: true }),
        filter_passes_whole: false,
        ethertype_zero_is_length: false,
        loopback: LoopbackWrite::Family,
    },
    loopback_way: Way::In,
    dlt_list_partial: true,
    dlt_keeps_promiscuous: true,
    ilp32: Ilp32Rule::Layout,
    root_ignores_lock: false,
};

/// The dialect `dragonfly`.
pub static DRAGONFLY: Abi = Abi {
    name: "dragonfly",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: NETBSD64,
    header32: NETBSD64,
    extended: None,
    filter: &cbpf::DRAGONFLY,
    loopback: LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 },
    dlts: &[],
    rules: RULES,
};
