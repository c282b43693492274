//! The control flow graph and its DOT.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::graph::{Block, Exit, Graph};
use bpfdev_core::cbpf::{Builder, Insn, builder};

fn block(start: usize, end: usize, exit: Exit) -> Block {
    Block { start, end, exit, reachable: true }
}

#[test]
fn blocks_end_at_jumps_and_begin_at_targets() {
    let mut b = Builder::new();
    let (arp, reject) = (b.label(), b.label());
    b.ldh(builder::At::Abs(12)).jeq(0x800, builder::Target::Next, arp);
    b.ldb(builder::At::Abs(23)).tax().ja(reject);
    b.ret(7).put(arp).tax().jeq(0x806, reject, reject).ret_a().put(reject).tax().ret(0);
    let graph = Graph::new(&b.insns().unwrap());
    let expected = [
        block(0, 2, Exit::Branch { jt: 2, jf: 6 }),
        block(2, 5, Exit::Goto(9)),
        Block { reachable: false, ..block(5, 6, Exit::Return) },
        block(6, 8, Exit::Goto(9)),
        Block { reachable: false, ..block(8, 9, Exit::Return) },
        block(9, 11, Exit::Return),
    ];
    assert_eq!(graph.blocks, expected);
    let dot = "digraph filter {
    node [shape=box, fontname=monospace];
    edge [fontname=monospace];
    b0 [label=\"(000) ldh      [12]\\l(001) jeq      #0x800\\l\"];
    b0 -> b2 [label=true];
    b0 -> b6 [label=false, style=dashed];
    b2 [label=\"(002) ldb      [23]\\l(003) tax\\l(004) ja       9\\l\"];
    b2 -> b9;
    b5 [label=\"(005) ret      #7\\l\", shape=ellipse, xlabel=true, style=dashed];
    b6 [label=\"(006) tax\\l(007) jeq      #0x806\\l\"];
    b6 -> b9;
    b8 [label=\"(008) ret\\l\", shape=ellipse, xlabel=computed, style=dashed];
    b9 [label=\"(009) tax\\l(010) ret      #0\\l\", shape=ellipse, xlabel=false];
}
";
    assert_eq!(graph.to_string(), dot);
}

#[test]
fn a_block_that_is_jumped_into_the_middle_of_is_two() {
    let insns =
        [Insn::jump(JEQ_K, 1, 1, 0), Insn::stmt(LD_IMM, 1), Insn::stmt(LD_IMM, 2), Insn::stmt(RET_A, 0)];
    let expected =
        [block(0, 1, Exit::Branch { jt: 2, jf: 1 }), block(1, 2, Exit::Goto(2)), block(2, 4, Exit::Return)];
    assert_eq!(Graph::new(&insns).blocks, expected);
}

#[test]
fn what_leads_outside_is_shown() {
    // What no validator takes: a jump behind the end, one backward (libpcap's protochain), no return.
    for (insn, outside) in [
        (Insn::jump(JGT_X, 0, 200, 0), vec!["b201 [label=\"(201) is not in the program\""]),
        (Insn::stmt(JA_K, u32::MAX), vec!["b4294967296 ["]),
        (Insn::stmt(LD_IMM, 0), vec![]),
    ] {
        let dot = Graph::new(&[insn, Insn::stmt(LD_IMM, 0)]).to_string();
        for text in outside.iter().chain(&["b2 [label=\"(002) is not in the program\", shape=octagon]"]) {
            assert!(dot.contains(text), "{text} in\n{dot}");
        }
    }
    assert_eq!(Graph::new(&[]).blocks, []);
    assert!(Graph::new(&[]).to_string().ends_with("}\n"));
}

#[test]
fn a_computed_snap_length_and_junk_are_no_verdicts() {
    for (insn, verdict) in [
        (Insn::stmt(RET_K, 1), "xlabel=true"),
        (Insn::stmt(RET_K, 0), "xlabel=false"),
        (Insn::stmt(RET_A, 0), "xlabel=computed"),
        (Insn::stmt(RET | X, 0), "xlabel=computed"),
    ] {
        assert!(Graph::new(&[insn]).to_string().contains(verdict), "{insn:?}");
    }
}
