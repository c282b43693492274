//! The descriptor's rules where the dialects differ (semantics.md), over the loopback network in simulated time. What
//! NetBSD does is proved by its recorded answers (compat-tests); these cases are the other columns'.

use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::abi::{
    Abi, FilterSource, Request, Response, freebsd::FREEBSD, linux::LINUX, netbsd::NETBSD,
};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Caller, EmulatedFile, Interest, PendingRead, ReadStep, Ready};
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::{Clock, Moment, SimulatedClock};

/// A descriptor on a network of its own: em0 and em1 on one wire, lo0.
struct Bench {
    clock: Arc<SimulatedClock>,
    network: LoopbackNetwork,
    file: EmulatedFile,
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Bench {
    fn new(abi: &'static Abi) -> Bench {
        let clock = Arc::new(SimulatedClock::new());
        let network = LoopbackNetwork::new(clock.clone());
        network.add_ethernet("em0", MAC, 1);
        network.add_ethernet("em1", PEER, 1);
        network.add_loopback("lo0");
        let file = EmulatedFile::open(abi, Access::ReadWrite, Arc::new(network.clone()), clock.clone());
        Bench { clock, network, file }
    }

    fn attached(abi: &'static Abi, bufsize: u32) -> Bench {
        let bench = Bench::new(abi);
        bench.ok(Request::SBlen(bufsize));
        bench.ok(Request::SetIf(b"em0".to_vec()));
        bench
    }

    fn ok(&self, request: Request) -> Response {
        self.file.ioctl(&request).unwrap_or_else(|errno| panic!("{request:?}: {errno}"))
    }

    fn refused(&self, request: Request) -> Errno {
        match self.file.ioctl(&request) {
            Ok(response) => panic!("{request:?} was accepted: {response:?}"),
            Err(errno) => errno,
        }
    }

    fn rx(&self, len: usize) {
        let mut frame = vec![0; len];
        frame[..6].fill(0xff);
        assert!(self.network.receive("em0", &frame), "em0 is up");
    }

    fn sleep(&self, ms: u64) {
        self.clock.advance_to(self.clock.now() + Duration::from_millis(ms));
    }

    /// A non-blocking read.
    fn read(&self) -> Result<usize, Errno> {
        self.file.set_nonblocking(true)?;
        let Response::U32(size) = self.ok(Request::GBlen) else { panic!("BIOCGBLEN gives a number") };
        self.file.read(&mut vec![0; size as usize])
    }

    fn step(&self, pending: &mut PendingRead) -> ReadStep {
        self.file.with(|file, now| file.read(pending, now))
    }

    fn stats(&self) -> (u64, u64) {
        match self.ok(Request::GStats) {
            Response::Stats { recv, drop, .. } => (recv, drop),
            other => panic!("BIOCGSTATS gave {other:?}"),
        }
    }

    fn readable(&self) -> bool {
        self.file.with(|file, now| file.poll(Interest::READ, now)).read
    }
}

fn ret(k: u32) -> FilterSource {
    FilterSource::new(&[Insn::stmt(6, k)])
}

#[test]
fn a_fresh_descriptor_has_the_defaults_of_section_2() {
    for (abi, blen) in [(&FREEBSD, 4096), (&LINUX, 4096), (&NETBSD, 32768)] {
        let bench = Bench::new(abi);
        assert_eq!(bench.ok(Request::GBlen), Response::U32(blen), "{}", abi.name);
        assert_eq!(bench.ok(Request::GRTimeout), Response::Timeval { sec: 0, usec: 0 });
        assert_eq!(bench.ok(Request::GHdrCmplt), Response::U32(0));
        assert_eq!(bench.ok(Request::GDirection), Response::U32(1));
        assert_eq!(bench.ok(Request::Version), Response::Version { major: 1, minor: 1 });
        assert_eq!(bench.stats(), (0, 0));
    }
}

#[test]
fn without_an_interface_these_are_einval() {
    for abi in [&FREEBSD, &LINUX, &NETBSD] {
        let bench = Bench::new(abi);
        for request in
            [Request::Promisc, Request::GDlt, Request::GDltList(None), Request::SDlt(1), Request::GetIf]
        {
            assert_eq!(bench.refused(request.clone()), Errno::Inval, "{}: {request:?}", abi.name);
        }
        assert_eq!(bench.file.write(&[0; 60]), Err(Errno::NxIo), "write wants an interface");
        assert_eq!(bench.refused(Request::SetIf(b"em9".to_vec())), Errno::NxIo, "no such interface");
    }
}

#[test]
fn an_unattached_read_is_enxio_on_freebsd_and_waits_on_netbsd() {
    assert_eq!(Bench::new(&FREEBSD).read(), Err(Errno::NxIo));
    assert_eq!(Bench::new(&NETBSD).read(), Err(Errno::Again));
    let bench = Bench::new(&FREEBSD);
    assert_eq!(bench.file.read(&mut [0; 100]), Err(Errno::Inval), "the size is looked at first");
}

#[test]
fn unattached_poll_reports_all_that_was_asked_on_freebsd() {
    let all = Ready { read: true, write: true, hangup: false };
    let out = Ready { read: false, write: true, hangup: false };
    for (abi, ready) in [(&FREEBSD, all), (&LINUX, all), (&NETBSD, out)] {
        let bench = Bench::new(abi);
        assert_eq!(bench.file.with(|file, now| file.poll(Interest::BOTH, now)), ready, "{}", abi.name);
    }
}

#[test]
fn buffer_sizes_are_clamped_and_fixed_once_attached() {
    for (abi, max) in [(&FREEBSD, 524_288), (&NETBSD, 1 << 20)] {
        let bench = Bench::new(abi);
        for (asked, given) in [(0, 32), (31, 32), (33, 33), (65_535, 65_535), (u32::MAX, max)] {
            assert_eq!(bench.ok(Request::SBlen(asked)), Response::U32(given), "{}: {asked}", abi.name);
        }
        bench.ok(Request::SetIf(b"em0".to_vec()));
        assert_eq!(bench.refused(Request::SBlen(4096)), Errno::Inval, "attached");
    }
}

#[test]
fn timeouts_are_whole_ticks_rounded_as_each_system_does() {
    let cases = [
        // (seconds, microseconds), FreeBSD (hz 1000, up), NetBSD (hz 100, down)
        ((0, 1), (0, 1000), (0, 10_000)),
        ((0, 15_000), (0, 15_000), (0, 10_000)),
        ((0, 1_500), (0, 2_000), (0, 10_000)),
        ((1, 500_000), (1, 500_000), (1, 500_000)),
    ];
    for ((sec, usec), freebsd, netbsd) in cases {
        for (abi, (s, u)) in [(&FREEBSD, freebsd), (&NETBSD, netbsd)] {
            let bench = Bench::new(abi);
            bench.ok(Request::SRTimeout { sec, usec });
            let kept = Response::Timeval { sec: s, usec: u };
            assert_eq!(bench.ok(Request::GRTimeout), kept, "{}: {sec} s {usec} us", abi.name);
        }
    }
    for (sec, usec) in [(-1, 0), (0, -1), (0, 1_000_000), (100_000_001, 0)] {
        assert_eq!(
            Bench::new(&FREEBSD).refused(Request::SRTimeout { sec, usec }),
            Errno::Inval,
            "{sec} {usec}"
        );
    }
}

#[test]
fn direction_takes_three_values() {
    for abi in [&FREEBSD, &NETBSD] {
        let bench = Bench::attached(abi, 4096);
        for value in 0..3 {
            bench.ok(Request::SDirection(value));
            assert_eq!(bench.ok(Request::GDirection), Response::U32(value));
        }
        assert_eq!(bench.refused(Request::SDirection(3)), Errno::Inval, "{}", abi.name);
        for (value, seen) in [(0, 1), (1, 2), (2, 1)] {
            bench.ok(Request::SDirection(value));
            bench.ok(Request::Flush);
            bench.rx(60);
            bench.file.write(&[0xff; 60]).expect("sent");
            assert_eq!(
                bench.stats(),
                (seen, 0),
                "{}: direction {value}; hidden ones are not counted",
                abi.name
            );
        }
    }
}

#[test]
fn after_lock_only_harmless_requests_work() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.ok(Request::Lock);
    for request in [
        Request::SBlen(64),
        Request::SetF(ret(0)),
        Request::SetWf(ret(0)),
        Request::SetFnr(ret(0)),
        Request::SetIf(b"em0".to_vec()),
        Request::Promisc,
        Request::SDlt(1),
        Request::SHdrCmplt(1),
        Request::SDirection(0),
        Request::GDirection,
        Request::SRSig(1),
        Request::FionBio(1),
    ] {
        assert_eq!(bench.refused(request.clone()), Errno::Perm, "{request:?}");
    }
    for request in [
        Request::GBlen,
        Request::Flush,
        Request::GDlt,
        Request::GDltList(None),
        Request::GetIf,
        Request::SRTimeout { sec: 1, usec: 0 },
        Request::GRTimeout,
        Request::GStats,
        Request::Version,
        Request::GHdrCmplt,
        Request::Immediate(1),
        Request::Lock,
        Request::FionRead,
    ] {
        bench.ok(request);
    }
    bench.rx(60);
    assert_eq!(bench.read(), Ok(86), "read goes on");
    assert_eq!(bench.file.write(&[0xff; 60]), Ok(60), "write goes on");
}

