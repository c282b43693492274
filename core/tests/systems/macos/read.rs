//! semantics.md 4, read(2), and 5.

use bpfdev_core::abi::{Flag, Request};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{PendingRead, ReadStep};

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };

#[test]
fn nonblocking_empty_is_ewouldblock() {
    assert_eq!(Fd::on_em0(&MACOS).read(), Err(Errno::Again));
}

#[test]
fn unattached_is_enxio_after_the_size_check() {
    let fd = Fd::new(&MACOS);
    for nonblocking in [false, true] {
        let step = |len| fd.step(&mut PendingRead::new(len, nonblocking));
        assert_eq!((step(100), step(4096)), (ReadStep::Fail(Errno::Inval), ReadStep::Fail(Errno::NxIo)));
    }
}

#[test]
fn immediate_looks_at_the_low_byte_only() {
    for (value, on) in [(0x100, false), (0xffff_ff00, false), (0x101, true), (0x80, true), (1, true)] {
        let fd = Fd::on_em0(&MACOS);
        fd.number(0x8004_4270, &word(value)).unwrap();
        fd.rx(60);
        assert_eq!(fd.readable(), on, "{value:#x}");
    }
}

#[test]
fn a_packet_before_immediate_mode_counts() {
    let fd = Fd::on_em0(&MACOS);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn a_wakeup_for_nothing_gives_the_whole_timeout_again() {
    let fd = Fd::on_em0(&MACOS);
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
fn a_signal_is_eintr_but_buffered_data_is_returned_instead() {
    let fd = Fd::on_em0(&MACOS);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    fd.rx(60);
    assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None });
    assert_eq!(fd.interrupt(&pending), ReadStep::Hold);
    assert_eq!(fd.take().len(), 18 + 60);
    assert_eq!(fd.fionread(), 0);
}

#[test]
fn removal_wakes_a_sleeper_with_enxio() {
    let fd = Fd::on_em0(&MACOS);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    let before = fd.wakeups();
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut pending), ReadStep::Fail(Errno::NxIo));
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!((fd.read(), fd.write(&frame(60))), (Err(Errno::NxIo), Err(Errno::NxIo)));
    fd.ok(set_if("em1"));
}

#[test]
fn unattached_poll_reports_ready() {
    assert_eq!(Fd::new(&MACOS).poll(), BOTH_READY, "5: ENXIO inside");
}

#[test]
fn always_writable_and_polling_arms_the_read_timeout() {
    let fd = Fd::on_em0(&MACOS);
    fd.ok(TIMEOUT);
    fd.rx(60);
    assert_eq!(fd.poll(), WRITE_READY);
    fd.sleep(300);
    assert_eq!(fd.poll(), BOTH_READY);
    fd.ok(Request::GBlen);
    assert_eq!(fd.poll(), WRITE_READY, "3: any ioctl");
    fd.sleep(300);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "timed out: the store is there at once");
    fd.take();
    fd.rx(60);
    assert_eq!(fd.poll(), WRITE_READY, "and a read ends the state");
}

#[test]
fn a_timer_that_fired_with_nothing_makes_the_next_packet_wake() {
    let fd = Fd::on_em0(&MACOS);
    fd.ok(TIMEOUT);
    assert_eq!(fd.poll(), WRITE_READY);
    fd.sleep(300);
    let before = fd.wakeups();
    fd.rx(60);
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!(fd.poll(), BOTH_READY);
}

#[test]
fn fionread_is_the_store_alone() {
    let fd = Fd::sized(&MACOS, 128);
    fd.rx(60);
    assert_eq!(fd.fionread(), 78);
    fd.rx(61);
    assert_eq!(fd.fionread(), 79, "5: hold added only during a copy");
    assert!(fd.readable());
}

#[test]
fn head_drop_gives_up_the_hold_buffer() {
    let fd = Fd::sized(&MACOS, 200);
    fd.ok(Request::SetFlag(Flag::HeadDrop, 1));
    // two records of 78 bytes, 80 with alignment, fit in 200
    for byte in 1..=5 {
        fd.world.rx_frame(&tagged_frame(byte));
    }
    // 4: the whole hold (1, 2) went when 5 came; drop counter += packets in it
    assert_eq!(fd.stats(), (5, 2));
    let tags = |bytes: Vec<u8>| bytes.chunks(80).map(|record| record[18 + 14]).collect::<Vec<u8>>();
    assert_eq!(fd.read().map(tags), Ok(vec![3, 4]));
    assert_eq!(fd.read().map(tags), Ok(vec![5]));
    assert_eq!(fd.read(), Err(Errno::Again));
}

#[test]
fn head_drop_wakes_as_a_rotation_does() {
    let fd = Fd::sized(&MACOS, 128);
    fd.ok(Request::SetFlag(Flag::HeadDrop, 1));
    for _ in 0..2 {
        fd.rx(60);
    }
    let before = fd.wakeups();
    fd.rx(60);
    assert_eq!((fd.wakeups(), fd.stats()), (before + 1, (3, 1)));
    fd.ok(Request::SetFlag(Flag::HeadDrop, 0));
    fd.rx(60);
    assert_eq!((fd.wakeups(), fd.stats()), (before + 1, (4, 2)), "off: the new packet is dropped");
}

#[test]
fn a_buffer_smaller_than_the_header_ignores_packets_uncounted() {
    let fd = Fd::new(&MACOS);
    fd.ok(Request::SBlen(65));
    fd.ok(Request::SetFlag(Flag::ExtendedHeader, 1));
    fd.ok(set_if("em0"));
    fd.rx(60);
    assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "4: 66 do not fit in 65");
    fd.ok(Request::SetFlag(Flag::ExtendedHeader, 0));
    fd.rx(60);
    assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 65));
}
