//! The control flow graph of a program, after McCanne and Jacobson's "The BSD Packet Filter" (1993): a node for each
//! run of instructions that ends in a predicate or a return, edges for true and false.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::code::{JMP, RET, RET_K, class};
use super::{Image, Insn};

/// A basic block: it is entered at its first instruction and left at its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Number of its first instruction.
    pub start: usize,
    /// Number of the instruction after its last.
    pub end: usize,
    /// How it is left.
    pub exit: Exit,
    /// Whether a run can get here, as far as jumps tell.
    pub reachable: bool,
}

/// How a block is left. Where it leads is the number of an instruction, which starts a block if it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By a return.
    Return,
    /// To the next block, or by `ja`.
    Goto(usize),
    /// By a predicate whose two targets differ.
    Branch {
        /// Where the predicate is true.
        jt: usize,
        /// Where it is false.
        jf: usize,
    },
}

impl Exit {
    fn of(insn: Insn, pc: usize) -> Exit {
        let next = pc + 1;
        if class(insn.code) == RET {
            return Exit::Return;
        }
        if class(insn.code) != JMP {
            return Exit::Goto(next);
        }
        if !insn.is_conditional() {
            // Backward, as libpcap's `protochain` goes, is behind the end by the rules of a machine that goes forward.
            return Exit::Goto(next.saturating_add(insn.k as usize));
        }
        match (next + usize::from(insn.jt), next + usize::from(insn.jf)) {
            (jt, jf) if jt == jf => Exit::Goto(jt),
            (jt, jf) => Exit::Branch { jt, jf },
        }
    }

    /// The instructions it leads to.
    fn targets(self) -> impl Iterator<Item = usize> {
        let (first, second) = match self {
            Exit::Return => (None, None),
            Exit::Goto(pc) => (Some(pc), None),
            Exit::Branch { jt, jf } => (Some(jt), Some(jf)),
        };
        first.into_iter().chain(second)
    }
}

/// A program's control flow graph. [`Display`](fmt::Display) writes it as Graphviz DOT.
///
/// ```
/// use bpfdev_core::cbpf::graph::{Exit, Graph};
/// use bpfdev_core::cbpf::text;
///
/// let ip = text::read("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n")?;
/// let graph = Graph::new(&ip);
/// assert_eq!(graph.blocks.len(), 3);
/// assert_eq!(graph.blocks[0].exit, Exit::Branch { jt: 2, jf: 3 });
/// assert!(graph.to_string().contains("b0 -> b2 [label=true]"));
/// # Ok::<(), text::TextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The instructions.
    pub insns: Vec<Insn>,
    /// The blocks, in the order of their instructions.
    pub blocks: Vec<Block>,
}

impl Graph {
    /// The graph of any instructions, valid or not.
    pub fn new(insns: &[Insn]) -> Graph {
        let mut starts = BTreeSet::from([0]);
        for (pc, insn) in insns.iter().enumerate() {
            if matches!(class(insn.code), JMP | RET) {
                starts.insert(pc + 1);
                starts.extend(Exit::of(*insn, pc).targets());
            }
        }
        starts.retain(|start| *start < insns.len());
        let ends = starts.iter().skip(1).copied().chain([insns.len()]);
        let mut reached = BTreeSet::from([0]);
        let mut blocks = Vec::new();
        for (&start, end) in starts.iter().zip(ends) {
            let Some(last) = insns.get(end - 1) else { continue };
            let exit = Exit::of(*last, end - 1);
            let reachable = reached.contains(&start);
            // Jumps go forward, so whatever leads here was seen before.
            if reachable {
                reached.extend(exit.targets());
            }
            blocks.push(Block { start, end, exit, reachable });
        }
        Graph { insns: insns.to_vec(), blocks }
    }
}

/// What a return does with the packet, in the words of the paper.
fn verdict(insn: Insn) -> &'static str {
    match (insn.code, insn.k) {
        (RET_K, 0) => "false",
        (RET_K, _) => "true",
        _ => "computed",
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("digraph filter {\n")?;
        f.write_str("    node [shape=box, fontname=monospace];\n    edge [fontname=monospace];\n")?;
        // What leads outside the program, which only a program that no validator takes does.
        let mut outside = BTreeSet::new();
        for block in &self.blocks {
            let name = block.start;
            let insns = self.insns.iter().copied().enumerate().take(block.end).skip(block.start);
            let mut label = String::new();
            for (pc, insn) in insns.clone() {
                write!(label, "{}\\l", image(insn, pc))?;
            }
            let mut attributes = String::new();
            if let (Exit::Return, Some((_, insn))) = (block.exit, insns.last()) {
                write!(attributes, ", shape=ellipse, xlabel={}", verdict(insn))?;
            }
            if !block.reachable {
                attributes.push_str(", style=dashed");
            }
            writeln!(f, "    b{name} [label=\"{label}\"{attributes}];")?;
            let labels: &[&str] = match block.exit {
                Exit::Branch { .. } => &[" [label=true]", " [label=false, style=dashed]"],
                _ => &[""],
            };
            for (target, label) in block.exit.targets().zip(labels) {
                if target >= self.insns.len() {
                    outside.insert(target);
                }
                writeln!(f, "    b{name} -> b{target}{label};")?;
            }
        }
        for target in outside {
            writeln!(f, "    b{target} [label=\"({target:03}) is not in the program\", shape=octagon];")?;
        }
        f.write_str("}\n")
    }
}

/// A line of the listing; a predicate without its targets, which the edges show.
fn image(insn: Insn, pc: usize) -> String {
    let line = Image { insn, pc }.to_string();
    let shown = if insn.is_conditional() { line.split(" jt ").next().unwrap_or(&line) } else { &line };
    shown.trim_end().to_owned()
}
