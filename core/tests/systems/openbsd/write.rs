//! semantics.md 6 and 11.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;

use crate::checks::{DLTS, length_check, shown, value, writable, writes};
use crate::support::*;

const MSGSIZE: Result<usize, Errno> = Err(Errno::MsgSize);

#[test]
fn checks_come_in_order() {
    let fd = Fd::on_em0(&OPENBSD);
    writes(
        &fd,
        &[
            ("nothing", 0, Ok(0)),
            ("one byte", 1, Err(Errno::Inval)),
            ("no link header", 13, Err(Errno::Inval)),
            ("a link header alone", 14, Ok(14)),
            ("the MTU", 1514, Ok(1514)),
            ("over the MTU", 1515, MSGSIZE),
            ("over 64 KiB", 70_000, MSGSIZE),
        ],
    );
    fd.ok(Request::SetWf(ret(0)));
    writes(
        &fd,
        &[
            ("length before the filter", 1515, MSGSIZE),
            ("header before the filter", 13, Err(Errno::Inval)),
            ("the filter", 60, Err(Errno::Perm)),
        ],
    );
    fd.world.network.set_up("em0", false);
    for (len, what) in [(0, "nothing"), (1, "short"), (60, "rejected by the filter"), (1515, "long")] {
        assert_eq!(fd.write(&frame(len)), Err(Errno::NetDown), "down comes before {what}");
    }
}

#[test]
fn more_than_64_kib_is_emsgsize_whatever_the_mtu() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.world.network.set_mtu("em0", 100_000);
    writes(&fd, &[("64 KiB", 65_536, Ok(65_536)), ("one more", 65_537, MSGSIZE)]);
}

#[test]
fn writable_link_types() {
    // EN10MB, LOOP (12), NULL, RAW (14), PPP, SLIP, 802.11 and radio
    assert_eq!(writable(&OPENBSD, &DLTS), [0, 1, 8, 9, 12, 14, 105, 127]);
    assert_eq!(length_check(&OPENBSD, 12, 3), Err(Errno::Inval), "LOOP(4)");
    assert_eq!(length_check(&OPENBSD, 12, 1504), Ok(()));
    assert_eq!(length_check(&OPENBSD, 12, 1505), Err(Errno::MsgSize));
    for dlt in [14, 9, 8] {
        assert_eq!(length_check(&OPENBSD, dlt, 1500), Ok(()), "DLT {dlt} has no header");
        assert_eq!(length_check(&OPENBSD, dlt, 1501), Err(Errno::MsgSize), "DLT {dlt}");
    }
}

#[test]
fn a_write_filter_must_accept_the_whole_frame() {
    let fd = Fd::on_em0(&OPENBSD);
    for (snap, expected) in [
        (0, Err(Errno::Perm)),
        (1, Err(Errno::Perm)),
        (59, Err(Errno::Perm)),
        (60, Ok(60)),
        (u32::MAX, Ok(60)),
    ] {
        fd.ok(Request::SetWf(ret(snap)));
        assert_eq!(fd.write(&frame(60)), expected, "6: result less than the length: EPERM: ret #{snap}");
    }
}

#[test]
fn direction_is_a_mask_of_what_to_hide() {
    let fd = Fd::on_em0(&OPENBSD);
    for (mask, kept, expected) in [
        (0, 0, (true, true)),
        (1, 1, (false, true)),
        (2, 2, (true, false)),
        (3, 3, (false, false)),
        (4, 0, (true, true)),
        (7, 3, (false, false)),
        (0xffff_fffd, 1, (false, true)),
    ] {
        fd.number(0x8004_427d, &word(mask)).unwrap();
        assert_eq!(value(&fd, Request::GDirection), kept, "11: other bits dropped: {mask:#x}");
        assert_eq!(shown(&fd), expected, "mask {mask:#x}");
    }
}

#[test]
fn direction_leaves_what_is_buffered() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.rx(60);
    fd.ok(Request::SDirection(3));
    assert_eq!((fd.stats(), fd.read_len()), ((1, 0), Ok(86)));
}

#[test]
fn hidden_packets_start_no_wait_and_wake_nobody() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(Request::Immediate(1));
    fd.ok(Request::SDirection(1));
    let before = fd.wakeups();
    fd.rx(60);
    assert_eq!((fd.stats(), fd.wakeups()), ((1, 0), before));
    assert!(!fd.readable());
}
