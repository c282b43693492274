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
    machine(insns, packet, wirelen, rules, Path::Tap, &mut ())
}

/// [`interpret`], watched.
pub(super) fn interpret_watched(
    insns: &[Insn],
    packet: &[u8],
    wirelen: u32,
    rules: &Rules,
    watch: &mut impl Watch,
) -> u32 {
    machine(insns, packet, wirelen, rules, Path::Tap, watch)
}

/// Runs `insns` on a packet in one piece, as write(2) does with the write filter; else as [`interpret`].
pub fn interpret_contiguous(insns: &[Insn], packet: &[u8], wirelen: u32, rules: &Rules) -> u32 {
    machine(insns, packet, wirelen, rules, Path::Contiguous, &mut ())
}

/// Runs `insns` as Linux runs a socket filter on a packet with these fields; else as [`interpret`] under
/// [`LINUX`](super::LINUX).
pub fn interpret_skb(insns: &[Insn], packet: &[u8], wirelen: u32, skb: &Skb) -> u32 {
    machine(insns, packet, wirelen, &super::LINUX, Path::Skb(skb), &mut ())
}

/// The way a packet comes.
#[derive(Clone, Copy)]
enum Path<'a> {
    Tap,
    Contiguous,
    /// The tap's way, with more known of the packet.
    Skb(&'a Skb),
}

/// Sees the machine before each instruction it executes.
pub(super) trait Watch {
    fn before(&mut self, pc: usize, insn: Insn, a: u32, x: u32, mem: &[u32; MEMWORDS]);
}

impl Watch for () {
    #[inline(always)]
    fn before(&mut self, _: usize, _: Insn, _: u32, _: u32, _: &[u32; MEMWORDS]) {}
}

/// `N` bytes of the packet at an offset, all of them inside it.
#[inline(always)]
pub(super) fn load<const N: usize>(packet: &[u8], at: u32) -> Option<[u8; N]> {
    let at = at as usize;
    packet.get(at..at.checked_add(N)?)?.first_chunk().copied()
}

/// A random number for `ld #random`, from the standard library's hasher keys. Out of the machine's registers' way.
#[cold]
#[inline(never)]
pub(super) fn random() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
}

/// `X + k` of an indirect load, `None` where wrapping rejects.
#[inline(always)]
fn indirect(x: u32, k: u32, rules: &Rules, path: Path<'_>) -> Option<u32> {
    match x.overflowing_add(k) {
        (_, true) if !wraps(rules, path) => None,
        (at, _) => Some(at),
    }
}

#[cold]
#[inline(never)]
fn wraps(rules: &Rules, path: Path<'_>) -> bool {
    match path {
        Path::Tap | Path::Skb(_) => rules.indirect_wraps.tap,
        Path::Contiguous => rules.indirect_wraps.contiguous,
    }
}

/// Keeps a compiler from making one conditional move of the two ways of a branch.
#[cold]
#[inline(always)]
fn as_a_branch() {}

/// Where a conditional jump leads from `next`, the instruction after it, which its offsets count from.
///
/// Two branches, as those are predicted: a calculated `pc` would have the next instruction wait for the value tested and
/// for the offset, which is half of a run's time.
#[inline(always)]
fn jump(next: usize, test: bool, insn: &Insn) -> usize {
    let offset = if test {
        insn.jt
    } else {
        as_a_branch();
        insn.jf
    };
    if offset == 0 {
        next
    } else {
        as_a_branch();
        next + usize::from(offset)
    }
}

/// A load that missed the packet. Cold: it ends nearly every program that gets here. Not inlined, even in part: the
/// questions asked here would be asked before the first instruction, of every packet.
#[cold]
#[inline(never)]
fn missed(
    code: u16,
    packet: &[u8],
    at: u32,
    (a, x): (u32, u32),
    rules: &Rules,
    path: Path<'_>,
) -> Option<u32> {
    match path {
        Path::Skb(skb) => skb.load(code, packet, at, a, x),
        _ if rules.ancillary => Skb::ETHERNET.load(code, packet, at, a, x),
        Path::Tap if code == LD_H_ABS && rules.half_load_past_end_is_zero => Some(0),
        Path::Tap | Path::Contiguous => None,
    }
}

fn machine(
    insns: &[Insn],
    packet: &[u8],
    wirelen: u32,
    rules: &Rules,
    path: Path<'_>,
    watch: &mut impl Watch,
) -> u32 {
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
                None => or_reject!(missed($code, packet, at, (a, x), rules, path)),
            }
        }};
    }
    // A load into A, and the comparison that mostly follows it, without a look at every code there is.
    macro_rules! accumulate {
        ($code:expr, $at:expr, $from_be:expr) => {{
            a = fetch!($code, $at, $from_be);
            if let Some(insn) = insns.get(pc)
                && insn.code == JEQ_K
            {
                watch.before(pc, *insn, a, x, &mem);
                pc = jump(pc + 1, a == insn.k, insn);
            }
        }};
    }
    let word = u32::from_be_bytes;
    let half = |bytes| u32::from(u16::from_be_bytes(bytes));
    let byte = |[byte]: [u8; 1]| u32::from(byte);

    // Ends: pc only grows, and past the last instruction there is nothing to get.
    while let Some(insn) = insns.get(pc) {
        watch.before(pc, *insn, a, x, &mem);
        pc += 1;
        let k = insn.k;
        match insn.code {
            LD_W_ABS => accumulate!(LD_W_ABS, k, word),
            LD_H_ABS => accumulate!(LD_H_ABS, k, half),
            LD_B_ABS => accumulate!(LD_B_ABS, k, byte),
            LD_W_IND => accumulate!(LD_W_IND, or_reject!(indirect(x, k, rules, path)), word),
            LD_H_IND => accumulate!(LD_H_IND, or_reject!(indirect(x, k, rules, path)), half),
            LD_B_IND => accumulate!(LD_B_IND, or_reject!(indirect(x, k, rules, path)), byte),
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
            JGT_K => pc = jump(pc, a > k, insn),
            JGE_K => pc = jump(pc, a >= k, insn),
            JEQ_K => pc = jump(pc, a == k, insn),
            JSET_K => pc = jump(pc, a & k != 0, insn),
            JGT_X => pc = jump(pc, a > x, insn),
            JGE_X => pc = jump(pc, a >= x, insn),
            JEQ_X => pc = jump(pc, a == x, insn),
            JSET_X => pc = jump(pc, a & x != 0, insn),

            RET_K => return k,
            RET_A => return a,

            MISC_TAX => x = a,
            MISC_TXA => a = x,

            _ => return 0,
        }
    }
    0
}