#[test]
fn a_request_the_dialect_lacks_is_einval() {
    assert_eq!(Bench::new(&NETBSD).refused(Request::SetFnr(ret(1))), Errno::Inval, "BIOCSETFNR is FreeBSD's");
    assert_eq!(Bench::new(&NETBSD).refused(Request::GRSig), Errno::Inval, "NetBSD always sends SIGIO");
    assert_eq!(Bench::new(&FREEBSD).refused(Request::GFeedback), Errno::Inval, "FreeBSD cannot be asked");
}

#[test]
fn setf_flushes_setfnr_does_not_and_a_refused_program_changes_nothing() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.rx(60);
    bench.ok(Request::SetFnr(ret(20)));
    assert_eq!(bench.stats(), (1, 0), "BIOCSETFNR keeps counters");
    bench.rx(60);
    assert_eq!(bench.ok(Request::FionRead), Response::U32(88 + 26 + 20), "the second is cut to 20");
    let junk = FilterSource::new(&[Insn::stmt(0xffff, 0)]);
    assert_eq!(bench.refused(Request::SetF(junk)), Errno::Inval);
    assert_eq!(bench.stats(), (2, 0), "a refused program flushes nothing");
    bench.ok(Request::SetF(ret(0)));
    assert_eq!(bench.ok(Request::FionRead), Response::U32(0), "BIOCSETF drops what was buffered");
    bench.rx(60);
    assert_eq!(bench.stats(), (1, 0), "shown to the filter, rejected");
    assert_eq!(bench.read(), Err(Errno::Again));
}

