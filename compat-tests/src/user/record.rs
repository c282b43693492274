//! `bpfdev-compat record`: a case file's steps, with the answers of a device.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bpfdev::native;
use bpfdev_core::abi::{Abi, Dir, Op};
use serde_json::{Map, Value, json};

use super::{DEV, Ends};
#[cfg(not(target_os = "linux"))]
use crate::cli::UsageError;
use crate::oracle::answer::{Record, list_words, masked, number, records, source, value};
use crate::oracle::call::{Answer, Call, Trouble, World};
#[cfg(target_os = "linux")]
use crate::oracle::device;
use crate::oracle::file::{CaseFile, Head, SCHEMA, Schema};
use crate::oracle::hex;
use crate::oracle::pair::Pair;
use crate::oracle::play::Stage;
use crate::oracle::script::{self, Action, Needs, Numbers, needs};
use crate::oracle::trace;

/// Play a case file on a bpf device, and write it with that device's answers
///
/// On a BSD the device is the system's own; --observe and --inject name two interfaces that are the ends of one wire (the two
/// halves of an epair, say) and otherwise idle: they are reconfigured by ifconfig(8). On Linux the device is a served one,
/// and the wire a veth pair in a namespace of its own unless interfaces are named. What cannot be asked there is left out;
/// a line on standard error says why.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// The cases: a list, or lines of traces, in the format of compat-tests/oracle/README.md; their answers are not looked at
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// Where they go with the answers [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The directory with the device's nodes
    #[arg(long, value_name = "DIR", default_value = DEV)]
    device: PathBuf,
    /// The dialect that the device speaks [default: this system's]
    #[arg(long, value_name = "DIALECT", value_parser = dialect)]
    abi: Option<&'static Abi>,
    #[command(flatten)]
    ends: Ends,
}

fn dialect(name: &str) -> Result<&'static Abi, String> {
    Abi::by_name(name).ok_or_else(|| format!("no dialect is called {name:?}"))
}

/// Runs the subcommand.
///
/// # Errors
/// A file that cannot be read or written, or is of another format; a device that cannot be opened; no interfaces said where there is no other way.
pub fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let file = CaseFile::open(&args.file)?;
    let abi = args.abi.unwrap_or(native::ABI);
    // what its own system could not be asked is refused as a whole
    for recording in file.recordings(file.origin.numbers(abi).of)? {
        if let Err(why) = recording.what {
            anyhow::bail!(
                "{}: case {}: {why} (which reads {} version {})",
                recording.at,
                recording.id,
                SCHEMA.0,
                SCHEMA.1
            );
        }
    }
    let mut tally = Tally::default();
    let mut document = None;
    let mut act = |stage: &mut dyn Stage| document = Some(record(&file, abi, stage, &mut tally));
    match args.ends.both() {
        Some((observe, inject)) => act(&mut Pair::new(&args.device, abi, observe, inject)?),
        #[cfg(target_os = "linux")]
        None => {
            anyhow::ensure!(args.device.is_dir(), "{}: no directory with nodes", args.device.display());
            device::on_wire(abi, Some(args.device.clone()), &mut act)?;
        }
        #[cfg(not(target_os = "linux"))]
        None => {
            let text = "--observe and --inject say which interfaces are the two ends of a wire";
            return Err(UsageError(text.into()).into());
        }
    }
    let text = document.context("nothing was played")??;
    write(args.out.as_deref(), &text)?;
    eprintln!("{} recorded, {} skipped, {} failed", tally.recorded, tally.skipped, tally.failed);
    Ok(if tally.failed == 0 && tally.recorded > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => std::fs::write(path, text).with_context(|| format!("writing {}", path.display())),
        None => std::io::stdout().write_all(text.as_bytes()).context("writing to standard output"),
    }
}

#[derive(Debug, Default)]
struct Tally {
    recorded: usize,
    skipped: usize,
    failed: usize,
}

impl Tally {
    /// Counts a case that is left out.
    fn left_out(&mut self, id: &Value, trouble: Trouble) {
        let (count, word, why) = match trouble {
            Trouble::Skip(why) | Trouble::Unasked(why) => (&mut self.skipped, "SKIP", why),
            Trouble::Fail(why) => (&mut self.failed, "FAIL", why),
        };
        *count += 1;
        eprintln!(
            "{word} {}: {}",
            id.as_str().map_or_else(|| id.to_string(), str::to_owned),
            why.replace('\n', " ")
        );
    }
}

