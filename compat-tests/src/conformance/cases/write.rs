//! write(2): what is checked, what is changed, who sees it.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;

use super::programs::ret;
use crate::conformance::case::Case;
use crate::conformance::frame::{ETHERTYPE, SOMEBODY, frame};
use crate::conformance::scene::Scene;
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, System, per};

const WRITE: &str = "bpf(4), DESCRIPTION; sys/net/bpf.c, bpfwrite and bpf_movein (NetBSD: bpf_write)";
const EMPTY: Per<&str> = per("EAGAIN", "EAGAIN", "nothing", "EAGAIN", "EAGAIN");

fn set_wf(program: &[Insn]) -> Request {
    Request::SetWf(FilterSource::new(program))
}

/// Systems with BIOCSETWF.
const WITH_WRITE_FILTER: &[System] =
    &[System::Linux, System::FreeBsd, System::NetBsd, System::OpenBsd, System::DragonFly];

/// A write of so many bytes to an interface of MTU 1500.
fn sized(what: &str, title: &str, length: usize, expected: impl Into<Per<&'static str>>) -> Case {
    let expected = expected.into();
    Case::new(format!("write::{what}"), title, WRITE, move |s| {
        let bpf = s.tap()?;
        let mut bytes = frame(length.max(16), 1);
        bytes.truncate(length);
        s.write(&bpf, &bytes, expected)
    })
}

/// A case for systems that have BIOCSFEEDBACK: what a descriptor with this direction sees of its own frame.
fn feedback(what: &str, title: &str, direction: u32, expected: Per<&'static str>) -> Case {
    let rule =
        "FreeBSD bpf(4), BIOCFEEDBACK; NetBSD bpf(4), BIOCSFEEDBACK; sys/net/bpf.c, bpfwrite (M_PROMISC, mc)";
    Case::new(format!("write::{what}"), title, rule, move |s| {
        if matches!(s.system(), System::OpenBsd | System::MacOs) {
            return Err(super::Stop::Skip("there is no such request".into()));
        }
        let bpf = s.tap()?;
        s.request(&bpf, Request::SDirection(direction), "ok")?;
        s.request(&bpf, Request::Feedback(1), "ok")?;
        s.send(&bpf, 1)?;
        s.far_end(1, "1")?;
        s.read(&bpf, expected)
    })
}

fn sizes() -> Vec<Case> {
    vec![
        sized("zero_bytes", "A write of no bytes sends nothing and gives 0", 0, "0"),
        sized(
            "shorter_than_a_header",
            "A frame shorter than its link header is refused",
            13,
            per("EMSGSIZE", "EMSGSIZE", "EINVAL", "EPERM", "EMSGSIZE"),
        ),
        sized("header_alone", "A frame may be a header alone", 14, "14"),
        sized("largest", "A frame may carry the MTU's bytes", 1514, "1514"),
        sized(
            "one_too_many",
            "One byte more is EMSGSIZE; macOS leaves room for a tag",
            1515,
            per("EMSGSIZE", "EMSGSIZE", "EMSGSIZE", "EMSGSIZE", "1515"),
        ),
        sized("far_too_many", "19 bytes more are EMSGSIZE everywhere", 1533, "EMSGSIZE"),
        sized(
            "more_than_a_cluster",
            "More than 2048 bytes are EIO on DragonFly, whatever the MTU",
            2049,
            per("EMSGSIZE", "EMSGSIZE", "EMSGSIZE", "EIO", "EMSGSIZE"),
        ),
        Case::new("write::mtu_counts", "The interface's own MTU counts", WRITE, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Mtu(600))?;
            s.write(&bpf, &frame(614, 1), "614")?;
            s.write(&bpf, &frame(700, 2), "EMSGSIZE")
        }),
        Case::new("write::without_interface", "Without an interface a write is ENXIO", WRITE, |s| {
            let bpf = s.open()?;
            s.write(&bpf, &frame(60, 1), "ENXIO")
        }),
        Case::new(
            "write::zero_bytes_without_interface",
            "The interface is looked for before the length",
            WRITE,
            |s| {
                let bpf = s.open()?;
                s.write(&bpf, &[], "ENXIO")
            },
        ),
        Case::new("write::interface_down", "A write to an interface that is down is ENETDOWN", WRITE, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Up(false))?;
            s.write(&bpf, &frame(60, 1), "ENETDOWN")
        }),
        Case::new(
            "write::too_long_and_down",
            "NetBSD and DragonFly look at the length first: the output routine finds the interface down",
            WRITE,
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Up(false))?;
                let expected = per("ENETDOWN", "EMSGSIZE", "ENETDOWN", "EMSGSIZE", "ENETDOWN");
                s.write(&bpf, &frame(1600, 1), expected)
            },
        ),
        Case::new("write::up_again", "Once it is up again, frames go out", WRITE, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Up(false))?;
            s.happen(Event::Up(true))?;
            s.write(&bpf, &frame(60, 1), "60")?;
            s.far_end(1, "1")
        }),
        Case::new(
            "write::write_max",
            "macOS's BIOCSWRITEMAX takes the MTU's place",
            "xnu bsd/net/bpf.c, bpfwrite (bd_write_size_max)",
            |s| {
                s.only(&[System::MacOs], "only macOS has BIOCSWRITEMAX")?;
                let bpf = s.tap()?;
                s.happen(Event::Mtu(600))?;
                s.write(&bpf, &frame(700, 1), "EMSGSIZE")
            },
        ),
    ]
}

