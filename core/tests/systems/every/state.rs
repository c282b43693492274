//! semantics.md 2 and 3.

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};
use bpfdev_core::linktype::Linktype;

use crate::support::*;

#[test]
fn a_fresh_descriptor_has_the_common_defaults() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        // 2: read timeout 0, header-complete 0; abi.json: BIOCVERSION is 1.1
        assert_eq!(fd.ok(Request::GRTimeout), timeval(0, 0), "{}", abi.name);
        assert_eq!(fd.ok(Request::GHdrCmplt), Response::U32(0), "{}", abi.name);
        assert_eq!(fd.ok(Request::Version), Response::Version { major: 1, minor: 1 }, "{}", abi.name);
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
        fd.ok(set_if("em0"));
        assert!(!fd.world.network.is_promiscuous("em0"), "{}: not promiscuous", abi.name);
        assert_eq!(
            fd.ok(Request::GBlen),
            Fd::new(abi).ok(Request::GBlen),
            "{}: attaching keeps it",
            abi.name
        );
        // 2: no filters (accept all), direction both, immediate off
        fd.rx(60);
        fd.write(&frame(60)).unwrap();
        assert_eq!(fd.stats(), (2, 0), "{}: sent and received", abi.name);
        assert!(!fd.readable(), "{}: immediate is off", abi.name);
        fd.ok(Request::SHdrCmplt(1));
        fd.ok(Request::SDlt(1));
    }
}

#[test]
fn without_an_interface_these_are_einval() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        for request in [
            Request::Promisc,
            Request::GDlt,
            Request::GDltList(None),
            Request::GDltList(Some(4)),
            Request::SDlt(1),
            Request::GetIf,
        ] {
            assert_eq!(fd.refused(request.clone()), Errno::Inval, "{}: {request:?}", abi.name);
        }
    }
}

#[test]
fn without_an_interface_a_write_is_enxio_whatever_its_length() {
    for abi in EVERY {
        for len in [0, 1, 60, 5000] {
            assert_eq!(Fd::new(abi).write(&frame(len)), Err(Errno::NxIo), "{}: {len}", abi.name);
        }
    }
}

#[test]
fn requests_that_need_no_interface_work_before_it() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        for request in [
            Request::Flush,
            Request::SRTimeout { sec: 1, usec: 0 },
            Request::Immediate(1),
            Request::Immediate(0),
            Request::SHdrCmplt(1),
            Request::SetF(ret(u32::MAX)),
        ] {
            fd.ok(request);
        }
        // 2, 3: what was chosen before BIOCSETIF holds after it
        fd.ok(set_if("em0"));
        assert_eq!(fd.ok(Request::GRTimeout), timeval(1, 0), "{}", abi.name);
        assert_eq!(fd.ok(Request::GHdrCmplt), Response::U32(1), "{}", abi.name);
    }
}

#[test]
fn buffer_size_is_at_least_32_and_fixed_once_attached() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        for (asked, given) in [(0, 32), (1, 32), (31, 32), (32, 32), (33, 33), (4097, 4097), (65_535, 65_535)]
        {
            assert_eq!(fd.ok(Request::SBlen(asked)), Response::U32(given), "{}: {asked}", abi.name);
            assert_eq!(fd.ok(Request::GBlen), Response::U32(given), "{}: {asked}", abi.name);
            // 0xc0044266: the size that was given is written back
            let back = fd.number(0xc004_4266, &word(asked));
            assert_eq!(back, Ok(word(given).to_vec()), "{}: {asked}", abi.name);
        }
        fd.ok(set_if("em0"));
        for size in [4096, 65_535] {
            assert_eq!(fd.refused(Request::SBlen(size)), Errno::Inval, "{}: attached", abi.name);
        }
        assert_eq!(fd.ok(Request::GBlen), Response::U32(65_535), "{}: as it was", abi.name);
    }
}

#[test]
fn an_unknown_interface_is_enxio_and_changes_nothing() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        for name in ["em9", "", "em00", "em0em0em0em0em0"] {
            assert_eq!(fd.refused(set_if(name)), Errno::NxIo, "{}: {name:?}", abi.name);
        }
        assert_eq!(fd.refused(Request::GetIf), Errno::Inval, "{}: still none", abi.name);
        fd.ok(set_if("em0"));
        fd.ok(Request::Promisc);
        fd.rx(60);
        let buffered = fd.fionread();
        assert_eq!(fd.refused(set_if("em9")), Errno::NxIo, "{}", abi.name);
        assert_eq!(fd.refused(Request::SetIf(vec![0xff, b'0'])), Errno::NxIo, "{}: no text", abi.name);
        assert_eq!(fd.ok(Request::GetIf), Response::Name("em0".into()), "{}", abi.name);
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), buffered), "{}: nothing is reset", abi.name);
        assert!(fd.world.network.is_promiscuous("em0"), "{}", abi.name);
    }
}

