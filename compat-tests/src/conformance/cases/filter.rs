//! Setting filters, and what that does to what is buffered; what counters count.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;

use super::programs::{all_of_ethertype, only_number, ret};
use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::scene::set_f;
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, System, per};

const SETF: &str = "bpf(4), BIOCSETF; sys/net/bpf.c, bpf_setf";
const STATS: &str = "bpf(4), BIOCGSTATS; sys/net/bpf.c, bpf_tap, catchpacket and reset_d";
const EMPTY: Per<&str> = per("EAGAIN", "EAGAIN", "nothing", "EAGAIN", "EAGAIN");

/// BIOCGSTATS: packets received, dropped and captured; only NetBSD tells the third.
macro_rules! counts {
    ($recv:literal, $drop:literal, $capt:literal) => {
        per(
            concat!("recv ", $recv, " drop ", $drop),
            concat!("recv ", $recv, " drop ", $drop, " capt ", $capt),
            concat!("recv ", $recv, " drop ", $drop),
            concat!("recv ", $recv, " drop ", $drop),
            concat!("recv ", $recv, " drop ", $drop),
        )
    };
}

/// What BIOCSETF says to this program.
fn said(what: &str, title: &str, source: FilterSource, expected: impl Into<Per<&'static str>>) -> Case {
    let expected = expected.into();
    Case::new(format!("filter::{what}"), title, SETF, move |s| {
        let bpf = s.open()?;
        s.request(&bpf, Request::SetF(source.clone()), expected)
    })
}

