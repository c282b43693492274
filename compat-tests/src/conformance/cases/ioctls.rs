//! ioctl(2): what each request takes, keeps and answers.

use bpfdev_core::abi::{FilterSource, Flag, Request, Response};

use super::programs::ret;
use crate::conformance::case::Case;
use crate::conformance::scene::{Scene, set_if};
use crate::conformance::system::{Per, System, per};

pub(super) type Steps = Vec<(Request, Per<&'static str>)>;

/// A case that asks a fresh descriptor several things.
pub(super) fn fresh(what: &str, title: &str, rule: &str, steps: Steps) -> Case {
    Case::new(format!("ioctl::{what}"), title, rule, move |s: &mut Scene| {
        let bpf = s.open()?;
        steps.iter().try_for_each(|(request, expected)| s.request(&bpf, request.clone(), *expected))
    })
}

/// The same, on the observed interface.
pub(super) fn attached(what: &str, title: &str, rule: &str, steps: Steps) -> Case {
    Case::new(format!("ioctl::{what}"), title, rule, move |s: &mut Scene| {
        let bpf = s.tap()?;
        steps.iter().try_for_each(|(request, expected)| s.request(&bpf, request.clone(), *expected))
    })
}

fn timeout(sec: i64, usec: i64) -> Request {
    Request::SRTimeout { sec, usec }
}

/// BIOCSRTIMEOUT and what BIOCGRTIMEOUT says afterwards.
fn timeout_kept(what: &str, title: &str, sec: i64, usec: i64, kept: Per<&'static str>) -> Case {
    let rule = "bpf(4), BIOCSRTIMEOUT; sys/net/bpf.c, tvtohz (FreeBSD, macOS: rounded up), bpf_ioctl (NetBSD: \
                milliseconds to ticks), nanoseconds (OpenBSD), tvtohz_low (DragonFly)";
    fresh(what, title, rule, vec![(timeout(sec, usec), "ok".into()), (Request::GRTimeout, kept)])
}

fn buffer_length() -> Vec<Case> {
    let rule =
        "bpf(4), BIOCSBLEN; sys/net/bpf.c, bpfioctl (FreeBSD: sys/net/bpf_buffer.c, bpf_buffer_ioctl_sblen)";
    let sblen = Request::SBlen;
    let row = |what: &str, title: &str, ask: u32, get: Per<&'static str>| {
        let asked_again = (Request::GBlen, get);
        fresh(what, title, rule, vec![(sblen(ask), get), asked_again])
    };
    vec![
        row("sblen_kept", "A buffer length is kept as it is, not rounded", 1001, "1001".into()),
        row("sblen_smallest", "32 bytes are the smallest buffer (BPF_MINBUFSIZE)", 32, "32".into()),
        row("sblen_too_small", "A smaller buffer becomes 32 bytes", 31, "32".into()),
        row("sblen_zero", "So does none", 0, "32".into()),
        row(
            "sblen_too_large",
            "A larger buffer becomes the largest (net.bpf.maxbufsize; macOS: 32 MiB)",
            u32::MAX,
            per("524288", "1048576", "2097152", "524288", "33554432"),
        ),
        row("sblen_half_a_megabyte", "524288 bytes are taken everywhere", 524_288, "524288".into()),
        row(
            "sblen_more_than_half_a_megabyte",
            "524289 bytes are too many for FreeBSD and DragonFly",
            524_289,
            per("524288", "524289", "524289", "524288", "524289"),
        ),
        attached(
            "sblen_when_attached",
            "The length is fixed once there is an interface",
            rule,
            vec![
                (sblen(1024), "EINVAL".into()),
                (sblen(512), "EINVAL".into()),
                (Request::GBlen, "512".into()),
            ],
        ),
        Case::new(
            "ioctl::sblen_after_a_failed_setif",
            "A BIOCSETIF that failed does not fix the length",
            "bpf(4), BIOCSBLEN; sys/net/bpf.c, bpf_setif",
            |s| {
                let bpf = s.open()?;
                s.request(&bpf, set_if("nosuch0"), "ENXIO")?;
                s.request(&bpf, Request::SBlen(2048), "2048")
            },
        ),
        Case::new(
            "ioctl::sblen_twice",
            "The length can be changed again before an interface is set",
            rule,
            |s| {
                let bpf = s.open()?;
                s.request(&bpf, Request::SBlen(2048), "2048")?;
                s.request(&bpf, Request::SBlen(1024), "1024")?;
                s.attach(&bpf)?;
                s.request(&bpf, Request::GBlen, "1024")
            },
        ),
    ]
}

