//! Random programs and frames that crowd round the edges.

use crate::cbpf::code::*;
use crate::cbpf::rules::Opcodes;
use crate::cbpf::{Insn, Program, Rules, validate};

use super::Lcg;

/// Offsets where one machine sees bytes and another something else, or nothing.
const FAR: [u32; 14] = [
    0x7ffe_ffff,
    0x7fff_0000,
    0x7fff_fff4,
    0x7fff_ffff,
    0x8000_0000,
    0xffe0_0000,
    0xffef_fffe,
    0xfff0_0000,
    0xfff0_0004,
    0xffff_f000,
    0xffff_f004,
    0xffff_f030,
    0xffff_fff0,
    0xffff_fffc,
];

fn far_offset(rng: &mut Lcg) -> u32 {
    if rng.once_in(2) { rng.pick(&FAR) } else { rng.below(24) }
}

fn offset(rng: &mut Lcg) -> u32 {
    match rng.below(24) {
        0 => rng.pick(&FAR),
        1..=5 => rng.below(80),
        6..=9 => rng.below(6),
        _ => 8 + rng.below(10),
    }
}

/// A jump a little further on, most often on equality: chains of them.
fn dense_jump(rng: &mut Lcg, rest: u32) -> Insn {
    let code = rng.pick(&[JEQ_K, JEQ_K, JEQ_K, JGT_K, JSET_K, JEQ_X]);
    let (jt, jf) = (rng.below(rest.min(7)) as u8, rng.below(rest.min(3)) as u8);
    Insn::jump(code, rng.below(8), jt, if rng.once_in(3) { jf } else { 0 })
}

fn insn(rng: &mut Lcg, rules: &Rules, words: u32, rest: u32) -> Insn {
    let size = rng.pick(&[W, H, B]);
    match rng.below(48) {
        0..=10 => Insn::stmt(LD | size | ABS, offset(rng)),
        11..=18 => Insn::stmt(
            LD | size | IND,
            match rng.below(16) {
                0..=4 => offset(rng),
                5 => rng.below(40).wrapping_neg(),
                _ => rng.below(18),
            },
        ),
        19..=20 => Insn::stmt(LDX_B_MSH, offset(rng)),
        21 => Insn::stmt(LD_W_LEN, 0),
        22 => Insn::stmt(LDX_W_LEN, 0),
        23 => Insn::stmt(LD_IMM, rng.word()),
        // Some constants that bring X + k round to an offset in the packet again.
        24..=25 => Insn::stmt(
            LDX_IMM,
            match rng.below(12) {
                0..=1 => rng.pick(&FAR),
                2 => rng.below(40).wrapping_neg(),
                _ => rng.below(20),
            },
        ),
        26 => Insn::stmt(LD_MEM, rng.below(words)),
        27 => Insn::stmt(LDX_MEM, rng.below(words)),
        28..=29 => Insn::stmt(ST_MEM, rng.below(words)),
        30..=31 => Insn::stmt(STX_MEM, rng.below(words)),
        32..=35 => Insn::stmt(rng.pick(&[ADD_X, ADD_X, SUB_X, XOR_X, MUL_X, OR_X, LSH_X, RSH_X, DIV_X]), 0),
        36..=37 => {
            Insn::stmt(rng.pick(&[AND_K, AND_K, AND_K, ADD_K, SUB_K, DIV_K, MOD_K]), 1 + rng.below(31))
        }
        38 => Insn::stmt(rng.pick(&[LSH_K, RSH_K, RSH_K]), rng.below(34)),
        39 => Insn::stmt(rng.pick(&[NEG_A, MUL_K, XOR_K, OR_K]), rng.word()),
        40..=41 => Insn::stmt(MISC_TAX, 0),
        42 => Insn::stmt(MISC_TXA, 0),
        43..=45 if rest > 1 => {
            let code = rng.pick(&[JEQ_K, JGT_K, JGE_K, JSET_K, JEQ_X, JGT_X, JGE_X, JSET_X]);
            let (jt, jf) = (rng.below(rest.min(255)) as u8, rng.below(rest.min(255).min(4)) as u8);
            Insn::jump(code, rng.pick(&[0, 1, 14, 0x800, 0x8100, 0x86dd]), jt, jf)
        }
        46 if rest > 1 && rng.once_in(2) => Insn::stmt(JA_K, rng.below(rest.min(5))),
        47 if rng.once_in(3) => Insn::stmt(rng.pick(&[RET_A, RET_K]), rng.below(90)),
        47 if rules.opcodes == Opcodes::ByClass => {
            Insn::stmt(rng.pick(&[0x0e, 0x1e, 0x0a, 0x8c, 0x0d, 0xb0, 0x8000, 0x8006, 0x29, LD_RND]), 0)
        }
        _ => Insn::stmt(MISC_TAX, 0),
    }
}

