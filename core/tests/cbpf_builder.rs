//! The assembler: every method's instruction, and every jump it refuses.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::builder::{At, BuildError, Builder, Operand, Target};
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn, LINUX, NETBSD, Reason, disasm};

#[test]
fn each_method_is_its_instruction() {
    let mut b = Builder::new();
    b.ld(At::Abs(1)).ldh(At::Abs(2)).ldb(At::Abs(3));
    b.ld(At::Ind(4)).ldh(At::Ind(5)).ldb(At::Ind(6));
    b.ld_len().ld_imm(7).ld_mem(8).ldx_imm(9).ldx_mem(10).ldx_len().ldx_msh(11).st(12).stx(13);
    b.add(1).sub(2).mul(3).div(4).rem(5).and(6).or(7).xor(8).lsh(9).rsh(10);
    let x = Operand::X;
    b.add(x).sub(x).mul(x).div(x).rem(x).and(x).or(x).xor(x).lsh(x).rsh(x).neg();
    let next = Target::Next;
    b.jgt(1, next, next).jge(2, next, next).jeq(3, next, next).jset(4, next, next);
    b.jgt(x, next, next).jge(x, next, next).jeq(x, next, next).jset(x, next, next);
    b.ret(5).ret_a().tax().txa();
    #[rustfmt::skip]
    let expected = [
        (LD_W_ABS, 1), (LD_H_ABS, 2), (LD_B_ABS, 3), (LD_W_IND, 4), (LD_H_IND, 5), (LD_B_IND, 6),
        (LD_W_LEN, 0), (LD_IMM, 7), (LD_MEM, 8), (LDX_IMM, 9), (LDX_MEM, 10), (LDX_W_LEN, 0), (LDX_B_MSH, 11),
        (ST_MEM, 12), (STX_MEM, 13),
        (ADD_K, 1), (SUB_K, 2), (MUL_K, 3), (DIV_K, 4), (MOD_K, 5), (AND_K, 6), (OR_K, 7), (XOR_K, 8),
        (LSH_K, 9), (RSH_K, 10),
        (ADD_X, 0), (SUB_X, 0), (MUL_X, 0), (DIV_X, 0), (MOD_X, 0), (AND_X, 0), (OR_X, 0), (XOR_X, 0),
        (LSH_X, 0), (RSH_X, 0), (NEG_A, 0),
        (JGT_K, 1), (JGE_K, 2), (JEQ_K, 3), (JSET_K, 4), (JGT_X, 0), (JGE_X, 0), (JEQ_X, 0), (JSET_X, 0),
        (RET_K, 5), (RET_A, 0), (MISC_TAX, 0), (MISC_TXA, 0),
    ];
    let expected: Vec<Insn> = expected.iter().map(|(code, k)| Insn::stmt(*code, *k)).collect();
    assert_eq!(b.insns().unwrap(), expected);
    let missing: Vec<u16> =
        OPCODES.iter().copied().filter(|code| expected.iter().all(|insn| insn.code != *code)).collect();
    assert_eq!(missing, [JA_K], "every instruction but `ja`, which needs a label, was built");
}

#[test]
fn labels_become_offsets() {
    let mut b = Builder::new();
    let (skip, end) = (b.label(), b.label());
    b.ld_len().jgt(100, skip, Target::Next).ja(end).put(skip).jset(Operand::X, end, Target::Next);
    b.ret(1).put(end).ret(0);
    assert_eq!(
        disasm(&b.insns().unwrap()),
        "(000) ld       #pktlen\n(001) jgt      #0x64            jt 3\tjf 2\n(002) ja       5\n\
         (003) jset     x                jt 5\tjf 4\n(004) ret      #1\n(005) ret      #0\n"
    );
    let program = b.program(&NETBSD).unwrap();
    assert_eq!((program.run(&[], 101), program.run(&[], 100)), (1, 0));
}

#[test]
fn what_cannot_be_jumped_to_is_named() {
    let mut b = Builder::new();
    let nowhere = b.label();
    b.ld_len().jeq(1, Target::Next, nowhere).ret(0);
    let error = b.insns().unwrap_err();
    assert_eq!(error, BuildError::Unresolved { pc: 1 });
    assert_eq!(
        error.to_string(),
        "instruction (001) jumps to a label that stands nowhere; put() it before an instruction"
    );

    let mut b = Builder::new();
    let top = b.label();
    b.put(top).ld_len().ja(top).ret(0);
    let error = b.insns().unwrap_err();
    assert_eq!(error, BuildError::Backward { pc: 1, target: 0 });
    assert_eq!(error.to_string(), "instruction (001) jumps back to (000); a jump only goes forward");

    let mut b = Builder::new();
    let own = b.label();
    b.put(own).jeq(1, own, Target::Next).ret(0);
    assert_eq!(b.insns(), Err(BuildError::Backward { pc: 0, target: 0 }), "a jump to itself");

    let mut b = Builder::new();
    let twice = b.label();
    b.ja(twice).put(twice).ret(0).put(twice).ret(1).put(twice).ret(2);
    let error = b.insns().unwrap_err();
    assert_eq!(error, BuildError::Twice { first: 1, second: 2 });
    assert_eq!(error.to_string(), "a label stands before (001) and before (002); use two labels");
}

#[test]
fn a_label_of_another_builder_stands_nowhere() {
    let mut other = Builder::new();
    let _ = other.label();
    let foreign = other.label();
    let mut b = Builder::new();
    b.ja(foreign).put(foreign).ret(0);
    assert_eq!(b.insns(), Err(BuildError::Unresolved { pc: 0 }));
}

#[test]
fn a_conditional_jump_gets_over_255_instructions_and_ja_over_any_number() {
    let build = |between: usize, conditional: bool| {
        let mut b = Builder::new();
        let end = b.label();
        if conditional {
            b.jeq(1, Target::Next, end)
        } else {
            b.ja(end)
        };
        for _ in 0..between {
            b.tax();
        }
        b.put(end).ret(0);
        b.insns()
    };
    assert_eq!(build(255, true).unwrap()[0].jf, 255);
    let error = build(256, true).unwrap_err();
    assert_eq!(error, BuildError::TooFar { pc: 0, target: 257 });
    assert_eq!(
        error.to_string(),
        "instruction (000) jumps to (257), over 256 instructions and a conditional jump gets over 255; \
         jump to a `ja` nearer by"
    );
    assert_eq!(build(300, false).unwrap()[0], Insn::stmt(JA_K, 300));
}

#[test]
fn the_validator_has_the_last_word() {
    let mut b = Builder::new();
    b.ld_mem(3).ret_a();
    let Err(BuildError::Reject(reject)) = b.program(&LINUX) else { panic!("M[3] is not stored") };
    assert_eq!((reject.pc, reject.reason), (Some(0), Reason::MemoryNotStored { k: 3 }));
    let error = b.program(&LINUX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "instruction (000): M[3] is read, but not stored on every path to here; store it first"
    );
    assert_eq!(Builder::new().insns(), Ok(vec![]));

    // A label behind the last instruction: the jump leads outside.
    let mut b = Builder::new();
    let end = b.label();
    b.ja(end).ret(0).put(end);
    assert!(matches!(b.program(&LINUX), Err(BuildError::Reject(_))));
}
