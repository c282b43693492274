//! `bpfdev-compat bench filter`: what a filter costs a packet, by each way to run it.
//!
//! The interpreters run in this process, in turns within a round. An eBPF program is run by the kernel on its own
//! request (BPF_PROG_TEST_RUN), which tells the mean; that of an empty program is taken off. For a classic program there
//! is no such request: it is attached to a Unix datagram socket, once as it is and once in seventeen copies of which each
//! goes on where the one before returns; the difference between sending to the one and to the other is that of sixteen
//! runs.
//!
//! Rounds are many and short, and figures are the least of them: what a noisy machine adds is never negative.

use std::fmt;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use bpfdev::expr::{SNAPLEN, compile};
use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::ebpf::{self, Reg, Target, Translated, translate};
use bpfdev_backend_linux::filter::{LinkKind, attach, rewrite, try_attach};
use bpfdev_core::cbpf::code::{JA_K, JEQ_K, LD_B_ABS, LD_H_ABS, LD_W_ABS, RET, RET_K, ST_MEM, class};
use bpfdev_core::cbpf::{Insn, LINUX_ABI, Program, validate};
use bpfdev_core::linktype::Linktype;
use serde::Serialize;

/// What a filter costs a packet: our interpreter, libpcap's, and the kernel under each plan
#[derive(Clone, Debug, clap::Args)]
pub struct FilterArgs {
    /// Exit 1 when our interpreter is slower than libpcap's, or a program of 512 instructions takes the kernel a
    /// millisecond
    #[arg(long)]
    check: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
}

/// Runs of an interpreter that are timed together.
const RUNS: u32 = 10_000;
/// Packets sent to a socket that are timed together.
const SENDS: u32 = 1_000;
/// Copies of a classic program behind the first.
const COPIES: usize = 16;
/// The limit for a new filter of 512 instructions, in microseconds.
const LOAD_LIMIT: f64 = 1000.0;
/// What our interpreter may take of libpcap's time over all the programs: where code happens to lie makes a tenth.
const INTERPRETER_LIMIT: f64 = 1.1;

/// A program's figures. `None`: this machine does not allow it.
#[derive(Debug, Serialize)]
struct Row {
    expression: &'static str,
    instructions: usize,
    /// Nanoseconds a packet.
    ours: f64,
    libpcap: f64,
    cbpf: Option<f64>,
    ebpf: Option<f64>,
}

/// A filter change.
#[derive(Debug, Serialize)]
struct Loading {
    instructions: usize,
    /// Microseconds to rewrite, and to attach what comes out.
    cbpf: Option<f64>,
    /// Microseconds to translate, and to load what comes out into the kernel.
    ebpf: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    largest: Loading,
}

/// Expressions, and a frame that each accepts.
const EXPRESSIONS: [&str; 4] = [
    "ip",
    "tcp and dst port 7070",
    "host 10.0.0.1 and not port 22",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 192.168.0.0/16",
];

/// TCP SYN from 10.0.0.1 to port 7070.
fn packet() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39, 0x1b, 0x9e, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 2, 1, 0, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// Runs the bench.
///
/// # Errors
/// What libpcap refuses, and what the system refuses of sockets.
pub fn run(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    let rows = EXPRESSIONS.iter().map(|expression| row(expression, args.rounds)).collect::<Result<_, _>>()?;
    let report = Report { rows, largest: largest(args.rounds)? };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let complaints = if args.check { report.violations() } else { Vec::new() };
    for complaint in &complaints {
        eprintln!("bpfdev-compat: {complaint}");
    }
    Ok(ExitCode::from(u8::from(!complaints.is_empty())))
}

fn row(expression: &'static str, rounds: u32) -> anyhow::Result<Row> {
    let packet = packet();
    let insns = compile(expression, Linktype::EN10MB, SNAPLEN)?;
    let program = validate(&insns, &LINUX_ABI)?;
    let theirs = pcap::Capture::dead(pcap::Linktype::ETHERNET)?.compile(expression, true)?;
    anyhow::ensure!(
        program.run(&packet, 60) > 0 && theirs.filter(&packet),
        "'{expression}' rejects the packet"
    );

    let (mut ours, mut libpcap) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        ours = ours.min(nanos(RUNS, || program.run(black_box(&packet), 60) > 0));
        libpcap = libpcap.min(nanos(RUNS, || theirs.filter(black_box(&packet))));
    }
    let cbpf = classic(&program, &packet, rounds);
    let ebpf = extended(&program, &packet, rounds);
    Ok(Row { expression, instructions: insns.len(), ours, libpcap, cbpf, ebpf })
}

