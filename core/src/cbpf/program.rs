//! A program that has passed its system's validator.

use std::fmt;
use std::sync::Arc;

use super::interpret::{interpret, interpret_contiguous};
use super::{Insn, Rules};

/// A valid filter program: only [`validate`](super::validate()) makes one. It cannot change, and a clone shares its
/// instructions.
#[doc(alias = "bpf_program")]
#[derive(Clone)]
pub struct Program {
    insns: Arc<[Insn]>,
    rules: &'static Rules,
}

impl Program {
    /// For the validator only.
    pub(super) fn validated(insns: &[Insn], rules: &'static Rules) -> Self {
        Self { insns: insns.into(), rules }
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.insns.len()
    }

    /// Whether there is no instruction: valid on FreeBSD only, and accepts every packet whole.
    pub fn is_empty(&self) -> bool {
        self.insns.is_empty()
    }

    /// The rules it was validated under.
    pub fn rules(&self) -> &'static Rules {
        self.rules
    }

    /// Runs the program on a captured packet, as the interface's tap does.
    ///
    /// `packet` is what was captured and `wirelen` the bytes the packet had on the wire, which is what `len` loads.
    /// Returns the snap length in bytes: 0 rejects the packet, more than the packet has keeps all of it.
    pub fn run(&self, packet: &[u8], wirelen: u32) -> u32 {
        interpret(&self.insns, packet, wirelen, self.rules)
    }

    /// Runs the program on a packet in one piece, as write(2) does with the write filter. Differs from
    /// [`run`](Self::run) only where [`Rules`] says so.
    pub fn run_contiguous(&self, packet: &[u8], wirelen: u32) -> u32 {
        interpret_contiguous(&self.insns, packet, wirelen, self.rules)
    }
}

/// Two programs are equal when they have the same instructions under the same rules.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.insns == other.insns && self.rules == other.rules
    }
}

impl Eq for Program {}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("rules", &self.rules.name).field("insns", &self.insns).finish()
    }
}
