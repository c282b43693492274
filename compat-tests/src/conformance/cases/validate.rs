//! What a filter program may contain: one case for each rule of bpf_validate.

use bpfdev_core::cbpf::Insn;

use crate::conformance::case::Case;
use crate::conformance::scene::set_f;
use crate::conformance::system::{Per, per};

const RULE: &str = "bpf(4), FILTER MACHINE; sys/net/bpf_filter.c, bpf_validate";

const GOOD: Per<&str> = per("ok", "ok", "ok", "ok", "ok");
const BAD: Per<&str> = per("EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL");
/// FreeBSD knows exactly its 49 codes; the others look at classes and modes.
const JUNK: Per<&str> = per("EINVAL", "ok", "ok", "ok", "ok");
/// The same as the last instruction, which NetBSD wants to be `ret #k` or `ret a`.
const JUNK_AT_THE_END: Per<&str> = per("EINVAL", "EINVAL", "ok", "ok", "ok");
/// Instructions that came to FreeBSD and NetBSD later.
const MOD_XOR: Per<&str> = per("ok", "ok", "EINVAL", "EINVAL", "EINVAL");

/// `code k`, then `ret #k`.
fn one(code: u16, k: u32) -> Vec<Insn> {
    vec![Insn::stmt(code, k), Insn::stmt(0x06, 60)]
}

fn last(code: u16) -> Vec<Insn> {
    vec![Insn::stmt(code, 0)]
}

fn jump(code: u16, jt: u8, jf: u8) -> Vec<Insn> {
    vec![Insn::jump(code, 0, jt, jf), Insn::stmt(0x06, 60)]
}

