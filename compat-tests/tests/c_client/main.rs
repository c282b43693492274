//! One client in C, compiled once for each dialect of `net/bpf.h`: each captures the same traffic, and what they print is
//! equal. `bpfdev serve` runs as a child, the traffic is on a veth pair in a namespace made for each test. With
//! BPFDEV_TEST_FRONT=cuse in the environment it serves character devices.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(dead_code)] // the modules are those of the device's tests, which use more of them

#[path = "../device/node.rs"]
mod node;
#[path = "../program/mod.rs"]
mod program;
#[path = "../device/sys.rs"]
mod sys;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serial_test::serial;

use node::{Device, Wire, frame};
use program::BUILT;

/// Bytes the filter of every client keeps of a packet.
const SNAPLEN: usize = 200;

/// A data model: its name, and the compiler's flags.
type Model = (&'static str, &'static [&'static str]);

const LP64: Model = ("64", &[]);
const ILP32: Model = ("32", &["-m32"]);
const ILP32_TIME64: Model = ("32t64", &["-m32", "-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"]);
const EVERY_MODEL: &[Model] = &[LP64, ILP32, ILP32_TIME64];

/// What the client is compiled for.
#[derive(Clone, Copy, Debug)]
struct Target {
    dialect: &'static str,
    define: Option<&'static str>,
    models: &'static [Model],
    /// Its node in the directory of `bpfdev serve`.
    node: &'static str,
    /// The node at the top, under `--abi`.
    top: &'static str,
}

const TARGETS: [Target; 6] = [
    Target { dialect: "linux", define: None, models: EVERY_MODEL, node: "bpf", top: "bpf" },
    Target {
        dialect: "freebsd",
        define: Some("-DBPFDEV_ABI_FREEBSD"),
        models: EVERY_MODEL,
        node: "freebsd/bpf",
        top: "bpf",
    },
    Target {
        dialect: "netbsd",
        define: Some("-DBPFDEV_ABI_NETBSD"),
        models: EVERY_MODEL,
        node: "netbsd/bpf",
        top: "bpf",
    },
    Target {
        dialect: "openbsd",
        define: Some("-DBPFDEV_ABI_OPENBSD"),
        // its time_t has 64 bits on every machine
        models: &[LP64, ILP32_TIME64],
        node: "openbsd/bpf",
        top: "bpf",
    },
    Target {
        dialect: "dragonfly",
        define: Some("-DBPFDEV_ABI_DRAGONFLY"),
        // a 64-bit system
        models: &[LP64],
        node: "dragonfly/bpf",
        top: "bpf",
    },
    Target {
        dialect: "macos",
        define: Some("-DBPFDEV_ABI_MACOS"),
        models: EVERY_MODEL,
        node: "macos/bpf0",
        top: "bpf0",
    },
];

impl Target {
    /// Compiles the client against our header, with warnings as errors.
    fn compile(&self, (bits, flags): Model) -> PathBuf {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("capture-{}-{bits}", self.dialect));
        if std::env::var_os(BUILT).is_some() {
            return program;
        }
        let mut cc = Command::new("cc");
        cc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"])
            .args(self.define)
            .args(flags);
        cc.arg("-I").arg(here.join("../bpfdev/include")).arg("-o").arg(&program);
        cc.arg(here.join("tests/c_client/capture.c"));
        assert!(cc.status().unwrap().success(), "{cc:?} (-m32 needs gcc-multilib)");
        program
    }

    /// The 64-bit program, and the 32-bit ones that system has.
    fn programs(&self) -> Vec<PathBuf> {
        let models = if cfg!(target_arch = "x86_64") { self.models } else { &[LP64] };
        models.iter().map(|&model| self.compile(model)).collect()
    }
}

/// Serves the device. In the directories of dialects are nodes where `--abi` is not among the arguments.
fn serve(arguments: &[&str]) -> Device {
    match std::env::var("BPFDEV_TEST_FRONT").as_deref() {
        Err(_) => Device::start(&[&["--front", "fuse"], arguments].concat()),
        Ok("cuse") => {
            let dir = Path::new("/dev").join(Device::fresh_dir().file_name().unwrap());
            let directories: Vec<_> = TARGETS[1..].iter().map(|target| target.dialect).collect();
            let directories = directories.join(",");
            let also: &[&str] = if arguments.contains(&"--abi") { &[] } else { &["--also", &directories] };
            Device::start_at(&dir, &[&["--front", "cuse"], also, arguments].concat())
        }
        Ok(other) => panic!("BPFDEV_TEST_FRONT={other}: cuse, or nothing for fuse"),
    }
}

/// A client that runs. Dropping it kills it.
struct Client {
    name: String,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Client {
    /// Runs it in the namespace until it is set up.
    fn start(wire: &Wire, program: &Path, node: &Path, count: usize) -> Client {
        let mut command = Command::new(program);
        command.arg(node).arg("veth0").args([count.to_string(), SNAPLEN.to_string()]);
        let mut child = wire.ns.run(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let name = format!("{} on {}", program.file_name().unwrap().display(), node.display());
        let client = Client { name, child, out };
        assert_eq!(line, "ready\n", "{}", client.name);
        client
    }

    fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// What it captured, once it has ended.
    fn packets(mut self) -> Vec<Packet> {
        let mut printed = String::new();
        self.out.read_to_string(&mut printed).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}\n{printed}", self.name);
        printed.lines().map(|line| Packet::parse(line).expect(line)).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A packet as a client prints it.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    caplen: usize,
    datalen: usize,
    bytes: Vec<u8>,
}

impl Packet {
    fn parse(line: &str) -> Option<Packet> {
        let (caplen, rest) = line.split_once(' ')?;
        let (datalen, hex) = rest.split_once(' ')?;
        let bytes =
            hex.as_bytes().chunks(2).map(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        Some(Packet {
            caplen: caplen.parse().ok()?,
            datalen: datalen.parse().ok()?,
            bytes: bytes.collect::<Option<_>>()?,
        })
    }

    /// What every dialect must make of this frame.
    fn of(frame: &[u8]) -> Packet {
        let caplen = frame.len().min(SNAPLEN);
        Packet { caplen, datalen: frame.len(), bytes: frame[..caplen].to_vec() }
    }
}

/// Frames of every length modulo a header's alignment, of the least and of the greatest length.
fn traffic() -> Vec<Vec<u8>> {
    let lengths = (60..76).chain([199, 200, 201, 1513, 1514]);
    lengths.zip(1..).map(|(len, mark)| frame(len, mark)).collect()
}

/// Lets every client capture the same traffic: half of it is in their buffers before they read, half comes while they
/// sleep in a read; some came in, some went out.
fn all_capture_the_same(wire: &Wire, mut clients: Vec<Client>) {
    let traffic = traffic();
    let (before, during) = traffic.split_at(traffic.len() / 2);
    let near = wire.ns.enter(|| sys::packet_socket("veth0").unwrap()).unwrap();
    let send = |frames: &[Vec<u8>]| {
        for (i, frame) in frames.iter().enumerate() {
            if i % 3 == 2 {
                assert_eq!(nix::unistd::write(&near, frame).unwrap(), frame.len());
            } else {
                wire.send(frame);
            }
        }
    };
    send(before);
    clients.iter_mut().for_each(Client::go);
    send(during);
    let printed: Vec<_> = clients.into_iter().map(|client| (client.name.clone(), client.packets())).collect();
    let (first, packets) = &printed[0];
    for (name, others) in &printed {
        assert_eq!(others, packets, "{name} against {first}");
    }
    // where they meet, a frame that came in and one that went out may change places
    let mut sorted: Vec<_> = packets.iter().collect();
    sorted.sort_by_key(|packet| packet.datalen);
    let expected: Vec<_> = traffic.iter().map(|frame| Packet::of(frame)).collect();
    assert_eq!(sorted, expected.iter().collect::<Vec<_>>(), "{first}");
}

/// What compiles them for the other tests, where these run without a compiler.
#[test]
#[serial]
fn every_client_compiles() {
    let programs = TARGETS.iter().flat_map(Target::programs).filter(|program| program.exists());
    assert_eq!(programs.count(), if cfg!(target_arch = "x86_64") { 15 } else { TARGETS.len() });
}

#[test]
#[serial]
fn a_client_of_every_dialect_captures_the_same_from_one_daemon() {
    let (device, wire) = (serve(&[]), Wire::new());
    let count = traffic().len();
    let mut clients = Vec::new();
    for target in TARGETS {
        for program in target.programs() {
            clients.push(Client::start(&wire, &program, &device.dir.join(target.node), count));
        }
    }
    all_capture_the_same(&wire, clients);
}

#[test]
#[serial]
fn a_daemon_of_one_dialect_serves_its_clients_at_the_top() {
    let count = traffic().len();
    for target in TARGETS {
        let (device, wire) = (serve(&["--abi", target.dialect]), Wire::new());
        let node = device.dir.join(target.top);
        let programs = target.programs();
        let clients = programs.iter().map(|program| Client::start(&wire, program, &node, count));
        all_capture_the_same(&wire, clients.collect());
    }
}

#[test]
#[serial]
fn the_packets_do_not_depend_on_where_the_filter_runs() {
    let count = traffic().len();
    for plan in ["cbpf", "process"] {
        let (device, wire) = (serve(&["--plan", plan]), Wire::new());
        let clients = TARGETS
            .map(|target| Client::start(&wire, &target.compile(LP64), &device.dir.join(target.node), count));
        all_capture_the_same(&wire, clients.into());
    }
}
