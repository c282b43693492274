//! The filter machine: how much of one frame a program lets through.

use bpfdev_core::cbpf::Insn;

use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::records::Record;
use crate::conformance::scene::{Stop, set_f};
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, per};

const RULE: &str = "bpf(4), FILTER MACHINE; sys/net/bpf_filter.c, bpf_filter";

/// A frame of 60 bytes is sent. Byte 14 is 0, byte 15 is 1, and byte n from 16 on is n + 1.
type Row = (&'static str, &'static str, Vec<Insn>, Per<&'static str>);

const fn stmt(code: u16, k: u32) -> Insn {
    Insn::stmt(code, k)
}

/// `ret a`.
const RET_A: Insn = stmt(0x16, 0);
/// `ret #20`, `ret #0`: what a test jumps to.
const YES: Insn = stmt(0x06, 20);
const NO: Insn = stmt(0x06, 0);

/// All let 20 bytes through.
const TWENTY: Per<&str> = per("20", "20", "20", "20", "20");
const NOTHING: Per<&str> = per("nothing", "nothing", "nothing", "nothing", "nothing");

/// A test whose true branch is to be taken.
fn test(load: &[Insn], code: u16, k: u32) -> Vec<Insn> {
    [load, &[Insn::jump(code, k, 0, 1), YES, NO]].concat()
}

fn rows() -> Vec<Row> {
    let ld = |k: u32| stmt(0x00, k);
    let ldx = |k: u32| stmt(0x01, k);
    vec![
        (
            "ret_all",
            "The largest result is the whole frame",
            vec![stmt(0x06, u32::MAX)],
            per("60", "60", "60", "60", "60"),
        ),
        ("ret_none", "0 rejects", vec![stmt(0x06, 0)], NOTHING),
        ("ret_one", "1 is one byte", vec![stmt(0x06, 1)], per("1", "1", "1", "1", "1")),
        ("a_starts_zero", "A is 0 at the start", vec![stmt(0x04, 20), RET_A], TWENTY),
        ("x_starts_zero", "So is X", vec![stmt(0x87, 0), stmt(0x04, 20), RET_A], TWENTY),
        ("load_byte", "`ldb [19]` loads a byte", vec![stmt(0x30, 19), RET_A], TWENTY),
        (
            "load_half",
            "`ldh [14]` loads in network order",
            vec![stmt(0x28, 14), stmt(0x04, 19), RET_A],
            TWENTY,
        ),
        (
            "load_word",
            "`ld [14]` loads in network order",
            vec![stmt(0x20, 14), stmt(0x74, 16), stmt(0x04, 19), RET_A],
            TWENTY,
        ),
        (
            "load_length",
            "`ld #pktlen` is the frame's length",
            vec![stmt(0x80, 0), stmt(0x14, 40), RET_A],
            TWENTY,
        ),
        (
            "ldx_length",
            "`ldx #pktlen` too",
            vec![stmt(0x81, 0), stmt(0x87, 0), stmt(0x14, 40), RET_A],
            TWENTY,
        ),
        ("load_indirect", "`ldb [x + 17]`", vec![ldx(2), stmt(0x50, 17), RET_A], TWENTY),
        (
            "load_last_byte",
            "The last byte can be loaded",
            vec![stmt(0x30, 59), stmt(0x14, 40), RET_A],
            TWENTY,
        ),
        ("byte_past_the_end", "A byte past the end rejects", vec![stmt(0x30, 60), YES], NOTHING),
        ("word_past_the_end", "So does a word that is partly past it", vec![stmt(0x20, 57), YES], NOTHING),
        (
            "half_past_the_end",
            "So does a half-word; FreeBSD and DragonFly load 0 and go on",
            vec![stmt(0x28, 60), stmt(0x04, 20), RET_A],
            per("20", "nothing", "nothing", "20", "nothing").linux("nothing"),
        ),
        (
            "half_partly_past_the_end",
            "The same of one that is partly past it",
            vec![stmt(0x28, 59), stmt(0x04, 20), RET_A],
            per("20", "nothing", "nothing", "20", "nothing").linux("nothing"),
        ),
        (
            "indirect_past_the_end",
            "An indirect load past the end rejects",
            vec![ldx(50), stmt(0x50, 17), YES],
            NOTHING,
        ),
        (
            "indirect_wraps",
            "X + k past 2^32 begins again at 0, but on NetBSD",
            vec![ldx(u32::MAX), stmt(0x50, 20), RET_A],
            per("20", "nothing", "20", "20", "20"),
        ),
        (
            "linux_ancillary",
            "Linux's ancillary offsets are past the end",
            vec![stmt(0x20, 0xffff_f000), YES],
            per("nothing", "nothing", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "msh",
            "`ldxb 4*([19]&0xf)` is four times the low bits",
            vec![stmt(0xb1, 19), stmt(0x87, 0), stmt(0x04, 4), RET_A],
            TWENTY,
        ),
        ("msh_keeps_a", "It leaves A alone", vec![ld(20), stmt(0xb1, 19), RET_A], TWENTY),
        ("msh_past_the_end", "Past the end it rejects", vec![stmt(0xb1, 60), YES], NOTHING),
        ("add_wraps", "Addition is modulo 2^32", vec![ld(u32::MAX), stmt(0x04, 21), RET_A], TWENTY),
        ("add_x", "`add x`", vec![ldx(13), ld(7), stmt(0x0c, 0), RET_A], TWENTY),
        ("sub_wraps", "So is subtraction", vec![ld(1), stmt(0x14, u32::MAX - 18), RET_A], TWENTY),
        ("mul", "`mul #4`", vec![ld(5), stmt(0x24, 4), RET_A], TWENTY),
        ("div", "`div #2` rounds down", vec![ld(41), stmt(0x34, 2), RET_A], TWENTY),
        (
            "div_is_unsigned",
            "Division is unsigned",
            vec![ld(0xa000_0000), stmt(0x34, 0x0800_0000), RET_A],
            TWENTY,
        ),
        ("div_by_x_zero", "Division by X = 0 rejects", vec![ld(20), stmt(0x3c, 0), YES], NOTHING),
        (
            "mod",
            "`mod #21`",
            vec![ld(41), stmt(0x94, 21), RET_A],
            per("20", "20", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "mod_by_x_zero",
            "The remainder by X = 0 rejects",
            vec![ld(20), stmt(0x9c, 0), YES],
            per("nothing", "nothing", "EINVAL", "EINVAL", "EINVAL"),
        ),
        (
            "xor",
            "`xor #1`",
            vec![ld(21), stmt(0xa4, 1), RET_A],
            per("20", "20", "EINVAL", "EINVAL", "EINVAL"),
        ),
        ("and", "`and #0x14`", vec![ld(0x3c), stmt(0x54, 0x14), RET_A], TWENTY),
        ("or", "`or #4`", vec![ld(16), stmt(0x44, 4), RET_A], TWENTY),
        ("neg", "`neg` is the two's complement", vec![ld(0xffff_ffec), stmt(0x84, 0), RET_A], TWENTY),
        ("lsh", "`lsh #2`", vec![ld(5), stmt(0x64, 2), RET_A], TWENTY),
        (
            "lsh_33",
            "A constant shift by 33 is one by 1 (amd64, arm64)",
            vec![ld(10), stmt(0x64, 33), RET_A],
            TWENTY,
        ),
        ("rsh_x_33", "So is a shift by X = 33", vec![ldx(33), ld(40), stmt(0x7c, 0), RET_A], TWENTY),
        ("tax_txa", "`tax`, `txa`", vec![ld(20), stmt(0x07, 0), ld(0), stmt(0x87, 0), RET_A], TWENTY),
        (
            "memory",
            "Memory keeps what A stored",
            vec![ld(20), stmt(0x02, 3), ld(0), stmt(0x60, 3), RET_A],
            TWENTY,
        ),
        (
            "memory_of_x",
            "And what X stored",
            vec![ldx(20), stmt(0x03, 15), ldx(0), stmt(0x61, 15), stmt(0x87, 0), RET_A],
            TWENTY,
        ),
        (
            "memory_starts_zero",
            "Memory that was never stored is 0, where it can be loaded",
            vec![ld(7), stmt(0x60, 5), stmt(0x04, 20), RET_A],
            per("20", "EINVAL", "20", "20", "20"),
        ),
        ("jeq", "`jeq #7`", test(&[ld(7)], 0x15, 7), TWENTY),
        ("jeq_x", "`jeq x`", test(&[ldx(7), ld(7)], 0x1d, 0), TWENTY),
        ("jgt_is_unsigned", "`jgt` is unsigned", test(&[ld(u32::MAX)], 0x25, 1), TWENTY),
        ("jgt_is_strict", "`jgt` is not for equals", vec![ld(7), Insn::jump(0x25, 7, 1, 0), YES, NO], TWENTY),
        ("jge", "`jge #7` is for equals", test(&[ld(7)], 0x35, 7), TWENTY),
        ("jge_x", "`jge x`", test(&[ldx(6), ld(7)], 0x3d, 0), TWENTY),
        ("jset", "`jset #4`: any bit", test(&[ld(0x0c)], 0x45, 0x14), TWENTY),
        ("jset_none", "`jset`: no bit", vec![ld(0x03), Insn::jump(0x45, 0x14, 1, 0), YES, NO], TWENTY),
        ("ja", "`ja 1` leaves one out", vec![stmt(0x05, 1), NO, YES], TWENTY),
        (
            "ret_x_reached",
            "`ret x` rejects where it is valid",
            vec![ldx(20), stmt(0x0e, 0)],
            per("EINVAL", "EINVAL", "nothing", "nothing", "nothing"),
        ),
        (
            "junk_reached",
            "A code without meaning rejects when it is reached",
            vec![stmt(0x8c, 0), YES],
            per("EINVAL", "nothing", "nothing", "nothing", "nothing"),
        ),
        (
            "random",
            "OpenBSD loads a random number",
            vec![stmt(0xc0, 0), YES],
            per("EINVAL", "EINVAL", "20", "EINVAL", "EINVAL"),
        ),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    let case = |(id, title, program, expected): Row| {
        Case::new(format!("machine::{id}"), title, RULE, move |s| {
            let bpf = s.tap()?;
            if let Err(refused) = s.ask(&bpf, set_f(&program)) {
                let Stop::Failed(check) = refused else { return Err(refused) };
                return s.check(check.step, expected, check.seen);
            }
            s.happen(Event::Receive(frame(60, 1)))?;
            let seen = match s.read_raw(&bpf, bpf.length()) {
                Err(errno) if errno.name() == "EAGAIN" => "nothing".to_owned(),
                Err(errno) => errno.name().to_owned(),
                Ok(buffer) => captured(s.system(), &buffer),
            };
            s.check("bytes captured", expected, seen)
        })
    };
    rows().into_iter().map(case).collect()
}

fn captured(system: crate::conformance::system::System, buffer: &[u8]) -> String {
    use crate::conformance::records::{layout, walk};
    let records = match walk(buffer, layout(system)) {
        Ok(records) => records,
        Err(malformed) => return malformed.0,
    };
    let words: Vec<_> = records.iter().map(|record: &Record| record.caplen.to_string()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}
