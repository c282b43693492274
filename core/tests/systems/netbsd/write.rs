//! semantics.md 6, 11 and 17.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;

use crate::checks::{DLTS, loopback_write, shown, tunnel, value, writable, writes};
use crate::support::*;

const MSGSIZE: Result<usize, Errno> = Err(Errno::MsgSize);

#[test]
fn checks_come_in_order() {
    let fd = Fd::on_em0(&NETBSD);
    let cases = [
        ("nothing", 0, Ok(0)),
        ("one byte", 1, MSGSIZE),
        ("no link header", 13, MSGSIZE),
        ("over the MTU", 1515, MSGSIZE),
    ];
    writes(&fd, &cases);
    writes(&fd, &[("a link header alone", 14, Ok(14)), ("the MTU", 1514, Ok(1514))]);
    fd.world.network.set_up("em0", false);
    // 6: not checked here; the output routine says ENETDOWN
    writes(&fd, &cases);
    writes(&fd, &[("the MTU", 1514, Err(Errno::NetDown))]);
    fd.ok(Request::SetWf(ret(0)));
    writes(
        &fd,
        &[("down, and rejected by the filter", 60, Err(Errno::Perm)), ("length first", 1515, MSGSIZE)],
    );
    fd.world.network.set_up("em0", true);
    writes(&fd, &[("the filter", 60, Err(Errno::Perm)), ("nothing", 0, Ok(0))]);
}

#[test]
fn there_is_no_limit_but_the_mtu() {
    let fd = Fd::on_em0(&NETBSD);
    fd.world.network.set_mtu("em0", 100_000);
    writes(&fd, &[("100000", 100_014, Ok(100_014)), ("one more", 100_015, MSGSIZE)]);
}

#[test]
fn writable_link_types() {
    // EN10MB, NULL, PPP, SLIP, FDDI; ARCNET and ECONET are nothing Linux has; RAW is not among them
    assert_eq!(writable(&NETBSD, &DLTS), [0, 1, 8, 9, 10]);
    let fd = tunnel().on(&NETBSD, "tun0");
    assert_eq!(fd.write(&[0x45; 20]), Err(Errno::Io), "RAW");
    assert_eq!(fd.write(&[]), Ok(0), "nothing comes before the link type");
    assert_eq!(fd.ok(Request::GDlt), Response::U32(12), "RAW is 12");
}

#[test]
fn a_write_filter_needs_only_to_accept() {
    let fd = Fd::on_em0(&NETBSD);
    for (snap, expected) in [(1, Ok(60)), (59, Ok(60)), (0, Err(Errno::Perm))] {
        fd.ok(Request::SetWf(ret(snap)));
        assert_eq!(fd.write(&frame(60)), expected, "ret #{snap}");
    }
}

#[test]
fn direction_takes_0_1_and_2() {
    let fd = Fd::on_em0(&NETBSD);
    for (direction, expected) in [(0, (true, false)), (1, (true, true)), (2, (false, true))] {
        fd.number(0x8004_4279, &word(direction)).unwrap();
        assert_eq!(fd.number(0x4004_4278, &[]), Ok(word(direction).to_vec()));
        assert_eq!(shown(&fd), expected, "direction {direction}");
    }
    for direction in [3, 4, u32::MAX] {
        assert_eq!(fd.refused(Request::SDirection(direction)), Errno::Inval, "{direction}");
    }
    assert_eq!(value(&fd, Request::GDirection), 2, "as it was");
}

#[test]
fn netbsd7_has_see_sent_only() {
    // abi.json: before 9.x any nonzero value is accepted
    let fd = Fd::on_em0(&NETBSD7);
    for (value, expected) in [(0, (true, false)), (1, (true, true)), (2, (true, true)), (7, (true, true))] {
        fd.ok(Request::SDirection(value));
        assert_eq!(shown(&fd), expected, "{value}");
    }
}

#[test]
fn feedback_is_given_back_and_hides_the_frame() {
    let world = World::new();
    let (writer, other, peer) =
        (world.on(&NETBSD, "em0"), world.on(&NETBSD, "em0"), world.on(&NETBSD, "em1"));
    writer.number(0x8004_427d, &word(1)).unwrap();
    assert_eq!(writer.number(0x4004_427c, &[]), Ok(word(1).to_vec()));
    writer.write(&frame(60)).unwrap();
    // 6: N always marks the outgoing copy; as recorded, nobody here sees it
    assert_eq!((writer.stats().0, other.stats().0, peer.stats().0), (0, 0, 1));
    writer.ok(Request::Feedback(0));
    writer.write(&frame(60)).unwrap();
    assert_eq!((writer.stats().0, other.stats().0, peer.stats().0), (1, 1, 2));
}

#[test]
fn lo0_is_dlt_null_in_host_order_and_inet6_is_24() {
    assert_eq!(World::new().on(&NETBSD, "lo0").ok(Request::GDlt), Response::U32(0));
    for family in [2_u32, 24] {
        assert_eq!(loopback_write(&NETBSD, family.to_ne_bytes()), Ok(24), "{family}");
    }
    for family in [0_u32, 10, 28, 30, 0x0200_0000] {
        assert_eq!(loopback_write(&NETBSD, family.to_ne_bytes()), Err(Errno::AfNoSupport), "{family}");
    }
}

#[test]
fn header_complete_is_ignored_on_lo0() {
    let fd = World::new().on(&NETBSD, "lo0");
    fd.ok(Request::SHdrCmplt(1));
    assert_eq!(fd.write(&[&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat()), Ok(24));
    let record = fd.read().unwrap();
    assert_eq!(record[36..], [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat());
}

#[test]
fn a_packet_written_to_lo0_is_seen_once_as_sent() {
    let fd = World::new().on(&NETBSD, "lo0");
    let packet = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    for (direction, seen) in [(0, 0), (1, 1), (2, 1)] {
        fd.ok(Request::SDirection(direction));
        fd.ok(Request::Flush);
        assert_eq!(fd.write(&packet), Ok(24));
        assert_eq!(fd.stats().0, seen, "11: out (once): direction {direction}");
    }
}

#[test]
fn netbsd7_refuses_writes_to_lo0() {
    for family in [2_u32, 24, 99] {
        assert_eq!(loopback_write(&NETBSD7, family.to_ne_bytes()), Err(Errno::AfNoSupport), "{family}");
    }
}
