//! What read(2) gives: the header before each packet, padding, time stamps.

use bpfdev_core::abi::{Flag, Request};

use super::programs::ret;
use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::records::gaps;
use crate::conformance::scene::Scene;
use crate::conformance::stage::Event;
use crate::conformance::system::{System, per};

/// Case: after one 60-byte frame.
fn one(what: &str, title: &str, rule: &str, look: fn(&mut Scene, &[u8]) -> Result<(), super::Stop>) -> Case {
    Case::new(format!("record::{what}"), title, rule, move |s: &mut Scene| {
        let bpf = s.tap()?;
        s.receive(1)?;
        let buffer = match s.read_raw(&bpf, bpf.length()) {
            Ok(buffer) => buffer,
            Err(errno) => return s.check("read", "a record", errno.name()),
        };
        look(s, &buffer)
    })
}

fn u32_at(buffer: &[u8], at: usize) -> String {
    let word = buffer.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or_else(|| "nothing".into(), |word| u32::from_ne_bytes(word).to_string())
}

fn u16_at(buffer: &[u8], at: usize) -> String {
    let half = buffer.get(at..at + 2).and_then(|half| half.try_into().ok());
    half.map_or_else(|| "nothing".into(), |half| u16::from_ne_bytes(half).to_string())
}

/// Where bh_caplen is: behind a `struct timeval` of 16 or 8 bytes.
fn caplen_at(system: System) -> usize {
    per(16, 16, 8, 16, 8).of(system)
}

