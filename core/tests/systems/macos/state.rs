//! semantics.md 2, 3, 7 and 8.

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::checks::{link_address, timeouts, value};
use crate::support::*;

#[test]
fn defaults() {
    let fd = Fd::new(&MACOS);
    // 2 and 11: buffer 4096, direction both (3), see-sent 1, SIGIO
    assert_eq!(value(&fd, Request::GBlen), 4096);
    assert_eq!(value(&fd, Request::GDirection), 3);
    assert_eq!(value(&fd, Request::GSeeSent), 1);
    assert_eq!(value(&fd, Request::GRSig), 29);
}

#[test]
fn buffer_size_is_at_most_32_mib() {
    for asked in [33_554_432, 33_554_433, u32::MAX] {
        assert_eq!(Fd::new(&MACOS).ok(Request::SBlen(asked)), Response::U32(33_554_432), "{asked}");
    }
    assert_eq!(Fd::new(&MACOS).ok(Request::SBlen(524_289)), Response::U32(524_289), "maxbufsize is not used");
}

#[test]
fn siocgifaddr_gives_the_link_address() {
    let fd = Fd::new(&MACOS);
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval), "3: no interface");
    fd.ok(set_if("em0"));
    let mut arg = [0; 32];
    arg[..3].copy_from_slice(b"em0");
    let back = fd.number(0xc020_6921, &arg).unwrap();
    assert_eq!((back.len(), &back[..16], &back[18..24]), (32, &arg[..16], &MAC[..]), "sa_data of ifr_addr");
    // SIOCGIFADDR is the interface's business: a loopback has none, and neither has what has no address
    assert_eq!(link_address(&MACOS, false, &[2; 6]), Ok(Response::LinkAddress(vec![2; 6])));
    assert_eq!(
        link_address(&MACOS, false, &[2; 20]),
        Ok(Response::LinkAddress(vec![2; 14])),
        "sa_data has 14"
    );
    assert_eq!(link_address(&MACOS, false, &[]), Err(Errno::Inval));
    assert_eq!(link_address(&MACOS, true, &[2; 6]), Err(Errno::Inval));
}

#[test]
fn there_is_no_lock() {
    let fd = Fd::on_em0(&MACOS);
    assert_eq!(fd.refused(Request::Lock), Errno::Inval);
    // the numbers other systems have for it: VOID 118, 122, 126
    for number in [0x2000_4276, 0x2000_427a, 0x2000_427e] {
        assert_eq!(fd.number(number, &[]), Err(Errno::Inval), "{number:#x}");
    }
    fd.ok(Request::Promisc);
}

#[test]
fn requests_of_other_systems_are_einval() {
    let fd = Fd::on_em0(&MACOS);
    for request in [
        Request::SetWf(ret(1)),
        Request::Feedback(1),
        Request::GTStamp,
        Request::GFilDrop,
        Request::SetOwn(1),
        Request::GetOwn,
        Request::GetPgrp,
        Request::GWTimeout,
    ] {
        assert_eq!(fd.refused(request.clone()), Errno::Inval, "{request:?}");
    }
    fd.ok(Request::FioAsync(1));
    assert_eq!(fd.file.with(|file, _| file.descriptor().signal()), None, "5: no FIOSETOWN in the driver");
}

#[test]
fn a_name_is_looked_up_as_it_is() {
    let fd = Fd::new(&MACOS);
    fd.world.network.add_ethernet("wan", MAC, 3);
    fd.ok(set_if("wan"));
}

#[test]
fn another_link_type_keeps_promiscuity() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&MACOS, "em0");
    fd.ok(Request::Promisc);
    fd.ok(Request::SDlt(105));
    assert!(world.network.is_promiscuous("em0"), "3: same as F");
}

#[test]
fn dlt_pktap_is_raw_unless_it_is_wanted() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::RAW]);
    let fd = world.on(&MACOS, "em0");
    fd.ok(Request::SDlt(258));
    assert_eq!(value(&fd, Request::GDlt), 12, "3: PKTAP needs want-pktap, else treated as RAW");
    assert_eq!(fd.number(0xc004_427f, &word(1)), Ok(word(1).to_vec()), "BIOCSWANTPKTAP");
    assert_eq!(fd.refused(Request::SDlt(258)), Errno::Inval, "em0 has no such type");
    assert_eq!(Fd::on_em0(&MACOS).refused(Request::SDlt(258)), Errno::Inval, "nor RAW");
}

