//! Where a dialect's table is another's with changes: what has changed.

use bpfdev_core::abi::rules::{LoopbackWrite, Nodes, TimevalCheck};
use bpfdev_core::abi::{self, Abi, Dir, Encoding, Request};
use bpfdev_core::descriptor::{Caller, Descriptor, Opened, PendingRead};
use bpfdev_core::errno::Errno;

use super::arguments::calls;
use super::world::interface;

fn of(name: &str) -> &'static Abi {
    abi::TABLES.into_iter().find(|abi| abi.name == name).expect("a table")
}

#[test]
fn netbsd7_has_neither_lock_nor_write_filter() {
    // abi.json, netbsd: BIOCLOCK 126 and BIOCSETWF 127 (16 bytes, or 8); the recordings are of a kernel without them
    for number in [0x2000_427e, 0x8010_427f, 0x8008_427f] {
        assert!(of("netbsd").decode(number).is_some(), "{number:#x} of NetBSD 10");
        assert!(of("netbsd7").decode(number).is_none(), "{number:#x} of 7.99.34");
    }
    // BIOCSFEEDBACK 125, FIONREAD, and the file layer's
    for number in [0x8004_427d, 0x4004_667f, 0x4004_7477] {
        assert!(of("netbsd7").decode(number).is_some(), "{number:#x} of 7.99.34");
    }
}

#[test]
fn netbsd7_is_older_than_netbsd() {
    let (old, new) = (of("netbsd7").rules, of("netbsd").rules);
    // semantics.md 3, BIOCSRTIMEOUT: "2016 code: no check"; both count ticks of 10 ms
    assert_eq!((old.timeout.check, new.timeout.check), (TimevalCheck::None, TimevalCheck::Clamp));
    assert_eq!(old.timeout.tick, new.timeout.tick);
    // semantics.md 3, BIOCSBLEN: "also whenever buffers exist" is -current's
    assert_eq!((old.buffers_fix_bufsize, new.buffers_fix_bufsize), (false, true));
    // semantics.md 6: the family word is taken since 2018
    assert_eq!(
        (old.write.loopback, new.write.loopback),
        (LoopbackWrite::Refused, LoopbackWrite::Family),
        "what a write to lo0 means"
    );
    assert_eq!(old.write.linktypes, new.write.linktypes);
}

#[test]
fn linux_takes_an_ifreq_of_any_size_that_holds_a_name() {
    // DIFFERENCES.md; the numbers are _IOR('B', 107, size) and _IOW('B', 108, size)
    for (number, known) in [
        (0x8028_426b, true),
        (0x8020_426b, true),
        (0x8010_426b, true),
        (0x800f_426b, false),
        (0x4028_426c, true),
        (0x4010_426c, true),
        (0x400f_426c, false),
    ] {
        assert_eq!(of("linux").decode(number).is_some(), known, "{number:#x}");
    }
}

#[test]
fn illumos_is_a_table_and_no_device() {
    assert!(Abi::by_name("illumos").is_none());
    assert_eq!(of("illumos").rules.nodes, Nodes::None);
    for abi in abi::ALL {
        assert_ne!(abi.rules.nodes, Nodes::None, "{}", abi.name);
    }
    // abi.json, "device"
    assert_eq!(of("macos").rules.nodes, Nodes::OneOpenerEach { at_first: 4, most: 256 });
    assert_eq!(of("dragonfly").rules.nodes, Nodes::CloningAndFixed { fixed: 4 });
    assert_eq!(of("freebsd").rules.nodes, Nodes::Cloning { numbered: 1 });
    assert_eq!(of("openbsd").rules.nodes, Nodes::Cloning { numbered: 1 });
}

#[test]
fn a_request_of_one_number_tells_it() {
    let arg: Vec<u8> = 0x8000_0007_u32.to_ne_bytes().to_vec();
    for (system, _, call) in calls() {
        let name = call.row.name;
        let one_number = call.arg_in() == 4 && matches!(call.row.dir, Dir::In | Dir::InOut);
        // of these the argument is a question's, or is not looked at
        let asks = name == "BIOCGPKTHDRV2";
        let Ok(request) = call.parse(&arg, &mut abi::arg::NoMemory) else { continue };
        let right = (one_number && !asks).then_some(0x8000_0007);
        assert_eq!(request.value(), right, "{system}: {name}");
    }
}

