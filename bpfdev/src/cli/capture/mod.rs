//! `bpfdev capture`: a small tcpdump, over a bpf node or over the Linux backend in this process.

mod feed;
mod filter;
mod stop;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bpfdev_backend_bsd::DeviceFile;
use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::rtnl::Rtnl;
use bpfdev_backend_linux::{Checksum, PacketSockets};
use bpfdev_core::abi::Abi;
use bpfdev_core::backend::Direction;
use bpfdev_core::file::Access;
use bpfdev_core::linktype::Linktype;
use bpfdev_core::replay::{INTERFACE, Pace, Replay};
use bpfdev_core::time::SystemClock;

use super::UsageError;
use crate::print;
use crate::savefile::{Format, SaveFile, Source};
use feed::{DeviceFeed, Drained, Feed, Seen, TapFeed, Wishes};
use stop::Stop;

/// Capture packets: a small tcpdump
///
/// Prints a line for each packet, or writes them to a file; numbers are never turned into names, and times are UTC.
/// Ctrl-C ends it and prints the counters.
#[derive(Debug, clap::Args)]
pub struct CaptureArgs {
    /// Capture from this bpf node; /dev/bpf means the first of /dev/bpf, /dev/bpf0, … that is not busy. Without it a
    /// packet socket is used, in this process
    #[arg(long, value_name = "NODE", conflicts_with = "read")]
    device: Option<PathBuf>,
    /// The dialect of the node: linux, freebsd, netbsd or netbsd7
    #[arg(long, value_name = "DIALECT", default_value = "linux", requires = "device", value_parser = dialect)]
    abi: &'static Abi,
    /// The interface
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Stop after so many packets
    #[arg(short, long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write the packets to FILE instead of printing them; - is stdout. pcapng where the name ends so, else pcap
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Read packets from a pcap or pcapng FILE instead of an interface
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["interface", "direction", "buffer"])]
    read: Option<PathBuf>,
    /// Keep so many bytes of each packet; 0 is the default
    #[arg(short, long, value_name = "BYTES", default_value_t = SNAPLEN)]
    snapshot_length: u32,
    /// Size of the buffer, KiB [default: what a node allows, up to 512; 2048 without a node]
    #[arg(short = 'B', long = "buffer-size", value_name = "KIB",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    buffer: Option<u32>,
    /// Link type to capture, by name (EN10MB, RAW) or number
    #[arg(short = 'y', long, value_name = "TYPE", value_parser = filter::linktype)]
    linktype: Option<Linktype>,
    /// List the link types of the interface and exit
    #[arg(short = 'L', long)]
    list_data_link_types: bool,
    /// Do not put the interface into promiscuous mode
    #[arg(short = 'p', long)]
    no_promiscuous_mode: bool,
    /// Packets received (in), sent (out) or both (inout)
    #[arg(short = 'Q', long, value_name = "WHICH", default_value = "inout")]
    direction: Which,
    /// Hand on each packet as it comes instead of in batches
    #[arg(long)]
    immediate_mode: bool,
    /// The filter as a program: the file holds what tcpdump -ddd (or -dd, -d) prints; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    ddd: Option<PathBuf>,
    /// Where the filter runs without a node: in the kernel, counted (ebpf) or as classic BPF (cbpf), here (process), or the first of these that can (auto)
    #[arg(long, value_name = "PLAN", default_value = "auto", conflicts_with = "device")]
    plan: PlanChoice,
    /// Whether checksums the kernel left to the hardware are filled in (complete) or not (raw)
    #[arg(long, value_name = "HOW", default_value = "complete", conflicts_with = "device")]
    checksum: Checksum,
    /// Taken for tcpdump's sake: it is always so
    #[arg(short = 'n', hide = true, action = clap::ArgAction::Count)]
    numbers: u8,
    /// Taken for tcpdump's sake: output is never held back while nothing comes
    #[arg(short = 'l', hide = true)]
    line_buffered: bool,
    /// Taken for tcpdump's sake: output is never held back while nothing comes
    #[arg(short = 'U', hide = true)]
    packet_buffered: bool,
    /// The filter, as in pcap-filter(7)
    expression: Vec<String>,
}

/// tcpdump's default, and its most.
const SNAPLEN: u32 = 262_144;

/// The words of `-Q`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    In,
    Out,
    Inout,
}

fn dialect(name: &str) -> Result<&'static Abi, String> {
    Abi::by_name(name).ok_or_else(|| {
        let names: Vec<_> = bpfdev_core::abi::ALL.iter().map(|abi| abi.name).collect();
        format!("no such dialect; there are {}", names.join(", "))
    })
}

