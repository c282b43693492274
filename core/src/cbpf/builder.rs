//! A small assembler: a method for each instruction, and labels instead of jump offsets.

use super::code::*;
use super::{Insn, Program, Reject, Rules, validate};

/// Where packet bytes are loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// `P[k]`: this many bytes from the start.
    Abs(u32),
    /// `P[X + k]`.
    Ind(u32),
}

/// The second operand of arithmetic and of a comparison. A number converts into `K`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A constant.
    K(u32),
    /// The index register.
    X,
}

impl From<u32> for Operand {
    fn from(k: u32) -> Self {
        Operand::K(k)
    }
}

/// A place to jump to, given out by [`Builder::label`] of the same builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// Where a branch of a conditional jump goes. A [`Label`] converts into `To`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The next instruction.
    Next,
    /// The instruction behind this label.
    To(Label),
}

impl From<Label> for Target {
    fn from(label: Label) -> Self {
        Target::To(label)
    }
}

/// A program under construction.
///
/// The methods are named as `tcpdump -d` names the instructions, and the labels stand where they are
/// [put](Builder::put). All jumps go forward; a conditional one at most 255 instructions over the next one.
///
/// ```
/// use bpfdev_core::cbpf::builder::{At, Builder, Target};
/// use bpfdev_core::cbpf::{NETBSD, disasm};
///
/// // The program of bpf(4)'s example: Reverse ARP requests.
/// let mut b = Builder::new();
/// let reject = b.label();
/// b.ldh(At::Abs(12)).jeq(0x8035, Target::Next, reject);
/// b.ldh(At::Abs(20)).jeq(3, Target::Next, reject);
/// b.ret(u32::MAX);
/// b.put(reject).ret(0);
///
/// assert_eq!(disasm(&b.insns()?), "\
/// (000) ldh      [12]
/// (001) jeq      #0x8035          jt 2\tjf 5
/// (002) ldh      [20]
/// (003) jeq      #0x3             jt 4\tjf 5
/// (004) ret      #-1
/// (005) ret      #0
/// ");
/// let program = b.program(&NETBSD)?;
/// assert_eq!(program.run(&[0; 60], 60), 0);
/// # Ok::<(), bpfdev_core::cbpf::builder::BuildError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    insns: Vec<Insn>,
    jumps: Vec<Jump>,
    /// By label: the instruction it stands before.
    places: Vec<Option<usize>>,
    /// A label that was put a second time, and where.
    twice: Option<(Label, usize)>,
}

/// A jump whose offsets are filled in at the end.
#[derive(Debug, Clone, Copy)]
struct Jump {
    pc: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Always(Label),
    When { jt: Target, jf: Target },
}

