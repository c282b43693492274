//! Random programs, translated, in the real kernel's verifier and run by BPF_PROG_TEST_RUN, against the interpreter.
//! Needs CAP_BPF and CAP_NET_ADMIN.
#![allow(clippy::unwrap_used, missing_docs)]

mod ebpf;
mod must;

use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn, Rules, rules, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::Lcg;
use bpfdev_core::random::filter::{frame, program, stripped_tag};
use ebpf::Loaded;
use must::must_list;

static SYSTEMS: [&Rules; 6] =
    [&rules::LINUX_ABI, &rules::FREEBSD, &rules::NETBSD, &rules::OPENBSD, &rules::DRAGONFLY, &rules::MACOS];

const NULL: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };
const LOOP: LoopbackFraming = LoopbackFraming { linktype: Linktype::LOOP, network_order: true, af_inet6: 24 };

/// Crowds the lengths round the tag.
fn length(rng: &mut Lcg, least: u32) -> usize {
    (least + if rng.once_in(3) { rng.below(8) } else { rng.below(70) }) as usize
}

#[test]
fn on_ethernet_with_and_without_a_stripped_tag() {
    let mut rng = Lcg(31);
    let (mut accepted, mut tagged, mut runs) = (0, 0, 0);
    for number in 0..2_400_usize {
        let program =
            program(&mut rng, SYSTEMS[number % SYSTEMS.len()], if number % 40 == 0 { 480 } else { 20 });
        let loaded = Loaded::new(&program, LinkKind::Ethernet);
        for _ in 0..24 {
            let len = length(&mut rng, 14);
            let frame = frame(&mut rng, len);
            for tag in [None, stripped_tag(&frame)] {
                accepted += u32::from(loaded.check_ethernet(&program, &frame, tag) != 0);
                tagged += u32::from(tag.is_some());
                runs += 1;
            }
        }
        let counted = loaded.map.read().unwrap();
        assert!(counted.received >= 24 && counted.accepted <= counted.received, "{counted:?}");
    }
    println!("{runs} runs, {tagged} with a stripped tag, {accepted} accepted");
    assert!(accepted > runs / 8 && tagged > runs / 8);
}

#[test]
fn on_loopback() {
    let mut rng = Lcg(32);
    let mut accepted = 0;
    for number in 0..1_200_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 20);
        let framing = rng.pick(&[NULL, LOOP]);
        let loaded = Loaded::new(&program, LinkKind::Loopback(framing));
        for _ in 0..24 {
            let payload_len = if rng.once_in(3) { rng.below(6) } else { rng.below(60) };
            let payload = frame(&mut rng, payload_len as usize);
            let ethertype: u16 = rng.pick(&[0x0800, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x0040]);
            accepted += u32::from(loaded.check_loopback(&program, framing, ethertype, &payload) != 0);
        }
    }
    println!("{accepted} accepted");
    assert!(accepted > 3_000);
}

#[test]
fn on_raw_links() {
    let mut rng = Lcg(33);
    for number in 0..1_200_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 20);
        let loaded = Loaded::new(&program, LinkKind::Raw);
        for _ in 0..16 {
            let len = length(&mut rng, 1);
            let frame = frame(&mut rng, len);
            let answer = loaded.run(&frame, 0x0800, 0, None);
            assert_eq!(answer, program.run(&frame, len as u32), "{frame:02x?}\n{}", loaded.listing(&program));
        }
    }
}

#[test]
fn what_tcpdump_compiles() {
    let mut rng = Lcg(34);
    for (expression, program) in must_list() {
        let loaded = Loaded::new(&program, LinkKind::Ethernet);
        let mut accepted = 0;
        for _ in 0..300 {
            let len = length(&mut rng, 14);
            let frame = frame(&mut rng, len);
            for tag in [None, stripped_tag(&frame)] {
                accepted += u32::from(loaded.check_ethernet(&program, &frame, tag) != 0);
            }
        }
        println!("{expression:?}: {accepted} of 600, {} instructions", loaded.translated.insns(0).len());
    }
}