fn setting() -> Vec<Case> {
    let long = |len: usize| {
        let mut program = vec![Insn::stmt(0x04, 1); len - 1];
        program.push(Insn::stmt(0x06, 60));
        FilterSource::new(&program)
    };
    vec![
        said("longest", "512 instructions are taken (BPF_MAXINSNS)", long(512), "ok"),
        said("too_long", "513 are EINVAL", long(513), "EINVAL"),
        said(
            "far_too_long",
            "So is any larger bf_len",
            FilterSource { len: u32::MAX, null: false, insns: Some(Vec::new()) },
            "EINVAL",
        ),
        said(
            "null_with_a_length",
            "A null pointer with a length is EINVAL",
            FilterSource { len: 1, null: true, insns: Some(Vec::new()) },
            "EINVAL",
        ),
        said(
            "unreadable",
            "A pointer that leads nowhere is EINVAL, not EFAULT",
            FilterSource { len: 1, null: false, insns: None },
            "EINVAL",
        ),
        said(
            "no_instructions",
            "bf_len 0 and a null pointer take the filter away",
            FilterSource { len: 0, null: true, insns: Some(Vec::new()) },
            "ok",
        ),
        said(
            "no_instructions_but_a_pointer",
            "bf_len 0 with a pointer: FreeBSD and NetBSD do not look at it, the others refuse it",
            FilterSource { len: 0, null: false, insns: Some(Vec::new()) },
            per("ok", "ok", "EINVAL", "EINVAL", "EINVAL"),
        ),
        Case::new("filter::none_accepts_all", "Without a filter every packet is accepted whole", SETF, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.read(&bpf, "1 2")
        }),
        Case::new("filter::accepts", "Packets that the filter accepts are kept, others not", SETF, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &only_number(2))?;
            s.receive_all([1, 2, 3])?;
            s.read(&bpf, "2")
        }),
        Case::new("filter::by_ethertype", "A filter by ethertype", SETF, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &all_of_ethertype())?;
            let mut other = frame(60, 1);
            other[12..14].copy_from_slice(&[8, 0]);
            s.happen(Event::Receive(other))?;
            s.receive(2)?;
            s.read(&bpf, "2")
        }),
        Case::new("filter::rejects_all", "`ret #0` accepts nothing", SETF, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &ret(0))?;
            s.receive_all([1, 2])?;
            s.read(&bpf, EMPTY)
        }),
        Case::new("filter::before_the_interface", "A filter set before the interface counts", SETF, |s| {
            let bpf = s.open()?;
            s.filter(&bpf, &only_number(2))?;
            s.attach(&bpf)?;
            s.nonblocking(&bpf, true)?;
            s.receive_all([1, 2, 3])?;
            s.read(&bpf, "2")
        }),
        Case::new("filter::removed", "Taking the filter away lets everything through again", SETF, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &ret(0))?;
            s.receive(1)?;
            s.request(&bpf, set_f(&[]), "ok")?;
            s.receive(2)?;
            s.read(&bpf, "2")
        }),
        Case::new(
            "filter::invalid_keeps_the_old",
            "A program that is refused leaves the old one",
            SETF,
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &only_number(2))?;
                s.receive(2)?;
                s.request(&bpf, set_f(&[Insn::stmt(0x00, 0)]), "EINVAL")?;
                s.receive_all([1, 2])?;
                s.read(&bpf, "2 2")
            },
        ),
        Case::new("filter::replaced", "A new filter takes the old one's place at once", SETF, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &only_number(1))?;
            s.filter(&bpf, &only_number(2))?;
            s.receive_all([1, 2])?;
            s.read(&bpf, "2")
        }),
        Case::new("filter::is_its_own", "Each descriptor has its own filter", SETF, |s| {
            let (one, other) = (s.tap()?, s.tap()?);
            s.filter(&one, &only_number(1))?;
            s.filter(&other, &only_number(2))?;
            s.receive_all([1, 2])?;
            s.read(&one, "1")?;
            s.read(&other, "2")
        }),
        Case::new("filter::setf_flushes", "BIOCSETF drops what is buffered", SETF, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.filter(&bpf, &all_of_ethertype())?;
            s.read(&bpf, EMPTY)?;
            s.receive(3)?;
            s.read(&bpf, "3")
        }),
        Case::new(
            "filter::setfnr_flushes_nothing",
            "BIOCSETFNR leaves what is buffered",
            "FreeBSD bpf(4), BIOCSETFNR; xnu bsd/net/bpf.c, bpf_setf",
            |s| {
                s.only(&[System::FreeBsd, System::Linux, System::MacOs], "there is no BIOCSETFNR")?;
                let bpf = s.tap()?;
                s.receive_all([1, 2])?;
                s.request(&bpf, Request::SetFnr(FilterSource::new(&only_number(4))), "ok")?;
                s.receive_all([3, 4])?;
                s.read(&bpf, "1 2 4")?;
                s.stats(&bpf, counts!(4, 0, 3))
            },
        ),
        Case::new(
            "filter::setwf_flushes",
            "BIOCSETWF drops what is buffered, but on FreeBSD",
            "bpf(4), BIOCSETWF; sys/net/bpf.c, bpf_setf",
            |s| {
                if matches!(s.system(), System::MacOs | System::NetBsd7) {
                    return Err(super::Stop::Skip("there is no BIOCSETWF".into()));
                }
                let bpf = s.tap()?;
                s.receive_all([1, 2])?;
                s.request(&bpf, Request::SetWf(FilterSource::new(&ret(60))), "ok")?;
                s.read(&bpf, per("1 2", "EAGAIN", "nothing", "EAGAIN", ""))?;
                s.stats(
                    &bpf,
                    per("recv 2 drop 0", "recv 0 drop 0 capt 0", "recv 0 drop 0", "recv 0 drop 0", ""),
                )
            },
        ),
    ]
}

