//! The filter machine: a 32-bit accumulator A, an index register X, sixteen words M[], and jumps that only go
//! forward. The reference: every other way to run a program is compared with this one.

use std::hash::{BuildHasher, RandomState};

use super::code::*;
use super::{Insn, Rules, Skb};

/// Runs `insns` on a captured packet, as an interface's tap does.
///
/// `packet` is what was captured, `wirelen` the bytes on the wire. Returns the snap length in bytes, 0 to reject the
/// packet. No instructions accept all: `u32::MAX`. Whatever the instructions are, this ends and does not panic; what
/// a validator would refuse rejects the packet. Under [`LINUX`](super::LINUX) rules the packet is an Ethernet packet
/// of which nothing else is known; [`interpret_skb`] takes the rest.
#[doc(alias = "bpf_filter")]
pub fn interpret(insns: &[Insn], packet: &[u8], wirelen: u32, rules: &Rules) -> u32 {
    let path = Path {
        indirect_wraps: rules.indirect_wraps.tap,
        missed_half_is_zero: rules.half_load_past_end_is_zero,
        skb: rules.ancillary.then_some(&Skb::ETHERNET),
    };
    machine(insns, packet, wirelen, rules, &path)
}

/// Runs `insns` on a packet in one piece, as write(2) does with the write filter; else as [`interpret`].
pub fn interpret_contiguous(insns: &[Insn], packet: &[u8], wirelen: u32, rules: &Rules) -> u32 {
    let path = Path {
        indirect_wraps: rules.indirect_wraps.contiguous,
        missed_half_is_zero: false,
        skb: rules.ancillary.then_some(&Skb::ETHERNET),
    };
    machine(insns, packet, wirelen, rules, &path)
}

/// Runs `insns` as Linux runs a socket filter on a packet with these fields; else as [`interpret`] under
/// [`LINUX`](super::LINUX).
pub fn interpret_skb(insns: &[Insn], packet: &[u8], wirelen: u32, skb: &Skb) -> u32 {
    let rules = &super::LINUX;
    let path = Path { indirect_wraps: rules.indirect_wraps.tap, missed_half_is_zero: false, skb: Some(skb) };
    machine(insns, packet, wirelen, rules, &path)
}

/// What differs by the way a packet comes.
struct Path<'a> {
    indirect_wraps: bool,
    missed_half_is_zero: bool,
    skb: Option<&'a Skb>,
}

/// `N` bytes of the packet at an offset, all of them inside it.
#[inline(always)]
pub(super) fn load<const N: usize>(packet: &[u8], at: u32) -> Option<[u8; N]> {
    packet.get(at as usize..)?.first_chunk().copied()
}

/// A random number for `ld #random`, from the standard library's hasher keys.
pub(super) fn random() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
}

/// `X + k` of an indirect load, `None` where wrapping rejects.
#[inline(always)]
fn indirect(x: u32, k: u32, path: &Path<'_>) -> Option<u32> {
    match x.overflowing_add(k) {
        (_, true) if !path.indirect_wraps => None,
        (at, _) => Some(at),
    }
}

/// A load that missed the packet. Cold: it ends nearly every program that gets here.
#[cold]
fn missed(code: u16, packet: &[u8], at: u32, a: u32, x: u32, path: &Path<'_>) -> Option<u32> {
    match path.skb {
        Some(skb) => skb.load(code, packet, at, a, x),
        None if code == LD_H_ABS && path.missed_half_is_zero => Some(0),
        None => None,
    }
}