fn timeouts() -> Vec<Case> {
    let check =
        "bpf(4), BIOCSRTIMEOUT; sys/net/bpf.c, bpfioctl (NetBSD 7: no check; OpenBSD: bpf_set_rtimeout)";
    let refused = |what: &str, title: &str, sec: i64, usec: i64, said: Per<&'static str>| {
        fresh(what, title, check, vec![(timeout(sec, usec), said)])
    };
    vec![
        timeout_kept("timeout_kept", "A time-out of whole ticks is kept", 2, 500_000, "2 s 500000 us".into()),
        timeout_kept(
            "timeout_one_microsecond",
            "The shortest time-out is one tick: 1 ms, 10 ms, or what was asked for (OpenBSD)",
            0,
            1,
            per("0 s 1000 us", "0 s 10000 us", "0 s 1 us", "0 s 10000 us", "0 s 10000 us"),
        ),
        timeout_kept(
            "timeout_between_ticks",
            "15 ms are rounded to ticks: up (macOS), down (NetBSD, DragonFly), or kept",
            0,
            15_000,
            per("0 s 15000 us", "0 s 10000 us", "0 s 15000 us", "0 s 10000 us", "0 s 20000 us"),
        ),
        timeout_kept(
            "timeout_part_of_a_millisecond",
            "1.5 ms are rounded: FreeBSD's tick is 1 ms",
            0,
            1_500,
            per("0 s 2000 us", "0 s 10000 us", "0 s 1500 us", "0 s 10000 us", "0 s 10000 us"),
        ),
        timeout_kept("timeout_zero", "Zero is no time-out", 0, 0, "0 s 0 us".into()),
        refused(
            "timeout_negative_seconds",
            "Negative seconds are refused",
            -1,
            0,
            per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL").netbsd7("ok"),
        ),
        refused(
            "timeout_negative_microseconds",
            "Negative microseconds are refused",
            0,
            -1,
            per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL").netbsd7("ok"),
        ),
        refused(
            "timeout_a_million_microseconds",
            "A second's worth of microseconds is refused",
            0,
            1_000_000,
            per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL").netbsd7("ok"),
        ),
        refused(
            "timeout_too_long",
            "What no clock can count to: clamped by NetBSD, EOVERFLOW on OpenBSD",
            i64::MAX / 2,
            0,
            per("EINVAL", "ok", "EOVERFLOW", "EINVAL", "EINVAL"),
        ),
    ]
}

