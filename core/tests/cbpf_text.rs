//! `tcpdump -d`, `-dd` and `-ddd`: written as tcpdump 4.99.3 does, and read back.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::Insn;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::text::{Form, TextReason, detect, read, read_as, write};

const FORMS: [Form; 3] = [Form::Listing, Form::C, Form::Decimal];

fn program() -> Vec<Insn> {
    vec![
        Insn::stmt(LD_H_ABS, 12),
        Insn::jump(JEQ_K, 0x800, 0, 2),
        Insn::stmt(LDX_B_MSH, 14),
        Insn::stmt(RET_K, 262_144),
        Insn::stmt(RET_K, 0),
    ]
}

const LISTING: &str = "(000) ldh      [12]\n(001) jeq      #0x800           jt 2\tjf 4\n\
                       (002) ldxb     4*([14]&0xf)\n(003) ret      #262144\n(004) ret      #0\n";
const C: &str = "{ 0x28, 0, 0, 0x0000000c },\n{ 0x15, 0, 2, 0x00000800 },\n{ 0xb1, 0, 0, 0x0000000e },\n\
                 { 0x6, 0, 0, 0x00040000 },\n{ 0x6, 0, 0, 0x00000000 },\n";
const DECIMAL: &str = "5\n40 0 0 12\n21 0 2 2048\n177 0 0 14\n6 0 0 262144\n6 0 0 0\n";

#[test]
fn each_form_is_written_detected_and_read() {
    for (form, text) in [(Form::Listing, LISTING), (Form::C, C), (Form::Decimal, DECIMAL)] {
        assert_eq!(write(&program(), form), text);
        assert_eq!(detect(text), Some(form));
        assert_eq!(read(text), Ok(program()), "{form:?}");
    }
}

#[test]
fn every_instruction_survives_every_form() {
    let ks = [0, 1, 15, 0x7fff_ffff, 0x8000_0000, 0xfffff000, 0xffff_f02c, u32::MAX];
    for code in OPCODES {
        for k in ks {
            let mut insn = Insn::stmt(code, k);
            if insn.is_conditional() {
                (insn.jt, insn.jf) = (255, 7);
            }
            // The listing shows k only where it means something.
            let without_k = class(code) != JMP && src(code) == X && class(code) == ALU
                || insn.is_conditional() && src(code) == X
                || matches!(code, LD_W_LEN | LDX_W_LEN | NEG_A | RET_A | MISC_TAX | MISC_TXA);
            let insns = [Insn::stmt(LD_IMM, 0), insn];
            for form in FORMS {
                let text = write(&insns, form);
                let mut expected = insns;
                if form == Form::Listing && without_k {
                    expected[1].k = 0;
                }
                assert_eq!(read(&text).as_deref(), Ok(&expected[..]), "{text}");
            }
        }
    }
}

#[test]
fn readers_are_kind_to_white_space() {
    #[rustfmt::skip]
    let texts = [
        "\n\n  5 \r\n\n40 0 0 12\r\n 21\t0 2   2048\n177 0 0 14\n6 0 0 262144\n6 0 0 0",
        "{40,0,0,12},{ 0x15,0,2,2048 } ,\n\n  { 0xB1, 0, 0, 0xe },\n{6,0,0,0x40000},{6,0,0,0}",
        "(000) ldh [12]\n\n(001) jeq #2048 jt 2 jf 4\n(002) ldxb 4*([14]&0xf)\n(003) ret #0x40000\n(004) ret #0",
    ];
    for text in texts {
        assert_eq!(read(text), Ok(program()), "{text}");
    }
    // libpcap's listing does not name the register; people do.
    for text in ["(000) ret", "(000) ret a", "(000) ret A"] {
        assert_eq!(read(text), Ok(vec![Insn::stmt(RET_A, 0)]), "{text}");
    }
}

#[test]
fn no_instructions() {
    assert_eq!(write(&[], Form::Decimal), "0\n");
    assert_eq!(read("0\n"), Ok(vec![]));
    for form in FORMS {
        assert_eq!(write(&[], form), if form == Form::Decimal { "0\n" } else { "" });
    }
    assert_eq!(read_as("", Form::C), Ok(vec![]));
}

