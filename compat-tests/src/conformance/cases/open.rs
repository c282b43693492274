//! open(2), and what a fresh descriptor is like.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::file::Access;

use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::scene::Scene;
use crate::conformance::system::{Per, System, per};

/// Systems with BIOCGRSIG.
const WITH_SIGNAL: [System; 5] =
    [System::Linux, System::FreeBsd, System::OpenBsd, System::DragonFly, System::MacOs];

const DEFAULTS: &str = "bpf(4), DESCRIPTION; sys/net/bpf.c, bpfopen";

/// A case that asks a fresh descriptor one thing.
fn fresh(
    what: &str,
    title: &str,
    rule: &str,
    request: Request,
    expected: impl Into<Per<&'static str>>,
) -> Case {
    let expected = expected.into();
    Case::new(format!("open::{what}"), title, rule, move |s: &mut Scene| {
        let bpf = s.open()?;
        s.request(&bpf, request.clone(), expected)
    })
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    vec![
        fresh(
            "default_buffer_length",
            "A fresh descriptor's buffer has the system's default length",
            "bpf(4), BIOCGBLEN; sys/net/bpf.c, bpf_bufsize (NetBSD, OpenBSD: BPF_DEFAULTBUFSIZE)",
            Request::GBlen,
            per("4096", "32768", "32768", "4096", "4096"),
        ),
        fresh("default_timeout", "Reads wait for ever by default", DEFAULTS, Request::GRTimeout, "0 s 0 us"),
        fresh(
            "default_header_complete",
            "The link-level source address is filled in by default",
            "bpf(4), BIOCGHDRCMPLT",
            Request::GHdrCmplt,
            "0",
        ),
        fresh(
            "default_direction",
            "Packets of both directions are seen by default",
            "FreeBSD, NetBSD bpf(4), BIOCGDIRECTION; OpenBSD bpf(4), BIOCGDIRFILT; DragonFly bpf(4), BIOCGSEESENT; \
             xnu bsd/net/bpf.h, BPF_D_INOUT",
            Request::GDirection,
            per("1", "1", "0", "1", "3"),
        ),
        Case::new(
            "open::default_signal",
            "The signal for FIOASYNC is SIGIO; NetBSD has no request to ask for it",
            "bpf(4), BIOCGRSIG; sys/net/bpf.c, bpfopen (bd_sig = SIGIO)",
            |s| {
                s.only(&WITH_SIGNAL, "there is no BIOCGRSIG")?;
                let bpf = s.open()?;
                // the number is that of the host's own programs
                let seen = match s.ask(&bpf, Request::GRSig)? {
                    Response::U32(signal) if signal == libc::SIGIO.cast_unsigned() => "SIGIO".to_owned(),
                    other => format!("{other:?}"),
                };
                s.check("BIOCGRSIG", "SIGIO", seen)
            },
        ),
        fresh(
            "default_counters",
            "The counters begin at zero, without an interface too",
            "bpf(4), BIOCGSTATS",
            Request::GStats,
            per("recv 0 drop 0", "recv 0 drop 0 capt 0", "recv 0 drop 0", "recv 0 drop 0", "recv 0 drop 0"),
        ),
        fresh(
            "version",
            "The filter language is version 1.1",
            "bpf(4), BIOCVERSION; net/bpf.h, BPF_MAJOR_VERSION and BPF_MINOR_VERSION",
            Request::Version,
            "1.1",
        ),
        fresh(
            "nothing_buffered",
            "Nothing is buffered in a fresh descriptor",
            "bpf(4), FIONREAD; sys/net/bpf.c, bpfioctl",
            Request::FionRead,
            "0",
        ),
        fresh(
            "default_feedback",
            "Feedback is off by default; FreeBSD, OpenBSD and macOS have no request to ask for it",
            "NetBSD bpf(4), BIOCGFEEDBACK; DragonFly sys/net/bpf.h, BIOCGFEEDBACK",
            Request::GFeedback,
            per("EINVAL", "0", "EINVAL", "0", "EINVAL"),
        ),
        fresh(
            "default_time_stamps",
            "Time stamps are in microseconds by default (FreeBSD's BPF_T_MICROTIME)",
            "FreeBSD bpf(4), BIOCGETTSTAMP (BIOCGTSTAMP)",
            Request::GTStamp,
            per("0", "EINVAL", "EINVAL", "EINVAL", "EINVAL"),
        ),
        fresh(
            "default_buffer_mode",
            "The buffers are the kernel's by default (FreeBSD's BPF_BUFMODE_BUFFER)",
            "FreeBSD bpf(4), BIOCGETBUFMODE",
            Request::GBufMode,
            per("1", "EINVAL", "EINVAL", "EINVAL", "EINVAL"),
        ),
        fresh(
            "default_wait_timeout",
            "No wait time-out is set by default (OpenBSD)",
            "OpenBSD bpf(4), BIOCGWTIMEOUT; sys/net/bpf.c, bpf_get_wtimeout",
            Request::GWTimeout,
            per("EINVAL", "EINVAL", "ENXIO", "EINVAL", "EINVAL"),
        ),
        fresh(
            "default_drop_filter",
            "Packets are not taken from the host by default (OpenBSD)",
            "OpenBSD bpf(4), BIOCGFILDROP",
            Request::GFilDrop,
            per("EINVAL", "EINVAL", "0", "EINVAL", "EINVAL"),
        ),
        fresh(
            "default_write_max",
            "The MTU limits what is written by default (macOS)",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCGWRITEMAX",
            Request::GWriteMax,
            per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "0"),
        ),
        Case::new(
            "open::each_has_its_own_state",
            "Two opens are two descriptors",
            "bpf(4), DESCRIPTION: associated with a specific instance; sys/net/bpf.c, bpfopen",
            |s| {
                let (one, other) = (s.open()?, s.open()?);
                s.request(&one, Request::SHdrCmplt(1), "ok")?;
                s.request(&one, Request::SBlen(1024), "1024")?;
                s.request(&other, Request::GHdrCmplt, "0")?;
                s.request(&other, Request::GBlen, per("4096", "32768", "32768", "4096", "4096"))
            },
        ),
        Case::new(
            "open::read_only_cannot_write",
            "A descriptor opened for reading cannot be written",
            "write(2), EBADF; the file layer",
            |s| {
                let bpf = s.open_for(Access::Read)?;
                s.attach(&bpf)?;
                s.write(&bpf, &frame(60, 1), "EBADF")
            },
        ),
        Case::new(
            "open::write_only_cannot_read",
            "A descriptor opened for writing cannot be read",
            "read(2), EBADF; the file layer",
            |s| {
                let bpf = s.open_for(Access::Write)?;
                s.attach(&bpf)?;
                s.nonblocking(&bpf, true)?;
                s.read(&bpf, "EBADF")
            },
        ),
        Case::new(
            "open::write_only_sees_no_packets",
            "A descriptor opened for writing sees no packets on FreeBSD, until it has a read filter",
            "FreeBSD sys/net/bpf.c, bpf_attachd and bpf_check_upgrade (bd_writer)",
            |s| {
                let bpf = s.open_for(Access::Write)?;
                s.attach(&bpf)?;
                s.receive(1)?;
                let seen = per(
                    "recv 0 drop 0",
                    "recv 1 drop 0 capt 1",
                    "recv 1 drop 0",
                    "recv 1 drop 0",
                    "recv 1 drop 0",
                );
                s.stats(&bpf, seen.linux("recv 1 drop 0"))
            },
        ),
        Case::new(
            "open::writer_becomes_reader_by_a_filter",
            "A filter that does more than cut makes FreeBSD's writer a reader",
            "FreeBSD sys/net/bpf.c, bpf_check_upgrade",
            |s| {
                s.only(&[System::FreeBsd], "only FreeBSD has descriptors that are writers only")?;
                let bpf = s.open_for(Access::Write)?;
                s.attach(&bpf)?;
                s.filter(&bpf, &super::programs::all_of_ethertype())?;
                s.receive(1)?;
                s.stats(&bpf, "recv 1 drop 0")
            },
        ),
        Case::new(
            "open::writer_becomes_reader_by_two_cuts",
            "Of filters that only cut, the second makes FreeBSD's writer a reader",
            "FreeBSD sys/net/bpf.c, bpf_check_upgrade (libpcap sets one such filter by itself)",
            |s| {
                s.only(&[System::FreeBsd], "only FreeBSD has descriptors that are writers only")?;
                let bpf = s.open_for(Access::Write)?;
                s.attach(&bpf)?;
                s.filter(&bpf, &super::programs::ret(96))?;
                s.receive(1)?;
                s.stats(&bpf, "recv 0 drop 0")?;
                s.filter(&bpf, &super::programs::ret(96))?;
                s.receive(2)?;
                s.stats(&bpf, "recv 1 drop 0")
            },
        ),
    ]
}
