//! eBPF instructions: `struct bpf_insn` of `<linux/bpf.h>`, and the few codes the translator uses.

use bpfdev_core::cbpf::code::{ALU, B, H, JMP, K, LD, LDX, MEM, ST, STX, W, X};

/// Classes and fields that classic BPF does not have.
pub(super) mod code {
    /// Jumps that compare the low 32 bits (the number of classic `RET`).
    pub const JMP32: u8 = 0x06;
    /// 64-bit arithmetic (the number of classic `MISC`).
    pub const ALU64: u8 = 0x07;
    /// Eight bytes.
    pub const DW: u8 = 0x18;
    /// The mode of an atomic operation; `imm` says which.
    pub const ATOMIC: u8 = 0xc0;
    /// `dst = src`.
    pub const MOV: u8 = 0xb0;
    /// Byte order.
    pub const END: u8 = 0xd0;
    /// To big-endian, on a machine of either order.
    pub const TO_BE: u8 = 0x08;
    /// Jump if not equal.
    pub const JNE: u8 = 0x50;
    /// Jump if lower, unsigned.
    pub const JLT: u8 = 0xa0;
    /// Jump if lower or the same, unsigned.
    pub const JLE: u8 = 0xb0;
    /// A helper call.
    pub const CALL: u8 = 0x80;
    /// The end of the program.
    pub const EXIT: u8 = 0x90;
    /// `src_reg` of a 64-bit constant that is a map.
    pub const PSEUDO_MAP_FD: u8 = 1;
    /// `src_reg` of a 64-bit constant that is the address of a map's value.
    pub const PSEUDO_MAP_VALUE: u8 = 2;
}

/// One eBPF instruction, as bpf(2) takes it.
#[doc(alias = "bpf_insn")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Class, and by that operation and source, or mode and size.
    pub code: u8,
    registers: u8,
    /// A jump's distance in instructions, or a displacement in bytes.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

const _: () = assert!(size_of::<Insn>() == 8 && align_of::<Insn>() == 4);

impl Insn {
    /// An instruction from its fields.
    pub const fn new(code: u8, dst: Reg, src: Reg, off: i16, imm: i32) -> Insn {
        // The two bit-fields of one byte lie in the order of the machine's bytes.
        let (dst, src) = (dst.0 & 15, src.0 & 15);
        let registers = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
        Insn { code, registers, off, imm }
    }

    /// The destination register.
    pub const fn dst(self) -> Reg {
        Reg(if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 })
    }

    /// The source register, or what else stands in its field.
    pub const fn src(self) -> Reg {
        Reg(if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 })
    }

    /// The first half of a 64-bit constant; the second is the next instruction.
    pub const fn is_wide(self) -> bool {
        self.code == LD as u8 | code::DW
    }
}

/// A register, R0 to R10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

pub(super) const R0: Reg = Reg(0);
pub(super) const R1: Reg = Reg(1);
pub(super) const R2: Reg = Reg(2);
pub(super) const R3: Reg = Reg(3);
/// The packet (`struct __sk_buff`); LD_ABS and LD_IND want it in R6.
pub(super) const PACKET: Reg = Reg(6);
/// Classic BPF's accumulator.
pub(super) const ACCUMULATOR: Reg = Reg(7);
/// Classic BPF's index register.
pub(super) const INDEX: Reg = Reg(8);
/// See [`emit`](super::emit).
pub(super) const UNKNOWN: Reg = Reg(9);
/// The frame pointer.
pub(super) const FRAME: Reg = Reg(10);

/// The bits of a classic code are those of an eBPF code of the same name.
const fn byte(code: u16) -> u8 {
    (code & 0xff) as u8
}

/// `dst op= imm` in 32 bits; `op` is one of classic BPF's, or MOV.
pub(super) const fn alu_imm(op: u16, dst: Reg, imm: u32) -> Insn {
    Insn::new(byte(ALU | op | K), dst, R0, 0, imm as i32)
}

/// `dst op= src` in 32 bits.
pub(super) const fn alu(op: u16, dst: Reg, src: Reg) -> Insn {
    Insn::new(byte(ALU | op | X), dst, src, 0, 0)
}

