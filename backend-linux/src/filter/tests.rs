//! The rewritten program under Linux's rules, on the packet Linux has, against the BSD program on the BSD's frame.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::rules;
use bpfdev_core::cbpf::{LINUX, Rules, Skb, VlanTag, disasm, interpret_skb, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::Lcg;
use bpfdev_core::random::filter::{frame, program, stripped_tag};

use super::*;
use must::must_list;

#[path = "../../tests/must/mod.rs"]
mod must;

/// The systems whose programs come here, the device's own dialect twice.
static SYSTEMS: [&Rules; 7] = [
    &rules::LINUX_ABI,
    &rules::LINUX_ABI,
    &rules::FREEBSD,
    &rules::NETBSD,
    &rules::OPENBSD,
    &rules::DRAGONFLY,
    &rules::MACOS,
];

const NULL: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };
const LOOP: LoopbackFraming = LoopbackFraming { linktype: Linktype::LOOP, network_order: true, af_inet6: 24 };

fn listing(program: &Program, rewritten: &Rewritten) -> String {
    format!("{}\nbecame\n{}", disasm(program.insns()), disasm(&rewritten.insns))
}

fn rewrite_checked(program: &Program, link: LinkKind) -> Result<Rewritten, NotExact> {
    let rewritten = rewrite(program, link)?;
    if let Err(reject) = validate(&rewritten.insns, &LINUX) {
        panic!("Linux would refuse it: {reject}\n{}", listing(program, &rewritten));
    }
    Ok(rewritten)
}

/// What Linux answers for a frame, its tag stripped or not; and the packet's length there.
fn linux(rewritten: &Rewritten, frame: &[u8], tag: Option<(u16, u16)>) -> (u32, u32) {
    let mut packet = frame.to_vec();
    if tag.is_some() {
        packet.drain(12..16);
    }
    let vlan = tag.map(|(tpid, tci)| VlanTag { tpid, tci });
    let len = packet.len() as u32;
    (interpret_skb(&rewritten.insns, &packet, len, &Skb { vlan, ..Skb::ETHERNET }), len)
}

fn check_verdict(rewritten: &Rewritten, bsd: u32, kernel: u32, len: u32, framelen: u32, tagged: bool) {
    if kernel == 0 {
        return;
    }
    if let Some(verdict) = rewritten.verdict(kernel.min(len), len, tagged) {
        assert_eq!(verdict.min(framelen), bsd.min(framelen), "{rewritten:?}");
    } else {
        assert!(tagged && bsd >= len, "only a frame with a restored tag may be undecided");
    }
}

fn check_ethernet(program: &Program, rewritten: &Rewritten, frame: &[u8]) -> u32 {
    let len = frame.len() as u32;
    let bsd = program.run(frame, len);
    for tag in [None, stripped_tag(frame)] {
        let (answer, packet_len) = linux(rewritten, frame, tag);
        assert_eq!(answer, bsd, "tag {tag:x?}, frame {frame:02x?}\n{}", listing(program, rewritten));
        check_verdict(rewritten, bsd, answer, packet_len, len, tag.is_some());
    }
    bsd
}

#[test]
fn random_programs_on_ethernet_mean_the_same() {
    let mut rng = Lcg(1);
    let (mut exact, mut accepted, mut runs, mut undecided) = (0, 0, 0, 0);
    for number in 0..12_000_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 20);
        let rewritten = match rewrite_checked(&program, LinkKind::Ethernet) {
            Ok(rewritten) => rewritten,
            Err(e) => {
                assert!(matches!(e.reason, Reason::NoScratch), "{e}");
                undecided += 1;
                continue;
            }
        };
        exact += 1;
        for _ in 0..24 {
            let len = if rng.once_in(3) { 14 + rng.below(8) } else { 14 + rng.below(70) };
            let frame = frame(&mut rng, len as usize);
            accepted += u32::from(check_ethernet(&program, &rewritten, &frame) != 0);
            runs += 1;
        }
    }
    assert!(exact > 11_500, "nearly all can be rewritten: {exact}, {undecided} have no scratch word");
    assert!(undecided > 0, "programs that need a scratch word and have none were tried");
    assert!(accepted > runs / 8, "not all of it rejects: {accepted} of {runs}");
}

