//! semantics.md 2, 3, 7, 8 and 13.

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::checks::{LockList, timeouts, value};
use crate::support::*;

#[test]
fn defaults() {
    let fd = Fd::new(&OPENBSD);
    // 2: buffer 32768, nothing hidden, SIGIO, drop mode 0
    assert_eq!(value(&fd, Request::GBlen), 32_768);
    assert_eq!(value(&fd, Request::GDirection), 0);
    assert_eq!(value(&fd, Request::GRSig), 29);
    assert_eq!(value(&fd, Request::GFilDrop), 0);
}

#[test]
fn buffer_size_is_at_most_2_mib() {
    for asked in [2_097_152, 2_097_153, u32::MAX] {
        assert_eq!(Fd::new(&OPENBSD).ok(Request::SBlen(asked)), Response::U32(2_097_152), "{asked}");
    }
}

#[test]
fn siocgifaddr_is_einval() {
    let fd = Fd::new(&OPENBSD);
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval));
    fd.ok(set_if("em0"));
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval));
}

#[test]
fn a_name_is_looked_up_as_it_is() {
    let fd = Fd::new(&OPENBSD);
    fd.world.network.add_ethernet("wan", MAC, 3);
    fd.ok(set_if("wan"));
}

#[test]
fn another_link_type_drops_promiscuity() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&OPENBSD, "em0");
    fd.ok(Request::Promisc);
    fd.ok(Request::SDlt(105));
    assert!(!world.network.is_promiscuous("em0"), "3: dropped and not re-established");
    fd.ok(Request::Promisc);
    assert!(world.network.is_promiscuous("em0"), "it can be asked for again");
}

#[test]
fn a_short_list_of_link_types_is_enomem_and_what_fits_is_written() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&OPENBSD, "em0");
    let mut memory = Memory::of(0x1000, vec![0xaa; 12]);
    let arg = fields(&[(4, 1), (4, 0), (8, 0x1000)]);
    assert_eq!(fd.number_with(0xc010_427b, &arg, &mut memory, false), Err(Errno::NoMem));
    assert_eq!(memory.0[&0x1000], [&word(1)[..], &[0xaa; 8]].concat());
    let arg = fields(&[(4, 2), (4, 0x1000)]);
    assert_eq!(fd.number_with(0xc008_427b, &arg, &mut memory, true), Ok(fields(&[(4, 2), (4, 0x1000)])));
    assert_eq!(memory.0[&0x1000], [&fields(&[(4, 1), (4, 105)])[..], &[0xaa; 4]].concat());
}

#[test]
fn timeouts_are_nanoseconds_and_too_long_is_eoverflow() {
    timeouts(
        &OPENBSD,
        &[
            ((0, 0), Ok((0, 0))),
            ((0, 1), Ok((0, 1))),
            ((0, 999_999), Ok((0, 999_999))),
            ((123_456, 789), Ok((123_456, 789))),
            ((1_000_000_000, 0), Ok((1_000_000_000, 0))),
            ((0, 1_000_000), Err(Errno::Inval)),
            ((0, -1), Err(Errno::Inval)),
            ((-1, 0), Err(Errno::Inval)),
            // 2^64 ns are 18446744073.7 s
            ((18_446_744_074, 0), Err(Errno::Overflow)),
            ((i64::MAX, 0), Err(Errno::Overflow)),
            ((i64::MAX, -1), Err(Errno::Inval)),
        ],
    );
}

#[test]
fn signal_requests_have_their_own_numbers() {
    let fd = Fd::new(&OPENBSD);
    // BIOCSRSIG is 114 and BIOCGRSIG 115 here, the other way round elsewhere
    fd.number(0x8004_4272, &word(10)).unwrap();
    assert_eq!(fd.number(0x4004_4273, &[]), Ok(word(10).to_vec()));
    assert_eq!(fd.number(0x8004_4272, &word(65)), Err(Errno::Inval), "NSIG of the Linux process");
    assert_eq!(fd.number(0x4004_4273, &[]), Ok(word(10).to_vec()));
}

/// As NetBSD's (GBLEN FLUSH GDLT GDLTLIST GETIF GRTIMEOUT SRTIMEOUT GSTATS VERSION GHDRCMPLT IMMEDIATE LOCK FIONREAD
/// TIOCGPGRP), with GRSIG GDIRFILT SWTIMEOUT GWTIMEOUT DWTIMEOUT.
const LOCKED: LockList = LockList {
    #[rustfmt::skip]
    allowed: &[
        0x4004_4266, 0x2000_4268, 0x4004_426a, 0xc010_427b, 0xc008_427b, 0x4020_426b, 0x4010_426e, 0x400c_426e,
        0x8010_426d, 0x800c_426d, 0x4008_426f, 0x4004_4271, 0x4004_4274, 0x8004_4270, 0x2000_4276, 0x4004_667f,
        0x4004_7477, 0x4004_4273, 0x4004_427c, 0x8010_427e, 0x800c_427e, 0x4010_427e, 0x400c_427e, 0x2000_427e,
    ],
    // SBLEN SETF PROMISC SETIF SRSIG SHDRCMPLT SETWF GFILDROP SFILDROP SDLT SDIRFILT FIONBIO FIOASYNC FIOSETOWN
    // FIOGETOWN TIOCSPGRP
    #[rustfmt::skip]
    refused: &[
        0xc004_4266, 0x8010_4267, 0x8008_4267, 0x2000_4269, 0x8020_426c, 0x8004_4272, 0x8004_4275, 0x8010_4277,
        0x8008_4277, 0x4004_4278, 0x8004_4279, 0x8004_427a, 0x8004_427d, 0x8004_667e, 0x8004_667d, 0x8004_667c,
        0x4004_667b, 0x8004_7476,
    ],
};