#[test]
fn an_error_names_the_place_and_what_was_expected() {
    #[rustfmt::skip]
    let table = [
        ("", 1, 1, "`` starts no filter program; give the output of tcpdump -d, -dd or -ddd"),
        ("\n  ip or arp\n", 2, 3, "`ip or arp` starts no filter program; give the output of tcpdump -d, -dd or -ddd"),
        ("2\n6 0 0 0\n", 1, 1, "the first line promises 2 instructions and 1 follow"),
        ("\n 0\n6 0 0 0\n", 2, 2, "the first line promises 0 instructions and 1 follow"),
        ("99999999999\n", 1, 1, "`99999999999` is no number of instructions; give a number from 0 to 4294967295"),
        ("1\n\n  6 0 0\n", 3, 3, "an instruction is four numbers, code jt jf k: here are 3"),
        ("1\n6 0 0 0 0\n", 2, 1, "an instruction is four numbers, code jt jf k: here are 5"),
        ("1\n65536 0 0 0\n", 2, 1, "`65536` is no code; give a number from 0 to 65535"),
        ("1\n6 256 0 0\n", 2, 3, "`256` is no jt; give a number from 0 to 255"),
        ("1\n\t6 0  x 0\n", 2, 7, "`x` is no jf; give a number from 0 to 255"),
        ("1\n6 0 0 -1\n", 2, 7, "`-1` is no k; give a number from 0 to 4294967295"),
        ("1\n6 0 0 +1\n", 2, 7, "`+1` is no k; give a number from 0 to 4294967295"),
        ("1\n6 0 0 0x+1\n", 2, 7, "`0x+1` is no k; give a number from 0 to 4294967295"),
        ("{ 6, 0, 0 },", 1, 1, "an instruction is four numbers, code jt jf k: here are 3"),
        ("{ 6, 0, 0, 0 }, { 6, 0, 0x100, 0 }", 1, 25, "`0x100` is no jf; give a number from 0 to 255"),
        ("{ 6, 0, 0, 0 }, { 6 }", 1, 17, "an instruction is four numbers, code jt jf k: here are 1"),
        ("{ 6, 0, 0, 0 },\n{ 6, 0, 0, 0", 2, 1, "`{ 6, 0, 0, 0` is no initialiser; write `{ code, jt, jf, k },`"),
        ("{ 6, 0, 0, 0 }; x", 1, 15, "`; x` is no initialiser; write `{ code, jt, jf, k },`"),
        ("{ 6, 0, 0, 0 }, é { 6 }", 1, 17, "`é { 6 }` is no initialiser; write `{ code, jt, jf, k },`"),
        ("{ é, 0, 0, 0 }", 1, 3, "`é` is no code; give a number from 0 to 65535"),
        ("{ 6, é, x, 0 }", 1, 6, "`é` is no jt; give a number from 0 to 255"),
        ("(001) ret #0", 1, 1, "`(001)` stands where (000) comes next"),
        ("(000) ret #0\n (000) ret #0", 2, 2, "`(000)` stands where (001) comes next"),
        ("(000)", 1, 6, "`` is no instruction; write it as tcpdump -d does: `(000) ldh [12]`"),
        ("(000) frob #1", 1, 7, "`frob` is no instruction; write it as tcpdump -d does: `(000) ldh [12]`"),
        ("(000) ld #", 1, 10, "`#` is no operand of ld; it takes `[12]` or `[x + 14]` or `#pktlen` or `#0x800` or `M[3]`"),
        ("(000) ldxb  #4294967296", 1, 13, "`#4294967296` is no operand of ldxb; it takes `4*([14]&0xf)`"),
        ("(000) txa #1", 1, 11, "`#1` is no operand of txa; it takes nothing"),
        ("(000) ja", 1, 7, "`` is no operand of ja; it takes `7`"),
        ("(000) and y", 1, 11, "`y` is no operand of and; it takes `#0x800` or `x`"),
        ("(000) sub y", 1, 11, "`y` is no operand of sub; it takes `#96` or `x`"),
        ("(000) unimp    0xe", 1, 16, "`0xe` is no operand of unimp; it takes 0x81 (`ldx #pktlen`)"),
        ("(000) unimp    0x28", 1, 16, "`0x28` is no operand of unimp; it takes 0x81 (`ldx #pktlen`)"),
        ("(000) jeq #1", 1, 13, "`` stands where `jt 2 jf 5` comes next"),
        ("(000) jeq #1 jt 1", 1, 14, "`jt 1` stands where `jt 2 jf 5` comes next"),
        ("(000) ret #1 jt 1 jf 2", 1, 14, "`jt 1 jf 2` stands where the end of the line comes next"),
        ("(000) jeq #1 jt 0 jf 2", 1, 17, "`0` is no target; jt and jf go forward by at most 256 instructions"),
        ("(000) jeq #1 jt 1 jf 257", 1, 22, "`257` is no target; jt and jf go forward by at most 256 instructions"),
    ];
    for (text, line, column, message) in table {
        let error = read(text).unwrap_err();
        assert_eq!(
            (error.line, error.column, &*error.reason.to_string()),
            (line, column, message),
            "{text:?}"
        );
    }
    let error = read("1\n6 0 0\n").unwrap_err();
    assert_eq!(error.reason, TextReason::Fields(3));
    assert_eq!(
        error.to_string(),
        "line 2, column 1: an instruction is four numbers, code jt jf k: here are 3"
    );
}

#[test]
fn junk_never_panics() {
    let pieces = [
        "(000)", "(", ")", "{", "}", ",", " ", "\n", "6", "0x", "-", "jeq", "jt ", "jf ", "#", "[", "]", "é",
        "M[",
    ];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        let _ = read(&text);
        for form in FORMS {
            let _ = read_as(&text, form);
        }
    }
}