fn flags() -> Vec<Case> {
    let unknown = "EINVAL";
    vec![
        fresh(
            "header_complete_is_a_flag",
            "BIOCSHDRCMPLT keeps whether its argument is zero",
            "bpf(4), BIOCSHDRCMPLT; sys/net/bpf.c, bpfioctl",
            vec![
                (Request::SHdrCmplt(5), "ok".into()),
                (Request::GHdrCmplt, "1".into()),
                (Request::SHdrCmplt(0), "ok".into()),
                (Request::GHdrCmplt, "0".into()),
            ],
        ),
        fresh(
            "signal_is_kept",
            "BIOCSRSIG's signal is kept; NetBSD has no such request",
            "bpf(4), BIOCSRSIG",
            vec![
                (Request::SRSig(10), per("ok", unknown, "ok", "ok", "ok")),
                (Request::GRSig, per("10", unknown, "10", "10", "10")),
            ],
        ),
        fresh(
            "signal_too_large",
            "What is no signal is refused",
            "bpf(4), BIOCSRSIG; sys/net/bpf.c, bpfioctl (NSIG)",
            vec![(Request::SRSig(1000), "EINVAL".into())],
        ),
        fresh(
            "feedback_is_kept",
            "Feedback is kept as it was set, where it can be asked for",
            "NetBSD bpf(4), BIOCSFEEDBACK; FreeBSD bpf(4), BIOCFEEDBACK",
            vec![
                (Request::Feedback(1), per("ok", "ok", unknown, "ok", unknown)),
                (Request::GFeedback, per(unknown, "1", unknown, "1", unknown)),
            ],
        ),
        fresh(
            "time_stamp_formats",
            "FreeBSD takes each format with the flags FAST and MONOTONIC, and NONE alone",
            "FreeBSD bpf(4), BIOCSTSTAMP; sys/net/bpf.h, BPF_T_VALID",
            [
                (0x001, "ok"),
                (0x102, "ok"),
                (0x302, "ok"),
                (0x003, "ok"),
                (0x103, "EINVAL"),
                (0x004, "EINVAL"),
                (0x400, "EINVAL"),
            ]
            .into_iter()
            .map(|(format, said)| (Request::STStamp(format), per(said, unknown, unknown, unknown, unknown)))
            .chain([(Request::GTStamp, per("3", unknown, unknown, unknown, unknown))])
            .collect(),
        ),
        fresh(
            "zero_copy_is_off",
            "Zero-copy buffers are refused, as where net.bpf.zerocopy_enable is 0 (FreeBSD)",
            "FreeBSD bpf(4), BIOCSETBUFMODE; sys/net/bpf.c, bpf_ioctl_setbufmode",
            vec![
                (Request::SBufMode(2), "EINVAL".into()),
                (Request::SBufMode(3), "EINVAL".into()),
                (Request::SBufMode(1), per("ok", unknown, unknown, unknown, unknown)),
            ],
        ),
        attached(
            "buffer_mode_when_attached",
            "The buffers' mode is fixed once there are buffers (FreeBSD)",
            "FreeBSD sys/net/bpf.c, bpf_ioctl_setbufmode",
            vec![(Request::SBufMode(1), per("EBUSY", unknown, unknown, unknown, unknown))],
        ),
        fresh(
            "vlan_priority",
            "A frame's priority is 0 to 7 (FreeBSD 14)",
            "FreeBSD bpf(4), BIOCSETVLANPCP",
            vec![
                (Request::SetVlanPcp(7), per("ok", unknown, unknown, unknown, unknown)),
                (Request::SetVlanPcp(8), "EINVAL".into()),
            ],
        ),
        fresh(
            "wait_timeout",
            "OpenBSD's wait time-out is kept, taken away, and set by immediate mode",
            "OpenBSD bpf(4), BIOCSWTIMEOUT, BIOCDWTIMEOUT; sys/net/bpf.c, bpfioctl (BIOCIMMEDIATE)",
            vec![
                (Request::SWTimeout { sec: 1, usec: 5 }, per(unknown, unknown, "ok", unknown, unknown)),
                (Request::GWTimeout, per(unknown, unknown, "1 s 5 us", unknown, unknown)),
                (Request::DWTimeout, per(unknown, unknown, "ok", unknown, unknown)),
                (Request::GWTimeout, per(unknown, unknown, "ENXIO", unknown, unknown)),
                (Request::Immediate(1), "ok".into()),
                (Request::GWTimeout, per(unknown, unknown, "0 s 0 us", unknown, unknown)),
                (Request::Immediate(0), "ok".into()),
                (Request::GWTimeout, per(unknown, unknown, "ENXIO", unknown, unknown)),
            ],
        ),
        fresh(
            "drop_filter_values",
            "OpenBSD's drop filter is 0, 1 or 2",
            "OpenBSD bpf(4), BIOCSFILDROP; sys/net/bpf.c, bpfioctl",
            vec![
                (Request::SFilDrop(1), per(unknown, unknown, "ok", unknown, unknown)),
                (Request::GFilDrop, per(unknown, unknown, "1", unknown, unknown)),
                (Request::SFilDrop(3), "EINVAL".into()),
            ],
        ),
        fresh(
            "drop_without_capture",
            "OpenBSD drops packets without capturing them when asked for 2",
            "OpenBSD bpf(4), BIOCSFILDROP, BPF_FILDROP_DROP",
            vec![
                (Request::SFilDrop(2), per(unknown, unknown, "ok", unknown, unknown)),
                (Request::GFilDrop, per(unknown, unknown, "2", unknown, unknown)),
            ],
        ),
        fresh(
            "head_drop_is_a_flag",
            "macOS's head drop can be set and asked for",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCSHEADDROP",
            vec![
                (Request::SetFlag(Flag::HeadDrop, 7), per(unknown, unknown, unknown, unknown, "ok")),
                (Request::GetFlag(Flag::HeadDrop), per(unknown, unknown, unknown, unknown, "1")),
            ],
        ),
        fresh(
            "write_max",
            "macOS takes a larger limit for writes, up to 16 MiB",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCSWRITEMAX (BPF_WRITE_MAX)",
            vec![
                (Request::SWriteMax(16 << 20), per(unknown, unknown, unknown, unknown, "ok")),
                (Request::GWriteMax, per(unknown, unknown, unknown, unknown, "16777216")),
                (Request::SWriteMax((16 << 20) + 1), "EINVAL".into()),
            ],
        ),
        fresh(
            "traffic_class",
            "macOS takes the socket layer's traffic classes only",
            "xnu bsd/net/bpf.c, bpf_set_traffic_class (SO_VALID_TC)",
            vec![
                (Request::SetTc(700), per(unknown, unknown, unknown, unknown, "ok")),
                (Request::GetTc, per(unknown, unknown, unknown, unknown, "700")),
                (Request::SetTc(7), "EINVAL".into()),
            ],
        ),
        fresh(
            "no_time_stamps_is_a_flag",
            "macOS can leave time stamps out",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCSNOTSTAMP",
            vec![
                (Request::SetFlag(Flag::NoTimestamp, 1), per(unknown, unknown, unknown, unknown, "ok")),
                (Request::GetFlag(Flag::NoTimestamp), per(unknown, unknown, unknown, unknown, "1")),
            ],
        ),
        fresh(
            "batch_write_wants_complete_headers",
            "macOS takes batches only with complete headers",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCSBATCHWRITE",
            vec![(Request::SetFlag(Flag::BatchWrite, 1), "EINVAL".into())],
        ),
        fresh(
            "every_descriptor_has_a_uuid",
            "macOS's descriptors have an identity",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCGETUUID",
            vec![(Request::GetUuid, per(unknown, unknown, unknown, unknown, "a uuid"))],
        ),
        Case::new(
            "ioctl::owner_is_kept",
            "FIOSETOWN's process is given back; macOS's driver has no such request",
            "sys/net/bpf.c, bpfioctl, FIOSETOWN, FIOGETOWN (NetBSD: fsetown)",
            |s| {
                let bpf = s.open()?;
                let own = i32::try_from(std::process::id()).unwrap_or(0);
                s.request(&bpf, Request::SetOwn(own), per("ok", "ok", "ok", "ok", "EINVAL"))?;
                s.only(&System::ALL[..6], "there is no FIOGETOWN")?;
                let given_back = s.ask(&bpf, Request::GetOwn)? == Response::U32(own.cast_unsigned());
                let seen = if given_back { "the same process" } else { "another" };
                s.check("FIOGETOWN", "the same process", seen)
            },
        ),
    ]
}