/// The whole file with its answers.
fn record(
    file: &CaseFile,
    abi: &'static Abi,
    stage: &mut dyn Stage,
    tally: &mut Tally,
) -> anyhow::Result<String> {
    let recorded_on = nix::sys::utsname::uname().ok().map(|host| {
        let words = [host.sysname(), host.release(), host.machine()];
        words.map(|word| word.to_string_lossy().into_owned()).join(" ")
    });
    let schema = Schema { name: SCHEMA.0.into(), version: SCHEMA.1 };
    let head = Head { schema, system: abi.name.into(), recorded_on };
    if let Some(cases) = file.cases()? {
        let numbers = file.origin.numbers(abi);
        let mut recorded = Vec::new();
        for case in cases {
            match self::case(&case, numbers, stage) {
                Ok((case, left_out)) => {
                    tally.recorded += 1;
                    for why in left_out {
                        eprintln!("PART {}: {why}", case["id"]);
                    }
                    recorded.push(case);
                }
                Err(trouble) => tally.left_out(&case["id"], trouble),
            }
        }
        let mut whole = serde_json::to_value(head)?;
        whole["cases"] = recorded.into();
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    let mut text = serde_json::to_string(&head)? + "\n";
    for line in file.lines()? {
        match trace(&line, stage) {
            Ok(trace) => {
                tally.recorded += 1;
                text += &(serde_json::to_string(&trace)? + "\n");
            }
            Err(trouble) => tally.left_out(&line["id"], trouble),
        }
    }
    Ok(text)
}

/// One case, and why steps of it have no answer.
fn case(case: &Value, numbers: Numbers, stage: &mut dyn Stage) -> Result<(Value, Vec<String>), Trouble> {
    let raw = case["steps"].as_array().cloned().unwrap_or_default();
    let steps = raw.iter().map(|raw| script::step(raw, numbers)).collect::<Result<Vec<_>, _>>();
    // its own system has every request of it
    let steps = steps.map_err(Trouble::Skip)?;
    let mut answered = Vec::new();
    let mut left_out = Vec::new();
    stage.with_world(&needs(&steps), &mut |world| {
        let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
        for (i, (step, raw)) in steps.iter().zip(&raw).enumerate() {
            let mut raw = raw.as_object().cloned().unwrap_or_default();
            let wanted = raw.remove("result");
            let fields = wanted.as_ref().and_then(Value::as_object);
            let result = match perform(world, &step.action, &mut calls, fields) {
                Ok(result) => result,
                Err(Trouble::Unasked(why)) => {
                    left_out.push(format!("step {i} ({}): {why}", step.name));
                    None
                }
                Err(Trouble::Skip(why)) => {
                    return Err(Trouble::Skip(format!("step {i} ({}): {why}", step.name)));
                }
                Err(Trouble::Fail(why)) => {
                    return Err(Trouble::Fail(format!("step {i} ({}): {why}", step.name)));
                }
            };
            if let (Action::Call(Call::Ioctl { cmd, .. }) | Action::Start(_, Call::Ioctl { cmd, .. }), true) =
                (&step.action, raw.contains_key("cmd"))
            {
                raw.insert("cmd".into(), json!(format!("{cmd:#010x}")));
            }
            if let Some(result) = result {
                raw.insert("result".into(), result);
            }
            answered.push(Value::Object(raw));
        }
        Ok(())
    })?;
    let mut case = case.as_object().cloned().unwrap_or_default();
    // the other's results once more
    case.remove("observed");
    case.insert("steps".into(), answered.into());
    Ok((Value::Object(case), left_out))
}

/// What a step is answered; nothing for what has no answer.
fn perform(
    world: &mut dyn World,
    action: &Action,
    calls: &mut BTreeMap<u64, Call>,
    wanted: Option<&Map<String, Value>>,
) -> Result<Option<Value>, Trouble> {
    match action {
        Action::Start(thread, call) => {
            world.start(*thread, call)?;
            calls.insert(*thread, call.clone());
            Ok(Some(json!("started")))
        }
        Action::Wait(thread, time) => {
            let answer = world.wait(*thread, *time)?;
            let call = calls.get(thread).ok_or_else(|| Trouble::fail(format!("no thread {thread}")))?;
            Ok(Some(answer.map_or_else(
                || json!("still blocked"),
                |answer| {
                    let mut result = result(world.abi(), call, &answer, wanted);
                    let elapsed = u64::try_from(answer.elapsed.as_millis()).unwrap_or(u64::MAX);
                    result["elapsed_ms"] = json!(elapsed);
                    result
                },
            )))
        }
        Action::Call(call) => {
            let answer = world.call(call)?;
            let told = !matches!(call, Call::Receive { .. } | Call::Sleep { .. });
            Ok(told.then(|| result(world.abi(), call, &answer, wanted)))
        }
    }
}

/// An answer as a recording has it; `wanted` has the fields of the one before, which says what is worth recording.
fn result(abi: &Abi, call: &Call, answer: &Answer, wanted: Option<&Map<String, Value>>) -> Value {
    let is_wanted = |field: &str| wanted.is_some_and(|wanted| wanted.contains_key(field));
    let mut result = Map::new();
    result.insert("ret".into(), if answer.fd { json!("fd") } else { json!(answer.ret) });
    if let Some(errno) = &answer.errno {
        result.insert("errno".into(), json!(errno));
    }
    match call {
        Call::Ioctl { cmd, arg, .. } => {
            let row = abi.decode(*cmd).map(|call| call.row);
            if row.is_some_and(|row| row.op == Op::GDltList) {
                let count = answer.arg.as_ref().and_then(|arg| number(&arg.bytes, 0, 4));
                result.insert("bfl_len".into(), json!(count));
                if arg.pointee.is_some() {
                    result.insert("list_words".into(), list_words(answer));
                }
            } else if answer.errno.is_none()
                && (row.is_some_and(|row| matches!(row.dir, Dir::Out | Dir::InOut)) || is_wanted("value"))
            {
                result.insert("value".into(), value(abi, Some(*cmd), answer));
            }
        }
        Call::Read { .. } => {
            if !answer.data.is_empty() || is_wanted("packets") {
                let packets = records(&answer.data, &abi.header);
                // in a host's own packets, which are no Ethernet frames, there is no such address
                let has_source = |i: usize| {
                    let packet = wanted.and_then(|wanted| wanted.get("packets")?.get(i));
                    packet.is_some_and(|packet| packet.get("src").is_some())
                };
                let told = packets.iter().enumerate().map(|(i, packet)| self::packet(packet, has_source(i)));
                result.insert("packets".into(), told.collect());
            }
            if is_wanted("bytes_masked") {
                result.insert("bytes_masked".into(), json!(hex::encode(&masked(&answer.data, &abi.header))));
            }
        }
        _ => {}
    }
    if let Some(revents) = answer.revents {
        result.insert("revents".into(), json!(revents));
    }
    if let Some(sets) = answer.selected {
        result.insert("readable".into(), json!(u8::from(sets.read)));
        result.insert("writable".into(), json!(u8::from(sets.write)));
    }
    if let Some(flags) = answer.flags {
        result.insert("flags".into(), json!(format!("{flags:#x}")));
    }
    if is_wanted("elapsed_ms") {
        result.insert(
            "elapsed_ms".into(),
            json!(u64::try_from(answer.elapsed.as_millis()).unwrap_or(u64::MAX)),
        );
    }
    Value::Object(result)
}

fn packet(record: &Record, with_source: bool) -> Value {
    let mut packet = json!({
        "off": record.off,
        "hdrlen": record.hdrlen,
        "caplen": record.caplen,
        "datalen": record.datalen,
        "data": hex::encode(&record.data),
    });
    if let Some(seq) = record.seq() {
        packet["seq"] = json!(seq);
    }
    if with_source {
        packet["src"] = source(record);
    }
    packet
}

/// One trace; a filter's value cannot be asked of a device.
fn trace(line: &Value, stage: &mut dyn Stage) -> Result<Value, Trouble> {
    let (Some(ops), Some(blen)) = (line["ops"].as_array(), line["blen"].as_u64()) else {
        return Err(Trouble::Skip("what a filter program returns cannot be asked of a device".into()));
    };
    let blen = u32::try_from(blen).map_err(|_| Trouble::fail("`blen` is too large"))?;
    let ops = ops.iter().map(trace::op).collect::<Result<Vec<_>, _>>().map_err(Trouble::Fail)?;
    let mut answered = Vec::new();
    stage.with_world(&Needs::default(), &mut |world| {
        trace::begin(world, blen)?;
        for op in &ops {
            answered.push(trace::to_value(&trace::answer(world, blen, op)?));
        }
        Ok(())
    })?;
    let mut line = line.clone();
    line["ops"] = answered.into();
    Ok(line)
}