const HDR: &str = "bpf(4), BPF HEADER; sys/net/bpf.h, struct bpf_hdr";

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        one(
            "length",
            "A 60-byte Ethernet frame takes 86, 94, 86, 94 or 78 bytes, header and frame",
            "bpf(4), BPF HEADER; sys/net/bpf.c, bpf_hdrlen (NetBSD: bpf_attach)",
            |s, buffer| {
                let expected = per("86 bytes", "94 bytes", "86 bytes", "94 bytes", "78 bytes");
                s.check("read", expected, format!("{} bytes", buffer.len()))
            },
        ),
        one("caplen", "bh_caplen is what was captured", HDR, |s, buffer| {
            s.check("bh_caplen", "60", u32_at(buffer, caplen_at(s.system())))
        }),
        one("datalen", "bh_datalen is the frame's length", HDR, |s, buffer| {
            s.check("bh_datalen", "60", u32_at(buffer, caplen_at(s.system()) + 4))
        }),
        one(
            "hdrlen",
            "bh_hdrlen aligns the network header behind Ethernet's 14 bytes",
            "bpf(4), BPF HEADER; sys/net/bpf.c, bpf_hdrlen; net/bpf.h, SIZEOF_BPF_HDR and BPF_ALIGNMENT",
            |s, buffer| {
                let at = caplen_at(s.system()) + 8;
                s.check("bh_hdrlen", per("26", "34", "26", "34", "18"), u16_at(buffer, at))
            },
        ),
        one("frame", "The frame follows the header as it was on the wire", HDR, |s, buffer| {
            let start = per(26, 34, 26, 34, 18).of(s.system());
            let seen =
                if buffer.get(start..) == Some(&frame(60, 1)[..]) { "the frame" } else { "other bytes" };
            s.check("behind the header", "the frame", seen)
        }),
        one(
            "network_header_is_aligned",
            "The byte behind the Ethernet header is at a multiple of BPF_ALIGNMENT",
            "bpf(4), BPF HEADER: the network-layer header is aligned",
            |s, buffer| {
                let at = caplen_at(s.system()) + 8;
                let hdrlen: usize = u16_at(buffer, at).parse().unwrap_or(0);
                let alignment = per(8, 8, 4, 8, 4).of(s.system());
                s.check("(bh_hdrlen + 14) modulo BPF_ALIGNMENT", "0", ((hdrlen + 14) % alignment).to_string())
            },
        ),
        one(
            "padding_before_the_frame_is_zero",
            "No memory of the kernel's shows between the fields and the frame",
            "sys/net/bpf.c, catchpacket (FreeBSD since 13: bzero of the header)",
            |s, buffer| {
                // the fields end there; on OpenBSD bh_ifidx, bh_flowid, bh_flags and bh_drops are fields
                let (from, to) = per((26, 26), (26, 34), (24, 26), (26, 34), (18, 18)).of(s.system());
                let zero = buffer.get(from..to).is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0));
                s.check("bytes between", "zero", if zero { "zero" } else { "not zero" })
            },
        ),
        Case::new(
            "record::next_is_aligned",
            "The next record begins at BPF_WORDALIGN(bh_hdrlen + bh_caplen)",
            "bpf(4), BPF HEADER; net/bpf.h, BPF_WORDALIGN",
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Receive(frame(61, 1)))?;
                s.happen(Event::Receive(frame(60, 2)))?;
                let at = s.records(&bpf)?.iter().map(|record| record.offset.to_string()).collect::<Vec<_>>();
                s.check("records begin at", per("0 88", "0 96", "0 88", "0 96", "0 80"), at.join(" "))
            },
        ),
        Case::new(
            "record::padding_between_is_zero",
            "No memory of the kernel's shows between records",
            "FreeBSD 14 sys/net/bpf.c, catchpacket: the padding is zeroed (older ones leave what was there)",
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Receive(frame(61, 1)))?;
                s.happen(Event::Receive(frame(61, 2)))?;
                let buffer = s.read_raw(&bpf, bpf.length()).unwrap_or_default();
                let layout = crate::conformance::records::layout(s.system());
                let records = crate::conformance::records::walk(&buffer, layout).unwrap_or_default();
                s.check("records", "2", records.len().to_string())?;
                let zero = gaps(&records).into_iter().all(|gap| buffer[gap].iter().all(|&byte| byte == 0));
                s.check("bytes between records", "zero", if zero { "zero" } else { "not zero" })
            },
        ),
        Case::new(
            "record::last_is_not_padded",
            "A read ends with the last captured byte",
            "sys/net/bpf.c, catchpacket (bd_slen = curlen + totlen)",
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Receive(frame(61, 1)))?;
                s.happen(Event::Receive(frame(61, 2)))?;
                let expected = per("175 bytes", "191 bytes", "175 bytes", "191 bytes", "159 bytes");
                s.read_length(&bpf, expected)
            },
        ),
        Case::new(
            "record::order",
            "Packets are in the order in which they came",
            "bpf(4), DESCRIPTION; sys/net/bpf.c, catchpacket",
            |s| {
                let bpf = s.tap_with(4096)?;
                s.receive_all(1..=9)?;
                s.read(&bpf, "1 2 3 4 5 6 7 8 9")
            },
        ),
        Case::new(
            "record::snap_length",
            "The filter's result is how much is captured; bh_datalen stays",
            "bpf(4), FILTER MACHINE; sys/net/bpf.c, catchpacket",
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &ret(20))?;
                s.receive(1)?;
                let records = s.records(&bpf)?;
                let seen: Vec<_> = records.iter().map(|r| format!("{} of {}", r.caplen, r.datalen)).collect();
                s.check("captured", "20 of 60", seen.join(" "))?;
                let kept = records.first().is_some_and(|record| record.data == frame(60, 1)[..20]);
                s.check("the bytes", "the first 20", if kept { "the first 20" } else { "others" })
            },
        ),
        Case::new(
            "record::snap_length_beyond_the_frame",
            "A larger result captures the whole frame",
            "sys/net/bpf.c, catchpacket: min(snaplen, pktlen)",
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &ret(61))?;
                s.receive(1)?;
                let seen: Vec<_> =
                    s.records(&bpf)?.iter().map(|r| format!("{} of {}", r.caplen, r.datalen)).collect();
                s.check("captured", "60 of 60", seen.join(" "))
            },
        ),
        Case::new(
            "record::frame_larger_than_the_buffer",
            "A frame larger than the buffer is cut to it",
            "sys/net/bpf.c, catchpacket: totlen > d->bd_bufsize",
            |s| {
                let bpf = s.tap_with(256)?;
                s.happen(Event::Receive(frame(1000, 1)))?;
                let seen: Vec<_> =
                    s.records(&bpf)?.iter().map(|r| format!("{} of {}", r.caplen, r.datalen)).collect();
                let expected = per("230 of 1000", "222 of 1000", "230 of 1000", "222 of 1000", "238 of 1000");
                s.check("captured", expected, seen.join(" "))
            },
        ),
        Case::new(
            "record::buffer_smaller_than_a_header",
            "macOS leaves packets alone whose header does not fit",
            "xnu bsd/net/bpf.c, catchpacket",
            |s| {
                s.only(&[System::MacOs], "what others leave in such a buffer is no whole record")?;
                let bpf = s.open()?;
                s.request(&bpf, Request::SBlen(32), "32")?;
                s.request(&bpf, Request::SetFlag(Flag::ExtendedHeader, 1), "ok")?;
                s.attach(&bpf)?;
                s.nonblocking(&bpf, true)?;
                s.receive(1)?;
                s.read_length(&bpf, "EAGAIN")
            },
        ),
        Case::new(
            "record::largest_frame",
            "A full-sized Ethernet frame is captured whole",
            "bpf(4), BPF HEADER",
            |s| {
                let bpf = s.tap_with(4096)?;
                s.happen(Event::Receive(frame(1514, 7)))?;
                let records = s.records(&bpf)?;
                let whole = matches!(&records[..], [record] if record.data == frame(1514, 7));
                s.check("read", "the frame", if whole { "the frame" } else { "something else" })
            },
        ),
        Case::new(
            "record::openbsd_direction_flag",
            "OpenBSD's header says which way a packet went",
            "OpenBSD bpf(4), BPF HEADER; sys/net/bpf.h, BPF_F_DIR_IN, BPF_F_DIR_OUT",
            |s| {
                s.only(&[System::OpenBsd], "only OpenBSD's header has bh_flags")?;
                let bpf = s.tap()?;
                s.receive(1)?;
                s.send(&bpf, 2)?;
                // struct bpf_hdr: bh_ifidx u16 at 18, bh_flowid u16 at 20, bh_flags u8 at 22, bh_drops u8 at 23
                let flags: Vec<_> = s
                    .records(&bpf)?
                    .iter()
                    .map(|r| r.rest.get(4).map_or(0, |flags| flags & 0x30).to_string())
                    .collect();
                s.check("bh_flags", "16 32", flags.join(" "))
            },
        ),
        Case::new(
            "record::macos_extended_header",
            "macOS's extended header has 66 bytes before an Ethernet frame",
            "xnu bsd/net/bpf.h, struct bpf_hdr_ext; bsd/net/bpf.c, bpf_hdrlen",
            |s| {
                s.only(&[System::MacOs], "only macOS has extended headers")?;
                let bpf = s.tap()?;
                s.request(&bpf, Request::SetFlag(Flag::ExtendedHeader, 1), "ok")?;
                s.receive(1)?;
                let hdrlen: Vec<_> = s.records(&bpf)?.iter().map(|r| r.hdrlen.to_string()).collect();
                s.check("bh_hdrlen", "66", hdrlen.join(" "))
            },
        ),
        Case::new(
            "record::no_time_stamp",
            "The time stamp is zero where none is wanted (FreeBSD, macOS)",
            "FreeBSD bpf(4), BIOCSTSTAMP, BPF_T_NONE; xnu bsd/net/bpf.c, BIOCSNOTSTAMP",
            |s| {
                let none = match s.system() {
                    System::FreeBsd | System::Linux => Request::STStamp(3),
                    System::MacOs => Request::SetFlag(Flag::NoTimestamp, 1),
                    _ => {
                        return Err(super::Stop::Skip(
                            "only FreeBSD and macOS can leave time stamps out".into(),
                        ));
                    }
                };
                let bpf = s.tap()?;
                s.request(&bpf, none, "ok")?;
                s.receive(1)?;
                let zero = s.records(&bpf)?.iter().all(|r| r.stamp.iter().all(|&byte| byte == 0));
                s.check("bh_tstamp", "zero", if zero { "zero" } else { "a time" })
            },
        ),
    ];
    for (format, what, hdrlen) in [
        (0, "microseconds", "26"),
        (1, "nanoseconds", "26"),
        (2, "binary fractions", "26"),
        (0x201, "nanoseconds since boot", "26"),
    ] {
        cases.push(Case::new(
            format!("record::freebsd_stamp_{format:x}"),
            format!("FreeBSD stamps packets in {what}"),
            "FreeBSD bpf(4), BIOCSTSTAMP; sys/net/bpf.c, bpf_hdrlen (bpf_hdr and bpf_xhdr)",
            move |s| {
                s.only(&[System::FreeBsd, System::Linux], "only FreeBSD has time stamp formats")?;
                let bpf = s.tap()?;
                s.ask(&bpf, Request::STStamp(format))?;
                s.receive(1)?;
                let records = s.records(&bpf)?;
                let seen: Vec<_> = records.iter().map(|record| record.hdrlen.to_string()).collect();
                s.check("bh_hdrlen", hdrlen, seen.join(" "))?;
                let fraction = records
                    .first()
                    .and_then(|r| r.stamp.get(8..16)?.try_into().ok())
                    .map_or(0, u64::from_ne_bytes);
                let bound = match format & 3 {
                    0 => 1_000_000,
                    1 => 1_000_000_000,
                    _ => u64::MAX,
                };
                s.check(
                    "the fraction",
                    "within a second",
                    if fraction < bound { "within a second" } else { "more" },
                )
            },
        ));
    }
    cases.push(Case::new(
        "record::stamps_do_not_go_back",
        "A later packet has no earlier time stamp",
        "sys/net/bpf.c, bpf_gettime (catchpacket)",
        |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.sleep(2);
            s.receive(2)?;
            let wide = s.system() != System::OpenBsd && s.system() != System::MacOs;
            let stamps: Vec<_> = s
                .records(&bpf)?
                .iter()
                .map(|record| {
                    let part = |at: usize, len: usize| {
                        let mut word = [0; 8];
                        word[..len].copy_from_slice(&record.stamp[at..at + len]);
                        u64::from_ne_bytes(word)
                    };
                    if wide { (part(0, 8), part(8, 8)) } else { (part(0, 4), part(4, 4)) }
                })
                .collect();
            let good = matches!(stamps[..], [one, other] if one < other && one.0 > 1_500_000_000);
            s.check("time stamps", "times that grow", if good { "times that grow" } else { "others" })
        },
    ));
    cases
}
