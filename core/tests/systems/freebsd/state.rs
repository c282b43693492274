//! semantics.md 1 to 3, 7 and 8.

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, PendingRead, ReadStep};
use bpfdev_core::linktype::Linktype;

use crate::checks::{LockList, timeouts, value};
use crate::support::*;

#[test]
fn defaults() {
    let fd = Fd::new(&FREEBSD);
    // 2: buffer 4096, direction both (1), SIGIO, time stamps MICROTIME (0), buffer mode 1
    assert_eq!(value(&fd, Request::GBlen), 4096);
    assert_eq!(value(&fd, Request::GDirection), 1);
    assert_eq!(value(&fd, Request::GRSig), 29);
    assert_eq!(value(&fd, Request::GTStamp), 0);
    assert_eq!(value(&fd, Request::GBufMode), 1);
}

#[test]
fn buffer_size_is_at_most_524288() {
    for asked in [524_288, 524_289, u32::MAX] {
        assert_eq!(Fd::new(&FREEBSD).ok(Request::SBlen(asked)), Response::U32(524_288), "{asked}");
    }
}

#[test]
fn unattached_siocgifaddr_is_einval_attached_too() {
    // 3: not handled: EINVAL
    let fd = Fd::new(&FREEBSD);
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval));
    fd.ok(set_if("em0"));
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval));
}

#[test]
fn unattached_read_is_enxio_after_the_size_check() {
    let fd = Fd::new(&FREEBSD);
    for nonblocking in [false, true] {
        let step = |len| fd.step(&mut PendingRead::new(len, nonblocking));
        assert_eq!(step(100), ReadStep::Fail(Errno::Inval));
        assert_eq!(step(4096), ReadStep::Fail(Errno::NxIo));
    }
}

#[test]
fn a_name_is_looked_up_as_it_is() {
    let fd = Fd::new(&FREEBSD);
    fd.world.network.add_ethernet("wan", MAC, 3);
    fd.ok(set_if("wan"));
}

#[test]
fn another_link_type_keeps_promiscuity() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&FREEBSD, "em0");
    fd.ok(Request::Promisc);
    fd.ok(Request::SDlt(105));
    assert!(world.network.is_promiscuous("em0"), "3: promiscuity re-established");
    drop(fd);
    assert!(!world.network.is_promiscuous("em0"), "one count, given back");
}

#[test]
fn a_short_list_of_link_types_is_enomem_and_nothing_is_written() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&FREEBSD, "em0");
    for room in [0, 1] {
        let mut memory = Memory::of(0x1000, vec![0xaa; 16]);
        let arg = fields(&[(4, room), (4, 0), (8, 0x1000)]);
        assert_eq!(fd.number_with(0xc010_4279, &arg, &mut memory, false), Err(Errno::NoMem));
        assert_eq!(memory.0[&0x1000], [0xaa; 16], "room for {room}");
    }
    let mut memory = Memory::of(0x1000, vec![0xaa; 16]);
    let arg = fields(&[(4, 4), (4, 0), (8, 0x1000)]);
    let back = fields(&[(4, 2), (4, 0), (8, 0x1000)]);
    assert_eq!(fd.number_with(0xc010_4279, &arg, &mut memory, false), Ok(back));
    assert_eq!(memory.0[&0x1000], [&fields(&[(4, 1), (4, 105)])[..], &[0xaa; 8]].concat());
    // of a 32-bit caller: 8 bytes
    let mut memory = Memory::of(0x1000, vec![0xaa; 16]);
    let back = fd.number_with(0xc008_4279, &fields(&[(4, 2), (4, 0x1000)]), &mut memory, true);
    assert_eq!(back, Ok(fields(&[(4, 2), (4, 0x1000)])));
    assert_eq!(memory.0[&0x1000][..8], fields(&[(4, 1), (4, 105)]));
    // NULL: the count; a list that is not mapped: EFAULT
    let back = fd.number(0xc010_4279, &fields(&[(4, 9), (4, 0), (8, 0)]));
    assert_eq!(back, Ok(fields(&[(4, 2), (4, 0), (8, 0)])));
    assert_eq!(fd.number(0xc010_4279, &fields(&[(4, 2), (4, 0), (8, 0x5000)])), Err(Errno::Fault));
}

#[test]
fn timeouts_are_rounded_up_to_ticks_of_a_millisecond() {
    timeouts(
        &FREEBSD,
        &[
            ((0, 0), Ok((0, 0))),
            ((0, 1), Ok((0, 1000))),
            ((0, 999), Ok((0, 1000))),
            ((0, 1000), Ok((0, 1000))),
            ((0, 1001), Ok((0, 2000))),
            ((0, 999_999), Ok((1, 0))),
            ((5, 250_000), Ok((5, 250_000))),
            ((0, 1_000_000), Err(Errno::Inval)),
            ((0, -1), Err(Errno::Inval)),
            ((-1, 0), Err(Errno::Inval)),
            ((100_000_001, 0), Err(Errno::Inval)),
            ((i64::MAX, 0), Err(Errno::Inval)),
        ],
    );
}