fn unknown() -> Vec<Case> {
    let absent =
        "sys/net/bpf.h: the system has no such request; sys/net/bpf.c, bpfioctl: default EINVAL, not ENOTTY";
    let row = |what: &str, name: &str, request: Request, said: Per<&'static str>| {
        let title = format!("{name} is EINVAL where there is no such request");
        fresh(&format!("absent_{what}"), &title, absent, vec![(request, said)])
    };
    vec![
        row("lock", "BIOCLOCK", Request::Lock, per("ok", "ok", "ok", "ok", "EINVAL").netbsd7("EINVAL")),
        row(
            "setwf",
            "BIOCSETWF",
            Request::SetWf(FilterSource::new(&ret(1))),
            per("ok", "ok", "ok", "ok", "EINVAL").netbsd7("EINVAL"),
        ),
        row(
            "setfnr",
            "BIOCSETFNR",
            Request::SetFnr(FilterSource::new(&ret(1))),
            per("ok", "EINVAL", "EINVAL", "EINVAL", "ok"),
        ),
        row("getfeedback", "BIOCGFEEDBACK", Request::GFeedback, per("EINVAL", "0", "EINVAL", "0", "EINVAL")),
        row(
            "gseesent",
            "BIOCGSEESENT beside BIOCGDIRECTION",
            Request::GSeeSent,
            per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "1"),
        ),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [buffer_length(), timeouts(), flags(), unknown()].into_iter().flatten().collect()
}
