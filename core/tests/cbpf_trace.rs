//! A traced run tells every step, and returns what the untraced one does.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::trace::{Next, State, Step, Why, trace};
use bpfdev_core::cbpf::{FREEBSD, Insn, NETBSD, OPENBSD, Rules, interpret, validate};

fn told(insns: &[Insn], packet: &[u8], rules: &Rules) -> Vec<String> {
    let trace = trace(insns, packet, 60, rules);
    assert_eq!(trace.snaplen, interpret(insns, packet, 60, rules), "{insns:?}");
    trace.steps.iter().map(|step| format!("{:03} {step}", step.pc)).collect()
}

#[test]
fn each_step_tells_what_changed() {
    let insns = [
        Insn::stmt(LD_H_ABS, 0),
        Insn::jump(JEQ_K, 0x0800, 0, 1),
        Insn::stmt(LDX_B_MSH, 2),
        Insn::stmt(STX_MEM, 15),
        Insn::stmt(ADD_X, 0),
        Insn::stmt(MISC_TAX, 0),
        Insn::stmt(LD_MEM, 15),
        Insn::stmt(ST_MEM, 0),
        Insn::stmt(MISC_TXA, 0),
        Insn::stmt(LDX_IMM, 9),
        Insn::stmt(JA_K, 1),
        Insn::stmt(RET_K, 1),
        Insn::stmt(RET_A, 0),
    ];
    let expected = [
        "000 A = 0x800",
        "001 to (002)",
        "002 X = 0x14",
        "003 M[15] = 0x14",
        "004 A = 0x814",
        "005 X = 0x814",
        "006 A = 0x14",
        "007 M[0] = 0x14",
        "008 A = 0x814",
        "009 X = 0x9",
        "010 to (012)",
        "012 accept 2068 bytes",
    ];
    assert_eq!(told(&insns, &[8, 0, 0x45], &NETBSD), expected);

    let program = validate(&insns, &NETBSD).unwrap();
    let trace = program.trace(&[8, 0, 0x45], 60);
    let mut mem = [0; MEMWORDS];
    mem[15] = 20;
    let before = State { a: 0x800, x: 20, mem };
    let step =
        Step { pc: 4, insn: insns[4], before, after: State { a: 0x814, ..before }, next: Next::Goto(5) };
    assert_eq!(trace.steps[4], step);
    let last = trace.steps.last().unwrap();
    assert_eq!((last.next, last.before), (Next::Return(0x814), last.after));
    assert_eq!(told(&[Insn::stmt(RET_K, 0)], &[], &NETBSD), ["000 reject"]);
}

#[test]
fn what_rejects_without_a_return_says_why() {
    let mut rows = vec![
        (Insn::stmt(LD_W_ABS, 0), Why::Outside { captured: 3 }),
        (Insn::stmt(LD_H_IND, 2), Why::Outside { captured: 3 }),
        (Insn::stmt(LDX_B_MSH, 3), Why::Outside { captured: 3 }),
        (Insn::stmt(DIV_X, 0), Why::ZeroDivisor),
        (Insn::stmt(MOD_K, 0), Why::ZeroDivisor),
        (Insn::stmt(JA_K, 1), Why::Ended),
    ];
    let memory = [LD_MEM, LDX_MEM, ST_MEM, STX_MEM];
    rows.extend(memory.map(|code| (Insn::stmt(code, 16), Why::NoMemory)));
    for code in memory {
        let ended = trace(&[Insn::stmt(code, 15)], &[], 0, &FREEBSD);
        assert_eq!(ended.steps[0].next, Next::Reject(Why::Ended), "{code:#x}");
    }
    rows.extend([0xffff, RET | X, LD | H | MSH].map(|code| (Insn::stmt(code, 0), Why::NoInstruction)));
    for (insn, why) in rows {
        let trace = trace(&[insn, Insn::stmt(RET_K, 9)], &[1, 2, 3], 60, &FREEBSD);
        assert_eq!((trace.snaplen, trace.steps.len()), (0, 1), "{insn:?}");
        assert_eq!(trace.steps[0].next, Next::Reject(why), "{insn:?}");
    }
    // Codes that exist on some systems only.
    for code in [MOD_K, MOD_X, XOR_K, XOR_X] {
        let insns = [Insn::stmt(LDX_IMM, 1), Insn::stmt(code, 1), Insn::stmt(RET_K, 1)];
        assert_eq!(trace(&insns, &[], 0, &FREEBSD).steps.len(), 3);
        let reject = trace(&insns, &[], 0, &OPENBSD).steps[1].next;
        assert_eq!(reject, Next::Reject(Why::NoInstruction));
    }
    for (code, rules, next) in [
        (LD_RND, &OPENBSD, Why::Ended),
        (LD_RND, &FREEBSD, Why::NoInstruction),
        (LD_IMM, &FREEBSD, Why::Ended),
        (LD_W_LEN, &FREEBSD, Why::Ended),
        (MUL_K, &OPENBSD, Why::Ended),
    ] {
        assert_eq!(
            trace(&[Insn::stmt(code, 77)], &[], 0, rules).steps[0].next,
            Next::Reject(next),
            "{code:#x}"
        );
    }
}

#[test]
fn reasons_are_sentences() {
    assert_eq!(
        told(&[Insn::stmt(LD_W_ABS, 9), Insn::stmt(RET_K, 1)], &[0; 12], &NETBSD),
        ["000 reject: a load outside the 12 bytes captured"]
    );
    for (why, text) in [
        (Why::ZeroDivisor, "division by 0"),
        (Why::NoMemory, "no such word of M[]"),
        (Why::NoInstruction, "no such instruction"),
        (Why::Ended, "the program ends without a return"),
    ] {
        assert_eq!(why.to_string(), text);
    }
    assert_eq!(
        told(&[Insn::stmt(JA_K, 9), Insn::stmt(RET_K, 1)], &[], &NETBSD),
        ["000 reject: the program ends without a return"]
    );
}

#[test]
fn no_instructions_are_no_steps() {
    let trace = trace(&[], &[], 0, &FREEBSD);
    assert_eq!((trace.steps.len(), trace.snaplen), (0, u32::MAX));
}