#[test]
fn timeouts_by_number_have_two_layouts() {
    let fd = Fd::new(&FREEBSD);
    fd.number(0x8010_426d, &fields(&[(8, 3), (8, 5000)])).unwrap();
    assert_eq!(fd.number(0x4010_426e, &[]), Ok(fields(&[(8, 3), (8, 5000)])));
    fd.number32(0x8008_426d, &fields(&[(4, 4), (4, 6000)])).unwrap();
    assert_eq!(fd.number32(0x4008_426e, &[]), Ok(fields(&[(4, 4), (4, 6000)])));
    assert_eq!(fd.number(0x4010_426e, &[]), Ok(fields(&[(8, 4), (8, 6000)])));
    let negative = fields(&[(4, 0), (4, u64::from(u32::MAX))]);
    assert_eq!(fd.number32(0x8008_426d, &negative), Err(Errno::Inval), "tv_usec -1");
}

#[test]
fn a_signal_of_nsig_or_more_is_einval() {
    let fd = Fd::new(&FREEBSD);
    for signal in [0, 1, 10, 29, 64] {
        fd.ok(Request::SRSig(signal));
        assert_eq!(value(&fd, Request::GRSig), signal);
    }
    // 65 is Linux's NSIG, and the signals are the Linux process's
    for signal in [65, 128, u32::MAX] {
        assert_eq!(fd.refused(Request::SRSig(signal)), Errno::Inval, "{signal}");
    }
    assert_eq!(value(&fd, Request::GRSig), 64);
}

#[test]
fn biocsrsig_chooses_the_signal() {
    let fd = Fd::on_em0(&FREEBSD);
    for request in [Request::FioAsync(1), Request::SetOwn(7), Request::SRSig(10)] {
        fd.ok(request);
    }
    assert_eq!(fd.file.with(|file, _| file.descriptor().signal()), Some((10, 7)));
    fd.ok(Request::SRSig(0));
    assert_eq!(fd.file.with(|file, _| file.descriptor().signal()), None, "signal 0: none");
}

/// BIOCGBLEN FLUSH GDLT GDLTLIST GETIF GRTIMEOUT SRTIMEOUT GSTATS VERSION GRSIG GHDRCMPLT STSTAMP FEEDBACK IMMEDIATE
/// ROTZBUF LOCK FIONREAD TIOCGPGRP, with their 32-bit forms.
const LOCKED: LockList = LockList {
    #[rustfmt::skip]
    allowed: &[
        0x4004_4266, 0x2000_4268, 0x4004_426a, 0xc010_4279, 0xc008_4279, 0x4020_426b, 0x4010_426e, 0x4008_426e,
        0x8010_426d, 0x8008_426d, 0x4008_426f, 0x4004_4271, 0x4004_4272, 0x4004_4274, 0x8004_4284, 0x8004_427c,
        0x8004_4270, 0x4018_4280, 0x400c_4280, 0x2000_427a, 0x4004_667f, 0x4004_7477,
    ],
    // SBLEN SETF PROMISC SETIF SRSIG SHDRCMPLT GDIRECTION SDIRECTION SDLT SETWF GETBUFMODE SETBUFMODE GETZMAX SETZBUF
    // SETFNR GTSTAMP SETVLANPCP FIONBIO FIOASYNC FIOSETOWN FIOGETOWN TIOCSPGRP
    #[rustfmt::skip]
    refused: &[
        0xc004_4266, 0x8010_4267, 0x8008_4267, 0x2000_4269, 0x8020_426c, 0x8004_4273, 0x8004_4275, 0x4004_4276,
        0x8004_4277, 0x8004_4278, 0x8010_427b, 0x8008_427b, 0x4004_427d, 0x8004_427e, 0x4008_427f, 0x4004_427f,
        0x8018_4281, 0x800c_4281, 0x8010_4282, 0x8008_4282, 0x4004_4283, 0x8004_4285, 0x8004_667e, 0x8004_667d,
        0x8004_667c, 0x4004_667b, 0x8004_7476,
    ],
};

#[test]
fn lock_allows_its_list_and_nothing_else() {
    LOCKED.check(&FREEBSD, 0x2000_427a);
}