/// A random program that is valid under `rules`.
pub fn program(rng: &mut Lcg, rules: &'static Rules, max_len: u32) -> Program {
    loop {
        let mut insns = Vec::new();
        let words = rng.pick(&[3, 8, 16]);
        // In some programs every word of M[] is in use from the first instruction to the last.
        let crowded = rng.once_in(12);
        // Others are mostly jumps, or take X from the packet, where frame() puts far offsets.
        let (dense, far) = (rng.once_in(6), rng.once_in(6));
        if crowded || !rules.memory_starts_zero {
            insns.push(Insn::stmt(LD_W_LEN, 0));
            insns.extend((0..words).map(|word| Insn::stmt(ST_MEM, word)));
        }
        let len = 3 + rng.below(max_len);
        for number in 0..len {
            let rest = len - number;
            if dense && rest > 1 && rng.once_in(2) {
                insns.push(dense_jump(rng, rest));
            } else if far && rng.once_in(4) {
                insns.extend([Insn::stmt(LD_W_ABS, 0), Insn::stmt(MISC_TAX, 0)]);
                insns.push(Insn::stmt(LD | rng.pick(&[W, H, B]) | IND, far_offset(rng)));
            } else {
                insns.push(insn(rng, rules, words, rest));
            }
        }
        if crowded {
            insns.extend((0..words).flat_map(|word| [Insn::stmt(LDX_MEM, word), Insn::stmt(ADD_X, 0)]));
        }
        if rng.once_in(2) {
            insns.push(Insn::stmt(ADD_X, 0));
        }
        let snaplen = rng.pick(&[0, 1, 14, 20, 64, 0x7fff_ffff, u32::MAX]);
        insns.push(Insn::stmt(rng.pick(&[RET_A, RET_A, RET_K]), snaplen));
        // A random number has no right answer.
        let random = rules.random && insns.iter().any(|insn| insn.code == LD_RND);
        match validate(&insns, rules) {
            Ok(program) if !random => return program,
            _ => {}
        }
    }
}

/// A frame of `len` bytes as a BSD shows it: now and then with a tag, or two, or a priority tag.
pub fn frame(rng: &mut Lcg, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|_| rng.word() as u8).collect();
    if let Some(word) = frame.first_chunk_mut::<4>()
        && rng.once_in(3)
    {
        let near = far_offset(rng).wrapping_sub(rng.below(20));
        let sum = if rng.once_in(2) { near } else { near.wrapping_sub(far_offset(rng)) };
        *word = sum.to_be_bytes();
    }
    let mut at = 12;
    if rng.below(3) > 0 {
        let tags: &[u16] = rng.pick(&[&[0x8100][..], &[0x8100], &[0x88a8], &[0x88a8, 0x8100]]);
        for tpid in tags {
            if frame.len() >= at + 8 {
                frame[at..at + 2].copy_from_slice(&tpid.to_be_bytes());
                if rng.once_in(3) {
                    frame[at + 2..at + 4].fill(0);
                }
                at += 4;
            }
        }
    }
    if frame.len() >= at + 2 {
        let ethertype: u16 = rng.pick(&[0x0800, 0x0800, 0x86dd, 0x0806, 0x8033, 0x0040]);
        frame[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
    }
    if frame.len() >= at + 40 {
        if rng.below(4) > 0 {
            frame[at + 2] = rng.pick(&[0x45, 0x46, 0x60]);
            frame[at + 8..at + 10].fill(0);
            frame[at + 11] = rng.pick(&[6, 17]);
        }
        for port in [at + 22, at + 24, at + 26] {
            if rng.once_in(2) {
                frame[port..port + 2].copy_from_slice(&7070_u16.to_be_bytes());
            }
        }
    }
    frame
}

/// The tag the kernel strips when the frame is received; it is at offset 12.
pub fn stripped_tag(frame: &[u8]) -> Option<(u16, u16)> {
    let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    // skb_vlan_untag() wants two bytes behind the tag.
    if frame.len() < 20 {
        return None;
    }
    half(12).filter(|tpid| matches!(tpid, 0x8100 | 0x88a8)).zip(half(14))
}