/// Where offsets wrap, end, or mean something else to Linux.
const EDGES: [u32; 22] = [
    0,
    4,
    11,
    16,
    40,
    0x7ffe_ffff,
    0x7fff_0000,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0004,
    0xffdf_ffff,
    0xffe0_0000,
    0xffe0_0004,
    0xfff0_0000,
    0xfff0_0004,
    0xffff_f000,
    0xffff_f004,
    0xffff_f02c,
    0xffff_fff0,
    0xffff_fffc,
    0xffff_ffff,
];

#[test]
fn at_the_edges_of_offsets() {
    let mut in_range = 0;
    for rules in [&rules::NETBSD, &rules::LINUX_ABI] {
        for code in [LD_W_IND, LD_H_IND, LD_B_IND] {
            for k in EDGES {
                let insns = [
                    Insn::stmt(LD_W_ABS, 0),
                    Insn::stmt(MISC_TAX, 0),
                    Insn::stmt(code, k),
                    Insn::stmt(OR_K, 1),
                    Insn::stmt(RET_A, 0),
                ];
                let program = validate(&insns, rules).unwrap();
                let loaded = Loaded::new(&program, LinkKind::Ethernet);
                for edge in EDGES {
                    for x in [edge, edge.wrapping_sub(k), edge.wrapping_sub(k).wrapping_sub(3)] {
                        let frame =
                            [&x.to_be_bytes()[..], &[7; 8], &[0x81, 0, 0, 5, 8, 0, 3], &[9; 30]].concat();
                        for tag in [None, stripped_tag(&frame)] {
                            in_range += u32::from(loaded.check_ethernet(&program, &frame, tag) != 0);
                        }
                    }
                }
            }
        }
    }
    assert!(in_range > 1000, "{in_range}");
}

#[test]
fn half_words_past_the_end() {
    for rules in [&rules::FREEBSD, &rules::DRAGONFLY, &rules::OPENBSD] {
        for k in (0..24).chain([0x7_ffff]) {
            let insns = [Insn::stmt(LD_H_ABS, k), Insn::stmt(ADD_K, 7), Insn::stmt(RET_A, 0)];
            let program = validate(&insns, rules).unwrap();
            let (ethernet, loopback) =
                (Loaded::new(&program, LinkKind::Ethernet), Loaded::new(&program, LinkKind::Loopback(NULL)));
            let frame = [&[7; 12][..], &[0x81, 0, 0, 5, 8, 0, 3], &[9; 30]].concat();
            for len in 0..frame.len() {
                if len > 0 {
                    ethernet.check_ethernet(&program, &frame[..len], None);
                }
                if len >= 18 {
                    ethernet.check_ethernet(&program, &frame[..len], Some((0x8100, 5)));
                }
                loopback.check_loopback(&program, NULL, 0x86dd, &frame[..len]);
            }
        }
    }
}

#[test]
fn where_jumps_are_dense() {
    let mut rng = Lcg(35);
    for _ in 0..1_000 {
        let program = loop {
            let len = 6 + rng.below(40);
            let mut insns = vec![Insn::stmt(LDX_IMM, rng.below(4))];
            for rest in (1..len).rev() {
                let (jt, jf) = (rng.below(rest.min(6)) as u8, rng.below(rest.min(3)) as u8);
                insns.push(match rng.below(12) {
                    0 => Insn::stmt(LD_B_ABS, rng.below(12)),
                    1 => Insn::stmt(AND_K, 7),
                    2 => Insn::stmt(rng.pick(&[MISC_TAX, MISC_TXA, ADD_X]), 0),
                    3 => Insn::stmt(ADD_K, 1),
                    4 => Insn::stmt(rng.pick(&[ST_MEM, LD_MEM]), rng.below(2)),
                    5 => Insn::stmt(RET_K, 20 + rest),
                    6 => Insn::jump(rng.pick(&[JGT_K, JSET_K, JGE_X, JEQ_X]), rng.below(8), jt, jf),
                    _ => Insn::jump(JEQ_K, rng.below(8), jt, if rng.once_in(3) { jf } else { 0 }),
                });
            }
            insns.push(Insn::stmt(RET_A, 0));
            if let Ok(program) = validate(&insns, &rules::LINUX_ABI) {
                break program;
            }
        };
        let loaded = Loaded::new(&program, LinkKind::Ethernet);
        for _ in 0..16 {
            let frame: Vec<u8> = (0..20).map(|_| rng.below(9) as u8).collect();
            loaded.check_ethernet(&program, &frame, None);
        }
    }
}
