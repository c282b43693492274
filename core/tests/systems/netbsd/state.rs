//! semantics.md 2, 3, 7 and 8.

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::checks::{LockList, timeouts, value};
use crate::support::*;

#[test]
fn defaults() {
    for abi in [&NETBSD, &NETBSD7] {
        let fd = Fd::new(abi);
        // 2: buffer 32768, direction both, feedback 0
        assert_eq!(value(&fd, Request::GBlen), 32_768, "{}", abi.name);
        assert_eq!(value(&fd, Request::GDirection), 1, "{}", abi.name);
        assert_eq!(value(&fd, Request::GFeedback), 0, "{}", abi.name);
    }
}

#[test]
fn buffer_size_is_at_most_1_mib() {
    for asked in [1_048_576, 1_048_577, u32::MAX] {
        assert_eq!(Fd::new(&NETBSD).ok(Request::SBlen(asked)), Response::U32(1_048_576), "{asked}");
    }
}

#[test]
fn buffer_size_is_fixed_once_there_are_buffers() {
    let fd = Fd::on_em0(&NETBSD);
    fd.world.network.remove("em0");
    fd.stats();
    assert_eq!(fd.refused(Request::GetIf), Errno::Inval, "detached");
    assert_eq!(fd.refused(Request::SBlen(4096)), Errno::Inval, "3: also whenever buffers exist");
}

#[test]
fn siocgifaddr_is_einval() {
    let fd = Fd::new(&NETBSD);
    for attached in [false, true] {
        if attached {
            fd.ok(set_if("em0"));
        }
        // with 32 bytes and with NetBSD's 144
        for number in [0xc020_6921, 0xc090_6921] {
            assert_eq!(fd.number(number, &[0; 144]), Err(Errno::Inval), "{number:#x}");
        }
    }
}

#[test]
fn a_name_without_a_digit_is_enxio() {
    for abi in [&NETBSD, &NETBSD7] {
        let fd = Fd::new(abi);
        for name in ["wan", "wan_b", "br-lan"] {
            fd.world.network.add_ethernet(name, MAC, 3);
            assert_eq!(fd.refused(set_if(name)), Errno::NxIo, "{}: {name}", abi.name);
        }
        fd.world.network.add_ethernet("wan2b", MAC, 3);
        fd.ok(set_if("wan2b"));
    }
}

#[test]
fn a_name_of_fifteen_letters_has_no_position_to_overwrite() {
    let fd = Fd::new(&NETBSD);
    fd.world.network.add_ethernet("abcdefghijklmno", MAC, 3);
    // 3: every non-letter position is overwritten by '0' up to 15 chars: here there is none
    fd.ok(set_if("abcdefghijklmno"));
}

#[test]
fn a_name_that_is_padded_to_one_there_is_matches() {
    let fd = Fd::new(&NETBSD);
    fd.world.network.add_ethernet("wan000000000000", MAC, 3);
    fd.ok(set_if("wan"));
    assert_eq!(fd.ok(Request::GetIf), Response::Name("wan000000000000".into()));
}

#[test]
fn ifreq_has_144_bytes_and_32_in_the_old_form() {
    for (set, get, size) in [(0x8090_426c, 0x4090_426b, 144_usize), (0x8020_426c, 0x4020_426b, 32)] {
        let fd = Fd::new(&NETBSD);
        let mut arg = vec![0xee; size];
        arg[..4].copy_from_slice(b"em0\0");
        fd.number(set, &arg).unwrap();
        let mut back = vec![0; size];
        back[..3].copy_from_slice(b"em0");
        assert_eq!(fd.number(get, &[]), Ok(back), "{size} bytes");
    }
}

#[test]
fn another_link_type_keeps_promiscuity() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&NETBSD, "em0");
    fd.ok(Request::Promisc);
    fd.ok(Request::SDlt(105));
    assert!(world.network.is_promiscuous("em0"), "3: same as F: promiscuity re-established");
    drop(fd);
    assert!(!world.network.is_promiscuous("em0"), "one count, given back");
}

#[test]
fn a_short_list_of_link_types_is_enomem_and_what_fits_is_written() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&NETBSD, "em0");
    let mut memory = Memory::of(0x1000, vec![0xaa; 12]);
    let arg = fields(&[(4, 1), (4, 0), (8, 0x1000)]);
    assert_eq!(fd.number_with(0xc010_4277, &arg, &mut memory, false), Err(Errno::NoMem));
    assert_eq!(memory.0[&0x1000], [&word(1)[..], &[0xaa; 8]].concat());
    let arg = fields(&[(4, 2), (4, 0x1000)]);
    assert_eq!(fd.number_with(0xc008_4277, &arg, &mut memory, true), Ok(fields(&[(4, 2), (4, 0x1000)])));
    assert_eq!(memory.0[&0x1000], [&fields(&[(4, 1), (4, 105)])[..], &[0xaa; 4]].concat());
}