/// What the far end gets of a frame written with BIOCSHDRCMPLT this.
fn source(s: &mut Scene, complete: u32, expected: &'static str) -> Result<(), super::Stop> {
    let bpf = s.tap()?;
    s.request(&bpf, Request::SHdrCmplt(complete), "ok")?;
    s.send(&bpf, 1)?;
    let frames = s.far_frames(1)?;
    let own = s.stage().address();
    let seen = match frames.first().and_then(|frame| frame.get(6..12)) {
        Some(from) if from == own => "the interface's",
        Some(from) if from == SOMEBODY => "as written",
        _ => "another",
    };
    s.check("source address at the far end", expected, seen)
}

fn contents() -> Vec<Case> {
    vec![
        Case::new(
            "write::gives_the_length",
            "A write gives the frame's length, and the far end gets it",
            WRITE,
            |s| {
                let bpf = s.tap()?;
                s.write(&bpf, &frame(60, 1), "60")?;
                s.write(&bpf, &frame(600, 2), "600")?;
                s.far_end(2, "1 2")
            },
        ),
        Case::new(
            "write::source_is_filled_in",
            "The source address is the interface's unless the header is complete",
            "bpf(4), BIOCSHDRCMPLT; sys/net/if_ethersubr.c, ether_output",
            |s| source(s, 0, "the interface's"),
        ),
        Case::new(
            "write::complete_header_is_kept",
            "A complete header's source address is kept",
            "bpf(4), BIOCSHDRCMPLT",
            |s| source(s, 1, "as written"),
        ),
        Case::new("write::payload_is_kept", "Everything else is sent as it was written", WRITE, |s| {
            let bpf = s.tap()?;
            s.request(&bpf, Request::SHdrCmplt(1), "ok")?;
            s.write(&bpf, &frame(1000, 5), "1000")?;
            let same = s.far_frames(1)?.first() == Some(&frame(1000, 5));
            s.check("frame at the far end", "as written", if same { "as written" } else { "another" })
        }),
        Case::new(
            "write::ethertype_zero",
            "NetBSD puts the payload's length where the ethertype is 0",
            "NetBSD sys/net/if_ethersubr.c, ether_output",
            |s| {
                let bpf = s.tap()?;
                let mut bytes = frame(60, 1);
                bytes[12..14].fill(0);
                s.write(&bpf, &bytes, "60")?;
                let frames = s.far_frames(1)?;
                let seen = frames.first().and_then(|frame| frame.get(12..14)).map(|two| format!("{two:?}"));
                let expected = per("[0, 0]", "[0, 46]", "[0, 0]", "[0, 0]", "[0, 0]");
                s.check("ethertype at the far end", expected, seen.unwrap_or_default())
            },
        ),
        Case::new("write::ethertype_is_kept", "Another ethertype is kept", WRITE, |s| {
            let bpf = s.tap()?;
            s.send(&bpf, 1)?;
            let frames = s.far_frames(1)?;
            let kept = frames.first().and_then(|frame| frame.get(12..14)) == Some(&ETHERTYPE.to_be_bytes());
            s.check("ethertype at the far end", "as written", if kept { "as written" } else { "another" })
        }),
    ]
}