/// EINVAL, but where it says otherwise.
#[test]
fn numbers_outside_their_range_are_refused() {
    // semantics.md 11 and 13 to 15, abi.json; NSIG is Linux's (DIFFERENCES.md)
    let ranges: [(&str, &str, &[u32], &[u32]); 15] = [
        ("freebsd", "BIOCSDIRECTION", &[0, 1, 2], &[3, 4, u32::MAX]),
        ("linux", "BIOCSDIRECTION", &[0, 1, 2], &[3, 4, u32::MAX]),
        ("netbsd", "BIOCSDIRECTION", &[0, 1, 2], &[3, 4, u32::MAX]),
        ("netbsd7", "BIOCSDIRECTION", &[0, 1, 2, 3, u32::MAX], &[]),
        ("dragonfly", "BIOCSSEESENT", &[0, 1, 2, u32::MAX], &[]),
        ("macos", "BIOCSDIRECTION", &[0, 1, 2, 3], &[4, 5, u32::MAX]),
        ("macos", "BIOCSSEESENT", &[0, 1, 2, u32::MAX], &[]),
        ("openbsd", "BIOCSDIRFILT", &[0, 1, 2, 3, 4, u32::MAX], &[]),
        ("freebsd", "BIOCSRSIG", &[0, 1, 64], &[65, 128, u32::MAX]),
        ("freebsd", "BIOCSTSTAMP", &[0, 1, 2, 3, 0x100, 0x201, 0x302], &[4, 0x103, 0x203, 0x400, u32::MAX]),
        ("freebsd", "BIOCSETBUFMODE", &[1], &[0, 2, 3]),
        ("freebsd", "BIOCSETVLANPCP", &[0, 7], &[8, u32::MAX]),
        // SO_TC_BK_SYS to SO_TC_CTL of xnu's sys/socket.h, and SO_TC_NETSVC_SIG
        (
            "macos",
            "BIOCSETTC",
            &[0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 10_002],
            &[1, 99, 101, 1000, 10_001, 10_003, u32::MAX],
        ),
        // BPF_WRITE_MAX: 16 MiB
        ("macos", "BIOCSWRITEMAX", &[0, 1, 1500, 16 << 20], &[(16 << 20) + 1, u32::MAX]),
        ("macos", "BIOCSHDRCOMP", &[0, 1], &[2, u32::MAX]),
    ];
    for (system, name, taken, refused) in ranges {
        let row = of(system).requests.iter().find(|row| row.name == name).expect("a row");
        let number = Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size());
        let call = of(system).decode(number).expect("a row decodes");
        let answer = |word: u32| {
            let request = call.parse(&word.to_ne_bytes(), &mut abi::arg::NoMemory).expect("four bytes");
            Descriptor::new(of(system), Opened::default()).ioctl(request, Caller::default()).map(drop)
        };
        for word in taken {
            assert_eq!(answer(*word), Ok(()), "{system}: {name} {word:#x}");
        }
        for word in refused {
            assert_eq!(answer(*word), Err(Errno::Inval), "{system}: {name} {word:#x}");
        }
    }
}

#[test]
fn an_interface_without_a_link_address_has_none_to_tell() {
    // abi.json: SIOCGIFADDR, which DragonFly and macOS pass on to the driver
    for system in ["dragonfly", "macos"] {
        for (which, told) in [(0, true), (1, false), (2, false)] {
            let mut descriptor = Descriptor::new(of(system), Opened::default());
            descriptor.attach(interface(of(system), which), false);
            let answer = descriptor.ioctl(Request::GIfAddr, Caller::default());
            assert_eq!(answer.is_ok(), told, "{system}: {answer:?}");
        }
    }
}

#[test]
fn a_read_knows_how_much_was_asked_for() {
    for (len, empty) in [(0, true), (1, false), (4096, false)] {
        let read = PendingRead::new(len, false);
        assert_eq!((read.len(), read.is_empty()), (len, empty));
    }
}