#[test]
fn the_list_of_link_types_is_packed_into_12_bytes() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&MACOS, "em0");
    let list = 0x7fff_0000_1000;
    for ilp32 in [false, true] {
        let mut memory = Memory::of(list, vec![0xaa; 12]);
        let arg = fields(&[(4, 1), (8, list)]);
        assert_eq!(fd.number_with(0xc00c_4279, &arg, &mut memory, ilp32), Err(Errno::NoMem));
        assert_eq!(memory.0[&list], [&word(1)[..], &[0xaa; 8]].concat(), "entries that fit");
        let back = fd.number_with(0xc00c_4279, &fields(&[(4, 3), (8, list)]), &mut memory, ilp32);
        assert_eq!(back, Ok(fields(&[(4, 2), (8, list)])));
        assert_eq!(memory.0[&list], [&fields(&[(4, 1), (4, 105)])[..], &[0xaa; 4]].concat());
    }
    assert_eq!(fd.number(0xc00c_4279, &fields(&[(4, 9), (8, 0)])), Ok(fields(&[(4, 2), (8, 0)])));
    assert_eq!(fd.number(0xc00c_4279, &fields(&[(4, 9), (8, 0x10)])), Err(Errno::Fault));
    assert_eq!(fd.number(0xc010_4279, &[0; 16]), Err(Errno::Inval), "16 bytes are others'");
}

#[test]
fn timeouts_are_rounded_up_to_ticks_of_10_ms() {
    timeouts(
        &MACOS,
        &[
            ((0, 0), Ok((0, 0))),
            ((0, 1), Ok((0, 10_000))),
            ((0, 10_000), Ok((0, 10_000))),
            ((0, 10_001), Ok((0, 20_000))),
            ((5, 250_000), Ok((5, 250_000))),
            ((0, 1_000_000), Err(Errno::Inval)),
            ((0, -1), Err(Errno::Inval)),
            ((-1, 0), Err(Errno::Inval)),
        ],
    );
}

#[test]
fn timeouts_by_number_have_a_32_bit_tv_usec() {
    let fd = Fd::new(&MACOS);
    fd.number(0x8010_426d, &fields(&[(8, 3), (4, 50_000), (4, 0xdead_beef)])).unwrap();
    assert_eq!(fd.number(0x4010_426e, &[]), Ok(fields(&[(8, 3), (4, 50_000), (4, 0)])));
    fd.number32(0x8008_426d, &fields(&[(4, 4), (4, 60_000)])).unwrap();
    assert_eq!(fd.number32(0x4008_426e, &[]), Ok(fields(&[(4, 4), (4, 60_000)])));
}

#[test]
fn a_signal_of_nsig_or_more_is_einval() {
    let fd = Fd::new(&MACOS);
    fd.number(0x8004_4273, &word(64)).unwrap();
    assert_eq!(fd.number(0x8004_4273, &word(65)), Err(Errno::Inval));
    assert_eq!(fd.number(0x4004_4272, &[]), Ok(word(64).to_vec()));
}

#[test]
fn hidden_packets_are_not_counted_and_counters_are_32_bits_wide() {
    let fd = Fd::on_em0(&MACOS);
    fd.ok(Request::SSeeSent(0));
    fd.write(&frame(60)).unwrap();
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
    let call = MACOS.decode(0x4008_426f).unwrap();
    let stats = Response::Stats { recv: 0x5_0000_0003, drop: 0x1_0000_0002, capt: 9 };
    assert_eq!(call.reply(&stats, &[], &mut Memory::default()), Ok(fields(&[(4, 3), (4, 2)])));
}

#[test]
fn setfnr_replaces_only() {
    let fd = Fd::on_em0(&MACOS);
    fd.rx(60);
    // its number is 126 here
    let mut memory = Memory::of(0x1000, fields(&[(2, 6), (1, 0), (1, 0), (4, 20)]));
    let arg = fields(&[(4, 1), (4, 0), (8, 0x1000)]);
    assert_eq!(fd.number_with(0x8010_427e, &arg, &mut memory, false), Ok(vec![]));
    assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 78));
    fd.rx(60);
    // 78 is 80 with alignment
    assert_eq!(fd.read_len(), Ok(80 + 18 + 20));
}

#[test]
fn removing_the_filter_flushes_by_setfnr_too() {
    let null = FilterSource { len: 0, null: true, insns: Some(Vec::new()) };
    for set in [Request::SetF, Request::SetFnr] {
        let fd = Fd::on_em0(&MACOS);
        fd.ok(Request::SetF(ret(u32::MAX)));
        fd.rx(60);
        fd.ok(set(null.clone()));
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "bpf_setf resets when the pointer is NULL");
    }
}

#[test]
fn length_0_with_a_pointer_is_einval() {
    let pointer = FilterSource { len: 0, null: false, insns: Some(Vec::new()) };
    for set in [Request::SetF, Request::SetFnr] {
        let fd = Fd::on_em0(&MACOS);
        fd.ok(Request::SetF(ret(0)));
        assert_eq!(fd.refused(set(pointer.clone())), Errno::Inval, "8");
        fd.rx(60);
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 0), "the old one stays");
    }
}
