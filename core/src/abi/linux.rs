//! Our own dialect, what net/bpf.h of this project defines: FreeBSD's LP64 layouts and requests in Linux's encoding.
//!
//! FreeBSD's own numbers are taken too: the two lists do not collide. Where it behaves otherwise than FreeBSD,
//! DIFFERENCES.md has the row and the reason.

use super::hdr::{FREEBSD32, FREEBSD64};
use super::ioctl::{Dir, Encoding, Op, Row, row};
use super::rules::{Ilp32Rule, Nodes, Rules};
use super::{Abi, Arg, freebsd};
use crate::backend::LoopbackFraming;
use crate::cbpf;

/// `struct ifreq` may have any size that holds a name: 40 bytes on Linux, 32 on the BSDs.
const IFREQ: [Row; 2] = [
    row("BIOCGETIF", Op::GetIf, Dir::Out, b'B', 107, Arg::AnyIfreq, true),
    row("BIOCSETIF", Op::SetIf, Dir::In, b'B', 108, Arg::AnyIfreq, false),
];

const COUNT: usize = freebsd::REQUESTS.len();

const REQUESTS: [Row; COUNT] = {
    let mut rows = [freebsd::REQUESTS[0]; COUNT];
    let mut i = 0;
    while i < COUNT {
        rows[i] = match freebsd::REQUESTS[i].op {
            Op::GetIf => IFREQ[0],
            Op::SetIf => IFREQ[1],
            _ => freebsd::REQUESTS[i],
        };
        i += 1;
    }
    rows
};

/// The dialect `linux`.
pub static LINUX: Abi = Abi {
    name: "linux",
    encodings: &[Encoding::Linux, Encoding::Bsd],
    requests: &REQUESTS,
    header: FREEBSD64,
    header32: FREEBSD32,
    extended: None,
    filter: &cbpf::LINUX_ABI,
    // AF_INET6 of the C library that programs of this dialect are compiled with, and libpcap's filters
    loopback: LoopbackFraming { af_inet6: 10, ..freebsd::LOOPBACK },
    dlts: &[],
    rules: Rules {
        nodes: Nodes::Cloning { numbered: 16 },
        ilp32: Ilp32Rule::Any,
        write_only_is_writer: false,
        ..freebsd::RULES
    },
};
