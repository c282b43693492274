//! semantics.md 6, 11 and 17.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;

use crate::checks::{DLTS, loopback_write, shown, tunnel, value, writable, writes};
use crate::support::*;

const MSGSIZE: Result<usize, Errno> = Err(Errno::MsgSize);

#[test]
fn checks_come_in_order() {
    let fd = Fd::on_em0(&MACOS);
    writes(
        &fd,
        &[
            ("nothing", 0, Ok(0)),
            ("one byte", 1, MSGSIZE),
            ("no link header", 13, MSGSIZE),
            ("a link header alone", 14, Ok(14)),
            ("the MTU", 1514, Ok(1514)),
            ("MTU + 18", 14 + 1518, Ok(1532)),
            ("one more", 14 + 1519, MSGSIZE),
        ],
    );
    fd.world.network.set_up("em0", false);
    for (len, what) in [(0, "nothing"), (1, "short"), (60, "good"), (1600, "long")] {
        assert_eq!(fd.write(&frame(len)), Err(Errno::NetDown), "down comes before {what}");
    }
}

#[test]
fn with_the_header_complete_there_is_no_minimum_and_the_whole_frame_counts() {
    let fd = Fd::on_em0(&MACOS);
    fd.ok(Request::SHdrCmplt(1));
    writes(
        &fd,
        &[
            ("nothing", 0, Ok(0)),
            ("one byte", 1, Ok(1)),
            ("13 bytes", 13, Ok(13)),
            ("MTU + 18", 1518, Ok(1518)),
            ("one more", 1519, MSGSIZE),
        ],
    );
}

#[test]
fn writemax_replaces_the_mtu_and_then_only_logs() {
    let fd = Fd::on_em0(&MACOS);
    assert_eq!(value(&fd, Request::GWriteMax), 0);
    fd.number(0x8004_428c, &word(9000)).unwrap();
    assert_eq!(fd.number(0x4004_428d, &[]), Ok(word(9000).to_vec()));
    writes(&fd, &[("over the MTU", 5000, Ok(5000)), ("over the limit", 20_000, Ok(20_000))]);
    writes(&fd, &[("no link header", 13, MSGSIZE)]);
    fd.number(0x8004_428c, &word(0)).unwrap();
    writes(&fd, &[("the MTU again", 5000, MSGSIZE)]);
    // abi.json: at most 16 MiB
    fd.number(0x8004_428c, &word(16 << 20)).unwrap();
    assert_eq!(fd.number(0x8004_428c, &word((16 << 20) + 1)), Err(Errno::Inval));
    writes(&fd, &[("16 MiB", 16 << 20, Ok(16 << 20)), ("one more", (16 << 20) + 1, MSGSIZE)]);
}

#[test]
fn writable_link_types() {
    // EN10MB, NULL, RAW, PPP, IP-over-1394, 802.11 and radio
    assert_eq!(writable(&MACOS, &DLTS), [0, 1, 9, 12, 105, 127, 138]);
}

#[test]
fn direction_is_a_mask_of_what_to_show() {
    let fd = Fd::on_em0(&MACOS);
    for (direction, see_sent, expected) in
        [(0, 0, (false, false)), (1, 0, (true, false)), (2, 1, (false, true)), (3, 1, (true, true))]
    {
        fd.number(0x8004_428b, &word(direction)).unwrap();
        assert_eq!(fd.number(0x4004_428a, &[]), Ok(word(direction).to_vec()));
        assert_eq!(fd.number(0x4004_4276, &[]), Ok(word(see_sent).to_vec()), "11: get = out bit");
        assert_eq!(shown(&fd), expected, "direction {direction}");
    }
    for direction in [4, 7, u32::MAX] {
        assert_eq!(fd.number(0x8004_428b, &word(direction)), Err(Errno::Inval), "{direction}");
    }
    assert_eq!(value(&fd, Request::GDirection), 3, "as it was");
}

#[test]
fn see_sent_is_in_only_or_both() {
    let fd = Fd::on_em0(&MACOS);
    for (see_sent, direction) in [(0, 1), (1, 3), (0, 1), (7, 3)] {
        fd.number(0x8004_4277, &word(see_sent)).unwrap();
        assert_eq!(value(&fd, Request::GDirection), direction, "see-sent {see_sent}");
        assert_eq!(fd.number(0x4004_4276, &[]), Ok(word(u32::from(see_sent != 0)).to_vec()));
    }
    fd.ok(Request::SDirection(2));
    fd.ok(Request::SSeeSent(1));
    assert_eq!(value(&fd, Request::GDirection), 3, "both again");
}

#[test]
fn lo0_is_dlt_null_in_host_order_and_inet6_is_30() {
    assert_eq!(World::new().on(&MACOS, "lo0").ok(Request::GDlt), Response::U32(0));
    assert_eq!(tunnel().on(&MACOS, "tun0").ok(Request::GDlt), Response::U32(12));
    for family in [2_u32, 30] {
        assert_eq!(loopback_write(&MACOS, family.to_ne_bytes()), Ok(24), "{family}");
    }
    for family in [0_u32, 10, 24, 28, 0x0200_0000] {
        assert_eq!(loopback_write(&MACOS, family.to_ne_bytes()), Err(Errno::AfNoSupport), "{family}");
    }
}

#[test]
fn a_packet_written_to_lo0_is_seen_once_as_sent() {
    let fd = World::new().on(&MACOS, "lo0");
    let packet = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    for (direction, seen) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        fd.ok(Request::SDirection(direction));
        fd.ok(Request::Flush);
        assert_eq!(fd.write(&packet), Ok(24));
        assert_eq!(fd.stats().0, seen, "11: out (once): direction {direction}");
    }
}