#[test]
fn the_same_interface_again_resets_buffers_and_counters() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Promisc);
        fd.rx(60);
        fd.ok(set_if("em0"));
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
        assert!(fd.world.network.is_promiscuous("em0"), "{}: it was not detached", abi.name);
        fd.rx(60);
        assert_eq!(fd.stats(), (1, 0), "{}: still attached, once", abi.name);
    }
}

#[test]
fn another_interface_detaches_resets_and_drops_promiscuity() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Promisc);
        fd.rx(60);
        fd.ok(set_if("em1"));
        assert_eq!(fd.ok(Request::GetIf), Response::Name("em1".into()), "{}", abi.name);
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
        for name in ["em0", "em1"] {
            assert!(!fd.world.network.is_promiscuous(name), "{}: {name}", abi.name);
        }
        fd.rx(60);
        assert_eq!(fd.stats(), (0, 0), "{}: em0's packets are not seen any more", abi.name);
        // what was chosen for em0 and is not its own goes on
        fd.ok(Request::Promisc);
        assert!(fd.world.network.is_promiscuous("em1"), "{}", abi.name);
    }
}

#[test]
fn options_survive_a_change_of_interface() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::SRTimeout { sec: 3, usec: 0 });
        fd.ok(Request::SHdrCmplt(1));
        fd.ok(Request::SetF(tagged(7)));
        fd.ok(set_if("em1"));
        assert_eq!(fd.ok(Request::GRTimeout), timeval(3, 0), "{}", abi.name);
        assert_eq!(fd.ok(Request::GHdrCmplt), Response::U32(1), "{}", abi.name);
        for byte in [1, 7] {
            assert!(fd.world.network.receive("em1", &tagged_frame(byte)), "em1 is up");
        }
        assert_eq!(fd.stats(), (2, 0), "{}", abi.name);
        let record = fd.read().unwrap();
        assert_eq!(record[record.len() - 60..][14], 7, "{}: the filter stays", abi.name);
    }
}

#[test]
fn an_interface_that_is_down_can_be_attached() {
    for abi in EVERY {
        let world = World::new();
        world.network.set_up("em0", false);
        let fd = world.on(abi, "em0");
        assert_eq!(fd.ok(Request::GDlt), Response::U32(1), "{}: DLT_EN10MB", abi.name);
        world.network.set_up("em0", true);
        fd.rx(60);
        assert_eq!(fd.stats(), (1, 0), "{}", abi.name);
    }
}

#[test]
fn a_name_ends_with_its_fifteenth_byte() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        fd.world.network.add_ethernet("em1234567890123", MAC, 3);
        let size: usize = if abi.name.starts_with("netbsd") { 144 } else { 32 };
        let (set, get) = if size == 144 { (0x8090_426c, 0x4090_426b) } else { (0x8020_426c, 0x4020_426b) };
        let mut arg = vec![b'x'; size];
        arg[..15].copy_from_slice(b"em1234567890123");
        fd.number(set, &arg).unwrap_or_else(|errno| panic!("{}: {errno}", abi.name));
        let mut back = vec![0; size];
        back[..15].copy_from_slice(b"em1234567890123");
        assert_eq!(fd.number(get, &[]), Ok(back), "{}: the name, and zeros", abi.name);
    }
}

#[test]
fn the_same_link_type_again_resets_nothing() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.rx(60);
        let buffered = fd.fionread();
        fd.ok(Request::SDlt(1));
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), buffered), "{}", abi.name);
    }
}

#[test]
fn an_unknown_link_type_is_einval_and_changes_nothing() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.rx(60);
        for dlt in [2, 105, 9999, u32::MAX] {
            assert_eq!(fd.refused(Request::SDlt(dlt)), Errno::Inval, "{}: {dlt}", abi.name);
        }
        assert_eq!((fd.stats(), fd.ok(Request::GDlt)), ((1, 0), Response::U32(1)), "{}", abi.name);
    }
}

