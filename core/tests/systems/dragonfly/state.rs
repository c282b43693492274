//! semantics.md 2 to 4, 7, 8 and 14.

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::checks::{LockList, link_address, record, timeouts, tunnel, value};
use crate::support::*;

#[test]
fn defaults() {
    let fd = Fd::new(&DRAGONFLY);
    // 2: buffer 4096, direction both (see-sent 1), SIGIO, feedback 0
    assert_eq!(value(&fd, Request::GBlen), 4096);
    assert_eq!(value(&fd, Request::GDirection), 1);
    assert_eq!(value(&fd, Request::GRSig), 29);
    assert_eq!(value(&fd, Request::GFeedback), 0);
}

#[test]
fn buffer_size_is_at_most_524288() {
    for asked in [524_288, 524_289, u32::MAX] {
        assert_eq!(Fd::new(&DRAGONFLY).ok(Request::SBlen(asked)), Response::U32(524_288), "{asked}");
    }
}

#[test]
fn siocgifaddr_gives_the_link_address() {
    let fd = Fd::new(&DRAGONFLY);
    assert_eq!(fd.number(0xc020_6921, &[0; 32]), Err(Errno::Inval), "3: no interface");
    fd.ok(set_if("em0"));
    let mut arg = [0; 32];
    arg[..3].copy_from_slice(b"em0");
    let back = fd.number(0xc020_6921, &arg).unwrap();
    assert_eq!((back.len(), &back[..16], &back[18..24]), (32, &arg[..16], &MAC[..]), "sa_data of ifr_addr");
    // SIOCGIFADDR is the interface's business: a loopback has none, and neither has what has no address
    assert_eq!(link_address(&DRAGONFLY, false, &[2; 6]), Ok(Response::LinkAddress(vec![2; 6])));
    assert_eq!(
        link_address(&DRAGONFLY, false, &[2; 20]),
        Ok(Response::LinkAddress(vec![2; 14])),
        "sa_data has 14"
    );
    assert_eq!(link_address(&DRAGONFLY, false, &[]), Err(Errno::Inval));
    assert_eq!(link_address(&DRAGONFLY, true, &[2; 6]), Err(Errno::Inval));
}

#[test]
fn a_name_is_looked_up_as_it_is() {
    let fd = Fd::new(&DRAGONFLY);
    fd.world.network.add_ethernet("wan", MAC, 3);
    fd.ok(set_if("wan"));
}

#[test]
fn another_link_type_keeps_promiscuity() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&DRAGONFLY, "em0");
    fd.ok(Request::Promisc);
    fd.ok(Request::SDlt(105));
    assert!(world.network.is_promiscuous("em0"), "3: same as F");
}

#[test]
fn a_short_list_of_link_types_is_enomem_and_what_fits_is_written() {
    let world = World::new();
    world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
    let fd = world.on(&DRAGONFLY, "em0");
    let mut memory = Memory::of(0x1000, vec![0xaa; 12]);
    let arg = fields(&[(4, 1), (4, 0), (8, 0x1000)]);
    assert_eq!(fd.number_with(0xc010_4279, &arg, &mut memory, false), Err(Errno::NoMem));
    assert_eq!(memory.0[&0x1000], [&word(1)[..], &[0xaa; 8]].concat());
}

#[test]
fn timeouts_are_rounded_down_to_ticks_of_10_ms() {
    timeouts(
        &DRAGONFLY,
        &[
            ((0, 0), Ok((0, 0))),
            ((0, 10_000), Ok((0, 10_000))),
            ((0, 19_999), Ok((0, 10_000))),
            ((5, 250_000), Ok((5, 250_000))),
            ((0, 1_000_000), Err(Errno::Inval)),
            ((0, -1), Err(Errno::Inval)),
            ((-1, 0), Err(Errno::Inval)),
        ],
    );
    let fd = Fd::new(&DRAGONFLY);
    fd.number(0x8010_426d, &fields(&[(8, 3), (8, 50_000)])).unwrap();
    assert_eq!(fd.number(0x4010_426e, &[]), Ok(fields(&[(8, 3), (8, 50_000)])));
}

#[test]
fn a_signal_of_nsig_or_more_is_einval() {
    let fd = Fd::new(&DRAGONFLY);
    fd.number(0x8004_4273, &word(64)).unwrap();
    assert_eq!(fd.number(0x8004_4273, &word(65)), Err(Errno::Inval));
    assert_eq!(fd.number(0x4004_4272, &[]), Ok(word(64).to_vec()));
}

