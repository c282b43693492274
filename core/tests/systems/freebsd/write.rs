//! semantics.md 6 and 11.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;

use crate::checks::{DLTS, length_check, shown, value, writable, writes};
use crate::support::*;

const MSGSIZE: Result<usize, Errno> = Err(Errno::MsgSize);

#[test]
fn checks_come_in_order() {
    let fd = Fd::on_em0(&FREEBSD);
    writes(
        &fd,
        &[
            ("nothing", 0, Ok(0)),
            ("one byte", 1, MSGSIZE),
            ("no link header", 13, MSGSIZE),
            ("a link header alone", 14, Ok(14)),
            ("the MTU", 1514, Ok(1514)),
            ("over the MTU", 1515, MSGSIZE),
            ("over the MTU and 16 KiB: the MTU first", 20_000, MSGSIZE),
        ],
    );
    fd.ok(Request::SetWf(ret(0)));
    writes(&fd, &[("length before the filter", 1515, MSGSIZE), ("the filter", 60, Err(Errno::Perm))]);
    fd.world.network.set_up("em0", false);
    for (len, what) in [(0, "nothing"), (1, "short"), (60, "rejected by the filter"), (1515, "long")] {
        assert_eq!(fd.write(&frame(len)), Err(Errno::NetDown), "down comes before {what}");
    }
}

#[test]
fn more_than_16_kib_is_eio_where_the_mtu_allows_it() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.world.network.set_mtu("em0", 65_535);
    writes(&fd, &[("16 KiB", 16_384, Ok(16_384)), ("one more", 16_385, Err(Errno::Io))]);
    fd.ok(Request::SetWf(ret(0)));
    writes(&fd, &[("before the filter", 16_385, Err(Errno::Io))]);
}

#[test]
fn writable_link_types() {
    // EN10MB, NULL, RAW, PPP, SLIP, FDDI, ATM, 802.11 and radio
    assert_eq!(writable(&FREEBSD, &DLTS), [0, 1, 8, 9, 10, 11, 12, 105, 127]);
    // 6: NULL(4) and PPP(4) have a header of 4 bytes; the others of these none
    for (dlt, header) in [(0, 4), (9, 4), (8, 0), (12, 0), (105, 0)] {
        for (len, expected) in [(header + 1500, Ok(())), (header + 1501, Err(Errno::MsgSize))] {
            assert_eq!(length_check(&FREEBSD, dlt, len), expected, "DLT {dlt}: {len} bytes");
        }
    }
    for dlt in [0, 9] {
        assert_eq!(length_check(&FREEBSD, dlt, 3), Err(Errno::MsgSize), "DLT {dlt}");
    }
}

#[test]
fn a_write_filter_needs_only_to_accept() {
    let fd = Fd::on_em0(&FREEBSD);
    for (snap, expected) in [(1, Ok(60)), (59, Ok(60)), (60, Ok(60)), (0, Err(Errno::Perm))] {
        fd.ok(Request::SetWf(ret(snap)));
        assert_eq!(fd.write(&frame(60)), expected, "ret #{snap}");
    }
    // 8: replaced only
    fd.ok(Request::SetWf(tagged(7)));
    assert_eq!(fd.write(&tagged_frame(7)), Ok(60));
    assert_eq!(fd.write(&tagged_frame(1)), Err(Errno::Perm));
    let other = fd.world.on(&FREEBSD, "em0");
    assert_eq!(other.write(&tagged_frame(1)), Ok(60), "a filter of one descriptor");
}

#[test]
fn direction_takes_0_1_and_2() {
    let fd = Fd::on_em0(&FREEBSD);
    for (direction, expected) in [(0, (true, false)), (1, (true, true)), (2, (false, true))] {
        fd.ok(Request::SDirection(direction));
        assert_eq!(value(&fd, Request::GDirection), direction);
        assert_eq!(shown(&fd), expected, "direction {direction}");
    }
    for direction in [3, 4, 0x100, u32::MAX] {
        assert_eq!(fd.refused(Request::SDirection(direction)), Errno::Inval, "{direction}");
    }
    assert_eq!(value(&fd, Request::GDirection), 2, "as it was");
    // BIOCSSEESENT's and BIOCGSEESENT's numbers are the same requests
    for see_sent in [0, 1] {
        fd.number(0x8004_4277, &word(see_sent)).unwrap();
        assert_eq!(fd.number(0x4004_4276, &[]), Ok(word(see_sent).to_vec()));
        assert_eq!(shown(&fd), (true, see_sent == 1));
    }
}

