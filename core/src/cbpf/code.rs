//! Instruction codes: the bits `code` is made of, and the 49 codes that mean something.
//!
//! Numbers are those of `<net/bpf.h>` on every BSD and `<linux/bpf_common.h>`; the C name is the `BPF_` alias.

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $value:expr, $alias:literal;)*) => {
        $($(#[$meta])* #[doc = concat!("`", $alias, "`.")] #[doc(alias = $alias)] pub const $name: u16 = $value;)*
    };
}

// Classes: bits 0-2.
codes! {
    LD = 0x00, "BPF_LD";
    LDX = 0x01, "BPF_LDX";
    ST = 0x02, "BPF_ST";
    STX = 0x03, "BPF_STX";
    ALU = 0x04, "BPF_ALU";
    JMP = 0x05, "BPF_JMP";
    RET = 0x06, "BPF_RET";
    MISC = 0x07, "BPF_MISC";
}

// Sizes of a load: bits 3-4.
codes! {
    W = 0x00, "BPF_W";
    H = 0x08, "BPF_H";
    B = 0x10, "BPF_B";
}

// Modes of a load: bits 5-7.
codes! {
    IMM = 0x00, "BPF_IMM";
    ABS = 0x20, "BPF_ABS";
    IND = 0x40, "BPF_IND";
    MEM = 0x60, "BPF_MEM";
    LEN = 0x80, "BPF_LEN";
    MSH = 0xa0, "BPF_MSH";
    /// OpenBSD only: a random number.
    RND = 0xc0, "BPF_RND";
}

// Operations of ALU and JMP: bits 4-7.
codes! {
    ADD = 0x00, "BPF_ADD";
    SUB = 0x10, "BPF_SUB";
    MUL = 0x20, "BPF_MUL";
    DIV = 0x30, "BPF_DIV";
    OR = 0x40, "BPF_OR";
    AND = 0x50, "BPF_AND";
    LSH = 0x60, "BPF_LSH";
    RSH = 0x70, "BPF_RSH";
    NEG = 0x80, "BPF_NEG";
    MOD = 0x90, "BPF_MOD";
    XOR = 0xa0, "BPF_XOR";
    JA = 0x00, "BPF_JA";
    JEQ = 0x10, "BPF_JEQ";
    JGT = 0x20, "BPF_JGT";
    JGE = 0x30, "BPF_JGE";
    JSET = 0x40, "BPF_JSET";
}

// The second operand: bit 3, for RET bits 3-4.
codes! {
    K = 0x00, "BPF_K";
    X = 0x08, "BPF_X";
    A = 0x10, "BPF_A";
}

// MISC operations: bits 3-7.
codes! {
    TAX = 0x00, "BPF_TAX";
    TXA = 0x80, "BPF_TXA";
    /// NetBSD only: a coprocessor call; refused from user space.
    COP = 0x20, "BPF_COP";
    /// NetBSD only: a coprocessor call; refused from user space.
    COPX = 0x40, "BPF_COPX";
}

/// Words of scratch memory, `M[0]` to `M[15]`.
#[doc(alias = "BPF_MEMWORDS")]
pub const MEMWORDS: usize = 16;
/// Most instructions a BSD accepts (FreeBSD: the default of `net.bpf.maxinsns`).
#[doc(alias = "BPF_MAXINSNS")]
pub const MAXINSNS: usize = 512;

/// The class bits of a code.
#[doc(alias = "BPF_CLASS")]
pub const fn class(code: u16) -> u16 {
    code & 0x07
}
/// The size bits of a load.
#[doc(alias = "BPF_SIZE")]
pub const fn size(code: u16) -> u16 {
    code & 0x18
}
/// The mode bits of a load.
#[doc(alias = "BPF_MODE")]
pub const fn mode(code: u16) -> u16 {
    code & 0xe0
}
/// The operation bits of an ALU or JMP code.
#[doc(alias = "BPF_OP")]
pub const fn op(code: u16) -> u16 {
    code & 0xf0
}
/// The operand bit of an ALU or JMP code.
#[doc(alias = "BPF_SRC")]
pub const fn src(code: u16) -> u16 {
    code & 0x08
}
/// The operand bits of a RET code.
#[doc(alias = "BPF_RVAL")]
pub const fn rval(code: u16) -> u16 {
    code & 0x18
}
/// The operation bits of a MISC code.
#[doc(alias = "BPF_MISCOP")]
pub const fn miscop(code: u16) -> u16 {
    code & 0xf8
}

macro_rules! opcodes {
    ($($name:ident = $value:expr, $text:literal;)*) => {
        $(#[doc = concat!("`", $text, "`")] pub const $name: u16 = $value;)*
        /// Every code that means something: the 49 that FreeBSD's and Linux's validators accept.
        pub static OPCODES: [u16; 49] = [$($name),*];
    };
}

// In the order of bpf(4).
opcodes! {
    LD_W_ABS = LD | W | ABS, "A <- P[k:4]";
    LD_H_ABS = LD | H | ABS, "A <- P[k:2]";
    LD_B_ABS = LD | B | ABS, "A <- P[k:1]";
    LD_W_IND = LD | W | IND, "A <- P[X+k:4]";
    LD_H_IND = LD | H | IND, "A <- P[X+k:2]";
    LD_B_IND = LD | B | IND, "A <- P[X+k:1]";
    LD_W_LEN = LD | W | LEN, "A <- len";
    LD_IMM = LD | IMM, "A <- k";
    LD_MEM = LD | MEM, "A <- M[k]";
    LDX_IMM = LDX | W | IMM, "X <- k";
    LDX_MEM = LDX | W | MEM, "X <- M[k]";
    LDX_W_LEN = LDX | W | LEN, "X <- len";
    LDX_B_MSH = LDX | B | MSH, "X <- 4*(P[k:1]&0xf)";
    ST_MEM = ST, "M[k] <- A";
    STX_MEM = STX, "M[k] <- X";
    ADD_K = ALU | ADD | K, "A <- A + k";
    SUB_K = ALU | SUB | K, "A <- A - k";
    MUL_K = ALU | MUL | K, "A <- A * k";
    DIV_K = ALU | DIV | K, "A <- A / k";
    MOD_K = ALU | MOD | K, "A <- A % k";
    AND_K = ALU | AND | K, "A <- A & k";
    OR_K = ALU | OR | K, "A <- A | k";
    XOR_K = ALU | XOR | K, "A <- A ^ k";
    LSH_K = ALU | LSH | K, "A <- A << k";
    RSH_K = ALU | RSH | K, "A <- A >> k";
    ADD_X = ALU | ADD | X, "A <- A + X";
    SUB_X = ALU | SUB | X, "A <- A - X";
    MUL_X = ALU | MUL | X, "A <- A * X";
    DIV_X = ALU | DIV | X, "A <- A / X";
    MOD_X = ALU | MOD | X, "A <- A % X";
    AND_X = ALU | AND | X, "A <- A & X";
    OR_X = ALU | OR | X, "A <- A | X";
    XOR_X = ALU | XOR | X, "A <- A ^ X";
    LSH_X = ALU | LSH | X, "A <- A << X";
    RSH_X = ALU | RSH | X, "A <- A >> X";
    NEG_A = ALU | NEG, "A <- -A";
    JA_K = JMP | JA, "pc += k";
    JGT_K = JMP | JGT | K, "pc += (A > k) ? jt : jf";
    JGE_K = JMP | JGE | K, "pc += (A >= k) ? jt : jf";
    JEQ_K = JMP | JEQ | K, "pc += (A == k) ? jt : jf";
    JSET_K = JMP | JSET | K, "pc += (A & k) ? jt : jf";
    JGT_X = JMP | JGT | X, "pc += (A > X) ? jt : jf";
    JGE_X = JMP | JGE | X, "pc += (A >= X) ? jt : jf";
    JEQ_X = JMP | JEQ | X, "pc += (A == X) ? jt : jf";
    JSET_X = JMP | JSET | X, "pc += (A & X) ? jt : jf";
    RET_K = RET | K, "accept k bytes";
    RET_A = RET | A, "accept A bytes";
    MISC_TAX = MISC | TAX, "X <- A";
    MISC_TXA = MISC | TXA, "A <- X";
}

/// OpenBSD's `A <- random`; not among [`OPCODES`].
pub const LD_RND: u16 = LD | W | RND;

/// Whether `code` is one of [`OPCODES`].
pub fn is_opcode(code: u16) -> bool {
    OPCODES.contains(&code)
}
