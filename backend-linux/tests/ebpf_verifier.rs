//! The kernel's verifier takes every program of 512 instructions, with CAP_BPF alone: the largest, the most branching,
//! and those made to have it tell many states apart.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "ebpf/sys.rs"]
mod sys;

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_backend_linux::filter::ebpf::{Target, translate};
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn, Program, Rules, rules, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::{Lcg, filter};

const LOOP: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };

/// `step(n)` again and again, then `end`: 512 instructions, the odd ones `ldb [0]`.
fn repeat(step: impl Fn(u32) -> Vec<Insn>, end: &[Insn]) -> Vec<Insn> {
    let mut insns = Vec::new();
    for number in 0.. {
        let more = step(number);
        if insns.len() + more.len() + end.len() > MAXINSNS {
            break;
        }
        insns.extend(more);
    }
    while insns.len() + end.len() < MAXINSNS {
        insns.push(Insn::stmt(LD_B_ABS, 0));
    }
    insns.extend(end);
    insns
}

/// X + M[0] + … + M[15], with a jump after each.
fn tell_all() -> Vec<Insn> {
    let mut insns = Vec::new();
    for word in 0..16 {
        insns.extend([
            Insn::stmt(LD_MEM, word),
            Insn::jump(JEQ_K, 5, 0, 1),
            Insn::stmt(MISC_TXA, 0),
            Insn::stmt(ADD_X, 0),
            Insn::jump(JGT_X, 0, 1, 0),
            Insn::stmt(MISC_TAX, 0),
        ]);
    }
    insns.push(Insn::stmt(RET_A, 0));
    insns
}

/// Programs of 512 instructions that are hard to verify one way or the other.
fn hard() -> Vec<(&'static str, Vec<Insn>)> {
    let ret_a = [Insn::stmt(RET_A, 0)];
    let word = |n: u32| n % 16;
    let bit = |n: u32| 1_u32 << (n % 32);
    vec![
        (
            "a store into M[] or none, at each diamond",
            repeat(
                |n| vec![Insn::stmt(LD_B_ABS, n), Insn::jump(JSET_K, 1, 0, 1), Insn::stmt(ST_MEM, word(n))],
                &tell_all(),
            ),
        ),
        (
            "known zeroes stored into M[]",
            repeat(
                |n| {
                    vec![
                        Insn::stmt(LD_MEM, word(n)),
                        Insn::stmt(MISC_TAX, 0),
                        Insn::stmt(LD_B_IND, n),
                        Insn::jump(JEQ_K, 0, 0, 1),
                        Insn::stmt(ST_MEM, word(n)),
                    ]
                },
                &tell_all(),
            ),
        ),
        (
            "constants or loads stored into M[]",
            repeat(
                |n| {
                    vec![
                        Insn::stmt(LD_B_ABS, n),
                        Insn::jump(JGT_K, 100, 0, 1),
                        Insn::stmt(LD_IMM, n),
                        Insn::stmt(ST_MEM, word(n)),
                    ]
                },
                &tell_all(),
            ),
        ),
        (
            "sums of powers of two in X",
            repeat(
                |n| {
                    vec![
                        Insn::stmt(LD_B_ABS, n),
                        Insn::jump(JSET_K, 1, 0, 3),
                        Insn::stmt(MISC_TXA, 0),
                        Insn::stmt(ADD_K, bit(n)),
                        Insn::stmt(MISC_TAX, 0),
                    ]
                },
                &tell_all(),
            ),
        ),
        (
            "comparisons narrow A and X over and over",
            repeat(
                |n| {
                    vec![
                        Insn::stmt(LD_B_ABS, n),
                        Insn::jump(JGT_K, n % 200, 0, 1),
                        Insn::stmt(MISC_TAX, 0),
                        Insn::jump(JGT_X, 0, 1, 0),
                        Insn::stmt(STX_MEM, word(n)),
                        Insn::stmt(LDX_MEM, word(n + 7)),
                    ]
                },
                &tell_all(),
            ),
        ),
        (
            "250 diamonds and nothing else",
            repeat(|n| vec![Insn::jump(JGT_K, n, 0, 1), Insn::stmt(MISC_TAX, 0)], &ret_a),
        ),
        (
            "each jump leaves its own constant",
            repeat(
                |n| {
                    vec![
                        Insn::jump(JEQ_K, n, 0, 2),
                        Insn::stmt(LD_IMM, 3 * n),
                        Insn::stmt(JA_K, 1),
                        Insn::stmt(LDX_IMM, n),
                    ]
                },
                &tell_all(),
            ),
        ),
        (
            "a chain of equalities, some of them twice",
            repeat(
                |n| vec![Insn::jump(JEQ_K, if n % 7 == 6 { n - 3 } else { n }, (n % 2) as u8, 0)],
                &tell_all(),
            ),
        ),
        ("a jump at every instruction", {
            let mut insns = vec![Insn::stmt(LD_W_ABS, 0)];
            for n in 1..510_u32 {
                let rest = (510 - n).min(255) as u8;
                insns.push(Insn::jump(JGT_K, n << 20, n as u8 % 3 % rest.max(1), rest - 1));
            }
            insns.extend([Insn::stmt(RET_A, 0), Insn::stmt(RET_K, 0)]);
            insns
        }),
        (
            "a return at every second instruction",
            repeat(|n| vec![Insn::jump(JEQ_K, n, 0, 1), Insn::stmt(RET_A, 0)], &ret_a),
        ),
        (
            "indirect words, anywhere",
            repeat(|n| vec![Insn::stmt(LD_W_IND, n % 20), Insn::stmt(MISC_TAX, 0)], &ret_a),
        ),
        ("511 indirect words", indirect_only()),
        (
            "indirect half-words that cannot be bounded",
            repeat(|n| vec![Insn::stmt(LDX_W_LEN, 0), Insn::stmt(LD_H_IND, 0xffff_fff0 + n % 9)], &ret_a),
        ),
        ("half-words across the tag", repeat(|n| vec![Insn::stmt(LD_H_ABS, 11 + n % 5)], &ret_a)),
        ("words across the tag", repeat(|n| vec![Insn::stmt(LD_W_ABS, 9 + n % 7)], &ret_a)),
        (
            "header lengths and divisions",
            repeat(|n| vec![Insn::stmt(LDX_B_MSH, 14 + n % 3), Insn::stmt(DIV_X, 0)], &ret_a),
        ),
    ]
}

