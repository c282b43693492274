//! Each system's validator, rule by rule.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{
    DRAGONFLY, FREEBSD, Insn, LINUX, LINUX_ABI, MACOS, NETBSD, OPENBSD, Reason, Reject, Rules, skb, validate,
};

/// FreeBSD, NetBSD, OpenBSD, DragonFly, macOS, Linux.
const SYSTEMS: [(char, &Rules); 6] =
    [('F', &FREEBSD), ('N', &NETBSD), ('O', &OPENBSD), ('D', &DRAGONFLY), ('M', &MACOS), ('L', &LINUX)];

fn accepters(insns: &[Insn]) -> String {
    let verdicts = SYSTEMS.iter().filter(|(_, rules)| validate(insns, rules).is_ok());
    verdicts.map(|(letter, _)| *letter).collect()
}

fn stmt(code: u16, k: u32) -> Insn {
    Insn::stmt(code, k)
}

const RET0: Insn = Insn::stmt(RET_K, 0);

#[test]
fn the_table_of_rules() {
    let junk = |code| vec![stmt(code, 0), RET0];
    let last = |code| vec![stmt(code, 0)];
    let one = |code, k| vec![stmt(code, k), RET0];
    let jump = |jt, jf| vec![Insn::jump(JEQ_K, 0, jt, jf), RET0, RET0];
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<Insn>, &str)> = vec![
        ("length 0",                   vec![],                          "F"),
        ("length 1",                   vec![RET0],                      "FNODML"),
        ("length 512",                 vec![RET0; 512],                 "FNODML"),
        ("length 513",                 vec![RET0; 513],                 "L"),
        ("length 4096",                vec![RET0; 4096],                "L"),
        ("length 4097",                vec![RET0; 4097],                ""),
        ("last: ret a",                last(RET_A),                     "FNODML"),
        ("last: ret x",                last(RET | X),                   "ODM"),
        ("last: 0x1e",                 last(0x1e),                      "ODM"),
        ("last: 0x8006",               last(0x8006),                    "ODM"),
        ("last: a load",               last(LD_IMM),                    ""),
        ("last: a jump",               last(JA_K),                      ""),
        ("ret x before the last",      junk(RET | X),                   "NODM"),
        ("upper byte",                 junk(0x8000),                    "NODM"),
        ("upper byte 0x106",           junk(0x106),                     "NODM"),
        ("neg with X",                 junk(ALU | NEG | X),             "NODM"),
        ("ld h imm",                   junk(LD | H | IMM),              "NODM"),
        ("ldx abs",                    junk(LDX | ABS),                 "NODM"),
        ("ld msh",                     junk(LD | B | MSH),              "NODM"),
        ("ja with X",                  junk(JA_K | X),                  "NODM"),
        ("st 0x0a",                    junk(0x0a),                      "NODM"),
        ("unknown MISC",               junk(MISC | 0x08),               "NODM"),
        ("COP",                        junk(MISC | COP),                "ODM"),
        ("COPX",                       junk(MISC | COPX),               "ODM"),
        ("COP with the upper byte",    junk(0x8000 | MISC | COP),       "ODM"),
        ("MOD",                        one(MOD_K, 3),                   "FNL"),
        ("MOD by X",                   one(MOD_X, 0),                   "FNL"),
        ("XOR",                        one(XOR_K, 3),                   "FNL"),
        ("RND",                        junk(LD_RND),                    "O"),
        ("load mode 0xe0",             junk(0xe0),                      ""),
        ("ALU operation 0xb0",         junk(0xb4),                      ""),
        ("JMP operation 0x50",         junk(0x55),                      ""),
        ("ja to the last",             vec![stmt(JA_K, 1), RET0, RET0], "FNODML"),
        ("ja past the last",           vec![stmt(JA_K, 2), RET0, RET0], ""),
        ("ja backwards by overflow",   vec![RET0, stmt(JA_K, u32::MAX), RET0], ""),
        ("ja to itself by overflow",   vec![stmt(JA_K, u32::MAX), RET0], ""),
        ("jt past the last",           jump(2, 0),                      ""),
        ("jf past the last",           jump(0, 2),                      ""),
        ("jumps inside",               jump(1, 0),                      "FNODML"),
        ("a bad jump unreachable",     vec![RET0, stmt(JA_K, 9), RET0], ""),
        ("unreachable code",           vec![RET0, stmt(LD_IMM, 9), RET0], "FNODML"),
        ("st M[15]",                   one(ST_MEM, 15),                 "FNODML"),
        ("st M[16]",                   one(ST_MEM, 16),                 ""),
        ("stx M[16]",                  one(STX_MEM, 16),                ""),
        ("ld M[16]",                   one(LD_MEM, 16),                 ""),
        ("ldx M[max]",                 one(LDX_MEM, u32::MAX),          ""),
        ("ld M[] stored",              vec![stmt(STX_MEM, 3), stmt(LD_MEM, 3), RET0], "FNODML"),
        ("ld M[] never stored",        one(LD_MEM, 3),                  "FODM"),
        ("ldx M[] never stored",       one(LDX_MEM, 3),                 "FODM"),
        ("ld M[] stored on one path",
            vec![Insn::jump(JEQ_K, 0, 0, 1), stmt(ST_MEM, 2), stmt(LD_MEM, 2), RET0], "FODM"),
        ("ld M[] stored on both paths",
            vec![Insn::jump(JEQ_K, 0, 0, 2), stmt(ST_MEM, 2), stmt(JA_K, 1), stmt(ST_MEM, 2), stmt(LD_MEM, 2), RET0],
            "FNODML"),
        ("ld M[] not stored, after a return", vec![RET0, stmt(LD_MEM, 2), RET0], "FODM"),
        ("ld M[] not stored, after a jump over it",
            vec![stmt(JA_K, 1), stmt(LD_MEM, 2), RET0], "FNODML"),
        ("div by 0",                   one(DIV_K, 0),                   ""),
        ("mod by 0",                   one(MOD_K, 0),                   ""),
        ("div by 0, unreachable",      vec![RET0, stmt(DIV_K, 0), RET0], ""),
        ("div by X",                   one(DIV_X, 0),                   "FNODML"),
        ("lsh 31",                     one(LSH_K, 31),                  "FNODML"),
        ("lsh 32",                     one(LSH_K, 32),                  "FNODM"),
        ("rsh max",                    one(RSH_K, u32::MAX),            "FNODM"),
        ("lsh x, k ignored",           one(LSH_X, 32),                  "FNODML"),
        ("ld [524287]",                one(LD_W_ABS, 524_287),          "FNODML"),
        ("ld [524288]",                one(LD_W_ABS, 524_288),          "FNOL"),
        ("ldb [x + 2 MiB]",            one(LD_B_IND, 2 << 20),          "FNL"),
        ("ldxb msh at 2 MiB",          one(LDX_B_MSH, 2 << 20),         "FNL"),
        ("ldh [0x80000000]",           one(LD_H_ABS, 0x8000_0000),      "FNL"),
        ("ancillary",                  one(LD_H_ABS, skb::AD_VLAN_TAG), "FNL"),
        ("unknown ancillary",          one(LD_B_ABS, skb::AD_OFF + 1),  "FN"),
        ("past the ancillaries",       one(LD_B_ABS, skb::AD_OFF + 64), "FN"),
        ("ind at an ancillary's",      one(LD_B_IND, skb::AD_OFF + 1),  "FNL"),
        ("msh at an ancillary's",      one(LDX_B_MSH, skb::AD_OFF + 1), "FNL"),
    ];
    for (rule, insns, expected) in table {
        assert_eq!(accepters(&insns), expected, "{rule}");
        let dialect = validate(&insns, &LINUX_ABI).is_ok();
        assert_eq!(dialect, expected.starts_with('F'), "{rule}: the linux dialect validates as FreeBSD");
    }
}

