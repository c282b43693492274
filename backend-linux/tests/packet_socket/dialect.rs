//! What a descriptor of one system or another asks of a tap.

use bpfdev_backend_linux::PacketSockets;
use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_core::abi::{self, Abi};
use bpfdev_core::backend::{Direction, FilterBackend, Network, TapConfig, TapError};
use bpfdev_core::cbpf::{Insn, code};
use bpfdev_core::packet::Way;

use crate::support::*;

const PLANS: [PlanChoice; 3] = [PlanChoice::Ebpf, PlanChoice::Cbpf, PlanChoice::Process];

fn abi(name: &str) -> &'static Abi {
    Abi::by_name(name).unwrap()
}

/// semantics.md 7, bs_recv of OpenBSD: before the direction test.
#[test]
fn what_the_direction_hides_is_handed_on_or_counted_where_it_counts() {
    for plan in PLANS {
        let ns = pair();
        let wanted = TapConfig {
            direction: Direction::In,
            filter: Some(only(ETHERTYPE, 60)),
            ..abi("openbsd").tap_config(4096)
        };
        let mut v0 = tap_with(&ns, "v0", &wanted, with_plan(plan)).unwrap();
        let v1 = tap(&ns, "v1");
        for _ in 0..3 {
            send(&v0, &frame(ETHERTYPE, 1, 60)).unwrap();
        }
        send(&v1, &frame(ETHERTYPE, 2, 60)).unwrap();
        let mut kept = Vec::new();
        eventually("all four are handed on or counted", || {
            kept.extend(drain(&mut v0));
            kept.len() as u64 + v0.stats().unwrap().rejected >= 4
        });
        let received = kept.iter().filter(|packet| packet.way == Way::In).count();
        assert_eq!(received, 1, "{plan:?}");
        if plan == PlanChoice::Ebpf {
            assert_eq!(kept.len(), 1, "the program rejects what is hidden, and counts it");
        }
        assert_eq!(kept.len() as u64 + v0.stats().unwrap().rejected, 4, "{plan:?}");
    }
}

#[test]
fn with_no_direction_wanted_a_program_rejects_all_and_counts_none() {
    let ns = pair();
    let wanted = TapConfig { direction: Direction::None, filter: Some(only(ETHERTYPE, 60)), ..config() };
    let mut v0 = tap_with(&ns, "v0", &wanted, with_plan(PlanChoice::Ebpf)).unwrap();
    let v1 = tap(&ns, "v1");
    send(&v0, &frame(ETHERTYPE, 1, 60)).unwrap();
    send(&v1, &frame(ETHERTYPE, 2, 60)).unwrap();
    v0.set_direction(Direction::InOut).unwrap();
    send(&v1, &frame(ETHERTYPE, 3, 60)).unwrap();
    assert_eq!(collect(&mut v0, 1)[0].data[15], 3);
    assert_eq!(v0.stats().unwrap().received, Some(1));
}

/// semantics.md 17: the family word before a packet of lo, and the number of AF_INET6; section 6: as it is written.
#[test]
fn loopback_frames_have_each_systems_family_word() {
    let packet = |version: u8| {
        let mut packet = vec![0; 40];
        packet[0] = version << 4 | 5;
        packet
    };
    let words: [(&str, [u8; 4], [u8; 4]); 6] = [
        ("freebsd", 2u32.to_ne_bytes(), 28u32.to_ne_bytes()),
        ("dragonfly", 2u32.to_ne_bytes(), 28u32.to_ne_bytes()),
        ("netbsd", 2u32.to_ne_bytes(), 24u32.to_ne_bytes()),
        ("openbsd", [0, 0, 0, 2], [0, 0, 0, 24]),
        ("macos", 2u32.to_ne_bytes(), 30u32.to_ne_bytes()),
        ("linux", 2u32.to_ne_bytes(), 10u32.to_ne_bytes()),
    ];
    for (name, ip, ipv6) in words {
        for plan in PLANS {
            let ns = pair();
            // the first octet behind the word says the version: the filter sees the word too
            let filter = program(&[
                Insn::stmt(code::LD_W_ABS, 0),
                Insn::jump(code::JEQ_K, u32::from_be_bytes(ipv6), 0, 1),
                Insn::stmt(code::RET_K, 60),
                Insn::stmt(code::RET_K, 0),
            ]);
            let all = abi(name).tap_config(4096);
            let mut lo = tap_with(&ns, "lo", &all, with_plan(plan)).unwrap();
            let mut six =
                tap_with(&ns, "lo", &TapConfig { filter: Some(filter), ..all }, with_plan(plan)).unwrap();
            let (four_frame, six_frame) = ([&ip[..], &packet(4)].concat(), [&ipv6[..], &packet(6)].concat());
            send(&lo, &four_frame).unwrap();
            send(&lo, &six_frame).unwrap();
            let seen: Vec<_> = collect(&mut lo, 2).into_iter().map(|kept| kept.data).collect();
            assert_eq!(seen, [four_frame, six_frame.clone()], "{name}");
            let judged = |tap: &mut _| -> Vec<Kept> {
                let kept: Vec<Kept> = drain(tap);
                kept.into_iter().filter(|kept| kept.verdict.is_some() || kept.data[..4] == ipv6).collect()
            };
            let mut only_six = Vec::new();
            eventually("the filter lets one pass", || {
                only_six.extend(judged(&mut six));
                !only_six.is_empty()
            });
            assert_eq!(only_six[0].data, six_frame, "{name} {plan:?}");
            let other = [&99u32.to_ne_bytes()[..], &packet(4)].concat();
            assert!(matches!(send(&lo, &other), Err(TapError::Family)), "{name}");
        }
    }
    assert_eq!(abi::ALL.len(), 7, "netbsd7 is as netbsd");
}

/// BIOCGIFATTACHCOUNT of macOS.
#[test]
fn the_taps_on_an_interface_are_counted() {
    let ns = pair();
    let network = PacketSockets::default();
    let count = |name: &str| ns.enter(|| network.attached(name)).unwrap();
    assert_eq!(count("v0").unwrap(), 0);
    let first = tap(&ns, "v0");
    let second = tap(&ns, "v0");
    let _other = tap(&ns, "v1");
    assert_eq!((count("v0").unwrap(), count("v1").unwrap()), (2, 1));
    drop(first);
    assert_eq!(count("v0").unwrap(), 1);
    drop(second);
    assert_eq!(count("v0").unwrap(), 0);
    assert!(matches!(count("v9"), Err(TapError::NoSuchInterface(name)) if name == "v9"));
    // the same index in another namespace is another interface
    let there = pair();
    let _mine = tap(&ns, "v0");
    assert_eq!(there.enter(|| network.attached("v0")).unwrap().unwrap(), 0);
}