#[test]
fn random_programs_on_loopback_mean_the_same() {
    let mut rng = Lcg(2);
    let mut accepted = 0;
    for number in 0..6_000_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 20);
        let framing = rng.pick(&[NULL, LOOP]);
        let Ok(rewritten) = rewrite_checked(&program, LinkKind::Loopback(framing)) else { continue };
        for _ in 0..16 {
            let payload_len = if rng.once_in(3) { rng.below(6) } else { rng.below(60) };
            let payload = frame(&mut rng, payload_len as usize);
            let ethertype: u16 = rng.pick(&[0x0800, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x0040]);
            let mut packet = vec![0; 12];
            packet.extend(ethertype.to_be_bytes());
            packet.extend(&payload);
            let (answer, len) = linux(&rewritten, &packet, None);
            let Some(family) = framing.family(ethertype) else {
                assert_eq!(answer, 0, "only IP is shown");
                continue;
            };
            let mut bsd_frame = framing.header(family).to_vec();
            bsd_frame.extend(&payload);
            let bsd_len = bsd_frame.len() as u32;
            let bsd = program.run(&bsd_frame, bsd_len);
            let expected = if bsd == 0 { 0 } else { bsd.saturating_add(10) };
            assert_eq!(answer, expected, "frame {bsd_frame:02x?}\n{}", listing(&program, &rewritten));
            check_verdict(&rewritten, bsd, answer, len, bsd_len, false);
            accepted += u32::from(bsd != 0);
        }
    }
    assert!(accepted > 8_000, "{accepted}");
}

#[test]
fn random_programs_on_raw_links_mean_the_same() {
    let mut rng = Lcg(3);
    for number in 0..3_000_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 20);
        let rewritten = rewrite_checked(&program, LinkKind::Raw).unwrap();
        for _ in 0..8 {
            let len = rng.below(80) as usize;
            let frame = frame(&mut rng, len);
            let (answer, len) = linux(&rewritten, &frame, None);
            assert_eq!(answer, program.run(&frame, len), "{}", listing(&program, &rewritten));
        }
    }
}

#[test]
fn far_jumps_of_long_programs_arrive() {
    let mut rng = Lcg(4);
    let (mut exact, mut too_long, mut longest) = (0, 0, 0);
    for number in 0..400_usize {
        let program = program(&mut rng, SYSTEMS[number % SYSTEMS.len()], 480);
        match rewrite_checked(&program, LinkKind::Ethernet) {
            Ok(rewritten) => {
                exact += 1;
                longest = longest.max(rewritten.insns.len());
                for _ in 0..20 {
                    let frame = frame(&mut rng, 80);
                    check_ethernet(&program, &rewritten, &frame);
                }
            }
            Err(e) => too_long += u32::from(matches!(e.reason, Reason::TooLong { .. })),
        }
    }
    assert!(exact > 100 && longest > 1000, "{exact} exact, {longest} instructions");
    assert!(too_long < 300, "{too_long}");
}

#[test]
fn a_ladder_of_wide_jumps_arrives() {
    // Conditional jumps over 255 instructions that grow when rewritten, both ways.
    for (jt, jf) in [(255, 0), (0, 255), (255, 254)] {
        let mut insns = vec![Insn::stmt(LD_B_ABS, 16), Insn::jump(JGT_K, 0x7f, jt, jf)];
        insns.extend((0..200).map(|_| Insn::stmt(LD_W_ABS, 9)));
        insns.extend((0..60).flat_map(|_| [Insn::stmt(LD_H_ABS, 14), Insn::stmt(MISC_TAX, 0)]));
        insns.push(Insn::stmt(RET_A, 0));
        let program = validate(&insns, &rules::LINUX_ABI).unwrap();
        let rewritten = rewrite_checked(&program, LinkKind::Ethernet).unwrap();
        let mut rng = Lcg(5);
        for _ in 0..50 {
            let frame = frame(&mut rng, 60);
            check_ethernet(&program, &rewritten, &frame);
        }
    }
}