fn counting() -> Vec<Case> {
    vec![
        Case::new("counters::received", "Every packet is counted as received", STATS, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2, 3])?;
            s.stats(&bpf, counts!(3, 0, 3))
        }),
        Case::new(
            "counters::before_the_filter",
            "Packets are counted before the filter judges them",
            STATS,
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &only_number(2))?;
                s.receive_all([1, 2, 3])?;
                s.stats(&bpf, counts!(3, 0, 1))
            },
        ),
        Case::new("counters::rejected_only", "Also those of a filter that rejects all", STATS, |s| {
            let bpf = s.tap()?;
            s.filter(&bpf, &ret(0))?;
            s.receive_all([1, 2, 3])?;
            s.stats(&bpf, counts!(3, 0, 0))
        }),
        Case::new("counters::dropped", "Packets without room are counted as dropped", STATS, |s| {
            let bpf = s.tap()?;
            s.receive_all(1..=20)?;
            let dropped = per(
                "recv 20 drop 10",
                "recv 20 drop 10 capt 20",
                "recv 20 drop 10",
                "recv 20 drop 10",
                "recv 20 drop 8",
            );
            s.stats(&bpf, dropped)
        }),
        Case::new(
            "counters::rejected_is_not_dropped",
            "What the filter rejects is not dropped",
            STATS,
            |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=12)?;
                s.request(&bpf, Request::Flush, "ok")?;
                s.filter(&bpf, &only_number(1))?;
                s.receive_all(2..=13)?;
                s.stats(&bpf, counts!(12, 0, 0))
            },
        ),
        Case::new("counters::sent", "Written frames are counted, too", STATS, |s| {
            let bpf = s.tap()?;
            s.send(&bpf, 1)?;
            s.send(&bpf, 2)?;
            s.stats(&bpf, counts!(2, 0, 2))
        }),
        Case::new("counters::asking_changes_nothing", "Asking does not zero them", STATS, |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.stats(&bpf, counts!(1, 0, 1))?;
            s.stats(&bpf, counts!(1, 0, 1))
        }),
        Case::new("counters::reading_changes_nothing", "Reading does not zero them", STATS, |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.read(&bpf, "1")?;
            s.stats(&bpf, counts!(1, 0, 1))
        }),
        Case::new(
            "counters::flush_zeroes",
            "BIOCFLUSH zeroes them",
            "bpf(4), BIOCFLUSH; sys/net/bpf.c, reset_d",
            |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=20)?;
                s.request(&bpf, Request::Flush, "ok")?;
                s.stats(&bpf, counts!(0, 0, 0))
            },
        ),
        Case::new("counters::setf_zeroes", "BIOCSETF zeroes them", SETF, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.filter(&bpf, &all_of_ethertype())?;
            s.stats(&bpf, counts!(0, 0, 0))?;
            s.receive(3)?;
            s.stats(&bpf, counts!(1, 0, 1))
        }),
        Case::new("counters::refused_setf_keeps", "A BIOCSETF that is refused does not", SETF, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.request(&bpf, set_f(&[Insn::stmt(0x00, 0)]), "EINVAL")?;
            s.stats(&bpf, counts!(2, 0, 2))
        }),
        Case::new("counters::are_its_own", "Each descriptor has its own", STATS, |s| {
            let one = s.tap()?;
            s.receive(1)?;
            let other = s.tap()?;
            s.receive(2)?;
            s.stats(&one, counts!(2, 0, 2))?;
            s.stats(&other, counts!(1, 0, 1))
        }),
        Case::new(
            "counters::hidden_direction",
            "What the direction hides is not counted, but on OpenBSD",
            "sys/net/bpf.c, bpf_mtap (OpenBSD: _bpf_mtap counts before it looks at bd_dirfilt)",
            |s| {
                let bpf = s.tap()?;
                // received packets only: hide those that are sent (OpenBSD)
                s.request(&bpf, Request::SDirection(per(0, 0, 2, 0, 1).of(s.system())), "ok")?;
                s.receive(1)?;
                s.send(&bpf, 2)?;
                let expected = per(
                    "recv 1 drop 0",
                    "recv 1 drop 0 capt 1",
                    "recv 2 drop 0",
                    "recv 1 drop 0",
                    "recv 1 drop 0",
                );
                s.stats(&bpf, expected)
            },
        ),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [setting(), counting()].into_iter().flatten().collect()
}
