//! Where a dialect's table is another's with changes: what has changed.

use bpfdev_core::abi::rules::{LoopbackWrite, Nodes, TimevalCheck};
use bpfdev_core::abi::{self, Abi, Dir};

use super::arguments::calls;

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
