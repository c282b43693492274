//! Instructions with labels, and their layout: a conditional jump reaches 255 instructions, so farther targets are
//! reached over a `ja` behind it.

use bpfdev_core::cbpf::Insn;
use bpfdev_core::cbpf::code::*;

/// A place in the code, by number.
pub(super) type Label = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    /// The label stands before the next instruction.
    Here(Label),
    /// An instruction that does not jump.
    Stmt(Insn),
    /// `ja`.
    Goto(Label),
    /// A conditional jump.
    Branch { code: u16, k: u32, jt: Label, jf: Label },
}

/// Code under construction. Two pieces of code that do the same the same way are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    items: Vec<Item>,
    labels: usize,
}

impl Code {
    /// Code whose labels below `labels` are given out already.
    pub fn with_labels(labels: usize) -> Code {
        Code { items: Vec::new(), labels }
    }

    /// A new label.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        self.labels - 1
    }

    /// Puts `label` here.
    pub fn here(&mut self, label: Label) {
        self.items.push(Item::Here(label));
    }

    /// An instruction that does not jump.
    pub fn stmt(&mut self, code: u16, k: u32) {
        self.items.push(Item::Stmt(Insn::stmt(code, k)));
    }

    /// A jump.
    pub fn goto(&mut self, label: Label) {
        self.items.push(Item::Goto(label));
    }

    /// A conditional jump.
    pub fn branch(&mut self, code: u16, k: u32, jt: Label, jf: Label) {
        self.items.push(Item::Branch { code, k, jt, jf });
    }

    /// Rejects the packet.
    pub fn reject(&mut self) {
        self.stmt(RET_K, 0);
    }

    /// Rejects the packet where the test is true.
    pub fn reject_if(&mut self, code: u16, k: u32) {
        let (reject, pass) = (self.label(), self.label());
        self.branch(code, k, reject, pass);
        self.here(reject);
        self.reject();
        self.here(pass);
    }

    /// Puts other code here, as if its labels were its own.
    pub fn append(&mut self, other: &Code) {
        let base = self.labels;
        self.labels += other.labels;
        self.items.extend(other.items.iter().map(|item| match *item {
            Item::Here(label) => Item::Here(base + label),
            Item::Stmt(insn) => Item::Stmt(insn),
            Item::Goto(label) => Item::Goto(base + label),
            Item::Branch { code, k, jt, jf } => Item::Branch { code, k, jt: base + jt, jf: base + jf },
        }));
    }

    /// The instructions. Words of M[] that Linux's checker would call unstored are stored first: they start as 0 on
    /// the systems whose validators let them through.
    pub fn assemble(&self) -> Vec<Insn> {
        let body = self.lay_out();
        let unstored = unstored(&body);
        // A starts as 0 and is still 0 behind these.
        let mut insns: Vec<Insn> =
            (0..16).filter(|word| unstored >> word & 1 == 1).map(|word| Insn::stmt(ST_MEM, word)).collect();
        insns.extend(body);
        insns
    }

    fn lay_out(&self) -> Vec<Insn> {
        // Which targets of a branch need a `ja`. It only grows, so this ends.
        let mut far = vec![(false, false); self.items.len()];
        let mut place = vec![0_usize; self.labels];
        loop {
            self.put_labels(&far, &mut place);
            let mut grown = false;
            let mut pc = 0;
            for (item, far) in self.items.iter().zip(&mut far) {
                if let Item::Branch { jt, jf, .. } = *item {
                    let reaches = |label: Label| offset(&place, pc, label) <= u32::from(u8::MAX);
                    let wanted = (far.0 || !reaches(jt), far.1 || !reaches(jf));
                    grown |= wanted != *far;
                    // The place counts with the layout the labels were put by.
                    pc += size(item, *far);
                    *far = wanted;
                } else {
                    pc += size(item, *far);
                }
            }
            if !grown {
                return self.write(&far, &place);
            }
        }
    }

    fn put_labels(&self, far: &[(bool, bool)], place: &mut [usize]) {
        let mut pc = 0;
        for (item, far) in self.items.iter().zip(far) {
            let label = if let Item::Here(label) = item { place.get_mut(*label) } else { None };
            if let Some(place) = label {
                *place = pc;
            }
            pc += size(item, *far);
        }
    }

    fn write(&self, far: &[(bool, bool)], place: &[usize]) -> Vec<Insn> {
        let mut insns = Vec::new();
        for (item, far) in self.items.iter().zip(far) {
            let pc = insns.len();
            match *item {
                Item::Here(_) => {}
                Item::Stmt(insn) => insns.push(insn),
                Item::Goto(label) => insns.push(Insn::stmt(JA_K, offset(place, pc, label))),
                Item::Branch { code, k, jt, jf } => {
                    // Every near offset fits: far is false only where it does.
                    let near = |label| offset(place, pc, label).min(u32::from(u8::MAX)) as u8;
                    let (true_offset, false_offset) = match *far {
                        (false, false) => (near(jt), near(jf)),
                        (true, false) => (0, near(jf)),
                        (false, true) => (near(jt), 0),
                        (true, true) => (0, 1),
                    };
                    insns.push(Insn::jump(code, k, true_offset, false_offset));
                    for label in [far.0.then_some(jt), far.1.then_some(jf)].into_iter().flatten() {
                        insns.push(Insn::stmt(JA_K, offset(place, insns.len(), label)));
                    }
                }
            }
        }
        insns
    }
}

/// Instructions an item takes.
fn size(item: &Item, far: (bool, bool)) -> usize {
    match item {
        Item::Here(_) => 0,
        Item::Stmt(_) | Item::Goto(_) => 1,
        Item::Branch { .. } => 1 + usize::from(far.0) + usize::from(far.1),
    }
}

/// What a jump at `pc` needs to get to `label`.
fn offset(place: &[usize], pc: usize, label: Label) -> u32 {
    let target = place.get(label).copied().unwrap_or(0);
    u32::try_from(target.saturating_sub(pc + 1)).unwrap_or(u32::MAX)
}

/// The words of M[] that Linux's checker finds read without having been stored (check_load_and_stores() in
/// net/core/filter.c): a bit each. Like it, one pass down; a return hands its set on to the next instruction.
fn unstored(insns: &[Insn]) -> u16 {
    let mut stored_at = vec![u16::MAX; insns.len()];
    let (mut stored, mut found) = (0_u16, 0_u16);
    for (pc, insn) in insns.iter().enumerate() {
        stored &= stored_at.get(pc).copied().unwrap_or(u16::MAX);
        let word = 1_u16.checked_shl(insn.k).unwrap_or(0);
        match insn.code {
            ST_MEM | STX_MEM => stored |= word,
            LD_MEM | LDX_MEM => found |= word & !stored,
            code if class(code) == JMP => {
                let offsets = if insn.is_conditional() {
                    [usize::from(insn.jt), usize::from(insn.jf)]
                } else {
                    [insn.k as usize; 2]
                };
                for offset in offsets {
                    if let Some(at) = stored_at.get_mut(pc + 1 + offset) {
                        *at &= stored;
                    }
                }
                stored = u16::MAX;
            }
            _ => {}
        }
    }
    found
}
