//! semantics.md 6, 11 and 17 on lo0, and raw interfaces.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;

use crate::checks::{loopback_write, tunnel};
use crate::support::*;

#[test]
fn lo0_is_dlt_null_and_raw_is_12() {
    assert_eq!(World::new().on(&FREEBSD, "lo0").ok(Request::GDlt), Response::U32(0));
    assert_eq!(tunnel().on(&FREEBSD, "tun0").ok(Request::GDlt), Response::U32(12));
}

#[test]
fn the_family_is_in_host_order_and_inet6_is_28() {
    for family in [2_u32, 28] {
        assert_eq!(loopback_write(&FREEBSD, family.to_ne_bytes()), Ok(24), "{family}");
    }
    for family in [0_u32, 10, 24, 30, 99, 0x0200_0000] {
        let refused = loopback_write(&FREEBSD, family.to_ne_bytes());
        assert_eq!(refused, Err(Errno::AfNoSupport), "6: driver errors passed through: {family}");
    }
}

#[test]
fn a_written_packet_is_seen_once_as_received() {
    let fd = World::new().on(&FREEBSD, "lo0");
    let packet = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    for (direction, seen) in [(0, 1), (1, 1), (2, 0)] {
        fd.ok(Request::SDirection(direction));
        fd.ok(Request::Flush);
        assert_eq!(fd.write(&packet), Ok(24));
        assert_eq!(fd.stats().0, seen, "11: in (once): direction {direction}");
    }
}

#[test]
fn lengths_are_checked_behind_the_family() {
    let fd = World::new().on(&FREEBSD, "lo0");
    fd.world.network.set_mtu("lo0", 1000);
    let packet = |len: usize| [&2_u32.to_ne_bytes()[..], &vec![0x45; len]].concat();
    assert_eq!(fd.write(&[2, 0, 0]), Err(Errno::MsgSize), "NULL has 4 bytes");
    assert_eq!(fd.write(&packet(1000)), Ok(1004));
    assert_eq!(fd.write(&packet(1001)), Err(Errno::MsgSize));
    fd.world.network.set_mtu("lo0", 16_384);
    assert_eq!(fd.write(&packet(16_380)), Ok(16_384));
    assert_eq!(fd.write(&packet(16_381)), Err(Errno::Io), "16 KiB");
}

#[test]
fn raw_frames_have_no_header() {
    let fd = tunnel().on(&FREEBSD, "tun0");
    assert_eq!(fd.write(&[0x45]), Ok(1));
    assert_eq!(fd.write(&[0x45; 1500]), Ok(1500));
    assert_eq!(fd.write(&[0x45; 1501]), Err(Errno::MsgSize));
}
