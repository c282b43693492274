//! eBPF instructions with labels.

use bpfdev_core::cbpf::code::{JA, JMP, K, X};

use super::TooLong;
use super::insn::{Insn, R0, Reg, code};

/// A place in the code, by number.
pub(super) type Label = usize;

/// What a conditional jump compares a register with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Imm(u32),
    Reg(Reg),
}

/// Code under construction.
#[derive(Debug, Default)]
pub(super) struct Code {
    insns: Vec<Insn>,
    /// Jumps, and where they go.
    jumps: Vec<(usize, Label)>,
    /// Where each label stands, once it does.
    places: Vec<Option<usize>>,
    /// Which labels something jumps to.
    wanted: Vec<bool>,
}

impl Code {
    /// Code whose labels below `labels` are given out already.
    pub fn with_labels(labels: usize) -> Code {
        Code { places: vec![None; labels], wanted: vec![false; labels], ..Code::default() }
    }

    /// A new label.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        self.wanted.push(false);
        self.places.len() - 1
    }

    /// Puts `label` here.
    pub fn here(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label) {
            *place = Some(self.insns.len());
        }
    }

    /// Whether anything jumps to `label`.
    pub fn wants(&self, label: Label) -> bool {
        self.wanted.get(label).copied().unwrap_or(false)
    }

    /// Instructions that do not jump.
    pub fn push(&mut self, insns: impl IntoIterator<Item = Insn>) {
        self.insns.extend(insns);
    }

    /// A jump.
    pub fn goto(&mut self, label: Label) {
        self.jump((JMP | JA) as u8, R0, Operand::Imm(0), label);
    }

    /// A jump where `reg op operand`, in 32 bits.
    pub fn branch(&mut self, op: u16, reg: Reg, operand: Operand, label: Label) {
        self.jump(code::JMP32 | op as u8, reg, operand, label);
    }

    fn jump(&mut self, code: u8, dst: Reg, operand: Operand, label: Label) {
        if let Some(wanted) = self.wanted.get_mut(label) {
            *wanted = true;
        }
        self.jumps.push((self.insns.len(), label));
        self.insns.push(match operand {
            Operand::Imm(imm) => Insn::new(code | K as u8, dst, R0, 0, imm as i32),
            Operand::Reg(src) => Insn::new(code | X as u8, dst, src, 0, 0),
        });
    }

    /// The instructions, each jump with its distance.
    pub fn assemble(mut self) -> Result<Vec<Insn>, TooLong> {
        let len = self.insns.len();
        for (pc, label) in self.jumps {
            let place = self.places.get(label).copied().flatten().unwrap_or(len);
            let off = i16::try_from(place.saturating_sub(pc + 1)).map_err(|_| TooLong { len })?;
            if let Some(insn) = self.insns.get_mut(pc) {
                insn.off = off;
            }
        }
        Ok(self.insns)
    }
}