#[test]
fn a_write_filter_flushes_on_netbsd_only() {
    for (abi, left) in [(&FREEBSD, 1), (&NETBSD, 0)] {
        let bench = Bench::attached(abi, 4096);
        bench.rx(60);
        bench.ok(Request::SetWf(ret(0)));
        assert_eq!(bench.stats().0, left, "{}", abi.name);
        assert_eq!(bench.file.write(&[0xff; 60]), Err(Errno::Perm), "{}: rejected by the filter", abi.name);
        bench.ok(Request::SetWf(ret(10)));
        assert_eq!(bench.file.write(&[0xff; 60]), Ok(60), "{}: a short snap length is enough", abi.name);
    }
}

#[test]
fn filters_that_cannot_be_read_or_are_too_long_are_einval() {
    let bench = Bench::new(&FREEBSD);
    let unreadable = FilterSource { len: 3, null: false, insns: None };
    let null = FilterSource { len: 3, null: true, insns: Some(Vec::new()) };
    let long = FilterSource::new(&[Insn::stmt(6, 0); 513]);
    for source in [unreadable, null, long] {
        assert_eq!(bench.refused(Request::SetF(source)), Errno::Inval);
    }
    bench.ok(Request::SetF(FilterSource::new(&[Insn::stmt(6, 0); 512])));
    bench.ok(Request::SetF(FilterSource { len: 0, null: false, insns: Some(Vec::new()) }));
}