#[test]
fn common_expressions_are_rewritten() {
    let mut rng = Lcg(6);
    for (expression, program) in must_list() {
        for link in [LinkKind::Ethernet, LinkKind::Raw, LinkKind::Loopback(NULL)] {
            rewrite_checked(&program, link).unwrap_or_else(|e| panic!("{expression:?}: {e}"));
        }
        let rewritten = rewrite_checked(&program, LinkKind::Ethernet).unwrap();
        for _ in 0..2000 {
            let len = 14 + rng.below(120) as usize;
            let frame = frame(&mut rng, len);
            check_ethernet(&program, &rewritten, &frame);
        }
    }
}

#[test]
fn every_fixed_offset_near_the_tag_is_exact() {
    let mut rng = Lcg(7);
    for rules in SYSTEMS {
        for (code, k) in
            [LD_W_ABS, LD_H_ABS, LD_B_ABS, LDX_B_MSH].into_iter().flat_map(|c| (0..30).map(move |k| (c, k)))
        {
            let out = if code == LDX_B_MSH { MISC_TXA } else { MISC_TAX };
            // Once with the other register needed, once without.
            let plain = [Insn::stmt(code, k), Insn::stmt(out, 0), Insn::stmt(RET_A, 0)];
            let both = [
                Insn::stmt(LDX_W_LEN, 0),
                Insn::stmt(LD_B_ABS, 3),
                Insn::stmt(code, k),
                Insn::stmt(ADD_X, 0),
                Insn::stmt(RET_A, 0),
            ];
            for insns in [&plain[..], &both[..]] {
                let program = validate(insns, rules).unwrap();
                let rewritten = rewrite_checked(&program, LinkKind::Ethernet).unwrap();
                for len in 14..40 {
                    check_ethernet(&program, &rewritten, &frame(&mut rng, len));
                }
            }
        }
    }
}

#[test]
fn every_indirect_offset_near_the_tag_and_the_wrap_is_exact() {
    let mut rng = Lcg(8);
    for rules in SYSTEMS {
        for code in [LD_W_IND, LD_H_IND, LD_B_IND] {
            for k in [0, 1, 4, 9, 12, 14, 16, 100, 0x7fff_fffe, 0x8000_0000, 0xffff_f000, 0xffff_fffc] {
                // X from the frame itself: byte 5, minus 40 in half of them.
                for minus in [0, 40] {
                    let insns = [
                        Insn::stmt(LD_B_ABS, 5),
                        Insn::stmt(SUB_K, minus),
                        Insn::stmt(MISC_TAX, 0),
                        Insn::stmt(code, k),
                        Insn::stmt(ADD_X, 0),
                        Insn::stmt(RET_A, 0),
                    ];
                    let Ok(program) = validate(&insns, rules) else { continue };
                    let rewritten = rewrite_checked(&program, LinkKind::Ethernet).unwrap();
                    for byte in 0..64 {
                        let mut frame = frame(&mut rng, 40);
                        frame[5] = byte;
                        check_ethernet(&program, &rewritten, &frame);
                    }
                }
            }
        }
    }
}

/// The value of a field of one of the corpus' lines: a number, or what stands between quotes.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {line}"));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    &rest[..rest.find(['"', ',', '}']).unwrap()]
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_recorded_programs_give_what_netbsd_gave() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../compat-tests/oracle/netbsd/filter-corpus.jsonl");
    let corpus = std::fs::read_to_string(path).unwrap();
    let mut rng = Lcg(9);
    let (mut valid, mut total) = (0, 0);
    for line in corpus.lines() {
        total += 1;
        // The corpus is little-endian.
        let insns: Vec<Insn> = bytes(field(line, "prog"))
            .chunks_exact(8)
            .map(|b| {
                let (code, k) =
                    (u16::from_le_bytes([b[0], b[1]]), u32::from_le_bytes([b[4], b[5], b[6], b[7]]));
                Insn::new(code, b[2], b[3], k)
            })
            .collect();
        let Ok(program) = validate(&insns, &rules::NETBSD) else {
            assert_eq!(field(line, "valid"), "0", "{line}");
            continue;
        };
        valid += 1;
        let (packet, wirelen) = (bytes(field(line, "pkt")), field(line, "wirelen").parse().unwrap());
        let recorded: u32 = field(line, "ret").parse().unwrap();
        for link in [LinkKind::Raw, LinkKind::Ethernet] {
            let rewritten = rewrite_checked(&program, link).unwrap_or_else(|e| panic!("{line}: {e}"));
            let answer = interpret_skb(&rewritten.insns, &packet, wirelen, &Skb::ETHERNET);
            assert_eq!(answer, recorded, "{line}\n{}", listing(&program, &rewritten));
            if link == LinkKind::Ethernet {
                for _ in 0..10 {
                    let len = 14 + rng.below(60) as usize;
                    check_ethernet(&program, &rewritten, &frame(&mut rng, len));
                }
            }
        }
    }
    assert_eq!(total, 1490, "the whole corpus");
    assert!(valid > 500, "{valid}");
}

