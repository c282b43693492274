//! illumos: its table only, to look things up and to compare; its device is not served. Source: uts/common/io/bpf/bpf.c, and
//! golang.org/x/sys for numbers and sizes; abi.json. The rules are NetBSD's, from which its driver comes, and were not checked.

use super::ioctl::{Dir, Encoding, Op, Row, row};
use super::rules::{Nodes, Rules};
use super::{Abi, Arg, hdr, netbsd};
use crate::backend::LoopbackFraming;
use crate::cbpf;
use crate::errno::Errno;
use crate::linktype::Linktype;

/// illumos's requests. It has no BIOCLOCK.
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
    row("BIOCGSTATS", Op::GStats, Dir::Out, b'B', 111, Arg::Stats64, true),
    row("BIOCIMMEDIATE", Op::Immediate, Dir::In, b'B', 112, Arg::U32, true),
    row("BIOCVERSION", Op::Version, Dir::Out, b'B', 113, Arg::Version, true),
    row("BIOCGHDRCMPLT", Op::GHdrCmplt, Dir::Out, b'B', 116, Arg::U32, true),
    row("BIOCSHDRCMPLT", Op::SHdrCmplt, Dir::In, b'B', 117, Arg::U32, true),
    row("BIOCGETLIF", Op::GetIf, Dir::Out, b'B', 107, Arg::Ifreq(120), true),
    row("BIOCSETLIF", Op::SetIf, Dir::In, b'B', 108, Arg::Ifreq(120), true),
    row("BIOCGSTATSOLD", Op::Refused(Errno::Inval), Dir::Out, b'B', 111, Arg::Stats32, true),
    row("BIOCSTCPF", Op::Refused(Errno::Inval), Dir::In, b'B', 114, Arg::Program64, true),
    row("BIOCSTCPF32", Op::Refused(Errno::Inval), Dir::In, b'B', 114, Arg::Program32, true),
    row("BIOCSUDPF", Op::Refused(Errno::Inval), Dir::In, b'B', 115, Arg::Program64, true),
    row("BIOCSUDPF32", Op::Refused(Errno::Inval), Dir::In, b'B', 115, Arg::Program32, true),
    row("BIOCSDLT", Op::SDlt, Dir::In, b'B', 118, Arg::U32, true),
    row("BIOCGDLTLIST", Op::GDltList, Dir::InOut, b'B', 119, Arg::DltList64, true),
    row("BIOCGDLTLIST32", Op::GDltList, Dir::InOut, b'B', 119, Arg::DltList32, true),
    row("BIOCGSEESENT", Op::GDirection, Dir::Out, b'B', 120, Arg::U32, true),
    row("BIOCSSEESENT", Op::SDirection, Dir::In, b'B', 121, Arg::U32, true),
    row("BIOCSRTIMEOUT", Op::SRTimeout, Dir::In, b'B', 122, Arg::Timeval64, true),
    row("BIOCSRTIMEOUT32", Op::SRTimeout, Dir::In, b'B', 122, Arg::Timeval32, true),
    row("BIOCGRTIMEOUT", Op::GRTimeout, Dir::Out, b'B', 123, Arg::Timeval64, true),
    row("BIOCGRTIMEOUT32", Op::GRTimeout, Dir::Out, b'B', 123, Arg::Timeval32, true),
    row("FIONREAD", Op::FionRead, Dir::Out, b'f', 127, Arg::U32, true),
    row("FIONBIO", Op::FionBio, Dir::In, b'f', 126, Arg::U32, true),
];

/// The table `illumos`.
pub static ILLUMOS: Abi = Abi {
    name: "illumos",
    encodings: &[Encoding::Bsd],
    requests: REQUESTS,
    header: hdr::ILLUMOS,
    header32: hdr::ILLUMOS,
    extended: None,
    filter: &cbpf::NETBSD,
    loopback: LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 26 },
    dlts: &[],
    rules: Rules { nodes: Nodes::None, bufsize_max: 16 << 20, ..netbsd::RULES },
};