#[test]
fn writes_are_checked_in_each_systems_order() {
    for (abi, empty_while_down) in [(&FREEBSD, Err(Errno::NetDown)), (&NETBSD, Ok(0))] {
        let bench = Bench::attached(abi, 4096);
        assert_eq!(bench.file.write(&[]), Ok(0), "{}: nothing", abi.name);
        assert_eq!(bench.file.write(&[0; 13]), Err(Errno::MsgSize), "{}: no link header", abi.name);
        assert_eq!(bench.file.write(&[0xff; 14]), Ok(14), "{}", abi.name);
        assert_eq!(bench.file.write(&[0xff; 1514]), Ok(1514), "{}", abi.name);
        assert_eq!(bench.file.write(&[0xff; 1515]), Err(Errno::MsgSize), "{}: over the MTU", abi.name);
        bench.network.set_up("em0", false);
        assert_eq!(bench.file.write(&[]), empty_while_down, "{}: down, nothing", abi.name);
        assert_eq!(bench.file.write(&[0xff; 60]), Err(Errno::NetDown), "{}: down", abi.name);
    }
}

#[test]
fn the_source_address_is_filled_in_unless_the_header_is_complete() {
    let bench = Bench::attached(&FREEBSD, 4096);
    let mut frame = [0x55; 60];
    frame[..6].fill(0xff);
    for (complete, source) in [(0, MAC), (1, [0x55; 6])] {
        bench.ok(Request::SHdrCmplt(complete));
        bench.file.write(&frame).expect("sent");
        bench.file.set_nonblocking(true).expect("non-blocking");
        let mut buf = [0; 4096];
        assert_eq!(bench.file.read(&mut buf), Ok(86), "the writer sees it, once");
        assert_eq!(buf[26 + 6..26 + 12], source, "BIOCSHDRCMPLT {complete}");
    }
}

#[test]
fn a_buffer_is_handed_over_when_the_next_packet_does_not_fit() {
    // 26 + 60 bytes a record, 88 with alignment: two fit in 200, the third does not
    let bench = Bench::attached(&FREEBSD, 200);
    for n in 1..=2 {
        bench.rx(60);
        assert!(!bench.readable(), "{n} packets: room for more");
    }
    bench.rx(60);
    assert!(bench.readable(), "the third turned the buffers round");
    bench.rx(60);
    for _ in 0..3 {
        bench.rx(60);
    }
    assert_eq!(bench.stats(), (7, 3), "hold and store are full: the newest are dropped");
    assert_eq!(bench.read(), Ok(88 + 86), "no padding behind the last record");
    assert_eq!(bench.read(), Ok(88 + 86));
    assert_eq!(bench.read(), Err(Errno::Again));
}

#[test]
fn a_blocking_read_waits_its_whole_timeout_and_starts_afresh_when_woken_for_nothing() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.ok(Request::SRTimeout { sec: 0, usec: 300_000 });
    let mut first = PendingRead::new(4096, false);
    let mut second = PendingRead::new(4096, false);
    let at = |ms: u64| Some(Moment::from_nanos(ms * 1_000_000));
    assert_eq!(bench.step(&mut first), ReadStep::Wait { deadline: at(300) });
    assert_eq!(bench.step(&mut second), ReadStep::Wait { deadline: at(300) });
    bench.sleep(100);
    bench.ok(Request::Immediate(1));
    assert_eq!(bench.step(&mut first), ReadStep::Wait { deadline: at(300) }, "an ioctl wakes nobody");
    bench.rx(60);
    assert_eq!(bench.step(&mut first), ReadStep::Hold, "immediate: the packet woke it");
    bench.file.with(|file, _| file.free_hold());
    assert_eq!(
        bench.step(&mut second),
        ReadStep::Wait { deadline: at(400) },
        "woken for nothing: a fresh time-out"
    );
    bench.sleep(300);
    assert_eq!(bench.step(&mut second), ReadStep::Nothing, "0 bytes at the end");
}

#[test]
fn polling_starts_the_timer_and_a_read_or_an_ioctl_ends_it() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.ok(Request::SRTimeout { sec: 0, usec: 300_000 });
    bench.rx(60);
    assert!(!bench.readable(), "one packet, not immediate");
    bench.sleep(299);
    assert!(!bench.readable());
    bench.sleep(1);
    assert!(bench.readable(), "the timer has run out with data");
    bench.ok(Request::GBlen);
    assert!(!bench.readable(), "any ioctl ends the timed-out state");
    bench.sleep(300);
    assert!(bench.readable());
    let mut pending = PendingRead::new(4096, false);
    assert_eq!(bench.step(&mut pending), ReadStep::Hold, "a blocking read gets the store at once");
}

