//! semantics.md 4, read(2), and OpenBSD's wait time-out.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{PendingRead, ReadStep};

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };
const WAIT: Request = Request::SWTimeout { sec: 0, usec: 200_000 };
const FOREVER: ReadStep = ReadStep::Wait { deadline: None };

#[test]
fn nonblocking_empty_returns_zero() {
    assert_eq!(Fd::on_em0(&OPENBSD).read(), Ok(vec![]), "4: returns 0");
}

#[test]
fn unattached_is_enxio_before_the_size_check() {
    let fd = Fd::new(&OPENBSD);
    for len in [0, 100, 32_768] {
        for nonblocking in [false, true] {
            let step = fd.step(&mut PendingRead::new(len, nonblocking));
            assert_eq!(step, ReadStep::Fail(Errno::NxIo), "{len}");
        }
    }
}

#[test]
fn a_read_has_one_deadline() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(TIMEOUT);
    fd.ok(Request::Immediate(1));
    let (mut one, mut two) = (fd.blocking(), fd.blocking());
    fd.step(&mut one);
    fd.step(&mut two);
    for _ in 0..2 {
        fd.sleep(100);
        fd.rx(60);
        assert_eq!(fd.step(&mut one), ReadStep::Hold);
        fd.take();
        one = fd.blocking();
        fd.step(&mut one);
        // 4: O keeps one absolute deadline
        assert_eq!(fd.step(&mut two), ReadStep::Wait { deadline: at(300) });
    }
    fd.sleep(100);
    assert_eq!(fd.step(&mut two), ReadStep::Nothing);
    assert_eq!(fd.step(&mut one), ReadStep::Wait { deadline: at(500) }, "the other began later");
}

#[test]
fn a_deadline_that_is_over_at_the_wakeup_ends_the_read() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(TIMEOUT);
    fd.ok(Request::Immediate(1));
    let (mut one, mut two) = (fd.blocking(), fd.blocking());
    fd.step(&mut one);
    fd.step(&mut two);
    fd.sleep(400);
    fd.rx(60);
    assert_eq!(fd.step(&mut one), ReadStep::Hold);
    fd.take();
    assert_eq!(fd.step(&mut two), ReadStep::Nothing);
}

#[test]
fn a_packet_before_immediate_mode_does_not_count() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    let mut pending = fd.blocking();
    assert_eq!(fd.step(&mut pending), FOREVER);
    assert!(fd.readable(), "5: poll(2) counts the store when the wait time-out is 0");
    fd.rx(60);
    assert_eq!(fd.step(&mut pending), ReadStep::Hold, "until the next packet");
    assert_eq!(fd.take().len(), 88 + 86, "both");
}

#[test]
fn a_packet_before_immediate_mode_is_there_for_a_nonblocking_read() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    assert_eq!(fd.read_len(), Ok(86));
}

#[test]
fn a_packet_in_immediate_mode_counts_for_a_later_read() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(Request::Immediate(1));
    fd.rx(60);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn immediate_mode_is_a_wait_timeout_of_zero() {
    let fd = Fd::new(&OPENBSD);
    assert_eq!(fd.refused(Request::GWTimeout), Errno::NxIo, "2: infinite; abi.json: ENXIO when none is set");
    fd.ok(Request::Immediate(5));
    assert_eq!(fd.ok(Request::GWTimeout), timeval(0, 0));
    fd.ok(Request::Immediate(0));
    assert_eq!(fd.refused(Request::GWTimeout), Errno::NxIo);
    fd.ok(WAIT);
    assert_eq!(fd.ok(Request::GWTimeout), timeval(0, 200_000));
    fd.ok(Request::Immediate(1));
    assert_eq!(fd.ok(Request::GWTimeout), timeval(0, 0));
    fd.ok(Request::DWTimeout);
    assert_eq!(fd.refused(Request::GWTimeout), Errno::NxIo);
}

#[test]
fn the_first_packet_of_a_store_starts_the_wait_timeout() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(WAIT);
    let mut pending = fd.blocking();
    fd.sleep(1000);
    assert_eq!(fd.step(&mut pending), FOREVER, "nothing is stored");
    fd.rx(60);
    fd.sleep(150);
    fd.rx(60);
    assert_eq!(fd.step(&mut pending), FOREVER);
    fd.sleep(49);
    assert_eq!(fd.step(&mut pending), FOREVER, "the second does not start it again");
    let before = fd.wakeups();
    fd.sleep(1);
    assert_eq!(fd.step(&mut pending), ReadStep::Hold, "200 ms after the first");
    assert_eq!(fd.wakeups(), before + 1);
    assert_eq!(fd.take().len(), 88 + 86);
    // and again with the next store
    let mut pending = fd.blocking();
    fd.rx(60);
    fd.sleep(199);
    assert_eq!(fd.step(&mut pending), FOREVER);
    fd.sleep(1);
    assert_eq!(fd.step(&mut pending), ReadStep::Hold);
}