/// Why no program comes out of a [`Builder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A jump to a label that was not put anywhere.
    #[error("instruction ({pc:03}) jumps to a label that stands nowhere; put() it before an instruction")]
    Unresolved {
        /// The jump.
        pc: usize,
    },
    /// A jump to a label put before it, or at it.
    #[error("instruction ({pc:03}) jumps back to ({target:03}); a jump only goes forward")]
    Backward {
        /// The jump.
        pc: usize,
        /// The instruction behind the label.
        target: usize,
    },
    /// A conditional jump over more than 255 instructions.
    #[error(
        "instruction ({pc:03}) jumps to ({target:03}), over {} instructions and a conditional jump gets over 255; \
         jump to a `ja` nearer by", target - pc - 1
    )]
    TooFar {
        /// The jump.
        pc: usize,
        /// The instruction behind the label.
        target: usize,
    },
    /// A label was put at two places.
    #[error("a label stands before ({first:03}) and before ({second:03}); use two labels")]
    Twice {
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
    /// The validator refuses what was built.
    #[error(transparent)]
    Reject(#[from] Reject),
}

macro_rules! with_operand {
    ($($(#[$meta:meta])* $method:ident = $op:ident;)*) => {
        $($(#[$meta])* pub fn $method(&mut self, operand: impl Into<Operand>) -> &mut Self {
            self.alu($op, operand.into())
        })*
    };
}

macro_rules! branches {
    ($($(#[$meta:meta])* $method:ident = $op:ident;)*) => {
        $($(#[$meta])* pub fn $method(
            &mut self,
            operand: impl Into<Operand>,
            jt: impl Into<Target>,
            jf: impl Into<Target>,
        ) -> &mut Self {
            self.branch($op, operand.into(), jt.into(), jf.into())
        })*
    };
}

macro_rules! statements {
    ($($(#[$meta:meta])* $method:ident($($k:ident)?) = $code:ident;)*) => {
        $($(#[$meta])* pub fn $method(&mut self $(, $k: u32)?) -> &mut Self {
            self.stmt($code, [$($k,)? 0][0])
        })*
    };
}

macro_rules! packet_loads {
    ($($(#[$meta:meta])* $method:ident = $size:ident;)*) => {
        $($(#[$meta])* pub fn $method(&mut self, at: At) -> &mut Self {
            match at {
                At::Abs(k) => self.stmt(LD | $size | ABS, k),
                At::Ind(k) => self.stmt(LD | $size | IND, k),
            }
        })*
    };
}

// In the order of bpf(4).
impl Builder {
    /// A program without instructions so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new label, to be [put](Self::put) later.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub fn put(&mut self, label: Label) -> &mut Self {
        let here = self.insns.len();
        match self.places.get_mut(label.0) {
            Some(Some(_)) => _ = self.twice.get_or_insert((label, here)),
            Some(place) => *place = Some(here),
            // Another builder's label: a jump to it is unresolved here.
            None => {}
        }
        self
    }

    packet_loads! {
        /// `A <- 4 bytes of the packet`.
        ld = W;
        /// `A <- 2 bytes of the packet`.
        ldh = H;
        /// `A <- 1 byte of the packet`.
        ldb = B;
    }
    statements! {
        /// `A <- bytes of the packet on the wire`.
        ld_len() = LD_W_LEN;
        /// `A <- k`.
        ld_imm(k) = LD_IMM;
        /// `A <- M[k]`.
        ld_mem(k) = LD_MEM;
        /// `X <- k`.
        ldx_imm(k) = LDX_IMM;
        /// `X <- M[k]`.
        ldx_mem(k) = LDX_MEM;
        /// `X <- bytes of the packet on the wire`.
        ldx_len() = LDX_W_LEN;
        /// `X <- 4*(P[k:1]&0xf)`: the length of an IP header at `k`.
        ldx_msh(k) = LDX_B_MSH;
        /// `M[k] <- A`.
        st(k) = ST_MEM;
        /// `M[k] <- X`.
        stx(k) = STX_MEM;
    }
    with_operand! {
        /// `A <- A + operand`.
        add = ADD;
        /// `A <- A - operand`.
        sub = SUB;
        /// `A <- A * operand`.
        mul = MUL;
        /// `A <- A / operand`; division by X = 0 rejects the packet.
        div = DIV;
        /// `A <- A % operand`; division by X = 0 rejects the packet.
        #[doc(alias = "mod")]
        rem = MOD;
        /// `A <- A & operand`.
        and = AND;
        /// `A <- A | operand`.
        or = OR;
        /// `A <- A ^ operand`.
        xor = XOR;
        /// `A <- A << operand`.
        lsh = LSH;
        /// `A <- A >> operand`.
        rsh = RSH;
    }
    statements! {
        /// `A <- -A`.
        neg() = NEG_A;
    }

    /// Jumps, over any number of instructions.
    pub fn ja(&mut self, to: Label) -> &mut Self {
        self.jumps.push(Jump { pc: self.insns.len(), kind: Kind::Always(to) });
        self.stmt(JA_K, 0)
    }

    branches! {
        /// Jumps to `jt` where `A > operand`, else to `jf`.
        jgt = JGT;
        /// Jumps to `jt` where `A >= operand`, else to `jf`.
        jge = JGE;
        /// Jumps to `jt` where `A == operand`, else to `jf`.
        jeq = JEQ;
        /// Jumps to `jt` where `A & operand` is not 0, else to `jf`.
        jset = JSET;
    }
    statements! {
        /// Keeps `k` bytes of the packet: `u32::MAX` all, 0 rejects it.
        ret(k) = RET_K;
        /// Keeps A bytes of the packet.
        ret_a() = RET_A;
        /// `X <- A`.
        tax() = MISC_TAX;
        /// `A <- X`.
        txa() = MISC_TXA;
    }

    /// The instructions, with every jump's offset filled in.
    ///
    /// # Errors
    /// The first jump that cannot be made, or a label that stands at two places.
    pub fn insns(&self) -> Result<Vec<Insn>, BuildError> {
        if let Some((label, second)) = self.twice {
            let first = self.place(label).unwrap_or(second);
            return Err(BuildError::Twice { first, second });
        }
        let mut insns = self.insns.clone();
        for Jump { pc, kind } in &self.jumps {
            let Some(insn) = insns.get_mut(*pc) else { continue };
            match *kind {
                // Programs of 2³² instructions do not fit the memory they would be written to.
                Kind::Always(label) => insn.k = u32::try_from(self.offset(*pc, label)?).unwrap_or(u32::MAX),
                Kind::When { jt, jf } => (insn.jt, insn.jf) = (self.near(*pc, jt)?, self.near(*pc, jf)?),
            }
        }
        Ok(insns)
    }

    /// The program, by one system's rules.
    ///
    /// # Errors
    /// Those of [`insns`](Self::insns), then the validator's.
    pub fn program(&self, rules: &'static Rules) -> Result<Program, BuildError> {
        Ok(validate(&self.insns()?, rules)?)
    }

    fn stmt(&mut self, code: u16, k: u32) -> &mut Self {
        self.insns.push(Insn::stmt(code, k));
        self
    }

    fn alu(&mut self, op: u16, operand: Operand) -> &mut Self {
        match operand {
            Operand::K(k) => self.stmt(ALU | op | K, k),
            Operand::X => self.stmt(ALU | op | X, 0),
        }
    }

    fn branch(&mut self, op: u16, operand: Operand, jt: Target, jf: Target) -> &mut Self {
        self.jumps.push(Jump { pc: self.insns.len(), kind: Kind::When { jt, jf } });
        match operand {
            Operand::K(k) => self.stmt(JMP | op | K, k),
            Operand::X => self.stmt(JMP | op | X, 0),
        }
    }

    fn place(&self, label: Label) -> Option<usize> {
        self.places.get(label.0).copied().flatten()
    }

    /// Instructions between a jump and a label.
    fn offset(&self, pc: usize, label: Label) -> Result<usize, BuildError> {
        let target = self.place(label).ok_or(BuildError::Unresolved { pc })?;
        target.checked_sub(pc + 1).ok_or(BuildError::Backward { pc, target })
    }

    fn near(&self, pc: usize, target: Target) -> Result<u8, BuildError> {
        let Target::To(label) = target else { return Ok(0) };
        let offset = self.offset(pc, label)?;
        u8::try_from(offset).map_err(|_| BuildError::TooFar { pc, target: pc + 1 + offset })
    }
}