/// Nanoseconds that one of so many calls takes.
fn nanos(calls: u32, mut call: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// The program rewritten, in a socket.
fn classic(program: &Program, packet: &[u8], rounds: u32) -> Option<f64> {
    let rewritten = rewrite(program, LinkKind::Ethernet).ok()?.insns;
    let sockets = [copied(&rewritten, 0), copied(&rewritten, COPIES)].map(|insns| {
        let (sender, receiver) = UnixDatagram::pair().ok()?;
        attach(receiver.as_fd(), &insns).ok()?;
        Some((sender, receiver))
    });
    let [Some((one, _one)), Some((many, _many))] = sockets else { return None };
    let mut least = [f64::INFINITY; 2];
    for _ in 0..rounds {
        // Both reject: nothing is queued, and what is sent counts as sent.
        for (least, sender) in least.iter_mut().zip([&one, &many]) {
            *least = least.min(nanos(SENDS, || sender.send(packet).is_ok()));
        }
    }
    Some((least[1] - least[0]) / COPIES as f64)
}

/// The program with `more` copies behind it, each where the one before returns; the last rejects.
fn copied(insns: &[Insn], more: usize) -> Vec<Insn> {
    let mut chain = Vec::new();
    for left in (0..=more).rev() {
        for (pc, insn) in insns.iter().enumerate() {
            // To the first instruction of the next copy, or to the return behind the last.
            let rest = insns.len() - pc - 1;
            chain.push(if class(insn.code) == RET { Insn::stmt(JA_K, rest as u32) } else { *insn });
        }
        if left == 0 {
            chain.push(Insn::stmt(RET_K, 0));
        }
    }
    chain
}

/// The program translated, with its counting; without what a test run costs by itself.
fn extended(program: &Program, packet: &[u8], rounds: u32) -> Option<f64> {
    // r0 = 0; exit
    let nothing = [ebpf::Insn::new(0xb7, Reg(0), Reg(0), 0, 0), ebpf::Insn::new(0x95, Reg(0), Reg(0), 0, 0)];
    let nothing = SocketFilter::load_insns(&nothing).ok()?;
    let map = CounterMap::new().ok()?;
    let filter = SocketFilter::load(&translated(program)?, &map).ok()?;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..rounds {
        for (least, filter) in least.iter_mut().zip([&nothing, &filter]) {
            let (_, mean) = filter.test_run(packet, [0; 5], RUNS).ok()?;
            *least = least.min(f64::from(mean));
        }
    }
    Some(least[1] - least[0])
}

fn translated(program: &Program) -> Option<Translated> {
    translate(program, &Target::new(LinkKind::Ethernet)).ok()
}

/// A program of 512 instructions, with a branch in every third.
fn largest(rounds: u32) -> anyhow::Result<Loading> {
    let mut insns = Vec::new();
    while insns.len() < 510 {
        let number = insns.len() as u32;
        let load = [LD_H_ABS, LD_B_ABS, LD_W_ABS][insns.len() / 3 % 3];
        insns.push(Insn::stmt(load, number % 60));
        insns.push(Insn::stmt(ST_MEM, number % 16));
        let far = u8::try_from((510 - insns.len() - 1).min(255)).context("below 256")?;
        insns.push(Insn::jump(JEQ_K, number, far, 0));
    }
    insns.extend([Insn::stmt(RET_K, u32::MAX), Insn::stmt(RET_K, 0)]);
    let program = validate(&insns, &LINUX_ABI)?;
    let (mut cbpf, mut ebpf) = (None, None);
    for _ in 0..rounds.clamp(20, 100) {
        let start = Instant::now();
        let done =
            rewrite(&program, LinkKind::Ethernet).is_ok_and(|rewritten| try_attach(&rewritten.insns).is_ok());
        least(&mut cbpf, start, done);
        let Ok(map) = CounterMap::new() else { continue };
        let start = Instant::now();
        let loaded = translated(&program).map(|translated| SocketFilter::load(&translated, &map));
        least(&mut ebpf, start, matches!(loaded, Some(Ok(_))));
    }
    Ok(Loading { instructions: insns.len(), cbpf, ebpf })
}

/// Microseconds since `start`, if it was done, and less than before.
fn least(so_far: &mut Option<f64>, start: Instant, done: bool) {
    let micros = start.elapsed().as_secs_f64() * 1e6;
    if done {
        *so_far = Some(so_far.map_or(micros, |least| least.min(micros)));
    }
}

impl Report {
    fn violations(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let sum = |figure: fn(&Row) -> f64| self.rows.iter().map(figure).sum::<f64>();
        let (ours, libpcap) = (sum(|row| row.ours), sum(|row| row.libpcap));
        if ours > libpcap * INTERPRETER_LIMIT {
            complaints.push(format!("the interpreter takes {ours:.1} ns for all, libpcap's {libpcap:.1}"));
        }
        let Loading { instructions, cbpf, ebpf } = self.largest;
        for (plan, micros) in [("cbpf", cbpf), ("ebpf", ebpf)] {
            if micros.is_some_and(|micros| micros >= LOAD_LIMIT) {
                let micros = micros.unwrap_or_default();
                complaints.push(format!("{instructions} instructions by the plan {plan}: {micros:.0} µs"));
            }
        }
        complaints
    }
}

/// A figure, or a dash.
struct Figure(Option<f64>);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.1}"));
        f.pad(&text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ns a packet              ours  libpcap  kernel cbpf  kernel ebpf")?;
        for Row { expression, instructions, ours, libpcap, cbpf, ebpf } in &self.rows {
            let (cbpf, ebpf) = (Figure(*cbpf), Figure(*ebpf));
            writeln!(
                f,
                "{instructions:>3} instructions   {ours:>9.1} {libpcap:>8.1} {cbpf:>12} {ebpf:>12}  {expression}"
            )?;
        }
        let Loading { instructions, cbpf, ebpf } = self.largest;
        let (cbpf, ebpf) = (Figure(cbpf), Figure(ebpf));
        writeln!(f, "\nµs for a new filter of {instructions} instructions: cbpf {cbpf}, ebpf {ebpf}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn copies_run_one_after_the_other() {
        // Each adds 1; what the last copy returns is not asked for.
        let one = [
            Insn::stmt(LD_H_ABS, 12),
            Insn::jump(JEQ_K, 0x0800, 0, 1),
            Insn::stmt(RET_K, 9),
            Insn::stmt(RET_K, 0),
        ];
        let chain = copied(&one, 2);
        assert_eq!(chain.len(), 13);
        let trace = bpfdev_core::cbpf::trace::trace(&chain, &packet(), 60, &LINUX_ABI);
        let visited: Vec<usize> = trace.steps.iter().map(|step| step.pc).collect();
        assert_eq!(visited, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12]);
        assert!(try_attach(&chain).is_ok());
    }

    #[test]
    fn every_figure_is_there() {
        let report = Report { rows: vec![row("ip", 1).unwrap()], largest: largest(1).unwrap() };
        let text = report.to_string();
        assert!(report.largest.cbpf.is_some() && report.rows[0].cbpf.is_some(), "{text}");
        assert_eq!(report.largest.instructions, 512);
        assert!(text.contains("  4 instructions ") && text.contains("of 512 instructions"), "{text}");
    }

    #[test]
    fn violations_are_named() {
        let row =
            |ours, libpcap| Row { expression: "ip", instructions: 4, ours, libpcap, cbpf: None, ebpf: None };
        let largest = Loading { instructions: 512, cbpf: Some(999.0), ebpf: Some(1234.0) };
        let report = Report { rows: vec![row(20.0, 20.0), row(12.5, 9.0)], largest };
        let expected = [
            "the interpreter takes 32.5 ns for all, libpcap's 29.0",
            "512 instructions by the plan ebpf: 1234 µs",
        ];
        assert_eq!(report.violations(), expected);
    }
}