/// As FreeBSD's without STSTAMP, FEEDBACK, ROTZBUF: GBLEN FLUSH GDLT GDLTLIST GETIF GRTIMEOUT SRTIMEOUT GSTATS VERSION
/// GRSIG GHDRCMPLT IMMEDIATE LOCK FIONREAD TIOCGPGRP.
const LOCKED: LockList = LockList {
    #[rustfmt::skip]
    allowed: &[
        0x4004_4266, 0x2000_4268, 0x4004_426a, 0xc010_4279, 0xc008_4279, 0x4020_426b, 0x4010_426e, 0x8010_426d,
        0x4008_426f, 0x4004_4271, 0x4004_4272, 0x4004_4274, 0x8004_4270, 0x2000_427a, 0x4004_667f, 0x4004_7477,
    ],
    // SBLEN SETF PROMISC SETIF SRSIG SHDRCMPLT GSEESENT SSEESENT SDLT SETWF GFEEDBACK SFEEDBACK FIONBIO FIOASYNC
    // FIOSETOWN FIOGETOWN TIOCSPGRP SIOCGIFADDR
    #[rustfmt::skip]
    refused: &[
        0xc004_4266, 0x8010_4267, 0x8008_4267, 0x2000_4269, 0x8020_426c, 0x8004_4273, 0x8004_4275, 0x4004_4276,
        0x8004_4277, 0x8004_4278, 0x8010_427b, 0x8008_427b, 0x4004_427c, 0x8004_427d, 0x8004_667e, 0x8004_667d,
        0x8004_667c, 0x4004_667b, 0x8004_7476, 0xc020_6921,
    ],
};

#[test]
fn lock_allows_its_list_and_nothing_else() {
    LOCKED.check(&DRAGONFLY, 0x2000_427a);
}

#[test]
fn lock_binds_root() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.ok(Request::Lock);
    assert_eq!(fd.by_root(Request::Promisc), Err(Errno::Perm));
}

#[test]
fn hidden_packets_are_not_counted() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.ok(Request::SDirection(0));
    fd.write(&frame(60)).unwrap();
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
    let call = DRAGONFLY.decode(0x4008_426f).unwrap();
    let stats = Response::Stats { recv: 0x5_0000_0003, drop: 0x1_0000_0002, capt: 9 };
    assert_eq!(call.reply(&stats, &[], &mut Memory::default()), Ok(fields(&[(4, 3), (4, 2)])));
}

#[test]
fn a_write_filter_flushes() {
    let fd = Fd::on_em0(&DRAGONFLY);
    fd.rx(60);
    fd.ok(Request::SetWf(ret(u32::MAX)));
    assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "8: replace + flush + zero");
}

#[test]
fn length_0_with_a_pointer_is_einval_for_both_filters() {
    let fd = Fd::on_em0(&DRAGONFLY);
    let pointer = FilterSource { len: 0, null: false, insns: Some(Vec::new()) };
    let null = FilterSource { len: 0, null: true, insns: Some(Vec::new()) };
    for set in [Request::SetF, Request::SetWf] {
        fd.ok(set(ret(0)));
        assert_eq!(fd.refused(set(pointer.clone())), Errno::Inval, "8: as O");
    }
    fd.rx(60);
    assert_eq!((fd.fionread(), fd.write(&frame(60))), (0, Err(Errno::Perm)), "the old ones stay");
    for set in [Request::SetF, Request::SetWf] {
        fd.ok(set(null.clone()));
    }
    fd.rx(60);
    assert_eq!((fd.fionread(), fd.write(&frame(60))), (94, Ok(60)));
}

#[test]
fn requests_of_other_systems_are_einval() {
    let fd = Fd::on_em0(&DRAGONFLY);
    for request in
        [Request::SetFnr(ret(1)), Request::GTStamp, Request::GFilDrop, Request::GetUuid, Request::GSeeSent]
    {
        assert_eq!(fd.refused(request.clone()), Errno::Inval, "{request:?}");
    }
}

#[test]
fn timeval_caplen_datalen_hdrlen() {
    let loopback = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    // 4: 34/36/32
    for (interface, packet, hdrlen) in
        [("em0", frame(60), 34_usize), ("lo0", loopback, 36), ("tun0", vec![0x45; 20], 32)]
    {
        let fd = tunnel().open(&DRAGONFLY);
        fd.world.sleep_ns(1_500_123_456);
        let len = packet.len() as u64;
        let mut bytes = fields(&[(8, 1_700_000_001), (8, 500_123), (4, len), (4, len), (2, hdrlen as u64)]);
        bytes.resize(hdrlen, 0);
        bytes.extend_from_slice(&packet);
        assert_eq!(record(&fd, interface, &packet), bytes, "{interface}");
    }
}
