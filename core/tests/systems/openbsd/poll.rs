//! semantics.md 5.

use bpfdev_core::abi::Request;

use crate::support::*;

#[test]
fn never_writable() {
    let fd = Fd::new(&OPENBSD);
    assert_eq!(fd.poll(), NONE_READY, "not attached: the same as attached");
    fd.ok(set_if("em0"));
    assert_eq!(fd.poll(), NONE_READY, "POLLOUT is silently not reported");
    fd.ok(Request::Immediate(1));
    fd.rx(60);
    assert_eq!(fd.poll(), READ_READY);
}

#[test]
fn a_read_timeout_is_not_armed_by_polling() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(Request::SRTimeout { sec: 0, usec: 300_000 });
    fd.rx(60);
    assert!(!fd.readable());
    assert_eq!(fd.file.with(|file, _| file.next_event()), None);
    fd.sleep(1000);
    assert!(!fd.readable());
}

#[test]
fn the_store_counts_with_a_wait_timeout_of_zero_only() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(Request::SWTimeout { sec: 0, usec: 200_000 });
    fd.rx(60);
    fd.sleep(300);
    assert!(!fd.readable(), "hlen + (wait timeout == 0 ? slen : 0), its time over or not");
    fd.ok(Request::SWTimeout { sec: 0, usec: 0 });
    assert!(fd.readable());
    fd.ok(Request::DWTimeout);
    assert!(!fd.readable());
}

#[test]
fn a_hold_is_readable() {
    let fd = Fd::sized(&OPENBSD, 128);
    fd.rx(60);
    fd.rx(60);
    assert_eq!(fd.poll(), READ_READY);
    assert_eq!(fd.fionread(), 86 + 86, "FIONREAD: slen + hlen");
}

#[test]
fn removal_is_a_hangup_even_with_data() {
    let fd = Fd::sized(&OPENBSD, 128);
    fd.rx(60);
    fd.rx(60);
    let before = fd.wakeups();
    fd.world.network.remove("em0");
    assert_eq!(fd.poll(), HANGUP);
    assert_eq!(fd.wakeups(), before + 1, "sleeping polls are woken");
}