#[test]
fn lock_binds_root_and_leaves_data_alone() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::Lock);
    assert_eq!(fd.by_root(Request::Promisc), Err(Errno::Perm));
    assert_eq!(fd.by_root(Request::SDirection(0)), Err(Errno::Perm));
    assert_eq!(fd.write(&frame(60)), Ok(60));
    assert_eq!(fd.read_len(), Ok(26 + 60));
    fd.ok(Request::Lock);
}

#[test]
fn counters_are_32_bits_wide() {
    let call = FREEBSD.decode(0x4008_426f).unwrap();
    let stats = Response::Stats { recv: 0x5_0000_0003, drop: 0x1_0000_0002, capt: 9 };
    let back = call.reply(&stats, &[], &mut Memory::default());
    assert_eq!(back, Ok(fields(&[(4, 3), (4, 2)])), "7: kernel 64, truncated");
}

#[test]
fn hidden_packets_are_not_counted() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::SDirection(0));
    fd.write(&frame(60)).unwrap();
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0), "7: packets passing the direction test");
}

#[test]
fn setfnr_and_setwf_flush_nothing() {
    for request in [Request::SetFnr(ret(20)), Request::SetWf(ret(1)), Request::SetFnr(NO_FILTER)] {
        let fd = Fd::on_em0(&FREEBSD);
        fd.rx(60);
        fd.ok(request.clone());
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 86), "{request:?}");
    }
}

const NO_FILTER: FilterSource = FilterSource { len: 0, null: false, insns: Some(Vec::new()) };

#[test]
fn length_0_removes_a_filter_whatever_the_pointer() {
    for set in [Request::SetF, Request::SetFnr] {
        let fd = Fd::on_em0(&FREEBSD);
        fd.ok(Request::SetF(ret(0)));
        fd.ok(set(NO_FILTER));
        fd.rx(60);
        assert_eq!(fd.fionread(), 86);
    }
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::SetWf(ret(0)));
    assert_eq!(fd.write(&frame(60)), Err(Errno::Perm));
    fd.ok(Request::SetWf(NO_FILTER));
    assert_eq!(fd.write(&frame(60)), Ok(60));
}

#[test]
fn setfnr_changes_what_comes_next() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.rx(60);
    fd.ok(Request::SetFnr(ret(20)));
    fd.rx(60);
    // 86 is 88 with alignment
    assert_eq!(fd.read_len(), Ok(88 + 26 + 20));
}

#[test]
fn a_writer_sees_nothing_before_its_second_filter_that_only_cuts() {
    let fd = World::new().open_for(&FREEBSD, Access::Write);
    fd.ok(set_if("em0"));
    fd.rx(60);
    assert_eq!(fd.stats(), (0, 0), "1: gets no packets");
    fd.ok(Request::SetF(ret(96)));
    fd.rx(60);
    assert_eq!(fd.stats(), (0, 0), "the first `ret k`");
    fd.ok(Request::SetF(ret(96)));
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0), "the second");
}

#[test]
fn a_writer_sees_packets_with_its_first_longer_filter() {
    let fd = World::new().open_for(&FREEBSD, Access::Write);
    fd.ok(set_if("em0"));
    fd.ok(Request::SetF(tagged(7)));
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
    let fd = World::new().open_for(&FREEBSD, Access::Write);
    fd.ok(set_if("em0"));
    fd.ok(Request::SetWf(tagged(7)));
    fd.rx(60);
    assert_eq!(fd.stats(), (0, 0), "a write filter is no read filter");
}

#[test]
fn a_reader_and_writer_sees_packets_at_once() {
    let fd = World::new().open_for(&FREEBSD, Access::ReadWrite);
    fd.ok(set_if("em0"));
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
}

#[test]
fn buffer_size_can_change_after_the_interface_is_gone() {
    let fd = Fd::sized(&FREEBSD, 4096);
    for _ in 0..3 {
        fd.rx(60);
    }
    fd.world.network.remove("em0");
    fd.stats();
    // 3: refused when attached; it is not. The buffers are new ones
    assert_eq!(fd.ok(Request::SBlen(64)), Response::U32(64));
    let mut buf = [0; 64];
    fd.file.set_nonblocking(true).unwrap();
    let read = fd.file.read(&mut buf);
    assert!(read == Err(Errno::NxIo) || read.is_ok_and(|n| n <= 64), "{read:?}");
}

#[test]
fn a_rejecting_read_filter_of_one_instruction_is_a_filter() {
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::SetF(FilterSource::new(&[Insn::stmt(0x16, 0)])));
    fd.rx(60);
    assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 0), "`ret a`, A is 0");
}

#[test]
fn a_writer_sees_packets_after_setfnr() {
    let fd = World::new().open_for(&FREEBSD, Access::Write);
    fd.ok(set_if("em0"));
    fd.ok(Request::SetFnr(ret(96)));
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0), "1: the snap length is set by BIOCSETF");
}