#[test]
fn lock_allows_its_list_and_nothing_else() {
    LOCKED.check(&OPENBSD, 0x2000_4276);
}

#[test]
fn lock_does_not_bind_root() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.ok(Request::Lock);
    for request in [
        Request::Promisc,
        Request::SDirection(1),
        Request::SetF(ret(1)),
        Request::SetWf(ret(u32::MAX)),
        Request::SHdrCmplt(1),
        Request::SFilDrop(1),
        Request::SDlt(1),
        Request::SRSig(1),
        Request::FionBio(0),
        Request::GetOwn,
        set_if("em1"),
    ] {
        assert_eq!(fd.refused(request.clone()), Errno::Perm, "{request:?}: a user");
        assert!(fd.by_root(request.clone()).is_ok(), "{request:?}: root is exempt entirely");
    }
    assert_eq!(fd.by_root(Request::SBlen(64)), Err(Errno::Inval), "the other rules hold for root");
    assert_eq!(fd.refused(Request::Promisc), Errno::Perm, "and nothing was unlocked");
}

#[test]
fn received_counts_what_the_direction_hides() {
    let fd = Fd::on_em0(&OPENBSD);
    for (hidden, buffered) in [(1, 86), (2, 86), (3, 0)] {
        fd.ok(Request::SDirection(hidden));
        fd.ok(Request::Flush);
        fd.rx(60);
        fd.write(&frame(60)).unwrap();
        assert_eq!(fd.stats(), (2, 0), "7: every packet tapped: hidden {hidden}");
        assert_eq!(fd.fionread(), buffered, "hidden {hidden}");
    }
}

#[test]
fn counters_are_32_bits_wide() {
    let call = OPENBSD.decode(0x4008_426f).unwrap();
    let stats = Response::Stats { recv: 0x5_0000_0003, drop: 0x1_0000_0002, capt: 9 };
    assert_eq!(call.reply(&stats, &[], &mut Memory::default()), Ok(fields(&[(4, 3), (4, 2)])));
}

#[test]
fn a_write_filter_flushes() {
    let fd = Fd::on_em0(&OPENBSD);
    fd.rx(60);
    fd.ok(Request::SetWf(ret(u32::MAX)));
    assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "8: replace + flush + zero");
    fd.rx(60);
    fd.refused(Request::SetWf(FilterSource { len: 1, null: true, insns: Some(Vec::new()) }));
    assert_eq!(fd.stats(), (1, 0), "a refused one flushes nothing");
}

#[test]
fn length_0_with_a_pointer_is_einval_for_both_filters() {
    let fd = Fd::on_em0(&OPENBSD);
    let pointer = FilterSource { len: 0, null: false, insns: Some(Vec::new()) };
    let null = FilterSource { len: 0, null: true, insns: Some(Vec::new()) };
    for set in [Request::SetF, Request::SetWf] {
        fd.ok(set(ret(0)));
        assert_eq!(fd.refused(set(pointer.clone())), Errno::Inval);
    }
    fd.rx(60);
    assert_eq!((fd.fionread(), fd.write(&frame(60))), (0, Err(Errno::Perm)), "the old ones stay");
    for set in [Request::SetF, Request::SetWf] {
        fd.ok(set(null.clone()));
    }
    fd.rx(60);
    assert_eq!((fd.fionread(), fd.write(&frame(60))), (86, Ok(60)));
    assert_eq!(fd.number(0x8010_4267, &fields(&[(4, 0), (4, 0), (8, 1)])), Err(Errno::Inval));
    assert_eq!(fd.number(0x8010_4267, &[0; 16]), Ok(vec![]));
}

#[test]
fn requests_of_other_systems_are_einval() {
    let fd = Fd::on_em0(&OPENBSD);
    for request in [
        Request::SetFnr(ret(1)),
        Request::Feedback(1),
        Request::GFeedback,
        Request::GTStamp,
        Request::STStamp(0),
        Request::GSeeSent,
        Request::GetUuid,
        Request::GIfAddr,
    ] {
        assert_eq!(fd.refused(request.clone()), Errno::Inval, "{request:?}");
    }
}

#[test]
fn the_drop_filter_takes_0_and_1() {
    let fd = Fd::on_em0(&OPENBSD);
    for mode in [0, 1, 0, 1] {
        fd.number(0x8004_4279, &word(mode)).unwrap();
        assert_eq!(fd.number(0x4004_4278, &[]), Ok(word(mode).to_vec()));
        fd.ok(Request::Flush);
        fd.rx(60);
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 86), "mode {mode}: captured");
    }
    // packets cannot be taken away from the host's stack: DIFFERENCES.md
    assert_eq!(fd.number(0x8004_4279, &word(2)), Err(Errno::OpNotSupp));
    for mode in [3, 4, u32::MAX] {
        assert_eq!(fd.number(0x8004_4279, &word(mode)), Err(Errno::Inval), "13: any other value: {mode}");
    }
    assert_eq!(value(&fd, Request::GFilDrop), 1, "as it was");
}