#[test]
fn timeouts_are_rounded_down_to_ticks_of_10_ms_and_clamped() {
    timeouts(
        &NETBSD,
        &[
            ((0, 0), Ok((0, 0))),
            ((0, 1), Ok((0, 10_000))),
            ((0, 9_999), Ok((0, 10_000))),
            ((0, 10_000), Ok((0, 10_000))),
            ((0, 19_999), Ok((0, 10_000))),
            ((1, 999_999), Ok((1, 990_000))),
            ((0, 1_000_000), Err(Errno::Inval)),
            ((0, -1), Err(Errno::Inval)),
            ((-1, 0), Err(Errno::Inval)),
        ],
    );
    let fd = Fd::on_em0(&NETBSD);
    fd.ok(Request::SRTimeout { sec: i64::MAX, usec: 999_999 });
    let Response::Timeval { sec, .. } = fd.ok(Request::GRTimeout) else { panic!("a time") };
    assert!(sec > 10_000_000, "huge is clamped: {sec} s");
}

#[test]
fn netbsd7_checks_no_timeout() {
    let fd = Fd::new(&NETBSD7);
    for (sec, usec) in [(-1, 0), (0, 1_000_000), (0, -1)] {
        fd.ok(Request::SRTimeout { sec, usec });
    }
}

#[test]
fn timeouts_by_number_have_four_layouts() {
    let fd = Fd::new(&NETBSD);
    // tv_usec has 32 bits and is padded to 16 bytes; on i386 it is not; the old form has two longs
    fd.number(0x8010_427a, &fields(&[(8, 3), (4, 50_000), (4, 0xdead_beef)])).unwrap();
    assert_eq!(fd.number(0x4010_427b, &[]), Ok(fields(&[(8, 3), (4, 50_000), (4, 0)])));
    fd.number32(0x800c_427a, &fields(&[(8, 4), (4, 60_000)])).unwrap();
    assert_eq!(fd.number32(0x400c_427b, &[]), Ok(fields(&[(8, 4), (4, 60_000)])));
    fd.number(0x8010_426d, &fields(&[(8, 5), (8, 70_000)])).unwrap();
    assert_eq!(fd.number(0x4010_426e, &[]), Ok(fields(&[(8, 5), (8, 70_000)])));
    fd.number32(0x8008_426d, &fields(&[(4, 6), (4, 80_000)])).unwrap();
    assert_eq!(fd.number32(0x4008_426e, &[]), Ok(fields(&[(4, 6), (4, 80_000)])));
    assert_eq!(fd.ok(Request::GRTimeout), timeval(6, 80_000));
}

#[test]
fn the_signal_is_always_sigio() {
    let fd = Fd::on_em0(&NETBSD);
    for request in [Request::GRSig, Request::SRSig(10)] {
        assert_eq!(fd.refused(request), Errno::Inval, "3: request absent");
    }
    fd.ok(Request::FioAsync(1));
    fd.ok(Request::SetOwn(7));
    assert_eq!(fd.file.with(|file, _| file.descriptor().signal()), Some((29, 7)));
}

/// GBLEN FLUSH GDLT GDLTLIST GETIF GRTIMEOUT SRTIMEOUT GSTATS VERSION GHDRCMPLT IMMEDIATE LOCK FIONREAD TIOCGPGRP.
const LOCKED: LockList = LockList {
    #[rustfmt::skip]
    allowed: &[
        0x4004_4266, 0x2000_4268, 0x4004_426a, 0xc010_4277, 0xc008_4277, 0x4090_426b, 0x4010_427b, 0x400c_427b,
        0x8010_427a, 0x800c_427a, 0x4080_426f, 0x4004_4271, 0x4004_4274, 0x8004_4270, 0x2000_427e, 0x4004_667f,
        0x4004_7477,
    ],
    // SBLEN SETF PROMISC SETIF SHDRCMPLT SDLT GDIRECTION SDIRECTION GFEEDBACK SFEEDBACK SETWF FIONBIO FIOASYNC
    // FIOSETOWN FIOGETOWN TIOCSPGRP, and the compatibility requests
    #[rustfmt::skip]
    refused: &[
        0xc004_4266, 0x8010_4267, 0x8008_4267, 0x2000_4269, 0x8090_426c, 0x4020_426b, 0x8020_426c, 0x8010_426d,
        0x8008_426d, 0x4010_426e, 0x4008_426e, 0x4008_426f, 0x8010_4272, 0x8008_4272, 0x8010_4273, 0x8008_4273,
        0x8004_4275, 0x8004_4276, 0x4004_4278, 0x8004_4279, 0x4004_427c, 0x8004_427d, 0x8010_427f, 0x8008_427f,
        0x8004_667e, 0x8004_667d, 0x8004_667c, 0x4004_667b, 0x8004_7476,
    ],
};