/// `dst op= imm` in 64 bits, `imm` below 2³¹.
pub(super) const fn alu64_imm(op: u16, dst: Reg, imm: u32) -> Insn {
    Insn::new(code::ALU64 | byte(op | K), dst, R0, 0, imm as i32)
}

/// `dst op= src` in 64 bits.
pub(super) const fn alu64(op: u16, dst: Reg, src: Reg) -> Insn {
    Insn::new(code::ALU64 | byte(op | X), dst, src, 0, 0)
}

/// `dst = imm`, the upper half 0.
pub(super) const fn mov_imm(dst: Reg, imm: u32) -> Insn {
    alu_imm(code::MOV as u16, dst, imm)
}

/// `dst = src`, the upper half 0.
pub(super) const fn mov(dst: Reg, src: Reg) -> Insn {
    alu(code::MOV as u16, dst, src)
}

/// The low 16 bits of `dst`, loaded in network order, as a number.
pub(super) const fn from_be16(dst: Reg) -> Insn {
    Insn::new(byte(ALU) | code::END | code::TO_BE, dst, R0, 0, 16)
}

/// `dst = *(u32 *)(src + off)`.
pub(super) const fn load(dst: Reg, src: Reg, off: i16) -> Insn {
    Insn::new(byte(LDX | MEM | W), dst, src, off, 0)
}

/// `*(u32 *)(dst + off) = src`.
pub(super) const fn store(dst: Reg, off: i16, src: Reg) -> Insn {
    Insn::new(byte(STX | MEM | W), dst, src, off, 0)
}

/// `*(u32 *)(dst + off) = imm`.
pub(super) const fn store_imm(dst: Reg, off: i16, imm: u32) -> Insn {
    Insn::new(byte(ST | MEM | W), dst, R0, off, imm as i32)
}

/// `*(u64 *)(dst + off) += src`, atomic.
pub(super) const fn atomic_add(dst: Reg, off: i16, src: Reg) -> Insn {
    Insn::new(byte(STX) | code::ATOMIC | code::DW, dst, src, off, 0)
}

/// R0 = the number of this size ([`W`], [`H`] or [`B`]) at `at` in the packet, or the end of the program with 0.
/// Loses R1 to R5.
pub(super) const fn load_packet(size: u16, at: u32) -> Insn {
    Insn::new(byte(LD | bpfdev_core::cbpf::code::ABS | size), R0, R0, 0, at as i32)
}

/// Likewise at `src`, whose low 32 bits count.
pub(super) const fn load_packet_at(size: u16, src: Reg, off: u32) -> Insn {
    Insn::new(byte(LD | bpfdev_core::cbpf::code::IND | size), R0, src, 0, off as i32)
}

/// R0 = the helper's answer. Loses R1 to R5.
pub(super) const fn call(helper: i32) -> Insn {
    Insn::new(byte(JMP) | code::CALL, R0, R0, 0, helper)
}

/// The end; R0 is the answer.
pub(super) const fn exit() -> Insn {
    Insn::new(byte(JMP) | code::EXIT, R0, R0, 0, 0)
}

/// Both halves of the address of a map's value; the map's fd goes into the first one's `imm`.
pub(super) const fn map_value(dst: Reg, off: u32) -> [Insn; 2] {
    [
        Insn::new(byte(LD) | code::DW, dst, Reg(code::PSEUDO_MAP_VALUE), 0, 0),
        Insn::new(0, R0, R0, 0, off as i32),
    ]
}

/// Both halves of a map.
pub(super) const fn map(dst: Reg, fd: i32) -> [Insn; 2] {
    [Insn::new(byte(LD) | code::DW, dst, Reg(code::PSEUDO_MAP_FD), 0, fd), Insn::new(0, R0, R0, 0, 0)]
}

/// Bytes of a load's size.
pub(super) const fn width(size: u16) -> u32 {
    match size {
        W => 4,
        H => 2,
        B => 1,
        _ => 0,
    }
}