#[test]
fn another_link_type_resets() {
    for abi in EVERY {
        let world = World::new();
        // 802.11 is 105 everywhere
        world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
        let fd = world.on(abi, "em0");
        fd.rx(60);
        fd.ok(Request::SDlt(105));
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
        assert_eq!(fd.ok(Request::GDlt), Response::U32(105), "{}", abi.name);
        fd.rx(60);
        assert_eq!(fd.stats(), (1, 0), "{}: attached again", abi.name);
        fd.ok(Request::SDlt(1));
        assert_eq!((fd.stats(), fd.ok(Request::GDlt)), ((0, 0), Response::U32(1)), "{}: and back", abi.name);
    }
}

#[test]
fn link_types_are_listed_and_counted() {
    for abi in EVERY {
        let world = World::new();
        world.linktypes("em0", &[Linktype::EN10MB, Linktype::IEEE802_11]);
        let fd = world.on(abi, "em0");
        let count = |count| Response::DltList { count: Some(count), list: Vec::new(), error: None };
        assert_eq!(fd.ok(Request::GDltList(None)), count(2), "{}: NULL list: count only", abi.name);
        for room in [2, 3, 1000, u32::MAX] {
            let all = Response::DltList { count: Some(2), list: vec![1, 105], error: None };
            assert_eq!(fd.ok(Request::GDltList(Some(room))), all, "{}: room for {room}", abi.name);
        }
    }
}

#[test]
fn an_unknown_request_is_einval() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        // no group B; numbers without meaning; another size; another direction; a terminal's TCGETS
        for number in [0x2000_5868, 0x2000_42c8, 0x8002_4270, 0xc004_4270, 0x5401, 0, u32::MAX] {
            assert_eq!(fd.number(number, &[0; 256]), Err(Errno::Inval), "{}: {number:#x}", abi.name);
        }
    }
}

#[test]
fn the_files_own_access_comes_first() {
    for abi in EVERY {
        let world = World::new();
        // 1: O_RDONLY then write, and the reverse: EBADF
        let reader = world.open_for(abi, Access::Read);
        assert_eq!(reader.write(&frame(60)), Err(Errno::BadF), "{}: unattached", abi.name);
        reader.ok(set_if("em0"));
        assert_eq!(reader.write(&frame(60)), Err(Errno::BadF), "{}", abi.name);
        reader.rx(60);
        assert_eq!(reader.stats(), (1, 0), "{}", abi.name);
        let writer = world.open_for(abi, Access::Write);
        assert_eq!(writer.file.read(&mut [0; 10]), Err(Errno::BadF), "{}: any length", abi.name);
        writer.ok(set_if("em0"));
        assert_eq!(writer.write(&frame(60)), Ok(60), "{}", abi.name);
    }
}

#[test]
fn each_open_has_its_own_state() {
    for abi in EVERY {
        let world = World::new();
        let (one, two) = (world.on(abi, "em0"), world.open(abi));
        two.ok(Request::SBlen(100));
        one.ok(Request::SHdrCmplt(1));
        assert_eq!(two.ok(Request::GHdrCmplt), Response::U32(0), "{}", abi.name);
        assert_eq!(two.refused(Request::GetIf), Errno::Inval, "{}", abi.name);
        assert_ne!(one.ok(Request::GBlen), Response::U32(100), "{}", abi.name);
    }
}

#[test]
fn flags_are_kept_as_0_or_1() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        for (value, kept) in [(1, 1), (7, 1), (0, 0), (0x100, 1), (u32::MAX, 1)] {
            fd.ok(Request::SHdrCmplt(value));
            // abi.json: BIOCSHDRCMPLT is stored as 0/1
            assert_eq!(fd.ok(Request::GHdrCmplt), Response::U32(kept), "{}: {value:#x}", abi.name);
        }
    }
}

#[test]
fn after_a_removal_another_interface_can_be_attached() {
    // 4: OpenBSD revokes the file
    for abi in EVERY.into_iter().filter(|abi| abi.name != "openbsd") {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Promisc);
        fd.rx(60);
        fd.world.network.remove("em0");
        assert_eq!(fd.stats(), (1, 0), "{}: counters stay", abi.name);
        assert_eq!(fd.refused(Request::Promisc), Errno::Inval, "{}", abi.name);
        assert_eq!(fd.refused(set_if("em0")), Errno::NxIo, "{}: it is not there", abi.name);
        fd.ok(set_if("em1"));
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
        assert!(!fd.world.network.is_promiscuous("em1"), "{}", abi.name);
        assert!(fd.world.network.receive("em1", &frame(60)));
        assert_eq!(fd.stats(), (1, 0), "{}", abi.name);
    }
}
