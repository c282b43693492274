//! semantics.md 4, read(2), and 5.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{PendingRead, ReadStep};

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };

#[test]
fn nonblocking_empty_is_ewouldblock() {
    assert_eq!(Fd::on_em0(&DRAGONFLY).read(), Err(Errno::Again));
}

#[test]
fn unattached_is_enxio_after_the_size_check() {
    let fd = Fd::new(&DRAGONFLY);
    for nonblocking in [false, true] {
        let step = |len| fd.step(&mut PendingRead::new(len, nonblocking));
        assert_eq!((step(100), step(4096)), (ReadStep::Fail(Errno::Inval), ReadStep::Fail(Errno::NxIo)));
    }
}

#[test]
fn a_packet_before_immediate_mode_counts() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn a_wakeup_for_nothing_gives_the_whole_timeout_again() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.ok(TIMEOUT);
    fd.ok(Request::Immediate(1));
    let (mut one, mut two) = (fd.blocking(), fd.blocking());
    fd.step(&mut one);
    fd.step(&mut two);
    fd.sleep(200);
    fd.rx(60);
    assert_eq!(fd.step(&mut one), ReadStep::Hold);
    fd.take();
    assert_eq!(fd.step(&mut two), ReadStep::Wait { deadline: at(500) });
}

#[test]
fn a_signal_is_eintr_and_what_is_stored_stays() {
    let fd = Fd::on_em0(&DRAGONFLY);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    fd.rx(60);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    assert_eq!(fd.read_len(), Ok(94));
}

#[test]
fn removal_wakes_a_sleeper_with_enxio() {
    let fd = Fd::on_em0(&DRAGONFLY);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    let before = fd.wakeups();
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut pending), ReadStep::Fail(Errno::NxIo));
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!(fd.read(), Err(Errno::NxIo));
    fd.ok(set_if("em1"));
}

#[test]
fn never_writable_and_silent_without_an_interface() {
    let fd = Fd::new(&DRAGONFLY);
    assert_eq!(fd.poll(), NONE_READY, "attach of the event fails, and poll(2) says nothing");
    fd.ok(set_if("em0"));
    assert_eq!(fd.poll(), NONE_READY, "EOPNOTSUPP is swallowed");
    fd.ok(Request::Immediate(1));
    fd.rx(60);
    assert_eq!(fd.poll(), READ_READY);
}

#[test]
fn polling_arms_the_read_timeout_and_an_ioctl_stops_it() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.ok(TIMEOUT);
    fd.rx(60);
    assert_eq!(fd.poll(), NONE_READY);
    fd.sleep(300);
    assert_eq!(fd.poll(), READ_READY);
    fd.ok(Request::GBlen);
    assert_eq!(fd.poll(), NONE_READY, "3: any ioctl");
    fd.sleep(300);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "timed out: the store is there at once");
    fd.take();
    fd.rx(60);
    assert_eq!(fd.poll(), NONE_READY, "and a read ends the state");
}

#[test]
fn a_timer_that_fired_with_nothing_makes_the_next_packet_wake() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.ok(TIMEOUT);
    assert_eq!(fd.poll(), NONE_READY);
    fd.sleep(300);
    let before = fd.wakeups();
    fd.rx(60);
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!(fd.poll(), READ_READY);
}

#[test]
fn fionread_is_store_and_hold() {
    let fd = Fd::sized(&DRAGONFLY, 128);
    fd.rx(60);
    fd.rx(60);
    assert_eq!(fd.fionread(), 94 + 94);
}
