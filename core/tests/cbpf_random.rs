//! Random programs: nothing panics, and where the systems mean the same they return the same.

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::rules::ALL;
use bpfdev_core::cbpf::{Insn, LINUX, disasm, interpret, interpret_contiguous, validate};

/// Knuth's linear congruential generator; the high half is the good one.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
    fn packet(&mut self) -> Vec<u8> {
        (0..self.below(96)).map(|_| self.next() as u8).collect()
    }
}

/// The machine once more, by the letter of bpf(4), for a program that is valid everywhere. `None` when a load misses
/// the packet: there the systems may differ.
fn by_the_book(insns: &[Insn], packet: &[u8], wirelen: u32) -> Option<u32> {
    let (mut a, mut x, mut m, mut pc) = (0_u32, 0_u32, [0_u32; 16], 0);
    loop {
        let Insn { code, jt, jf, k } = insns[pc];
        pc += 1;
        let bytes = match size(code) {
            W => 4,
            H => 2,
            _ => 1,
        };
        let p = |at: u64| {
            (at..at + bytes).try_fold(0, |sum: u32, at| Some(sum << 8 | u32::from(*packet.get(at as usize)?)))
        };
        match class(code) {
            LD | LDX => {
                let value = match mode(code) {
                    IMM => k,
                    ABS => p(k.into())?,
                    IND => p(u64::from(x) + u64::from(k))?,
                    MEM => m[k as usize],
                    LEN => wirelen,
                    _ => 4 * (p(k.into())? & 15),
                };
                if class(code) == LD { a = value } else { x = value }
            }
            ST => m[k as usize] = a,
            STX => m[k as usize] = x,
            ALU => {
                let operand = if src(code) == X { x } else { k };
                if operand == 0 && matches!(op(code), DIV | MOD) {
                    return Some(0);
                }
                a = match op(code) {
                    ADD => (u64::from(a) + u64::from(operand)) as u32,
                    SUB => (i64::from(a) - i64::from(operand)) as u32,
                    MUL => (u64::from(a) * u64::from(operand)) as u32,
                    DIV => a / operand,
                    MOD => a % operand,
                    AND => a & operand,
                    OR => a | operand,
                    XOR => a ^ operand,
                    LSH => a << (operand % 32),
                    RSH => a >> (operand % 32),
                    _ => (-i64::from(a)) as u32,
                };
            }
            JMP if op(code) == JA => pc += k as usize,
            JMP => {
                let operand = if src(code) == X { x } else { k };
                let taken = match op(code) {
                    JEQ => a == operand,
                    JGT => a > operand,
                    JGE => a >= operand,
                    _ => a & operand != 0,
                };
                pc += usize::from(if taken { jt } else { jf });
            }
            RET => return Some(if rval(code) == A { a } else { k }),
            _ if code == MISC_TAX => x = a,
            _ => a = x,
        }
    }
}

/// A program that mostly passes: known codes, small operands, jumps inside.
fn likely(random: &mut Lcg) -> Vec<Insn> {
    let len = 2 + random.below(30) as usize;
    // Store every word first now and then, so that loads of memory are valid.
    let mut insns: Vec<Insn> = (0..random.below(2) * 16).map(|word| Insn::stmt(ST_MEM, word)).collect();
    for left in (1..len as u32).rev() {
        let code = loop {
            let code = OPCODES[random.below(OPCODES.len() as u32) as usize];
            // Returns and jumps rarely, else most programs are over at once.
            if !matches!(class(code), RET | JMP) || random.below(4) == 0 {
                break code;
            }
        };
        let k = match class(code) {
            JMP if op(code) == JA => random.below(left),
            LD | LDX if mode(code) == IMM => random.next() >> random.below(32),
            LD | LDX | ST | STX if mode(code) == MEM || class(code) >= ST => random.below(16),
            LD | LDX => random.below(48),
            ALU if matches!(op(code), LSH | RSH) => random.below(32),
            _ => random.next() >> random.below(32),
        };
        insns.push(Insn::new(code, random.below(left.min(256)) as u8, random.below(left.min(256)) as u8, k));
    }
    insns.push(Insn::stmt(if random.below(2) == 0 { RET_A } else { RET_K }, random.next()));
    insns
}

#[test]
fn what_linux_takes_means_the_same_everywhere() {
    let mut random = Lcg(7);
    let (mut programs, mut comparisons) = (0, 0);
    for _ in 0..20_000 {
        let insns = likely(&mut random);
        let Ok(program) = validate(&insns, &LINUX) else { continue };
        programs += 1;
        for _ in 0..4 {
            let packet = random.packet();
            let wirelen = packet.len() as u32 + random.below(3) * 100;
            let Some(expected) = by_the_book(&insns, &packet, wirelen) else { continue };
            assert_eq!(program.run(&packet, wirelen), expected, "Linux\n{}", disasm(&insns));
            for rules in ALL {
                let Ok(program) = validate(&insns, rules) else {
                    assert!(!rules.mod_xor, "{} refuses what Linux takes\n{}", rules.name, disasm(&insns));
                    continue;
                };
                let results = [program.run(&packet, wirelen), program.run_contiguous(&packet, wirelen)];
                assert_eq!(results, [expected; 2], "{}\n{}{packet:02x?}", rules.name, disasm(&insns));
                comparisons += 1;
            }
        }
    }
    assert!(programs > 5_000 && comparisons > 50_000, "too few to mean anything: {programs}, {comparisons}");
}

#[test]
fn nothing_panics_whatever_the_program() {
    let mut random = Lcg(11);
    for round in 0..40_000 {
        let insns: Vec<Insn> = match round % 3 {
            0 => (0..random.below(20))
                .map(|_| {
                    Insn::new(random.next() as u16, random.next() as u8, random.next() as u8, random.next())
                })
                .collect(),
            1 => (0..random.below(20))
                .map(|_| {
                    Insn::new(
                        random.below(256) as u16,
                        random.below(4) as u8,
                        random.below(4) as u8,
                        random.next() >> random.below(32),
                    )
                })
                .collect(),
            // One thing changed in a good program.
            _ => {
                let mut insns = likely(&mut random);
                let at = random.below(insns.len() as u32) as usize;
                match random.below(4) {
                    0 => insns[at].code ^= 1 << random.below(16),
                    1 => insns[at].jt = random.next() as u8,
                    2 => insns[at].jf = random.next() as u8,
                    _ => insns[at].k = random.next(),
                }
                insns
            }
        };
        let packet = random.packet();
        disasm(&insns);
        for rules in ALL {
            let results = [
                interpret(&insns, &packet, random.next(), rules),
                interpret_contiguous(&insns, &packet, 1, rules),
            ];
            if let Err(reject) = validate(&insns, rules) {
                assert!(
                    !reject.to_string().is_empty() && reject.pc.is_none_or(|pc| pc < insns.len()),
                    "{results:?}"
                );
            }
        }
    }
}
