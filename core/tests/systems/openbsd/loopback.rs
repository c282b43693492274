//! semantics.md 6, 11 and 17 on lo0, and raw interfaces.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;

use crate::checks::{loopback_write, tunnel};
use crate::support::*;

#[test]
fn lo0_is_dlt_loop_12_and_raw_is_14() {
    let fd = World::new().on(&OPENBSD, "lo0");
    assert_eq!(fd.ok(Request::GDlt), Response::U32(12));
    fd.ok(Request::SDlt(12));
    assert_eq!(fd.refused(Request::SDlt(108)), Errno::Inval, "108 is LOOP in files only");
    let list = Response::DltList { count: Some(1), list: vec![12], error: None };
    assert_eq!(fd.ok(Request::GDltList(Some(4))), list);
    let fd = tunnel().on(&OPENBSD, "tun0");
    assert_eq!(fd.ok(Request::GDlt), Response::U32(14));
    assert_eq!(fd.refused(Request::SDlt(12)), Errno::Inval, "12 is LOOP");
}

#[test]
fn the_family_is_in_network_order_and_inet6_is_24() {
    for word in [[0, 0, 0, 2], [0, 0, 0, 24]] {
        assert_eq!(loopback_write(&OPENBSD, word), Ok(24), "{word:?}");
    }
    for word in [[2, 0, 0, 0], [24, 0, 0, 0], [0, 0, 0, 28], [0, 0, 0, 30], [0, 0, 0, 10], [0; 4]] {
        assert_eq!(loopback_write(&OPENBSD, word), Err(Errno::AfNoSupport), "{word:?}");
    }
}

#[test]
fn a_written_packet_is_seen_once_as_sent() {
    let fd = World::new().on(&OPENBSD, "lo0");
    let packet = [&[0, 0, 0, 2][..], &[0x45; 20]].concat();
    for (hidden, record) in [(0, 48), (1, 48), (2, 0)] {
        fd.ok(Request::SDirection(hidden));
        fd.ok(Request::Flush);
        assert_eq!(fd.write(&packet), Ok(24));
        assert_eq!((fd.stats().0, fd.fionread()), (1, record), "11: out (once): hidden {hidden}");
    }
    fd.ok(Request::SDirection(0));
    fd.write(&packet).unwrap();
    assert_eq!(fd.read().unwrap()[22], 0x20, "bh_flags: BPF_F_DIR_OUT");
}

#[test]
fn lengths_are_checked_behind_the_family() {
    let fd = World::new().on(&OPENBSD, "lo0");
    fd.world.network.set_mtu("lo0", 1000);
    let packet = |len: usize| [&[0, 0, 0, 2][..], &vec![0x45; len]].concat();
    assert_eq!(fd.write(&[0, 0, 2]), Err(Errno::Inval), "LOOP has 4 bytes");
    assert_eq!(fd.write(&packet(1000)), Ok(1004));
    assert_eq!(fd.write(&packet(1001)), Err(Errno::MsgSize));
}
