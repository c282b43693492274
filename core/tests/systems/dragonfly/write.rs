//! semantics.md 6, 11 and 17.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;

use crate::checks::{DLTS, loopback_write, shown, tunnel, writable, writes};
use crate::support::*;

const MSGSIZE: Result<usize, Errno> = Err(Errno::MsgSize);
const IO: Result<usize, Errno> = Err(Errno::Io);
const PERM: Result<usize, Errno> = Err(Errno::Perm);

#[test]
fn checks_come_in_order() {
    let fd = Fd::on_em0(&DRAGONFLY);
    let cases = [
        ("nothing", 0, Ok(0)),
        ("one byte", 1, PERM),
        ("no link header", 13, PERM),
        ("over the MTU", 1515, MSGSIZE),
        ("over the MTU, 2048", 2048, MSGSIZE),
        ("more than 2048: EIO before the MTU", 2049, IO),
    ];
    writes(&fd, &cases);
    writes(&fd, &[("a link header alone", 14, Ok(14)), ("the MTU", 1514, Ok(1514))]);
    fd.world.network.set_up("em0", false);
    // 6: not checked here; the output routine says ENETDOWN
    writes(&fd, &cases);
    writes(&fd, &[("down", 60, Err(Errno::NetDown))]);
    fd.ok(Request::SetWf(ret(0)));
    writes(&fd, &[("down, and rejected by the filter", 60, PERM), ("length first", 1515, MSGSIZE)]);
}

#[test]
fn more_than_2048_is_eio_whatever_the_mtu() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.world.network.set_mtu("em0", 9000);
    writes(&fd, &[("2048", 2048, Ok(2048)), ("2049", 2049, IO), ("9015", 9015, IO)]);
}

#[test]
fn writable_link_types() {
    // EN10MB, NULL, RAW, PPP, SLIP, ATM, 802.11
    assert_eq!(writable(&DRAGONFLY, &DLTS), [0, 1, 8, 9, 11, 12, 105]);
}

#[test]
fn a_write_filter_needs_only_to_accept() {
    let fd = Fd::on_em0(&DRAGONFLY);
    for (snap, expected) in [(1, Ok(60)), (59, Ok(60)), (0, PERM)] {
        fd.ok(Request::SetWf(ret(snap)));
        assert_eq!(fd.write(&frame(60)), expected, "ret #{snap}");
    }
}

#[test]
fn see_sent_0_is_in_only_and_anything_else_both() {
    let fd = Fd::on_em0(&DRAGONFLY);
    for (value, expected) in [
        (0, (true, false)),
        (1, (true, true)),
        (2, (true, true)),
        (3, (true, true)),
        (u32::MAX, (true, true)),
    ] {
        fd.number(0x8004_4277, &word(value)).unwrap();
        assert_eq!(shown(&fd), expected, "{value}");
    }
    fd.ok(Request::SDirection(0));
    assert_eq!(fd.number(0x4004_4276, &[]), Ok(word(0).to_vec()));
    fd.ok(Request::SDirection(1));
    assert_eq!(fd.number(0x4004_4276, &[]), Ok(word(1).to_vec()));
}

#[test]
fn feedback_is_given_back() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.number(0x8004_427d, &word(1)).unwrap();
    assert_eq!(fd.number(0x4004_427c, &[]), Ok(word(1).to_vec()));
}

#[test]
fn lo0_is_dlt_null_in_host_order_and_inet6_is_28() {
    assert_eq!(World::new().on(&DRAGONFLY, "lo0").ok(Request::GDlt), Response::U32(0));
    assert_eq!(tunnel().on(&DRAGONFLY, "tun0").ok(Request::GDlt), Response::U32(12));
    for family in [2_u32, 28] {
        assert_eq!(loopback_write(&DRAGONFLY, family.to_ne_bytes()), Ok(24), "{family}");
    }
    for family in [0_u32, 10, 24, 30, 0x0200_0000] {
        assert_eq!(loopback_write(&DRAGONFLY, family.to_ne_bytes()), Err(Errno::AfNoSupport), "{family}");
    }
}

#[test]
fn a_packet_written_to_lo0_is_seen_once_as_received() {
    let fd = World::new().on(&DRAGONFLY, "lo0");
    let packet = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    for direction in [0, 1] {
        fd.ok(Request::SDirection(direction));
        fd.ok(Request::Flush);
        assert_eq!(fd.write(&packet), Ok(24));
        assert_eq!(fd.stats().0, 1, "11: in: see-sent {direction}");
    }
    assert_eq!(fd.write(&[&2_u32.to_ne_bytes()[..], &[0x45; 2045]].concat()), IO, "2048 here, too");
}
