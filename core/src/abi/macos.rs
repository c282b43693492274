//! macOS, xnu-11417 (2025). Source: bsd/net/bpf.h and bpf.c; abi.json. It has no BIOCLOCK. Header compression is as with
//! debug.bpf_hdr_comp_enable=0: it can be asked for, and is never on.

use std::time::Duration;

use super::ioctl::{Dir, Encoding, Flag, Op, Row, row};
use super::rules::*;
use super::{Abi, Arg, hdr};
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::errno::Errno;
use crate::linktype::Linktype;
use crate::packet::Way;

/// macOS's requests, those its SDK hides behind PRIVATE among them.
const REQUESTS: &[Row] = &[
    row("BIOCGBLEN", Op::GBlen, Dir::Out, b'B', 102, Arg::U32, true),
    row("BIOCSBLEN", Op::SBlen, Dir::InOut, b'B', 102, Arg::U32, true),
    row("BIOCSETF", Op::SetF, Dir::In, b'B', 103, Arg::Program64, true),
    row("BIOCSETF32", Op::SetF, Dir::In, b'B', 103, Arg::Program32, true),
    row("BIOCFLUSH", Op::Flush, Dir::Void, b'B', 104, Arg::Void, true),
    row("BIOCPROMISC", Op::Promisc, Dir::Void, b'B', 105, Arg::Void, true),
    row("BIOCGDLT", Op::GDlt, Dir::Out, b'B', 106, Arg::U32, true),
    row("BIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(32), true),
    row("BIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(32), true),
    row("BIOCGSTATS", Op::GStats, Dir::Out, b'B', 111, Arg::Stats32, true),
    row("BIOCIMMEDIATE", Op::Immediate, Dir::In, b'B', 112, Arg::U32, true),
    row("BIOCVERSION", Op::Version, Dir::Out, b'B', 113, Arg::Version, true),
    row("BIOCGHDRCMPLT", Op::GHdrCmplt, Dir::Out, b'B', 116, Arg::U32, true),
    row("BIOCSHDRCMPLT", Op::SHdrCmplt, Dir::In, b'B', 117, Arg::U32, true),
    row("BIOCSRTIMEOUT", Op::SRTimeout, Dir::In, b'B', 109, Arg::TimevalUsec32, true),
    row("BIOCSRTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 109, Arg::Timeval32, true),
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 110, Arg::TimevalUsec32, true),
    row("BIOCGRTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 110, Arg::Timeval32, true),
    row("BIOCGRSIG", Op::GRSig, Dir::Out, b'B', 114, Arg::U32, true),
    row("BIOCSRSIG", Op::SRSig, Dir::In, b'B', 115, Arg::U32, true),
    row("BIOCGSEESENT", Op::GSeeSent, Dir::Out, b'B', 118, Arg::U32, true),
    row("BIOCSSEESENT", Op::SSeeSent, Dir::In, b'B', 119, Arg::U32, true),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 120, Arg::U32, true),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 121, Arg::DltListPacked, true),
    row("BIOCGETTC", Op::GetTc, Dir::Out, b'B', 122, Arg::U32, true),
    row("BIOCSETTC", Op::SetTc, Dir::In, b'B', 123, Arg::U32, true),
    row("BIOCSEXTHDR", Op::SetFlag(Flag::ExtendedHeader), Dir::In, b'B', 124, Arg::U32, true),
    row("BIOCGIFATTACHCOUNT", Op::AttachCount, Dir::InOut, b'B', 125, Arg::Ifreq(32), true),
    row("BIOCSETFNR", Op::SetFnr, Dir::In, b'B', 126, Arg::Program64, true),
    row("BIOCSETFNR32", Op::SetFnr, Dir::In, b'B', 126, Arg::Program32, true),
    row("BIOCGWANTPKTAP", Op::GetFlag(Flag::WantPktap), Dir::Out, b'B', 127, Arg::U32, true),
    row("BIOCSWANTPKTAP", Op::SetFlag(Flag::WantPktap), Dir::InOut, b'B', 127, Arg::U32, true),
    row("BIOCSHEADDROP", Op::SetFlag(Flag::HeadDrop), Dir::In, b'B', 128, Arg::U32, true),
    row("BIOCGHEADDROP", Op::GetFlag(Flag::HeadDrop), Dir::Out, b'B', 128, Arg::U32, true),
    row("BIOCSTRUNCATE", Op::SetFlag(Flag::Truncate), Dir::In, b'B', 129, Arg::U32, true),
    row("BIOCGETUUID", Op::GetUuid, Dir::Out, b'B', 130, Arg::Bytes(16), true),
    row("BIOCSETUP", Op::Refused(Errno::OpNotSupp), Dir::In, b'B', 131, Arg::Bytes(32), true),
    row("BIOCSPKTHDRV2", Op::SetFlag(Flag::PktapHeaderV2), Dir::In, b'B', 132, Arg::U32, true),
    row("BIOCGPKTHDRV2", Op::GetFlag(Flag::PktapHeaderV2), Dir::In, b'B', 133, Arg::U32, true),
    row("BIOCGHDRCOMP", Op::GetFlag(Flag::HeaderCompression), Dir::Out, b'B', 134, Arg::U32, true),
    row("BIOCSHDRCOMP", Op::SetFlag(Flag::HeaderCompression), Dir::In, b'B', 135, Arg::U32, true),
    row("BIOCGHDRCOMPSTATS", Op::Zeros, Dir::Out, b'B', 136, Arg::Bytes(56), true),
    row("BIOCGHDRCOMPON", Op::Zeros, Dir::Out, b'B', 137, Arg::U32, true),
    row("BIOCGDIRECTION", Op::GDirection, Dir::Out, b'B', 138, Arg::U32, true),
    row("BIOCSDIRECTION", Op::SDirection, Dir::In, b'B', 139, Arg::U32, true),
    row("BIOCSWRITEMAX", Op::SWriteMax, Dir::In, b'B', 140, Arg::U32, true),
    row("BIOCGWRITEMAX", Op::GWriteMax, Dir::Out, b'B', 141, Arg::U32, true),
    row("BIOCGBATCHWRITE", Op::GetFlag(Flag::BatchWrite), Dir::Out, b'B', 142, Arg::U32, true),
    row("BIOCSBATCHWRITE", Op::SetFlag(Flag::BatchWrite), Dir::In, b'B', 143, Arg::U32, true),
    row("BIOCGNOTSTAMP", Op::GetFlag(Flag::NoTimestamp), Dir::Out, b'B', 144, Arg::U32, true),
    row("BIOCSNOTSTAMP", Op::SetFlag(Flag::NoTimestamp), Dir::In, b'B', 145, Arg::U32, true),
    row("BIOCGDVRTIN", Op::GetFlag(Flag::DivertIn), Dir::Out, b'B', 146, Arg::U32, true),
    row("BIOCSDVRTIN", Op::SetFlag(Flag::DivertIn), Dir::In, b'B', 146, Arg::U32, true),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, true),
    row("FIOASYNC", Op::FioAsync, Dir::In, b'f', 125, Arg::U32, true),
    row("SIOCGIFADDR", Op::GIfAddr, Dir::InOut, b'i', 33, Arg::Ifreq(32), true),
];

