//! `bpfdev filter run`: a program over the packets of a capture file.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bpfdev_core::cbpf::code::{ABS, H, IND, LD, LDX, MSH, W, class, mode, size};
use bpfdev_core::cbpf::trace::{Next, Step, Trace};
use bpfdev_core::cbpf::{Image, Program, Rules};
use bpfdev_core::replay::{Reader, Record};
use serde::Serialize;

use super::input;
use crate::print;

/// Run a program over a capture file, and list the packets that pass
///
/// A line for each: its number in the file, the bytes the program keeps of it, the bytes captured, its time in UTC,
/// and what it is. The last line counts them. The program runs in this process, by the rules of a dialect of the
/// device.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The program, as tcpdump -d, -dd or -ddd prints it; - is stdin
    file: PathBuf,
    /// The capture file, pcap or pcapng
    #[arg(short, long, value_name = "CAPTURE")]
    read: PathBuf,
    /// Show each step of the program for the packet of this number, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    trace: Option<u64>,
    /// Whose rules: linux (the device's own dialect), freebsd, netbsd, openbsd, dragonfly or macos
    #[arg(long, value_name = "DIALECT", default_value = "linux", value_parser = input::dialect)]
    abi: &'static Rules,
    /// Write one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// A packet that passes.
#[derive(Serialize)]
struct Passed {
    number: u64,
    /// What the program returned.
    snaplen: u32,
    captured: usize,
    wirelen: u32,
}

#[derive(Serialize)]
struct Summary {
    packets: u64,
    passed: Vec<Passed>,
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be read; a program that is not valid; no packet of the number to trace.
pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let program = input::valid(&args.file, args.abi)?;
    let name = args.read.display();
    let mut reader = Reader::open(&args.read).with_context(|| format!("cannot read the capture {name}"))?;
    let mut summary = Summary { packets: 0, passed: Vec::new() };
    let mut lines = String::new();
    while let Some(record) =
        reader.next_record().with_context(|| format!("{name}: after {} packets", summary.packets))?
    {
        summary.packets += 1;
        let number = summary.packets;
        match args.trace {
            Some(wanted) if wanted == number => return show(&program, &record, number, args.json),
            Some(_) => continue,
            None => {}
        }
        let snaplen = program.run(&record.data, record.wirelen);
        if snaplen == 0 {
            continue;
        }
        let captured = record.data.len();
        let kept = captured.min(snaplen as usize);
        let what = print::packet(reader.linktype(), &record.data, record.wirelen);
        writeln!(
            lines,
            "{number:>6} {kept:>5} of {captured:>5}  {} {what}",
            print::time_of_day(record.timestamp)
        )?;
        summary.passed.push(Passed { number, snaplen, captured, wirelen: record.wirelen });
        if !args.json && lines.len() > 1 << 16 {
            input::print(&std::mem::take(&mut lines))?;
        }
    }
    if let Some(wanted) = args.trace {
        bail!("{name} has {} packets, and none of number {wanted}", summary.packets);
    }
    if args.json {
        return input::print_json(&summary);
    }
    writeln!(lines, "{} of {} packets pass", summary.passed.len(), summary.packets)?;
    input::print(&lines)
}

/// One step in JSON: the instruction, and the machine after it.
#[derive(Serialize)]
struct JsonStep {
    instruction: usize,
    listing: String,
    a: u32,
    x: u32,
    memory: [u32; 16],
    said: String,
}

#[derive(Serialize)]
struct JsonTrace {
    packet: u64,
    snaplen: u32,
    steps: Vec<JsonStep>,
}

fn show(program: &Program, record: &Record, number: u64, json: bool) -> anyhow::Result<ExitCode> {
    let Trace { steps, snaplen } = program.trace(&record.data, record.wirelen);
    let listing = |step: &Step| Image { insn: step.insn, pc: step.pc }.to_string().replace('\t', " ");
    if json {
        let step = |step: &Step| JsonStep {
            instruction: step.pc,
            listing: listing(step).trim_end().to_owned(),
            a: step.after.a,
            x: step.after.x,
            memory: step.after.mem,
            said: step.to_string(),
        };
        return input::print_json(&JsonTrace {
            packet: number,
            snaplen,
            steps: steps.iter().map(step).collect(),
        });
    }
    let captured = record.data.len();
    let mut text = format!("packet {number}: {captured} bytes captured of {}\n", record.wirelen);
    for step in &steps {
        writeln!(text, "{:<46} {step}{}", listing(step), loaded(step, &record.data))?;
    }
    match snaplen {
        0 => text.push_str("rejected\n"),
        _ => writeln!(text, "passes, {} of {captured} bytes kept", captured.min(snaplen as usize))?,
    }
    input::print(&text)
}

/// Where a load found its bytes, as they stand in the packet: `  P[12:2] 08 00`.
fn loaded(step: &Step, packet: &[u8]) -> String {
    let (code, Next::Goto(_)) = (step.insn.code, step.next) else { return String::new() };
    let at = match mode(code) {
        ABS | MSH => step.insn.k,
        IND => step.before.x.wrapping_add(step.insn.k),
        _ => return String::new(),
    };
    let width = match size(code) {
        W => 4,
        H => 2,
        _ => 1,
    };
    let end = (at as usize).saturating_add(width);
    match packet.get(at as usize..end) {
        Some(bytes) if matches!(class(code), LD | LDX) => {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("  P[{at}:{width}] {}", hex.join(" "))
        }
        _ => String::new(),
    }
}
