//! semantics.md 4, read(2), and 5.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{PendingRead, ReadStep};

use crate::support::*;

const TIMEOUT: Request = Request::SRTimeout { sec: 0, usec: 300_000 };
const FOREVER: ReadStep = ReadStep::Wait { deadline: None };

#[test]
fn nonblocking_empty_is_ewouldblock() {
    assert_eq!(Fd::on_em0(&NETBSD).read(), Err(Errno::Again));
}

#[test]
fn an_unattached_read_waits() {
    for abi in [&NETBSD, &NETBSD7] {
        let fd = Fd::new(abi);
        assert_eq!(
            fd.step(&mut PendingRead::new(100, false)),
            ReadStep::Fail(Errno::Inval),
            "the size first"
        );
        assert_eq!(fd.read(), Err(Errno::Again), "3: EWOULDBLOCK when non-blocking");
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), FOREVER, "{}: blocks", abi.name);
        // attached while it sleeps, it gets what comes
        fd.ok(Request::Immediate(1));
        fd.ok(set_if("em0"));
        fd.rx(60);
        assert_eq!(fd.step(&mut pending), ReadStep::Hold, "{}", abi.name);
        let fd = Fd::new(abi);
        fd.ok(TIMEOUT);
        let mut pending = fd.blocking();
        assert_eq!(fd.step(&mut pending), ReadStep::Wait { deadline: at(300) });
        fd.sleep(300);
        assert_eq!(fd.step(&mut pending), ReadStep::Nothing, "{}: timeout: 0", abi.name);
    }
}

#[test]
fn a_packet_before_immediate_mode_counts() {
    let fd = Fd::on_em0(&NETBSD);
    fd.rx(60);
    fd.ok(Request::Immediate(1));
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold);
}

#[test]
fn a_wakeup_for_nothing_gives_the_whole_timeout_again() {
    let fd = Fd::on_em0(&NETBSD);
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
    let fd = Fd::on_em0(&NETBSD);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    fd.rx(60);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr));
    assert_eq!(fd.read_len(), Ok(94));
}

#[test]
fn removal_leaves_a_sleeper_asleep_and_is_never_enxio() {
    let fd = Fd::on_em0(&NETBSD);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    let before = fd.wakeups();
    fd.world.network.remove("em0");
    assert_eq!(fd.step(&mut pending), FOREVER, "4: detached without a wake-up");
    assert_eq!(fd.wakeups(), before);
    assert_eq!(fd.interrupt(&pending), ReadStep::Fail(Errno::Intr), "until a signal");
    assert_eq!(fd.read(), Err(Errno::Again), "later reads never see ENXIO");
    fd.ok(TIMEOUT);
    let mut pending = fd.blocking();
    fd.step(&mut pending);
    fd.sleep(300);
    assert_eq!(fd.step(&mut pending), ReadStep::Nothing);
    assert_eq!(fd.poll(), WRITE_READY, "5: as not attached");
    assert_eq!(fd.write(&frame(60)), Err(Errno::NxIo));
    for request in [Request::GetIf, Request::GDlt, Request::Promisc] {
        assert_eq!(fd.refused(request), Errno::Inval);
    }
    fd.ok(set_if("em1"));
}

#[test]
fn removal_leaves_buffered_data() {
    let fd = Fd::sized(&NETBSD, 128);
    fd.rx(60);
    fd.rx(60);
    fd.world.network.remove("em0");
    assert_eq!((fd.read_len(), fd.read_len()), (Ok(94), Ok(94)));
    assert_eq!(fd.read(), Err(Errno::Again));
}

#[test]
fn unattached_poll_is_writable_and_readable_with_data_only() {
    for abi in [&NETBSD, &NETBSD7] {
        assert_eq!(Fd::new(abi).poll(), WRITE_READY, "{}", abi.name);
    }
    let fd = Fd::sized(&NETBSD, 128);
    fd.rx(60);
    fd.rx(60);
    fd.world.network.remove("em0");
    assert_eq!(fd.poll(), BOTH_READY, "POLLIN with data");
}

#[test]
fn polling_arms_the_read_timeout_and_an_ioctl_stops_it() {
    let fd = Fd::on_em0(&NETBSD);
    fd.ok(TIMEOUT);
    fd.rx(60);
    assert_eq!(fd.poll(), WRITE_READY);
    fd.sleep(300);
    assert_eq!(fd.poll(), BOTH_READY);
    fd.ok(Request::GBlen);
    assert_eq!(fd.poll(), WRITE_READY, "3: any ioctl");
    fd.sleep(299);
    fd.ok(Request::FionRead);
    fd.sleep(1);
    assert_eq!(fd.poll(), WRITE_READY, "cancelled");
    fd.sleep(300);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Hold, "timed out: the store is there at once");
}

#[test]
fn fionread_is_store_and_hold() {
    let fd = Fd::sized(&NETBSD, 128);
    fd.rx(60);
    fd.rx(60);
    assert_eq!(fd.fionread(), 94 + 94);
}