fn seen_by() -> Vec<Case> {
    vec![
        Case::new("write::writer_sees_its_frame", "The writer sees its own frame", WRITE, |s| {
            let bpf = s.tap()?;
            s.send(&bpf, 1)?;
            s.read(&bpf, "1")
        }),
        Case::new("write::others_see_it", "So does every other descriptor of the interface", WRITE, |s| {
            let (writer, other) = (s.tap()?, s.tap()?);
            s.send(&writer, 1)?;
            s.read(&other, "1")?;
            s.read(&writer, "1")
        }),
        Case::new(
            "write::captured_as_sent",
            "What is captured of a written frame is what was sent, source address and all",
            WRITE,
            |s| {
                let bpf = s.tap()?;
                s.send(&bpf, 1)?;
                let own = s.stage().address();
                let seen = match &s.records(&bpf)?[..] {
                    [record] if record.data.get(6..12) == Some(&own[..]) => "the interface's",
                    _ => "another",
                };
                s.check("captured source address", "the interface's", seen)
            },
        ),
        feedback(
            "feedback_both_directions",
            "With feedback a frame is seen once on FreeBSD, and by nobody on NetBSD",
            1,
            per("1", "EAGAIN", "", "1", ""),
        ),
        feedback(
            "feedback_received_only",
            "With feedback a descriptor that wants received packets gets the written one",
            0,
            per("1", "EAGAIN", "", "1", ""),
        ),
        Case::new(
            "write::read_filter_does_not_count",
            "The read filter does not judge what is written",
            WRITE,
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &ret(0))?;
                s.send(&bpf, 1)?;
                s.far_end(1, "1")?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "write::filter_refuses",
            "What the write filter rejects is EPERM, and not sent",
            "bpf(4), BIOCSETWF; sys/net/bpf.c, bpf_movein",
            |s| {
                s.only(WITH_WRITE_FILTER, "there is no BIOCSETWF")?;
                let bpf = s.tap()?;
                s.request(&bpf, set_wf(&super::programs::only_number(2)), "ok")?;
                s.write(&bpf, &frame(60, 1), "EPERM")?;
                s.write(&bpf, &frame(60, 2), "60")?;
                s.far_end(1, "2")
            },
        ),
        Case::new(
            "write::filter_passes_a_part",
            "A write filter that passes a part passes all; OpenBSD's must pass the whole frame",
            "sys/net/bpf.c, bpf_movein (OpenBSD: slen < len)",
            |s| {
                s.only(WITH_WRITE_FILTER, "there is no BIOCSETWF")?;
                let bpf = s.tap()?;
                s.request(&bpf, set_wf(&ret(59)), "ok")?;
                s.write(&bpf, &frame(60, 1), per("60", "60", "EPERM", "60", ""))?;
                s.request(&bpf, set_wf(&ret(60)), "ok")?;
                s.write(&bpf, &frame(60, 2), "60")
            },
        ),
        Case::new(
            "write::filter_removed",
            "A write filter without instructions takes it away",
            "bpf(4), BIOCSETWF; sys/net/bpf.c, bpf_setf",
            |s| {
                s.only(WITH_WRITE_FILTER, "there is no BIOCSETWF")?;
                let bpf = s.tap()?;
                s.request(&bpf, set_wf(&ret(0)), "ok")?;
                s.write(&bpf, &frame(60, 1), "EPERM")?;
                s.request(&bpf, set_wf(&[]), "ok")?;
                s.write(&bpf, &frame(60, 2), "60")
            },
        ),
        Case::new(
            "write::filter_half_past_the_end",
            "In a write filter a half-word load past the end rejects on FreeBSD, too",
            "FreeBSD sys/net/bpf_filter.c, bpf_filter: the contiguous path",
            |s| {
                s.only(WITH_WRITE_FILTER, "there is no BIOCSETWF")?;
                let bpf = s.tap()?;
                s.request(&bpf, set_wf(&[Insn::stmt(0x28, 60), Insn::stmt(0x06, u32::MAX)]), "ok")?;
                s.write(&bpf, &frame(60, 1), "EPERM")
            },
        ),
        Case::new(
            "write::filter_is_validated",
            "A write filter is validated like a read filter",
            "sys/net/bpf.c, bpf_setf",
            |s| {
                s.only(WITH_WRITE_FILTER, "there is no BIOCSETWF")?;
                let bpf = s.tap()?;
                s.request(&bpf, set_wf(&[Insn::stmt(0x00, 0)]), "EINVAL")?;
                s.write(&bpf, &frame(60, 1), "60")
            },
        ),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [sizes(), contents(), seen_by()].into_iter().flatten().collect()
}