/// Link types that can be written, with their headers' lengths.
const WRITABLE: &[(Linktype, usize)] = &[
    (Linktype::EN10MB, 14),
    (Linktype::NULL, 0),
    (Linktype::RAW, 0),
    (Linktype::PPP, 4),
    (Linktype::APPLE_IP_OVER_IEEE1394, 18),
    (Linktype::IEEE802_11, 0),
    (Linktype::IEEE802_11_RADIO, 0),
];

/// macOS's rules (semantics.md, column M).
const RULES: Rules = Rules {
    nodes: Nodes::OneOpenerEach { at_first: 4, most: 256 },
    write_only_is_writer: false,
    bufsize: 4096,
    bufsize_min: 32,
    bufsize_max: 32 << 20,
    buffers_fix_bufsize: false,
    sblen_makes_buffers: false,
    timeout: TimeoutRule {
        tick: Duration::from_millis(10),
        round_up: true,
        check: TimevalCheck::UpTo(100_000_000),
    },
    immediate: ImmediateRule::FirstByte,
    direction: DirectionRule::ShowMask,
    direction_default: 3,
    feedback: FeedbackRule::Once, // there is no such request
    name: NameRule::AsIs,
    unattached: Unattached::NxIo,
    nothing_reads_zero: false,
    one_deadline: false,
    signal_gives_buffered: true,
    fionread_counts_hold: false,
    header_must_fit: true,
    poll: PollRules { unattached: UnattachedPoll::Ready, writable: true, starts_timer: true },
    removal: Removal::Wakes,
    counts_hidden: false,
    write_filter_flushes: false,
    empty_filter_ignores_pointer: false,
    removing_filter_flushes: true,
    write: WriteRules {
        up_first: true,
        linktypes: WRITABLE,
        short: Errno::MsgSize,
        complete_has_no_header: true,
        // BPF_WRITE_LEEWAY
        leeway: 18,
        // BPF_WRITE_MAX
        largest: Some(Largest { bytes: 16 << 20, errno: Errno::MsgSize, before_mtu: true }),
        filter_passes_whole: false,
        ethertype_zero_is_length: false,
        loopback: LoopbackWrite::Family,
    },
    loopback_way: Way::Out,
    dlt_list_partial: true,
    dlt_keeps_promiscuous: true,
    ilp32: Ilp32Rule::Layout,
    root_ignores_lock: false,
};

/// The dialect `macos`.
pub static MACOS: Abi = Abi {
    name: "macos",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: hdr::MACOS,
    header32: hdr::MACOS,
    extended: Some(hdr::MACOS_EXTENDED),
    filter: &cbpf::MACOS,
    loopback: LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 30 },
    dlts: &[],
    rules: RULES,
};
