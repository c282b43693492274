//! semantics.md 4, read(2).

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{BpfFile, PendingRead, ReadStep};

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };

#[test]
fn a_wrong_length_is_einval() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 4096);
        fd.rx(60);
        for len in [0, 1, 4095, 4097, 8192] {
            for nonblocking in [false, true] {
                let mut pending = PendingRead::new(len, nonblocking);
                assert_eq!(fd.step(&mut pending), ReadStep::Fail(Errno::Inval), "{}: {len}", abi.name);
            }
        }
        assert!(fd.read().is_ok(), "{}: the packet is still there", abi.name);
    }
}

#[test]
fn nonblocking_takes_what_only_the_store_has() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.rx(60);
        fd.rx(60);
        let both = fd.fionread() as usize;
        assert_eq!(fd.read_len(), Ok(both), "{}: both packets, at once", abi.name);
        assert_eq!(fd.fionread(), 0, "{}", abi.name);
    }
}

#[test]
fn a_full_hold_is_returned_alone() {
    for abi in EVERY {
        // one record of 60 bytes fits, two do not
        let fd = Fd::sized(abi, 128);
        for byte in 1..=2 {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        for byte in 1..=2 {
            let record = fd.read().unwrap();
            assert_eq!(record[record.len() - 60 + 14], byte, "{}: hold, then store", abi.name);
        }
        assert_eq!(fd.fionread(), 0, "{}", abi.name);
    }
}

#[test]
fn a_blocking_read_waits_for_a_full_buffer() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}", abi.name);
        fd.rx(60);
        fd.sleep(3_600_000);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}: an hour", abi.name);
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}: the second does not fit", abi.name);
    }
}

#[test]
fn a_timeout_with_nothing_there_returns_zero() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(TIMEOUT);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        fd.sleep(299);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        fd.sleep(1);
        assert_eq!(fd.step(&mut pending), ReadStep::Nothing, "{}", abi.name);
        // and the next read has its own time
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(600) }, "{}", abi.name);
    }
}

#[test]
fn a_timeout_returns_what_the_store_has() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(TIMEOUT);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        fd.sleep(100);
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}: no wake-up", abi.name);
        fd.sleep(150);
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        let both = fd.file.with(|file, _| file.descriptor().readable_bytes());
        fd.sleep(50);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}", abi.name);
        assert_eq!(fd.take().len(), both, "{}: both packets", abi.name);
    }
}

#[test]
fn a_store_filled_before_the_read_waits_for_its_timeout_too() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(TIMEOUT);
        fd.rx(60);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        fd.sleep(300);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}", abi.name);
    }
}

#[test]
fn a_hold_is_there_at_once_whatever_the_timeout() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        fd.ok(TIMEOUT);
        fd.rx(60);
        fd.rx(60);
        assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "{}", abi.name);
    }
}

#[test]
fn immediate_mode_wakes_for_each_packet() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Immediate(1));
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}", abi.name);
        let before = fd.wakeups();
        fd.rx(60);
        assert_eq!(fd.wakeups(), before + 1, "{}", abi.name);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}", abi.name);
        let one = fd.take().len();
        fd.rx(60);
        fd.rx(60);
        assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "{}", abi.name);
        assert!(fd.take().len() > 2 * one - 1, "{}: a read returns all of the store", abi.name);
        fd.ok(Request::Immediate(0));
        let mut pending = fd.blocking();
        fd.step(&mut pending);
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}: off again", abi.name);
    }
}

#[test]
fn a_packet_the_filter_rejects_wakes_nobody() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Immediate(1));
        fd.ok(Request::SetF(tagged(7)));
        let before = fd.wakeups();
        fd.world.rx_frame(&tagged_frame(1));
        assert_eq!(fd.wakeups(), before, "{}", abi.name);
        assert!(!fd.readable(), "{}", abi.name);
        fd.world.rx_frame(&tagged_frame(7));
        assert!(fd.readable(), "{}", abi.name);
    }
}

#[test]
fn two_readers_get_a_packet_each() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Immediate(1));
        let (mut one, mut two) = (fd.blocking(), fd.blocking());
        fd.step(&mut one);
        fd.step(&mut two);
        fd.rx(60);
        assert_eq!(fd.step(&mut one), ReadStep::Hold, "{}", abi.name);
        fd.take();
        assert_eq!(fd.step(&mut two), ReadStep::Wait { deadline: None }, "{}: nothing left", abi.name);
        fd.rx(60);
        assert_eq!(fd.step(&mut two), ReadStep::Hold, "{}", abi.name);
    }
}

#[test]
fn an_interface_that_goes_down_changes_nothing_for_a_reader() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        let mut pending = fd.blocking();
        fd.step(&mut pending);
        fd.rx(60);
        let buffered = fd.fionread() as usize;
        let before = fd.wakeups();
        fd.world.network.set_up("em0", false);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}: sleeps on", abi.name);
        assert_eq!(fd.wakeups(), before, "{}", abi.name);
        assert_eq!(fd.stats(), (1, 0), "{}: still attached", abi.name);
        assert_eq!(fd.read_len(), Ok(buffered), "{}: what came before", abi.name);
        fd.world.network.set_up("em0", true);
        fd.rx(60);
        assert_eq!(fd.read_len(), Ok(buffered), "{}: up again", abi.name);
    }
}

#[test]
fn a_flush_leaves_a_reader_asleep() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(TIMEOUT);
        fd.rx(60);
        let mut pending = fd.blocking();
        fd.step(&mut pending);
        fd.ok(Request::Flush);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        fd.sleep(300);
        assert_eq!(fd.step(&mut pending), ReadStep::Nothing, "{}: it took the packet", abi.name);
    }
}

#[test]
fn fionbio_by_its_number_makes_reads_nonblocking() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.number(0x8004_667e, &word(1)).unwrap();
        let ends = fd.step(&mut fd.blocking());
        // 4: EWOULDBLOCK, but 0 on OpenBSD
        let expected = if abi.name == "openbsd" { ReadStep::Nothing } else { ReadStep::Fail(Errno::Again) };
        assert_eq!(ends, expected, "{}", abi.name);
        fd.number(0x8004_667e, &word(0)).unwrap();
        assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Wait { deadline: None }, "{}", abi.name);
    }
}

#[test]
fn a_blocking_read_returns_when_its_buffer_is_full() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        for byte in 1..=2 {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        let mut buf = [0; 128];
        let n = fd.file.read(&mut buf).unwrap();
        assert_eq!(buf[n - 60 + 14], 1, "{}", abi.name);
    }
}

#[test]
fn immediate_mode_switched_on_wakes_no_sleeper() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(TIMEOUT);
        fd.rx(60);
        let mut pending = fd.blocking();
        fd.step(&mut pending);
        let before = fd.wakeups();
        fd.ok(Request::Immediate(1));
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
        assert_eq!(fd.wakeups(), before, "{}: an ioctl wakes nobody", abi.name);
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}: the next packet does", abi.name);
    }
}

#[test]
fn a_timeout_set_while_asleep_is_for_the_next_read() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}", abi.name);
        fd.ok(TIMEOUT);
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: None }, "{}", abi.name);
        assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Wait { deadline: at(300) }, "{}", abi.name);
    }
}
