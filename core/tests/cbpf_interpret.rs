//! The filter machine, instruction by instruction, and where the systems differ.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{
    DRAGONFLY, FREEBSD, Insn, LINUX, LINUX_ABI, MACOS, NETBSD, OPENBSD, Rules, Skb, VlanTag, interpret,
    interpret_contiguous, interpret_skb, rules, skb, validate,
};

const PACKET: [u8; 16] =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const WIRELEN: u32 = 1514;

fn s(code: u16, k: u32) -> Insn {
    Insn::stmt(code, k)
}

const RETA: Insn = Insn::stmt(RET_A, 0);

/// `a` and `x` are set to values, the instructions run, A is returned.
fn with(a: u32, x: u32, insns: &[Insn]) -> Vec<Insn> {
    [&[s(LDX_IMM, x), s(LD_IMM, a)], insns, &[RETA]].concat()
}

#[test]
fn each_instruction_does_the_same_everywhere() {
    let alu = |a, x, code, k| with(a, x, &[s(code, k)]);
    let x_after = |insn| with(7, 9, &[insn, s(MISC_TXA, 0)]);
    // jt leads to A = 1, jf to A = 2.
    let jump =
        |a, x, code, k| with(a, x, &[Insn::jump(code, k, 0, 2), s(LD_IMM, 1), s(JA_K, 1), s(LD_IMM, 2)]);
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<Insn>, u32)> = vec![
        ("A and X start at 0", vec![s(ADD_X, 0), RETA], 0),
        ("ret #k", vec![s(RET_K, 77)], 77),
        ("ld [2] is in network order", vec![s(LD_W_ABS, 2), RETA], 0x2233_4455),
        ("ld up to the last byte", vec![s(LD_W_ABS, 12), RETA], 0xccdd_eeff),
        ("ldh up to the last byte", vec![s(LD_H_ABS, 14), RETA], 0xeeff),
        ("ldb the last byte", vec![s(LD_B_ABS, 15), RETA], 0xff),
        ("ld past the end rejects", with(5, 0, &[s(LD_W_ABS, 13)]), 0),
        ("ldb past the end rejects", with(5, 0, &[s(LD_B_ABS, 16)]), 0),
        ("ld far past the end rejects", with(5, 0, &[s(LD_W_ABS, 0x7fff_ffff)]), 0),
        ("ld [x + k]", with(0, 3, &[s(LD_W_IND, 1)]), 0x4455_6677),
        ("ldh [x + k]", with(0, 3, &[s(LD_H_IND, 11)]), 0xeeff),
        ("ldb [x + k]", with(0, 3, &[s(LD_B_IND, 12)]), 0xff),
        ("ldh [x + k] past the end rejects", with(5, 3, &[s(LD_H_IND, 12)]), 0),
        ("ldb [x + k] past the end rejects", with(5, 3, &[s(LD_B_IND, 13)]), 0),
        ("len is the wire length", vec![s(LD_W_LEN, 0), RETA], WIRELEN),
        ("ldx len", x_after(s(LDX_W_LEN, 0)), WIRELEN),
        ("ldx #k", x_after(s(LDX_IMM, 5)), 5),
        ("ldxb 4*([k]&0xf)", x_after(s(LDX_B_MSH, 14)), 4 * 0xe),
        ("ldxb keeps A", with(7, 9, &[s(LDX_B_MSH, 14)]), 7),
        ("ldxb past the end rejects", with(7, 9, &[s(LDX_B_MSH, 16)]), 0),
        ("st and ld M[]", with(7, 9, &[s(ST_MEM, 15), s(LD_IMM, 0), s(LD_MEM, 15)]), 7),
        ("stx and ldx M[]", with(7, 9, &[s(STX_MEM, 0), s(LDX_IMM, 0), s(LDX_MEM, 0), s(MISC_TXA, 0)]), 9),
        ("M[] starts at 0", with(7, 9, &[s(LD_MEM, 3)]), 0),
        ("add wraps", alu(u32::MAX, 0, ADD_K, 3), 2),
        ("add x", alu(u32::MAX, 4, ADD_X, 0), 3),
        ("sub wraps", alu(1, 0, SUB_K, 2), u32::MAX),
        ("sub x", alu(9, 2, SUB_X, 0), 7),
        ("mul wraps", alu(0x8000_0001, 0, MUL_K, 2), 2),
        ("mul x", alu(6, 7, MUL_X, 0), 42),
        ("div is unsigned", alu(0xffff_fff0, 0, DIV_K, 16), 0x0fff_ffff),
        ("div x", alu(17, 5, DIV_X, 0), 3),
        ("div by x = 0 rejects", alu(17, 0, DIV_X, 0), 0),
        ("and", alu(0xff, 0, AND_K, 0x3c), 0x3c),
        ("and x", alu(0xff, 0x3c, AND_X, 0), 0x3c),
        ("or", alu(0xf0, 0, OR_K, 0x0f), 0xff),
        ("or x", alu(0xf0, 0x0f, OR_X, 0), 0xff),
        ("lsh", alu(1, 0, LSH_K, 31), 0x8000_0000),
        ("lsh 32 is lsh 0", alu(5, 0, LSH_K, 32), 5),
        ("lsh x modulo 32", alu(1, 33, LSH_X, 0), 2),
        ("rsh", alu(0x8000_0000, 0, RSH_K, 31), 1),
        ("rsh 35 is rsh 3", alu(0x80, 0, RSH_K, 35), 0x10),
        ("rsh x modulo 32", alu(0x80, 0xffff_ffe3, RSH_X, 0), 0x10),
        ("neg", alu(1, 0, NEG_A, 0), u32::MAX),
        ("neg 0x80000000", alu(0x8000_0000, 0, NEG_A, 0), 0x8000_0000),
        ("jgt is unsigned", jump(0x8000_0000, 0, JGT_K, 1), 1),
        ("jgt equal", jump(5, 0, JGT_K, 5), 2),
        ("jgt x", jump(5, 4, JGT_X, 9), 1),
        ("jge equal", jump(5, 0, JGE_K, 5), 1),
        ("jge less", jump(4, 0, JGE_K, 5), 2),
        ("jge x", jump(5, 6, JGE_X, 0), 2),
        ("jeq", jump(5, 0, JEQ_K, 5), 1),
        ("jeq x", jump(5, 6, JEQ_X, 5), 2),
        ("jset", jump(6, 0, JSET_K, 2), 1),
        ("jset none", jump(6, 0, JSET_K, 9), 2),
        ("jset x", jump(6, 8, JSET_X, 6), 2),
        ("tax", with(7, 9, &[s(MISC_TAX, 0), s(LD_IMM, 0), s(ADD_X, 0)]), 7),
        ("txa", with(7, 9, &[s(MISC_TXA, 0)]), 9),
        ("unknown code rejects", with(7, 9, &[s(RET | X, 0)]), 0),
        ("M[16] rejects, validated or not", with(7, 9, &[s(ST_MEM, 16)]), 0),
        ("a jump out rejects, validated or not", with(7, 9, &[s(JA_K, u32::MAX)]), 0),
        ("no return rejects, validated or not", vec![s(LD_IMM, 1)], 0),
        ("no instructions accept all", vec![], u32::MAX),
    ];
    for (what, insns, expected) in table {
        for rules in rules::ALL {
            assert_eq!(interpret(&insns, &PACKET, WIRELEN, rules), expected, "{what}, tap, {}", rules.name);
            let contiguous = interpret_contiguous(&insns, &PACKET, WIRELEN, rules);
            assert_eq!(contiguous, expected, "{what}, contiguous, {}", rules.name);
        }
    }
}