#[test]
fn no_program_accepts_all() {
    let program = validate(&[], &rules::FREEBSD).unwrap();
    for link in [LinkKind::Raw, LinkKind::Ethernet] {
        assert_eq!(rewrite_checked(&program, link).unwrap().insns, [Insn::stmt(RET_K, u32::MAX)]);
    }
}

#[test]
fn a_program_that_sees_no_difference_is_there_once() {
    let insns =
        [Insn::stmt(LD_W_ABS, 2), Insn::jump(JEQ_K, 7, 0, 1), Insn::stmt(RET_K, 96), Insn::stmt(RET_K, 0)];
    let program = validate(&insns, &rules::NETBSD).unwrap();
    assert_eq!(rewrite_checked(&program, LinkKind::Ethernet).unwrap().insns, insns);
}

#[test]
fn without_a_free_word_the_instruction_is_named() {
    // X and all of M[] are needed behind a load that has to be put together.
    let mut insns = vec![Insn::stmt(LDX_W_LEN, 0)];
    insns.extend((0..16).map(|word| Insn::stmt(STX_MEM, word)));
    insns.extend([Insn::stmt(LD_W_ABS, 11), Insn::stmt(ADD_X, 0)]);
    insns.extend((0..16).flat_map(|word| [Insn::stmt(LDX_MEM, word), Insn::stmt(ADD_X, 0)]));
    insns.push(Insn::stmt(RET_A, 0));
    let program = validate(&insns, &rules::NETBSD).unwrap();
    let error = rewrite(&program, LinkKind::Ethernet).unwrap_err();
    assert_eq!(error, NotExact { pc: Some(17), reason: Reason::NoScratch });
    assert_eq!(
        error.to_string(),
        "instruction (017) of the filter: no word of M[] is free to save a register in"
    );
}

#[test]
fn the_verdict_of_one_snap_length_is_known() {
    let verdicts = |insns: &[Insn]| {
        let program = validate(insns, &rules::NETBSD).unwrap();
        rewrite_checked(&program, LinkKind::Ethernet).unwrap()
    };
    for n in 1..=20 {
        let one = verdicts(&[Insn::stmt(RET_K, n)]);
        assert_eq!(one.verdict(n.min(60), 60, true), Some(n));
    }
    let two = verdicts(&[
        Insn::stmt(LD_B_ABS, 0),
        Insn::jump(JEQ_K, 7, 0, 1),
        Insn::stmt(RET_K, 62),
        Insn::stmt(RET_K, 96),
    ]);
    assert_eq!((&two.snaplens[..], two.computes_snaplen), (&[62, 96][..], false));
    assert_eq!(two.verdict(60, 60, true), None, "62 or 96: a restored frame has 64 bytes");
    assert_eq!(two.verdict(60, 60, false), Some(u32::MAX));
    assert_eq!(two.verdict(62, 70, true), Some(62), "the kernel cut it");
    assert_eq!(two.verdict(90, 90, true), Some(u32::MAX), "96 keeps 94 bytes whole")
}

#[test]
fn plans_are_words() {
    for plan in PlanChoice::ALL {
        assert_eq!(plan.to_string().parse(), Ok(plan));
    }
    let error = "jit".parse::<PlanChoice>().unwrap_err();
    assert_eq!(error.to_string(), "\"jit\" is no plan; use auto, ebpf, cbpf or process");
}
