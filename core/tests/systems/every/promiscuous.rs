//! semantics.md 12.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;

use crate::support::*;

#[test]
fn foreign_frames_are_seen_in_promiscuous_mode_only() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.world.rx_frame(&frame_to(OTHER, 60));
        assert_eq!(fd.stats(), (0, 0), "{}", abi.name);
        fd.ok(Request::Promisc);
        fd.world.rx_frame(&frame_to(OTHER, 60));
        assert_eq!(fd.stats(), (1, 0), "{}", abi.name);
        fd.world.rx_frame(&frame_to(MAC, 60));
        assert_eq!(fd.stats(), (2, 0), "{}: and its own", abi.name);
    }
}

#[test]
fn other_descriptors_on_the_interface_see_them_too() {
    for abi in EVERY {
        let world = World::new();
        let (one, two) = (world.on(abi, "em0"), world.on(abi, "em0"));
        let elsewhere = world.on(abi, "em1");
        one.ok(Request::Promisc);
        world.rx_frame(&frame_to(OTHER, 60));
        assert_eq!((two.stats(), elsewhere.stats()), ((1, 0), (0, 0)), "{}", abi.name);
    }
}

#[test]
fn it_is_counted_once_a_descriptor_and_given_back_on_close() {
    for abi in EVERY {
        let world = World::new();
        let (one, two) = (world.on(abi, "em0"), world.on(abi, "em0"));
        one.ok(Request::Promisc);
        one.ok(Request::Promisc);
        two.ok(Request::Promisc);
        drop(one);
        assert!(world.network.is_promiscuous("em0"), "{}: the other's count", abi.name);
        drop(two);
        assert!(!world.network.is_promiscuous("em0"), "{}", abi.name);
    }
}

#[test]
fn it_is_given_back_with_another_interface() {
    for abi in EVERY {
        let world = World::new();
        let (one, two) = (world.on(abi, "em0"), world.on(abi, "em0"));
        one.ok(Request::Promisc);
        two.ok(Request::Promisc);
        one.ok(set_if("em1"));
        assert!(world.network.is_promiscuous("em0"), "{}: the other's count", abi.name);
        two.ok(set_if("lo0"));
        assert!(!world.network.is_promiscuous("em0"), "{}", abi.name);
        assert!(!world.network.is_promiscuous("em1"), "{}", abi.name);
    }
}

#[test]
fn an_error_of_the_interface_is_passed_on() {
    for abi in EVERY {
        let world = World::new();
        world.promiscuous_fails("em0", 100);
        let fd = world.on(abi, "em0");
        for _ in 0..2 {
            assert_eq!(fd.refused(Request::Promisc), Errno::NetDown, "{}: ENETDOWN", abi.name);
        }
        world.rx_frame(&frame_to(OTHER, 60));
        assert_eq!(fd.stats(), (0, 0), "{}: and it is not on", abi.name);
    }
}

#[test]
fn an_interface_that_is_down_can_be_promiscuous() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.world.network.set_up("em0", false);
        fd.ok(Request::Promisc);
        fd.world.network.set_up("em0", true);
        fd.world.rx_frame(&frame_to(OTHER, 60));
        assert_eq!(fd.stats(), (1, 0), "{}", abi.name);
    }
}