#[test]
fn direction_leaves_what_is_buffered() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.rx(60);
    fd.ok(Request::SDirection(2));
    assert_eq!((fd.stats(), fd.read_len()), ((1, 0), Ok(86)), "11: effective at tap time");
}

#[test]
fn directions_are_each_descriptors_own() {
    let world = World::new();
    let (writer, other) = (world.on(&FREEBSD, "em0"), world.on(&FREEBSD, "em0"));
    writer.ok(Request::SDirection(0));
    writer.write(&frame(60)).unwrap();
    assert_eq!((writer.stats().0, other.stats().0), (0, 1));
}

#[test]
fn a_captured_frame_goes_round_unchanged() {
    // what FreeBSD's tests/sys/net/bpf checks (b)
    let world = World::new();
    let (sender, peer) = (world.on(&FREEBSD, "em0"), world.on(&FREEBSD, "em1"));
    peer.ok(Request::SDirection(0));
    sender.ok(Request::SDirection(0));
    sender.ok(Request::SHdrCmplt(1));
    let frame: Vec<u8> = (0..=255).map(|n| if n < 6 { 0xff } else { n }).collect();
    world.rx_frame(&frame);
    let captured = sender.read().unwrap()[26..].to_vec();
    assert_eq!(captured, frame);
    sender.ok(Request::SDirection(2));
    sender.write(&captured).unwrap();
    for (who, fd) in [("sender", &sender), ("peer", &peer)] {
        assert_eq!(fd.read().unwrap()[26..], frame, "{who}");
        assert_eq!(fd.read(), Err(Errno::Again), "{who}: exactly once");
    }
}

#[test]
fn feedback_is_seen_once_as_received() {
    let world = World::new();
    let (writer, other) = (world.on(&FREEBSD, "em0"), world.on(&FREEBSD, "em0"));
    let sent_only = world.on(&FREEBSD, "em0");
    sent_only.ok(Request::SDirection(2));
    writer.ok(Request::Feedback(1));
    writer.write(&frame(60)).unwrap();
    // the writer's direction is INOUT: taps skip the outgoing copy
    assert_eq!((writer.stats().0, other.stats().0, sent_only.stats().0), (1, 1, 0));
    writer.ok(Request::Feedback(0));
    writer.write(&frame(60)).unwrap();
    assert_eq!((writer.stats().0, other.stats().0, sent_only.stats().0), (2, 2, 1), "switched off");
}

#[test]
fn feedback_with_another_direction_is_seen_both_ways() {
    for (direction, writers) in [(0, 1), (2, 1)] {
        let world = World::new();
        let (writer, other) = (world.on(&FREEBSD, "em0"), world.on(&FREEBSD, "em0"));
        writer.ok(Request::Feedback(1));
        writer.ok(Request::SDirection(direction));
        writer.write(&frame(60)).unwrap();
        assert_eq!((writer.stats().0, other.stats().0), (writers, 2), "direction {direction}");
    }
}

#[test]
fn feedback_of_a_failed_write_is_not_seen() {
    let world = World::new();
    let other = world.on(&FREEBSD, "em0");
    world.inject_fails("em0", 105);
    let writer = world.on(&FREEBSD, "em0");
    writer.ok(Request::Feedback(1));
    assert_eq!(writer.write(&frame(60)), Err(Errno::NoBufs));
    assert_eq!((writer.stats().0, other.stats().0), (0, 0));
}

#[test]
fn vlan_priority_is_0_to_7() {
    let fd = Fd::new(&FREEBSD);
    for pcp in 0..=7 {
        fd.number(0x8004_4285, &word(pcp)).unwrap();
    }
    assert_eq!(fd.number(0x8004_4285, &word(8)), Err(Errno::Inval));
}