#[test]
fn a_store_whose_wait_is_over_is_readable_at_once() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(WAIT);
    fd.rx(60);
    fd.sleep(200);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
    assert_eq!(fd.take().len(), 86);
    assert_eq!(fd.step(&mut fd.blocking()), FOREVER, "once");
}

#[test]
fn no_ioctl_stops_the_wait_timeout() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(WAIT);
    fd.rx(60);
    fd.sleep(100);
    fd.ok(Request::GBlen);
    fd.ok(Request::FionRead);
    fd.sleep(100);
    fd.ok(Request::GStats);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn a_flush_ends_the_wait_with_the_store() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(WAIT);
    fd.rx(60);
    fd.sleep(100);
    fd.ok(Request::Flush);
    fd.rx(60);
    fd.sleep(199);
    assert_eq!(fd.step(&mut fd.blocking()), FOREVER, "it began again with the packet after the flush");
    fd.sleep(1);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn wait_timeouts_are_up_to_five_minutes() {
    let fd = Fd::new(&OPENBSD);
    for (sec, usec) in [(0, 1), (1, 999_999), (300, 0), (0, 0)] {
        fd.ok(Request::SWTimeout { sec, usec });
        assert_eq!(fd.ok(Request::GWTimeout), timeval(sec, usec));
    }
    for (sec, usec) in [(-1, 0), (0, -1), (0, 1_000_000), (300, 1), (301, 0)] {
        assert_eq!(fd.refused(Request::SWTimeout { sec, usec }), Errno::Inval, "{sec} {usec}");
    }
    assert_eq!(fd.refused(Request::SWTimeout { sec: i64::MAX, usec: 0 }), Errno::Overflow);
    assert_eq!(fd.ok(Request::GWTimeout), timeval(0, 0), "as it was");
}

#[test]
fn timeouts_by_number_have_16_bytes_and_i386s_have_12() {
    let fd = Fd::new(&OPENBSD);
    for (set, get) in [(0x8010_426d, 0x4010_426e), (0x8010_427e, 0x4010_427e)] {
        fd.number(set, &fields(&[(8, 3), (8, 5001)])).unwrap();
        assert_eq!(fd.number(get, &[]), Ok(fields(&[(8, 3), (8, 5001)])));
    }
    for (set, get) in [(0x800c_426d, 0x400c_426e), (0x800c_427e, 0x400c_427e)] {
        fd.number32(set, &fields(&[(8, 4), (4, 6001)])).unwrap();
        assert_eq!(fd.number32(get, &[]), Ok(fields(&[(8, 4), (4, 6001)])));
    }
    assert_eq!(fd.ok(Request::GRTimeout), timeval(4, 6001));
    let negative = fields(&[(8, 0), (4, u64::from(u32::MAX))]);
    assert_eq!(fd.number32(0x800c_426d, &negative), Err(Errno::Inval), "tv_usec -1");
    assert_eq!(fd.number(0x2000_427e, &[]), Ok(vec![]), "BIOCDWTIMEOUT");
    assert_eq!(fd.number(0x4010_427e, &[]), Err(Errno::NxIo));
}

#[test]
fn a_signal_is_eintr_and_what_is_stored_stays() {
    let fd = Fd::on_em0(&OPENBSD);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    fd.rx(60);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    assert_eq!(fd.read_len(), Ok(86));
}

#[test]
fn removal_gives_a_sleeper_its_data_then_eio() {
    for buffered in [false, true] {
        let fd = Fd::on_em0(&OPENBSD);
        let mut pending = fd.blocking();
        fd.step(&mut pending);
        if buffered {
            fd.rx(60);
        }
        fd.world.network.remove("em0");
        let expected = if buffered { ReadStep::Hold } else { ReadStep::Fail(Errno::Io) };
        assert_eq!(fd.step(&mut pending), expected, "4: sleeping reader gets data or EIO");
        if buffered {
            assert_eq!(fd.take().len(), 86);
        }
        for nonblocking in [false, true] {
            for len in [100, 32_768] {
                let step = fd.step(&mut PendingRead::new(len, nonblocking));
                assert_eq!(step, ReadStep::Fail(Errno::Io), "later reads: the device is revoked");
            }
        }
    }
}

#[test]
fn removal_makes_every_request_ebadf() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.rx(60);
    fd.world.network.remove("em0");
    for request in
        [Request::GBlen, Request::FionRead, Request::GStats, set_if("em1"), Request::Flush, Request::Lock]
    {
        assert_eq!(fd.refused(request.clone()), Errno::BadF, "{request:?}");
    }
    assert_eq!(fd.number(0x2000_42c8, &[]), Err(Errno::BadF), "an unknown one");
    assert_eq!(fd.write(&frame(60)), Err(Errno::Io));
    assert_eq!(fd.poll(), HANGUP);
    let other = fd.world.open(&OPENBSD);
    assert_eq!(other.ok(Request::GBlen), Response::U32(32_768), "that file only");
}