#[test]
fn lock_allows_its_list_and_nothing_else() {
    LOCKED.check(&NETBSD, 0x2000_427e);
}

#[test]
fn lock_binds_root() {
    let fd = Fd::on_em0(&NETBSD);
    fd.ok(Request::Lock);
    assert_eq!(fd.by_root(Request::Promisc), Err(Errno::Perm));
}

#[test]
fn netbsd7_has_no_lock_and_no_write_filter() {
    let fd = Fd::on_em0(&NETBSD7);
    for number in [0x2000_427e, 0x8010_427f] {
        assert_eq!(fd.number(number, &[0; 16]), Err(Errno::Inval), "{number:#x}");
    }
}

#[test]
fn the_tcp_and_udp_filters_are_einval() {
    for number in [0x8010_4272, 0x8010_4273] {
        assert_eq!(Fd::on_em0(&NETBSD).number(number, &[0; 16]), Err(Errno::Inval), "{number:#x}");
    }
}

#[test]
fn counters_are_three_64_bit_numbers_and_thirteen_spare() {
    let fd = Fd::sized(&NETBSD, 128);
    fd.ok(Request::SetF(tagged(7)));
    for byte in [7, 1, 7, 7, 1] {
        fd.world.rx_frame(&tagged_frame(byte));
    }
    // 7: bs_capt counts what the filter accepts, including what is then dropped
    assert_eq!(fd.number(0x4080_426f, &[]), Ok(fields(&[(8, 5), (8, 1), (8, 3), (8 + 104, 0)])));
    assert_eq!(fd.number(0x4008_426f, &[]), Ok(fields(&[(4, 5), (4, 1)])), "the old form");
    let wide = Response::Stats { recv: 0x5_0000_0003, drop: 0x1_0000_0002, capt: 0x7_0000_0001 };
    let reply = |number| {
        let call = NETBSD.decode(number).unwrap();
        call.reply(&wide, &[], &mut Memory::default()).unwrap()
    };
    let all = [(8, 0x5_0000_0003), (8, 0x1_0000_0002), (8, 0x7_0000_0001), (8 + 104, 0)];
    assert_eq!(reply(0x4080_426f), fields(&all));
    assert_eq!(reply(0x4008_426f), fields(&[(4, 3), (4, 2)]));
}

#[test]
fn hidden_packets_are_not_counted() {
    let fd = Fd::on_em0(&NETBSD);
    fd.ok(Request::SDirection(2));
    fd.write(&frame(60)).unwrap();
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
}

#[test]
fn a_write_filter_flushes() {
    let fd = Fd::on_em0(&NETBSD);
    fd.rx(60);
    fd.ok(Request::SetWf(ret(u32::MAX)));
    assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "8: replace + flush + zero");
    fd.rx(60);
    fd.refused(Request::SetWf(FilterSource { len: 1, null: true, insns: Some(Vec::new()) }));
    assert_eq!(fd.stats(), (1, 0), "a refused one flushes nothing");
}

#[test]
fn length_0_removes_a_filter_whatever_the_pointer() {
    for null in [false, true] {
        let none = FilterSource { len: 0, null, insns: Some(Vec::new()) };
        let fd = Fd::on_em0(&NETBSD);
        fd.ok(Request::SetF(ret(0)));
        fd.ok(Request::SetWf(ret(0)));
        fd.ok(Request::SetF(none.clone()));
        assert_eq!(fd.write(&frame(60)), Err(Errno::Perm), "the write filter stays");
        fd.ok(Request::SetWf(none));
        assert_eq!(fd.write(&frame(60)), Ok(60));
        assert_eq!(fd.fionread(), 94);
    }
}

#[test]
fn setfnr_is_absent() {
    assert_eq!(Fd::on_em0(&NETBSD).refused(Request::SetFnr(ret(1))), Errno::Inval);
    assert_eq!(Fd::on_em0(&NETBSD).number(0x8010_4282, &[0; 16]), Err(Errno::Inval));
}
