//! One instruction.

use super::code;

/// One filter instruction, as in C.
///
/// A jump counts from the instruction after it: offset 0 is the next one.
#[doc(alias = "bpf_insn")]
#[doc(alias = "sock_filter")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Insn {
    /// Operation: see [`code`].
    pub code: u16,
    /// Offset of a conditional jump when the test is true, in instructions.
    pub jt: u8,
    /// Offset of a conditional jump when the test is false, in instructions.
    pub jf: u8,
    /// The operand: a constant, a byte offset, a memory index or a jump offset.
    pub k: u32,
}

const _: () = assert!(size_of::<Insn>() == Insn::SIZE && align_of::<Insn>() == 4);

impl Insn {
    /// Bytes of a `struct bpf_insn`, the same on every system.
    pub const SIZE: usize = 8;

    /// An instruction from its four fields, in the order of the C struct.
    pub const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    /// An instruction that is not a conditional jump.
    #[doc(alias = "BPF_STMT")]
    pub const fn stmt(code: u16, k: u32) -> Self {
        Self::new(code, 0, 0, k)
    }

    /// A conditional jump; the order of the arguments is that of the C macro.
    #[doc(alias = "BPF_JUMP")]
    pub const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Self {
        Self::new(code, jt, jf, k)
    }

    /// The C struct's bytes, in this machine's byte order.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// Reads the C struct's bytes, in this machine's byte order.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self::new(u16::from_ne_bytes([c0, c1]), jt, jf, u32::from_ne_bytes([k0, k1, k2, k3]))
    }

    /// Reads an array of the C struct. `None` when `bytes` is not a whole number of instructions.
    pub fn array_from_bytes(bytes: &[u8]) -> Option<Vec<Self>> {
        let chunks = bytes.chunks_exact(Self::SIZE);
        chunks.remainder().is_empty().then_some(())?;
        Some(chunks.filter_map(|chunk| chunk.try_into().ok()).map(Self::from_bytes).collect())
    }

    /// Whether this is a jump with two targets, `jt` and `jf`.
    pub const fn is_conditional(&self) -> bool {
        code::class(self.code) == code::JMP && code::op(self.code) != code::JA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_c_struct() {
        let insn = Insn::jump(0x8015, 0x0102_0304, 5, 6);
        let bytes = insn.to_bytes();
        assert_eq!(bytes[..2], 0x8015_u16.to_ne_bytes());
        assert_eq!(bytes[2..4], [5, 6]);
        assert_eq!(bytes[4..], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(Insn::from_bytes(bytes), insn);
    }

    #[test]
    fn an_array_is_whole_instructions() {
        let two = [Insn::stmt(code::LD_IMM, 7), Insn::stmt(code::RET_A, 0)];
        let mut bytes: Vec<u8> = two.iter().flat_map(|insn| insn.to_bytes()).collect();
        assert_eq!(Insn::array_from_bytes(&bytes).as_deref(), Some(&two[..]));
        assert_eq!(Insn::array_from_bytes(&[]), Some(vec![]));
        bytes.pop();
        assert_eq!(Insn::array_from_bytes(&bytes), None, "a part of an instruction is no instruction");
    }
}