#[test]
fn a_removed_interface_wakes_on_freebsd_and_is_silent_on_netbsd() {
    for (abi, woken) in
        [(&FREEBSD, ReadStep::Fail(Errno::NxIo)), (&NETBSD, ReadStep::Wait { deadline: None })]
    {
        let bench = Bench::attached(abi, 4096);
        let mut pending = PendingRead::new(4096, false);
        assert_eq!(bench.step(&mut pending), ReadStep::Wait { deadline: None });
        bench.network.remove("em0");
        assert_eq!(bench.step(&mut pending), woken, "{}", abi.name);
        assert_eq!(bench.refused(Request::GetIf), Errno::Inval, "{}: nothing is attached", abi.name);
        assert_eq!(bench.file.write(&[0xff; 60]), Err(Errno::NxIo), "{}", abi.name);
    }
}

#[test]
fn attaching_again_resets_and_a_failed_attach_changes_nothing() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.ok(Request::Promisc);
    bench.rx(60);
    assert_eq!(bench.refused(Request::SetIf(b"nope0".to_vec())), Errno::NxIo);
    assert_eq!(bench.stats(), (1, 0), "still attached, still counted");
    bench.ok(Request::SetIf(b"em0".to_vec()));
    assert_eq!(bench.stats(), (0, 0), "the same interface: reset");
    assert!(bench.network.is_promiscuous("em0"), "the same interface: promiscuity stays");
    bench.ok(Request::SetIf(b"em1".to_vec()));
    assert!(!bench.network.is_promiscuous("em0"), "another: it went with the old one");
    assert_eq!(bench.ok(Request::GetIf), Response::Name("em1".into()));
}

#[test]
fn loopback_packets_have_a_family_word_and_count_as_each_system_says() {
    for (abi, way_in, hdrlen) in [(&FREEBSD, true, 28), (&NETBSD, false, 36)] {
        let bench = Bench::new(abi);
        bench.ok(Request::SetIf(b"lo0".to_vec()));
        assert_eq!(bench.ok(Request::GDlt), Response::U32(0), "{}: DLT_NULL", abi.name);
        let packet = [2_u32.to_ne_bytes().as_slice(), &[0x45; 20]].concat();
        for (direction, seen) in [(0, u64::from(way_in)), (1, 1)] {
            bench.ok(Request::SDirection(direction));
            bench.ok(Request::Flush);
            assert_eq!(bench.file.write(&packet), Ok(24), "{}", abi.name);
            assert_eq!(bench.stats().0, seen, "{}: direction {direction}", abi.name);
        }
        assert_eq!(bench.ok(Request::FionRead), Response::U32(hdrlen + 24));
    }
}

#[test]
fn a_32_bit_caller_gets_32_bit_records() {
    let ilp32 = |ilp32_request| Caller { ilp32: true, ilp32_request, ..Caller::default() };
    for (abi, request, hdrlen) in [(&FREEBSD, false, 26), (&FREEBSD, true, 18), (&LINUX, false, 18)] {
        let bench = Bench::attached(abi, 4096);
        bench.file.ioctl_as(Request::SRTimeout { sec: 0, usec: 0 }, ilp32(request)).expect("accepted");
        bench.rx(60);
        assert_eq!(bench.read(), Ok(hdrlen + 60), "{}: 32-bit request: {request}", abi.name);
    }
}

#[test]
fn feedback_is_seen_once() {
    let bench = Bench::attached(&FREEBSD, 4096);
    bench.ok(Request::Feedback(1));
    bench.file.write(&[0xff; 60]).expect("sent");
    assert_eq!(bench.stats().0, 1, "as received, not as sent as well");
    bench.ok(Request::SDirection(0));
    bench.ok(Request::Flush);
    bench.file.write(&[0xff; 60]).expect("sent");
    assert_eq!(bench.stats().0, 1, "direction in: the copy fed back is the one it sees");
}

#[test]
fn a_closed_direction_of_the_file_is_ebadf() {
    let clock = Arc::new(SimulatedClock::new());
    let network = Arc::new(LoopbackNetwork::new(clock.clone()));
    let open = |access| EmulatedFile::open(&FREEBSD, access, network.clone(), clock.clone());
    assert_eq!(open(Access::Read).write(&[0; 60]), Err(Errno::BadF));
    assert_eq!(open(Access::Write).read(&mut [0; 4096]), Err(Errno::BadF));
}