fn machine(insns: &[Insn], packet: &[u8], wirelen: u32, rules: &Rules, path: &Path<'_>) -> u32 {
    if insns.is_empty() {
        return u32::MAX;
    }
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut mem = [0_u32; MEMWORDS];
    let mut pc = 0_usize;

    // Rejects the packet where the value does not exist.
    macro_rules! or_reject {
        ($value:expr) => {
            match $value {
                Some(value) => value,
                None => return 0,
            }
        };
    }
    macro_rules! fetch {
        ($code:expr, $at:expr, $from_be:expr) => {{
            let at = $at;
            match load(packet, at) {
                Some(bytes) => $from_be(bytes),
                None => or_reject!(missed($code, packet, at, a, x, path)),
            }
        }};
    }
    // A jump's offset counts from the next instruction.
    macro_rules! branch {
        ($test:expr, $insn:expr) => {
            pc += usize::from(if $test { $insn.jt } else { $insn.jf })
        };
    }
    let word = u32::from_be_bytes;
    let half = |bytes| u32::from(u16::from_be_bytes(bytes));
    let byte = |[byte]: [u8; 1]| u32::from(byte);

    // Ends: pc only grows, and past the last instruction there is nothing to get.
    while let Some(insn) = insns.get(pc) {
        pc += 1;
        let k = insn.k;
        match insn.code {
            LD_W_ABS => a = fetch!(LD_W_ABS, k, word),
            LD_H_ABS => a = fetch!(LD_H_ABS, k, half),
            LD_B_ABS => a = fetch!(LD_B_ABS, k, byte),
            LD_W_IND => a = fetch!(LD_W_IND, or_reject!(indirect(x, k, path)), word),
            LD_H_IND => a = fetch!(LD_H_IND, or_reject!(indirect(x, k, path)), half),
            LD_B_IND => a = fetch!(LD_B_IND, or_reject!(indirect(x, k, path)), byte),
            LD_W_LEN => a = wirelen,
            LD_IMM => a = k,
            LD_MEM => a = *or_reject!(mem.get(k as usize)),
            LD_RND if rules.random => a = random(),

            LDX_IMM => x = k,
            LDX_MEM => x = *or_reject!(mem.get(k as usize)),
            LDX_W_LEN => x = wirelen,
            LDX_B_MSH => x = (fetch!(LDX_B_MSH, k, byte) & 0x0f) << 2,

            ST_MEM => *or_reject!(mem.get_mut(k as usize)) = a,
            STX_MEM => *or_reject!(mem.get_mut(k as usize)) = x,

            ADD_K => a = a.wrapping_add(k),
            SUB_K => a = a.wrapping_sub(k),
            MUL_K => a = a.wrapping_mul(k),
            DIV_K => a = or_reject!(a.checked_div(k)),
            MOD_K if rules.mod_xor => a = or_reject!(a.checked_rem(k)),
            AND_K => a &= k,
            OR_K => a |= k,
            XOR_K if rules.mod_xor => a ^= k,
            // Modulo 32, as every machine's shift does; C leaves it undefined.
            LSH_K => a = a.wrapping_shl(k),
            RSH_K => a = a.wrapping_shr(k),
            ADD_X => a = a.wrapping_add(x),
            SUB_X => a = a.wrapping_sub(x),
            MUL_X => a = a.wrapping_mul(x),
            DIV_X => a = or_reject!(a.checked_div(x)),
            MOD_X if rules.mod_xor => a = or_reject!(a.checked_rem(x)),
            AND_X => a &= x,
            OR_X => a |= x,
            XOR_X if rules.mod_xor => a ^= x,
            LSH_X => a = a.wrapping_shl(x),
            RSH_X => a = a.wrapping_shr(x),
            NEG_A => a = a.wrapping_neg(),

            JA_K => pc = pc.saturating_add(k as usize),
            JGT_K => branch!(a > k, insn),
            JGE_K => branch!(a >= k, insn),
            JEQ_K => branch!(a == k, insn),
            JSET_K => branch!(a & k != 0, insn),
            JGT_X => branch!(a > x, insn),
            JGE_X => branch!(a >= x, insn),
            JEQ_X => branch!(a == x, insn),
            JSET_X => branch!(a & x != 0, insn),

            RET_K => return k,
            RET_A => return a,

            MISC_TAX => x = a,
            MISC_TXA => a = x,

            _ => return 0,
        }
    }
    0
}
