//! semantics.md 4, read(2), and 5.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::ReadStep;

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };

#[test]
fn nonblocking_empty_is_ewouldblock() {
    assert_eq!(Fd::on_em0(&FREEBSD).read(), Err(Errno::Again));
}

#[test]
fn a_packet_before_immediate_mode_counts() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    assert!(fd.readable());
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn a_wakeup_for_nothing_gives_the_whole_timeout_again() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(TIMEOUT);
    fd.ok(Request::Immediate(1));
    let (mut one, mut two) = (fd.blocking(), fd.blocking());
    fd.step(&mut one);
    fd.step(&mut two);
    for ms in [200, 400] {
        fd.sleep(200);
        fd.rx(60);
        assert_eq!(fd.step(&mut one), ReadStep::Hold);
        fd.take();
        one = fd.blocking();
        fd.step(&mut one);
        // 4: any wake-up restarts the loop with a fresh full time-out
        assert_eq!(fd.step(&mut two), ReadStep::Wait { deadline: at(ms + 300) });
    }
    fd.sleep(300);
    assert_eq!(fd.step(&mut two), ReadStep::Nothing);
}

#[test]
fn a_signal_is_eintr_and_what_is_stored_stays() {
    let fd = Fd::on_em0(&FREEBSD);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    fd.rx(60);
    assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None });
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    assert_eq!(fd.read_len(), Ok(86));
}

#[test]
fn removal_wakes_a_sleeper_with_enxio() {
    let fd = Fd::on_em0(&FREEBSD);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    let before = fd.wakeups();
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut pending), ReadStep::Fail(Errno::NxIo));
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!(fd.refused(Request::GetIf), Errno::Inval);
    assert_eq!(fd.poll(), BOTH_READY, "5: as not attached");
    // it can be attached again
    fd.ok(set_if("em1"));
}

#[test]
fn removal_leaves_buffered_data_then_enxio() {
    // hold and store
    let fd = Fd::sized(&FREEBSD, 128);
    fd.rx(60);
    fd.rx(60);
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "blocking: the hold");
    fd.take();
    assert_eq!(fd.read_len(), Ok(86), "non-blocking: the store");
    assert_eq!(fd.read(), Err(Errno::NxIo));
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Fail(Errno::NxIo));
    // immediate mode
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::Immediate(1));
    fd.rx(60);
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn unattached_poll_gives_what_was_asked() {
    assert_eq!(Fd::new(&FREEBSD).poll(), BOTH_READY);
    assert!(Fd::new(&FREEBSD).readable());
}

#[test]
fn always_writable() {
    let fd = Fd::on_em0(&FREEBSD);
    assert_eq!(fd.poll(), WRITE_READY);
    fd.world.network.set_up("em0", false);
    assert_eq!(fd.poll(), WRITE_READY, "down, too");
}

#[test]
fn polling_arms_the_read_timeout() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(TIMEOUT);
    fd.rx(60);
    assert_eq!(fd.poll(), WRITE_READY);
    fd.sleep(100);
    assert_eq!(fd.poll(), WRITE_READY, "a second poll does not start it again");
    fd.sleep(199);
    assert_eq!(fd.poll(), WRITE_READY);
    let before = fd.wakeups();
    fd.sleep(1);
    assert_eq!(fd.poll(), BOTH_READY);
    assert_eq!(fd.wakeups(), before + 1, "it fired with data: a wake-up");
    fd.sleep(1000);
    assert_eq!(fd.poll(), BOTH_READY, "5: timed out until a read or an ioctl");
}

#[test]
fn a_timer_that_fired_with_nothing_makes_the_next_packet_wake() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(TIMEOUT);
    assert!(!fd.readable());
    fd.sleep(300);
    assert!(!fd.readable());
    let before = fd.wakeups();
    fd.rx(60);
    assert_eq!(fd.wakeups(), before + 1);
    assert!(fd.readable());
}

#[test]
fn a_read_after_the_timer_takes_the_store_and_ends_the_state() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(TIMEOUT);
    fd.rx(60);
    assert!(!fd.readable());
    fd.sleep(300);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "4: the timer had expired");
    fd.take();
    fd.rx(60);
    assert!(!fd.readable(), "idle again");
}

#[test]
fn any_ioctl_ends_the_timer_and_the_timed_out_state() {
    let requests = [
        Request::GBlen,
        Request::FionRead,
        Request::GStats,
        Request::Version,
        Request::SBlen(64), // refused
        Request::SDirection(9),
        Request::GetIf,
    ];
    for request in requests {
        let fd = Fd::on_em0(&FREEBSD);
        fd.ok(TIMEOUT);
        fd.rx(60);
        assert!(!fd.readable());
        fd.sleep(200);
        let _ = bpfdev_core::file::BpfFile::ioctl(&fd.file, &request);
        fd.sleep(100);
        assert!(!fd.readable(), "{request:?}: the timer was cancelled");
        fd.sleep(300);
        assert!(fd.readable(), "{request:?}: polling armed it again");
        let _ = bpfdev_core::file::BpfFile::ioctl(&fd.file, &request);
        assert!(!fd.readable(), "{request:?}: the timed-out state ended");
    }
}

#[test]
fn without_a_read_timeout_polling_arms_nothing() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.rx(60);
    assert!(!fd.readable());
    assert_eq!(fd.file.with(|file, _| file.next_event()), None);
    fd.sleep(1_000_000_000);
    assert!(!fd.readable());
}

#[test]
fn asking_for_writing_only_arms_nothing() {
    use bpfdev_core::file::Interest;
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(TIMEOUT);
    fd.file.with(|file, now| file.poll(Interest { read: false, write: true }, now));
    assert_eq!(fd.file.with(|file, _| file.next_event()), None);
    assert!(!fd.readable());
    assert_eq!(fd.file.with(|file, _| file.next_event()), at(300));
}

#[test]
fn fionread_is_store_and_hold() {
    let fd = Fd::sized(&FREEBSD, 128);
    fd.rx(60);
    assert_eq!(fd.fionread(), 86);
    fd.rx(61);
    assert_eq!(fd.fionread(), 86 + 87);
    assert_eq!(fd.number(0x4004_667f, &[]), Ok(word(173).to_vec()));
}