/// Runs the subcommand.
///
/// # Errors
/// [`UsageError`]; what cannot be opened, set or written.
pub fn run(args: CaptureArgs) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let mut feed = args.feed(&stop)?;
    if args.list_data_link_types {
        let mut text = format!("Data link types for {} (use option -y to set):\n", feed.interface());
        for linktype in feed.linktypes()? {
            text += &format!("  {}\n", filter::describe(linktype));
        }
        io::stdout().write_all(text.as_bytes()).or_else(closed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (linktype, snaplen) = (feed.linktype(), args.snaplen());
    let mut program =
        filter::program(args.ddd.as_deref(), &args.expression, linktype, snaplen, feed.rules())?;
    if program.is_none() && snaplen < SNAPLEN {
        program = Some(filter::keep(snaplen, feed.rules())?);
    }
    let mut output = Output::open(args.write.as_deref(), feed.interface(), linktype, snaplen)?;
    feed.start(program)?;
    eprintln!(
        "{} {}, link-type {}, snapshot length {snaplen} bytes",
        if feed.is_file() { "reading from file" } else { "listening on" },
        args.read.as_ref().map_or(feed.interface().to_owned(), |file| file.display().to_string()),
        filter::describe(linktype),
    );
    let mut captured = 0;
    let result = capture(&mut *feed, &mut output, &stop, args.count, snaplen, &mut captured);
    let flushed = output.flush().or_else(closed);
    if !feed.is_file() {
        let counters = feed.counters()?;
        for (packets, what) in [
            (captured, "captured"),
            (counters.received, "received by filter"),
            (counters.dropped, "dropped by kernel"),
        ] {
            eprintln!("{packets} packet{} {what}", if packets == 1 { "" } else { "s" });
        }
    }
    result?;
    flushed.context("cannot write the packets")?;
    Ok(ExitCode::SUCCESS)
}

/// Moves packets until the file ends, enough have come, or a signal.
fn capture(
    feed: &mut dyn Feed,
    output: &mut Output,
    stop: &Stop,
    count: Option<u64>,
    snaplen: u32,
    captured: &mut u64,
) -> anyhow::Result<()> {
    let mut done = false;
    loop {
        let stopping = stop.is_set();
        let mut take = |seen: &Seen<'_>| {
            // A flood that never lets a batch end does not keep a signal waiting.
            if stop.is_set() && !stopping {
                return Ok(false);
            }
            let data = &seen.data[..seen.data.len().min(snaplen as usize)];
            if let Err(error) = output.write(seen, data) {
                done = true;
                return closed(error).map(|()| false).context("cannot write the packets");
            }
            *captured += 1;
            done = Some(*captured) == count;
            Ok(!done)
        };
        if stopping {
            return feed.last(&mut take);
        }
        let drained = feed.drain(&mut take)?;
        if done || drained == Drained::End {
            return Ok(());
        }
        if drained == Drained::Nothing {
            match output.flush() {
                Err(error) => return closed(error).context("cannot write the packets"),
                Ok(()) => feed.wait(stop)?,
            }
        }
    }
}

/// Who reads our output has gone away: the end, and no failure.
fn closed(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

impl CaptureArgs {
    fn snaplen(&self) -> u32 {
        if self.snapshot_length == 0 { SNAPLEN } else { self.snapshot_length.min(SNAPLEN) }
    }

    fn wishes(&self) -> Wishes {
        let default = if self.device.is_some() { 512 } else { 2048 };
        Wishes {
            bufsize: self.buffer.unwrap_or(default) as usize * 1024,
            linktype: self.linktype,
            direction: match self.direction {
                Which::In => Direction::In,
                Which::Out => Direction::Out,
                Which::Inout => Direction::InOut,
            },
            promiscuous: !self.no_promiscuous_mode && self.read.is_none(),
            immediate: self.immediate_mode,
        }
    }

    fn feed(&self, stop: &Arc<Stop>) -> anyhow::Result<Box<dyn Feed>> {
        let wishes = self.wishes();
        if let Some(file) = &self.read {
            let replay = Replay::new(file, Pace::AsRead, Arc::new(SystemClock::new()));
            return Ok(Box::new(TapFeed::attach(&replay, INTERFACE, wishes, true, stop)?));
        }
        let Some(interface) = &self.interface else { return Err(which_interface().into()) };
        let Some(device) = &self.device else {
            let sockets =
                PacketSockets { plan: self.plan, checksum: self.checksum, ..PacketSockets::default() };
            return Ok(Box::new(TapFeed::attach(&sockets, interface, wishes, false, stop)?));
        };
        let file = if device == Path::new("/dev/bpf") {
            DeviceFile::open_any(self.abi, Access::Read)?
        } else {
            DeviceFile::open(device, self.abi, Access::Read)?
        };
        Ok(Box::new(DeviceFeed::attach(file, interface, wishes)?))
    }
}

fn which_interface() -> UsageError {
    let links = Rtnl::open().and_then(|mut rtnl| rtnl.list()).unwrap_or_default();
    let names: Vec<_> = links.into_iter().map(|link| link.name).collect();
    let there = if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) };
    UsageError(format!("name an interface with -i{there} (or a file with -r)"))
}

/// Where packets go.
enum Output {
    Lines(BufWriter<Stdout>, Linktype),
    File(Box<SaveFile<BufWriter<Box<dyn Write>>>>),
}

impl Output {
    fn open(
        path: Option<&Path>,
        interface: &str,
        linktype: Linktype,
        snaplen: u32,
    ) -> anyhow::Result<Output> {
        let Some(path) = path else { return Ok(Output::Lines(BufWriter::new(io::stdout()), linktype)) };
        let wrong = || format!("cannot write {}", path.display());
        let writer: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path).with_context(wrong)?)
        };
        let source = Source { interface, linktype, snaplen };
        let mut file = SaveFile::new(BufWriter::new(writer), Format::of(path), source).with_context(wrong)?;
        // A reader of the pipe, or of the file, sees at once what it is.
        file.flush().with_context(wrong)?;
        Ok(Output::File(Box::new(file)))
    }

    fn write(&mut self, seen: &Seen<'_>, data: &[u8]) -> io::Result<()> {
        match self {
            Output::Lines(out, linktype) => {
                let line = print::packet(*linktype, data, seen.wirelen);
                writeln!(out, "{} {line}", print::time_of_day(seen.timestamp))
            }
            Output::File(file) => file.write(seen.timestamp, seen.wirelen, data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Lines(out, _) => out.flush(),
            Output::File(file) => file.flush(),
        }
    }
}