fn indirect_only() -> Vec<Insn> {
    let mut insns = vec![Insn::stmt(LDX_W_LEN, 0)];
    insns.extend((0..510).map(|n| Insn::stmt(LD_W_IND, 0x8000_0000_u32.wrapping_mul(n % 2) + n % 16)));
    insns.push(Insn::stmt(RET_A, 0));
    insns
}

/// Translates, loads and attaches; prints what it took.
fn load(name: &str, program: &Program, link: LinkKind) -> f64 {
    let map = CounterMap::new().unwrap();
    let start = Instant::now();
    let translated = translate(program, &Target::new(link)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let translating = start.elapsed();
    let mut filter = SocketFilter::load(&translated, &map)
        .unwrap_or_else(|e| panic!("{name}, {} rules, {link:?}: {e}", program.rules().name));
    let took = start.elapsed();
    let (socket, _peer) = UnixDatagram::pair().unwrap();
    filter.attach(socket.as_fd()).unwrap();
    let info = filter.info().unwrap();
    println!(
        "{name} ({}): {} instructions became {}, verified {}, jited {:?} bytes; translated in {:?}, with load {:?}",
        program.rules().name,
        program.len(),
        translated.insns(0).len(),
        info.verified,
        info.jited,
        translating,
        took
    );
    took.as_secs_f64()
}

fn load_all() {
    let systems: [&'static Rules; 2] = [&rules::LINUX_ABI, &rules::FREEBSD];
    let hard = hard();
    for (name, insns) in &hard {
        assert_eq!(insns.len(), MAXINSNS, "{name}");
        for rules in systems {
            let program = validate(insns, rules).unwrap_or_else(|e| panic!("{name}: {e}"));
            for link in [LinkKind::Ethernet, LinkKind::Loopback(LOOP), LinkKind::Raw] {
                load(name, &program, link);
            }
        }
    }
    let mut rng = Lcg(41);
    for number in 0..60 {
        let program = loop {
            let program = filter::program(
                &mut rng,
                [&rules::LINUX_ABI, &rules::FREEBSD, &rules::NETBSD][number % 3],
                500,
            );
            if program.len() > 450 {
                break program;
            }
        };
        load("random", &program, LinkKind::Ethernet);
    }
}

#[test]
fn with_all_privileges() {
    load_all();
}

#[test]
fn with_cap_bpf_alone() {
    // Capabilities are a thread's own.
    std::thread::spawn(|| {
        sys::keep_capabilities(&[sys::CAP_BPF]).unwrap();
        load_all();
    })
    .join()
    .unwrap();
}

#[test]
fn without_privileges_the_refusal_says_why() {
    std::thread::spawn(|| {
        sys::keep_capabilities(&[sys::CAP_NET_RAW]).unwrap();
        match CounterMap::new() {
            Err(refused) => {
                assert_eq!(refused.why(), bpfdev_backend_linux::bpf::Why::NotPermitted, "{refused}");
                println!("{refused}: {}", refused.why());
            }
            Ok(_) => {
                let allowed = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
                assert_eq!(allowed.trim(), "0", "only then is it allowed");
            }
        }
    })
    .join()
    .unwrap();
}