type Row = (&'static str, &'static str, Vec<Insn>, Per<&'static str>);

fn rows() -> Vec<Row> {
    let (mem0, ret) = (Insn::stmt(0x60, 0), Insn::stmt(0x06, 60));
    let store0 = Insn::stmt(0x02, 0);
    vec![
        ("ret_k", "`ret #k` is a program", last(0x06), GOOD),
        ("ret_a", "`ret a` is a program", last(0x16), GOOD),
        ("no_return", "A program must end with a return", last(0x00), BAD),
        ("ret_x_last", "`ret x` at the end", last(0x0e), JUNK_AT_THE_END),
        ("ret_x", "`ret x` before the end", one(0x0e, 0), JUNK),
        ("ret_1e_last", "A return of no known source at the end", last(0x1e), JUNK_AT_THE_END),
        ("ret_high_bits_last", "A return with high bits at the end", last(0x8006), JUNK_AT_THE_END),
        ("ret_high_bits", "A return with high bits before the end", one(0x8006, 0), JUNK),
        ("code_high_bits", "A code with high bits", one(0x8000, 0), JUNK),
        ("mod_k", "`mod #k`", one(0x94, 3), MOD_XOR),
        ("mod_x", "`mod x`", one(0x9c, 0), MOD_XOR),
        ("xor_k", "`xor #k`", one(0xa4, 3), MOD_XOR),
        ("xor_x", "`xor x`", one(0xac, 0), MOD_XOR),
        (
            "random",
            "`ld #random` is OpenBSD's",
            one(0xc0, 0),
            per("EINVAL", "EINVAL", "ok", "EINVAL", "EINVAL"),
        ),
        ("cop", "NetBSD's coprocessor call is the kernel's own", one(0x27, 0), JUNK_AT_THE_END),
        ("copx", "So is the one by X", one(0x47, 0), JUNK_AT_THE_END),
        ("misc_junk", "A MISC code without meaning", one(0x17, 0), JUNK),
        ("neg_x", "`neg` with the X bit", one(0x8c, 0), JUNK),
        ("ld_half_memory", "A half-word load of memory", vec![store0, Insn::stmt(0x68, 0), ret], JUNK),
        ("ld_half_immediate", "A half-word load of a constant", one(0x08, 0), JUNK),
        ("ldx_absolute", "`ldx` of a packet word", one(0x21, 0), JUNK),
        ("ld_msh", "`ld` of an IP header length", one(0xb0, 0), JUNK),
        ("st_with_bits", "A store with other bits", one(0x0a, 0), JUNK),
        ("ja_with_x", "`ja` with the X bit", one(0x0d, 0), JUNK),
        ("ld_mode_e0", "A load of no known mode", one(0xe0, 0), BAD),
        ("alu_reserved", "An ALU operation that does not exist", one(0xb4, 1), BAD),
        ("jump_reserved", "A jump that does not exist", one(0x55, 0), BAD),
        ("tax", "`tax`", one(0x07, 0), GOOD),
        ("txa", "`txa`", one(0x87, 0), GOOD),
        ("ld_length", "`ld #pktlen`", one(0x80, 0), GOOD),
        ("ldx_length", "`ldx #pktlen`", one(0x81, 0), GOOD),
        ("ldx_msh", "`ldxb 4*([k]&0xf)`", one(0xb1, 14), GOOD),
        ("neg", "`neg`", one(0x84, 0), GOOD),
        ("ja_next", "`ja` to the next instruction", one(0x05, 0), GOOD),
        ("ja_out", "`ja` past the end", one(0x05, 1), BAD),
        ("ja_back", "`ja` backwards", one(0x05, u32::MAX), BAD),
        ("jump_next", "A conditional jump to the next instruction", jump(0x15, 0, 0), GOOD),
        ("jump_true_out", "A true branch past the end", jump(0x15, 1, 0), BAD),
        ("jump_false_out", "A false branch past the end", jump(0x15, 0, 1), BAD),
        ("store_last_word", "M[15] is the last word of memory", one(0x02, 15), GOOD),
        ("store_beyond", "M[16] is none", one(0x02, 16), BAD),
        ("stx_beyond", "Nor for X", one(0x03, 16), BAD),
        ("load_beyond", "Nor can it be loaded", one(0x60, 16), BAD),
        ("ldx_beyond", "Nor into X", one(0x61, 16), BAD),
        (
            "load_never_stored",
            "NetBSD refuses to load memory that was never stored; elsewhere it is 0",
            one(0x60, 0),
            per("ok", "EINVAL", "ok", "ok", "ok"),
        ),
        (
            "load_stored_on_one_path",
            "The same where only one path stores it",
            vec![Insn::jump(0x15, 0, 0, 1), store0, mem0, ret],
            per("ok", "EINVAL", "ok", "ok", "ok"),
        ),
        (
            "load_stored_on_both_paths",
            "What every path stores can be loaded",
            vec![Insn::jump(0x15, 0, 0, 1), store0, store0, mem0, ret],
            per("ok", "ok", "ok", "ok", "ok"),
        ),
        ("div_by_zero", "Division by the constant 0", one(0x34, 0), BAD),
        ("div_by_x", "Division by X", one(0x3c, 0), GOOD),
        ("mod_by_zero", "The remainder by the constant 0", one(0x94, 0), BAD),
        ("lsh_32", "A shift by 32 is allowed", one(0x64, 32), GOOD),
        ("rsh_99", "So is one by 99", one(0x74, 99), GOOD),
        ("absolute_524287", "An offset below 512 KiB", one(0x20, 524_287), GOOD),
        (
            "absolute_524288",
            "Offsets are below the largest buffer (DragonFly, macOS: 512 KiB)",
            one(0x20, 524_288),
            per("ok", "ok", "ok", "EINVAL", "EINVAL"),
        ),
        (
            "absolute_2097151",
            "OpenBSD's largest buffer has 2 MiB",
            one(0x20, 2_097_151),
            per("ok", "ok", "ok", "EINVAL", "EINVAL"),
        ),
        (
            "absolute_2097152",
            "An offset of 2 MiB",
            one(0x20, 2_097_152),
            per("ok", "ok", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "indirect_2097152",
            "The same, behind X",
            one(0x40, 2_097_152),
            per("ok", "ok", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "msh_2097152",
            "The same of an IP header length",
            one(0xb1, 2_097_152),
            per("ok", "ok", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "linux_ancillary",
            "Linux's ancillary offsets are offsets like others",
            one(0x20, 0xffff_f000),
            per("ok", "ok", "EINVAL", "EINVAL", "EINVAL"),
        ),
        ("unreachable", "Code that is never reached", vec![ret, Insn::stmt(0x00, 1), ret], GOOD),
        ("unreachable_division", "It is looked at all the same", vec![ret, Insn::stmt(0x34, 0), ret], BAD),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    let case = |(id, title, program, expected): Row| {
        Case::new(format!("validate::{id}"), title, RULE, move |s| {
            let bpf = s.open()?;
            s.request(&bpf, set_f(&program), expected)
        })
    };
    rows().into_iter().map(case).collect()
}