#[test]
fn all_opcodes_are_valid_and_no_other_is_on_freebsd_and_linux() {
    for code in 0..=u16::MAX {
        // k = 1 and M[1] stored: valid as every operand.
        let insns = [stmt(ST_MEM, 1), stmt(code, 1), RET0, RET0, RET0];
        for rules in [&FREEBSD, &LINUX] {
            assert_eq!(
                validate(&insns, rules).is_ok(),
                OPCODES.contains(&code),
                "{code:#x} on {}",
                rules.name
            );
        }
    }
}

#[test]
fn a_program_remembers_its_instructions_and_rules() {
    let insns = [stmt(LD_W_LEN, 0), stmt(RET_A, 0)];
    let program = validate(&insns, &NETBSD).unwrap();
    assert_eq!((program.insns(), program.len(), program.is_empty()), (&insns[..], 2, false));
    assert_eq!(program.rules(), &NETBSD);
    assert_eq!(program.clone(), program);
    assert_ne!(validate(&insns, &FREEBSD).unwrap(), program, "the same instructions under other rules");
    assert!(validate(&[], &FREEBSD).unwrap().is_empty());
}

#[test]
fn a_reject_says_where_and_what_to_do() {
    #[rustfmt::skip]
    let table: [(&[Insn], &'static Rules, Option<usize>, &str); 12] = [
        (&[], &NETBSD, None,
            "filter program: NetBSD takes no program without instructions; to accept all packets use `ret #-1`"),
        (&[RET0; 513], &FREEBSD, None,
            "filter program: 513 instructions, FreeBSD takes at most 512; simplify the expression"),
        (&[stmt(0x0e, 0), RET0], &LINUX, Some(0),
            "instruction (000): code 0x000e is no instruction on Linux; use one of bpf(4)'s"),
        (&[RET0, stmt(TAX, 0)], &OPENBSD, Some(1),
            "instruction (001): the last instruction has code 0x0000; end the program with `ret #k` or `ret a`"),
        (&[stmt(JA_K, 4), RET0], &FREEBSD, Some(0),
            "instruction (000): jump to (005), but the last instruction is (001); a jump only goes forward and stays \
             inside"),
        (&[stmt(ST_MEM, 16), RET0], &FREEBSD, Some(0),
            "instruction (000): M[16] does not exist; use M[0] to M[15]"),
        (&[stmt(LD_MEM, 4), RET0], &NETBSD, Some(0),
            "instruction (000): M[4] is read, but not stored on every path to here; store it first"),
        (&[stmt(DIV_K, 0), RET0], &FREEBSD, Some(0),
            "instruction (000): division by the constant 0; give it another divisor"),
        (&[stmt(LSH_K, 40), RET0], &LINUX, Some(0), "instruction (000): shift by 40; shift by 0 to 31"),
        (&[stmt(LD_W_ABS, 1 << 20), RET0], &MACOS, Some(0),
            "instruction (000): load at offset 1048576, macOS takes offsets below 524288; no packet is that long"),
        (&[stmt(LD_W_ABS, 0xffff_f001), RET0], &LINUX, Some(0),
            "instruction (000): load at 0xfffff001 names no ancillary data; use one of the SKF_AD_ offsets, or an \
             offset below 0xfffff000"),
        (&[stmt(JA_K, u32::MAX), RET0], &NETBSD, Some(0),
            "instruction (000): jump to (4294967296), but the last instruction is (001); a jump only goes forward \
             and stays inside"),
    ];
    for (insns, rules, pc, message) in table {
        let reject = validate(insns, rules).unwrap_err();
        assert_eq!((reject.pc, reject.to_string().as_str()), (pc, message));
    }
    let reject = validate(&[stmt(LD_MEM, 4), RET0], &LINUX).unwrap_err();
    assert_eq!(reject, Reject { pc: Some(0), reason: Reason::MemoryNotStored { k: 4 } });
}
