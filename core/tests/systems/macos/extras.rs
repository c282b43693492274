//! semantics.md 18, and the requests abi.json marks private.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;

use crate::checks::tunnel;
use crate::support::*;

#[test]
fn switches_are_given_back_as_0_or_1() {
    // BIOCSWANTPKTAP, BIOCSHEADDROP, BIOCSPKTHDRV2, BIOCSNOTSTAMP and what asks for them
    for (name, set, get) in [
        ("want-pktap", 0xc004_427f, 0x4004_427f),
        ("head-drop", 0x8004_4280, 0x4004_4280),
        ("no-timestamp", 0x8004_4291, 0x4004_4290),
    ] {
        let fd = Fd::new(&MACOS);
        assert_eq!(fd.number(get, &[]), Ok(word(0).to_vec()), "{name}: off at first");
        for value in [1, 0, 5, 0] {
            fd.number(set, &word(value)).unwrap();
            assert_eq!(fd.number(get, &[]), Ok(word(u32::from(value != 0)).to_vec()), "{name}: {value}");
        }
    }
    let fd = Fd::new(&MACOS);
    for set in [0x8004_4284, 0x8004_4281, 0x8004_427c] {
        fd.number(set, &word(1)).unwrap();
    }
    // abi.json: BIOCGPKTHDRV2 is declared IN by mistake: nothing comes back
    assert_eq!(fd.number(0x8004_4285, &word(9)), Ok(vec![]));
}

#[test]
fn each_descriptor_has_a_uuid_of_its_own() {
    let world = World::new();
    let uuids: Vec<Vec<u8>> =
        (0..4).map(|_| world.open(&MACOS)).map(|fd| fd.number(0x4010_4282, &[]).unwrap()).collect();
    for (n, uuid) in uuids.iter().enumerate() {
        assert_eq!(uuid.len(), 16);
        assert_ne!(uuid[..], [0; 16]);
        assert!(!uuids[..n].contains(uuid), "{uuid:?} twice");
    }
    let fd = world.on(&MACOS, "em0");
    assert_eq!(fd.number(0x4010_4282, &[]), fd.number(0x4010_4282, &[]), "and keeps it");
}

#[test]
fn attached_descriptors_are_counted_by_interface_name() {
    let world = tunnel();
    let asker = world.open(&MACOS);
    let count = |name: &str| {
        let mut arg = [0; 32];
        arg[..name.len()].copy_from_slice(name.as_bytes());
        let back = asker.number(0xc020_427d, &arg)?;
        assert_eq!((&back[..16], back.len()), (&arg[..16], 32), "the name stays");
        Ok(u32::from_ne_bytes(back[16..20].try_into().unwrap()))
    };
    assert_eq!(count("em0"), Ok(0));
    let (one, two) = (world.on(&MACOS, "em0"), world.on(&MACOS, "em0"));
    let elsewhere = world.on(&MACOS, "lo0");
    assert_eq!((count("em0"), count("lo0"), count("em1")), (Ok(2), Ok(1), Ok(0)));
    drop(one);
    two.ok(set_if("em1"));
    drop(elsewhere);
    assert_eq!((count("em0"), count("lo0"), count("em1")), (Ok(0), Ok(0), Ok(1)));
    assert_eq!(count("em9"), Err(Errno::NxIo));
}

#[test]
fn batch_write_needs_a_complete_header_and_is_refused() {
    let fd = Fd::new(&MACOS);
    assert_eq!(fd.number(0x4004_428e, &[]), Ok(word(0).to_vec()));
    assert_eq!(fd.number(0x8004_428f, &word(1)), Err(Errno::Inval), "header-complete is off");
    fd.ok(Request::SHdrCmplt(1));
    assert_eq!(fd.number(0x8004_428f, &word(1)), Err(Errno::OpNotSupp), "DIFFERENCES.md");
    fd.number(0x8004_427b, &word(100)).unwrap();
    assert_eq!(fd.number(0x8004_428f, &word(1)), Err(Errno::Inval), "a traffic class is set");
    fd.number(0x8004_428f, &word(0)).unwrap();
    assert_eq!(fd.number(0x4004_428e, &[]), Ok(word(0).to_vec()));
}

#[test]
fn diverting_input_is_refused() {
    let fd = Fd::new(&MACOS);
    for value in [0, 1] {
        assert_eq!(fd.number(0x8004_4292, &word(value)), Err(Errno::NxIo), "no interface");
    }
    fd.ok(set_if("em0"));
    assert_eq!(fd.number(0x8004_4292, &word(0)), Err(Errno::Inval), "there is no way back");
    assert_eq!(fd.number(0x8004_4292, &word(1)), Err(Errno::OpNotSupp), "DIFFERENCES.md");
    assert_eq!(fd.number(0x4004_4292, &[]), Ok(word(0).to_vec()));
}

#[test]
fn setup_by_uuid_is_refused() {
    let fd = Fd::new(&MACOS);
    let mut arg = fd.number(0x4010_4282, &[]).unwrap();
    arg.extend_from_slice(b"em0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(fd.number(0x8020_4283, &arg), Err(Errno::OpNotSupp), "DIFFERENCES.md");
}

#[test]
fn header_compression_can_be_asked_for_before_attaching_and_is_never_on() {
    let fd = Fd::new(&MACOS);
    assert_eq!(fd.number(0x4004_4286, &[]), Ok(word(0).to_vec()));
    assert_eq!(fd.number(0x8004_4287, &word(2)), Err(Errno::Inval));
    fd.number(0x8004_4287, &word(1)).unwrap();
    assert_eq!(fd.number(0x4004_4286, &[]), Ok(word(1).to_vec()));
    fd.ok(set_if("em0"));
    assert_eq!(fd.number(0x8004_4287, &word(0)), Err(Errno::Inval), "18: before attach");
    assert_eq!(fd.number(0x4004_4289, &[]), Ok(word(0).to_vec()), "BIOCGHDRCOMPON");
    assert_eq!(fd.number(0x4038_4288, &[]), Ok(vec![0; 56]), "BIOCGHDRCOMPSTATS");
    for _ in 0..2 {
        fd.rx(60);
    }
    assert_eq!(fd.read_len(), Ok(80 + 78), "records are whole, and so are their headers");
}

#[test]
fn a_traffic_class_is_one_of_so_tc() {
    let fd = Fd::new(&MACOS);
    assert_eq!(fd.number(0x4004_427a, &[]), Ok(word(0).to_vec()));
    // SO_TC_BK_SYS 100 … SO_TC_CTL 900, SO_TC_NETSVC_SIG among them; 0 is BE
    for class in [100, 200, 300, 400, 500, 600, 700, 800, 900, 0] {
        fd.number(0x8004_427b, &word(class)).unwrap();
        assert_eq!(fd.number(0x4004_427a, &[]), Ok(word(class).to_vec()));
    }
    for class in [1, 99, 1000, u32::MAX] {
        assert_eq!(fd.number(0x8004_427b, &word(class)), Err(Errno::Inval), "{class}");
    }
}