/// What a program returns under each system's rules: FreeBSD, NetBSD, OpenBSD, DragonFly, macOS, Linux, linux dialect.
fn results(run: fn(&[Insn], &[u8], u32, &Rules) -> u32, insns: &[Insn]) -> [u32; 7] {
    [&FREEBSD, &NETBSD, &OPENBSD, &DRAGONFLY, &MACOS, &LINUX, &LINUX_ABI]
        .map(|rules| run(insns, &PACKET, WIRELEN, rules))
}

/// What it shows, the program, results on the tap's way, results on a contiguous packet.
type Row = (&'static str, Vec<Insn>, [u32; 7], [u32; 7]);

#[test]
fn where_the_systems_differ() {
    let half = |k| vec![s(LD_IMM, 3), s(LD_H_ABS, k), s(ADD_K, 1), RETA];
    let byte_at_2 = 0x22;
    #[rustfmt::skip]
    let table: [Row; 14] = [
        ("ldh one byte past the end", half(15), [1, 0, 0, 1, 0, 0, 0], [0; 7]),
        ("ldh past the end", half(16), [1, 0, 0, 1, 0, 0, 0], [0; 7]),
        ("ldh [0x80000000]", half(0x8000_0000), [1, 0, 0, 1, 0, 0, 0], [0; 7]),
        ("X + k wraps into the packet", with(9, 3, &[s(LD_B_IND, u32::MAX)]),
            [byte_at_2, 0, byte_at_2, byte_at_2, byte_at_2, byte_at_2, byte_at_2],
            [0, 0, byte_at_2, 0, byte_at_2, byte_at_2, 0]),
        ("X + k wraps, past the end", with(9, 18, &[s(LD_B_IND, u32::MAX)]), [0; 7], [0; 7]),
        ("mod", with(17, 0, &[s(MOD_K, 5)]), [2, 2, 0, 0, 0, 2, 2], [2, 2, 0, 0, 0, 2, 2]),
        ("mod x", with(17, 5, &[s(MOD_X, 0)]), [2, 2, 0, 0, 0, 2, 2], [2, 2, 0, 0, 0, 2, 2]),
        ("mod by x = 0", with(17, 0, &[s(MOD_X, 0)]), [0; 7], [0; 7]),
        ("xor", with(6, 0, &[s(XOR_K, 3)]), [5, 5, 0, 0, 0, 5, 5], [5, 5, 0, 0, 0, 5, 5]),
        ("xor x", with(6, 3, &[s(XOR_X, 0)]), [5, 5, 0, 0, 0, 5, 5], [5, 5, 0, 0, 0, 5, 5]),
        ("offset from the link header", with(9, 0, &[s(LD_W_ABS, skb::LL_OFF + 2)]),
            [0, 0, 0, 0, 0, 0x2233_4455, 0], [0, 0, 0, 0, 0, 0x2233_4455, 0]),
        ("offset from the network header", with(9, 1, &[s(LD_B_IND, skb::NET_OFF)]),
            [0, 0, 0, 0, 0, 0xff, 0], [0, 0, 0, 0, 0, 0xff, 0]),
        ("A ^= X by an ancillary load", with(6, 3, &[s(LD_W_ABS, skb::AD_ALU_XOR_X)]),
            [0, 0, 0, 0, 0, 5, 0], [0, 0, 0, 0, 0, 5, 0]),
        ("between the packet and the link header", with(9, 0, &[s(LD_W_ABS, skb::LL_OFF - 1)]), [0; 7], [0; 7]),
    ];
    for (what, insns, tap, contiguous) in table {
        assert_eq!(results(interpret, &insns), tap, "{what}, tap");
        assert_eq!(results(interpret_contiguous, &insns), contiguous, "{what}, contiguous");
    }
}

#[test]
fn random_is_openbsds_and_changes() {
    let insns = [s(LD_RND, 0), RETA];
    let draw = || interpret(&insns, &PACKET, WIRELEN, &OPENBSD);
    let draws: Vec<u32> = (0..8).map(|_| draw()).collect();
    assert!(draws.iter().any(|value| *value != draws[0]), "eight equal draws: {draws:?}");
    assert_eq!(interpret(&insns, &PACKET, WIRELEN, &NETBSD), 0);
}

#[test]
fn linux_ancillary_loads_read_the_skb() {
    let fields = Skb {
        network_header: 12,
        protocol: 0x800,
        pkttype: 4,
        ifindex: 3,
        mark: 0xdead_beef,
        queue: 2,
        hatype: 772,
        rxhash: 0x1234_5678,
        cpu: 1,
        vlan: Some(VlanTag { tci: 0x2005, tpid: 0x88a8 }),
    };
    #[rustfmt::skip]
    let table = [
        (skb::AD_PROTOCOL, 0x800), (skb::AD_PKTTYPE, 4), (skb::AD_IFINDEX, 3), (skb::AD_MARK, 0xdead_beef),
        (skb::AD_QUEUE, 2), (skb::AD_HATYPE, 772), (skb::AD_RXHASH, 0x1234_5678), (skb::AD_CPU, 1),
        (skb::AD_VLAN_TAG, 0x2005), (skb::AD_VLAN_TAG_PRESENT, 1), (skb::AD_VLAN_TPID, 0x88a8),
        (skb::NET_OFF, 0xccdd_eeff), (skb::AD_PAY_OFFSET, 0), (skb::AD_NLATTR, 0),
    ];
    for (k, expected) in table {
        let insns = [s(LD_W_ABS, k), RETA];
        validate(&insns, &LINUX).unwrap();
        assert_eq!(interpret_skb(&insns, &PACKET, WIRELEN, &fields), expected, "ld [{k:#x}]");
    }
    let untagged = [s(LD_IMM, 9), s(LD_B_ABS, skb::AD_VLAN_TAG_PRESENT), s(ADD_K, 1), RETA];
    assert_eq!(interpret_skb(&untagged, &PACKET, WIRELEN, &Skb::ETHERNET), 1, "no tag loads 0");
}

#[test]
fn a_program_runs_under_the_rules_it_was_validated_by() {
    let insns = [s(LD_H_ABS, 40), s(ADD_K, 1), RETA];
    let run = |rules| validate(&insns, rules).unwrap().run(&PACKET, WIRELEN);
    assert_eq!((run(&FREEBSD), run(&NETBSD), run(&LINUX_ABI)), (1, 0, 0));
    assert_eq!(validate(&insns, &FREEBSD).unwrap().run_contiguous(&PACKET, WIRELEN), 0);
    assert_eq!(validate(&[], &FREEBSD).unwrap().run(&PACKET, WIRELEN), u32::MAX);
}
