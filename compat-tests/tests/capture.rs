//! `bpfdev capture`: over a packet socket and over the device, with tcpdump as the judge of its files.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::PacketSockets;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::backend::{Network, Visible};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::bpfdev;

/// A network namespace with the veth pair a, b.
struct Net(Namespace);

impl Net {
    fn new() -> Net {
        let namespace = Namespace::new().unwrap();
        namespace.veth_pair("a", "b").unwrap();
        Net(namespace)
    }

    /// Sends frames through an interface.
    fn send(&self, interface: &str, frames: &[Vec<u8>]) {
        let config = LINUX.tap_config(4096);
        let send = || {
            let mut injector =
                PacketSockets::default().attach(interface, &config).unwrap().injector().unwrap();
            for frame in frames {
                injector.inject(frame, Visible::ToTaps).unwrap();
            }
        };
        self.0.enter(send).unwrap();
    }

    /// Starts a capture and waits until it listens.
    fn capture(&self, source: Source, arguments: &[&str]) -> Capture {
        let mut command = Command::new(bpfdev());
        if source == Source::Device {
            // As root: a private /dev, and the interfaces of this namespace.
            command.args(["wrap", "--"]).arg(bpfdev());
        }
        command.arg("capture").args(["-i", "a"]).args(arguments);
        if source == Source::Device {
            command.args(["--device", "/dev/bpf"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.0.run(&mut command).unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on a, link-type EN10MB (Ethernet)") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "ended before it listened");
        }
        Capture { child, stderr }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    PacketSocket,
    Device,
}

const SOURCES: [Source; 2] = [Source::PacketSocket, Source::Device];

struct Capture {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Capture {
    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// Waits for its end, with 0: stdout, and what it said at the end.
    fn end(mut self) -> (Vec<u8>, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut stdout = Vec::new();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    self.child.kill().unwrap();
                    panic!("it did not end");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert!(status.success(), "{status}: {said}");
        (stdout, said)
    }

    fn lines(self) -> (Vec<String>, String) {
        let (stdout, said) = self.end();
        (String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect(), said)
    }
}

/// A UDP datagram from port 1 to `port` with `len` bytes of payload.
fn udp(port: u16, len: u16) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &[8, 0]].concat();
    frame.extend([0x45, 0]);
    frame.extend((28 + len).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 1]);
    frame.extend(port.to_be_bytes());
    frame.extend((8 + len).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(vec![0x55; len.into()]);
    frame
}

fn other() -> Vec<u8> {
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &[0x80, 0x33], &[7; 46]].concat()
}

/// A file name of this test's own.
fn scratch(suffix: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(format!("bpfdev-capture-{pid}-{n}{suffix}"))
}

fn tcpdump(file: &Path) -> Vec<String> {
    let out = Command::new("tcpdump").args(["-n", "-t", "-r"]).arg(file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .map(str::to_owned)
        .collect()
}

/// What tcpdump prints, in our words too.
fn lines_of(file: &Path) -> Vec<String> {
    let out = Command::new(bpfdev()).args(["capture", "-n", "-r"]).arg(file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn it_ends_after_so_many_packets_and_prints_them() {
    for source in SOURCES {
        let net = Net::new();
        let capture = net.capture(source, &["-c", "2", "--immediate-mode", "udp", "and", "dst port 7"]);
        net.send("b", &[other(), udp(7, 30), udp(8, 30), udp(7, 31)]);
        let (lines, said) = capture.lines();
        let without_time: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        let expect = |len| format!("IP 10.0.0.2.1 > 10.0.0.1.7: UDP, length {len}");
        assert_eq!(without_time, [expect(30), expect(31)], "{source:?}");
        let ended: Vec<_> = said.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(ended[0], ("2", "packets captured"), "{source:?}: {said}");
        assert_eq!(ended[1].1, "packets received by filter", "{source:?}: {said}");
        assert_eq!(ended[2], ("0", "packets dropped by kernel"), "{source:?}: {said}");
    }
}

#[test]
fn ctrl_c_ends_it_and_tcpdump_reads_its_files() {
    for source in SOURCES {
        for suffix in [".pcap", ".pcapng"] {
            let net = Net::new();
            let file = scratch(suffix);
            let capture = net.capture(source, &["-s", "60", "-w", file.to_str().unwrap()]);
            net.send("b", &[udp(7, 1000), other()]);
            // In batches a packet waits for the read time-out; then it is in the file while nothing else comes.
            let deadline = Instant::now() + Duration::from_secs(5);
            while tcpdump(&file).len() < 2 {
                assert!(Instant::now() < deadline, "{source:?}: not in the file");
            }
            capture.interrupt();
            let (_, said) = capture.lines();
            assert!(
                said.contains("2 packets captured\n2 packets received by filter\n0 packets dropped"),
                "{said}"
            );
            let lines = tcpdump(&file);
            assert_eq!(lines[0], "IP 10.0.0.2.1 > 10.0.0.1.7: UDP, length 1000", "{source:?}{suffix}");
            assert_eq!(lines_of(&file)[0], lines[0]);
            assert_eq!(lines_of(&file).len(), 2);
            let magic = &fs::read(&file).unwrap()[..4];
            assert_eq!(magic == [0x0a, 0x0d, 0x0d, 0x0a], suffix == ".pcapng");
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_capture_to_stdout_is_a_file_for_the_next_program() {
    let net = Net::new();
    let capture = net.capture(Source::PacketSocket, &["-w", "-", "-c", "3"]);
    net.send("b", &[udp(7, 1), udp(7, 2), udp(7, 3)]);
    let (bytes, _) = capture.end();
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-t", "-r", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tcpdump.stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(out.lines().count(), 3);
    assert!(out.starts_with("IP 10.0.0.2.1 > 10.0.0.1.7: UDP, length 1\n"), "{out}");
}

#[test]
fn the_direction_is_chosen() {
    for source in SOURCES {
        for (which, expect) in [("in", &[11u16][..]), ("out", &[22]), ("inout", &[11, 22])] {
            let net = Net::new();
            let count = expect.len().to_string();
            let capture = net.capture(source, &["-Q", which, "-c", &count, "--immediate-mode", "-p"]);
            net.send("b", &[udp(1, 11)]);
            net.send("a", &[udp(1, 22)]);
            let (lines, _) = capture.lines();
            let lengths: Vec<u16> =
                lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
            assert_eq!(lengths, expect, "{source:?} -Q {which}");
        }
    }
}

#[test]
fn a_program_in_tcpdumps_forms_is_a_filter() {
    let expression = "udp and dst port 7";
    let net = Net::new();
    for form in ["-d", "-dd", "-ddd"] {
        let out = Command::new("tcpdump").args(["-y", "EN10MB", form, expression]).output().unwrap();
        let file = scratch(form);
        fs::write(&file, out.stdout).unwrap();
        let capture = net.capture(Source::PacketSocket, &["--ddd", file.to_str().unwrap(), "-c", "1"]);
        net.send("b", &[udp(8, 1), udp(7, 2)]);
        assert!(capture.lines().0[0].ends_with("> 10.0.0.1.7: UDP, length 2"), "{form}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_file_is_read_through_the_filter() {
    let net = Net::new();
    let file = scratch(".pcap");
    let capture = net.capture(Source::PacketSocket, &["-c", "4", "-w", file.to_str().unwrap()]);
    net.send("b", &[udp(7, 1), other(), udp(8, 2), udp(7, 3)]);
    capture.end();
    let read = |arguments: &[&str]| {
        let mut command = Command::new(bpfdev());
        let out = command.arg("capture").arg("-r").arg(&file).args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().lines().count()
    };
    assert_eq!(read(&[]), 4);
    assert_eq!(read(&["udp"]), 3);
    assert_eq!(read(&["udp dst port 7"]), 2);
    assert_eq!(read(&["-c", "1", "udp dst port 7"]), 1);
    fs::remove_file(file).unwrap();
}

#[test]
fn the_link_types_are_listed() {
    let net = Net::new();
    for wrapped in [false, true] {
        let mut command = Command::new(bpfdev());
        if wrapped {
            command.args(["wrap", "--"]).arg(bpfdev());
        }
        command.args(["capture", "-L", "-i", "a"]);
        if wrapped {
            command.args(["--device", "/dev/bpf"]);
        }
        let out = net.0.run(command.stdout(Stdio::piped())).unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(text, "Data link types for a (use option -y to set):\n  EN10MB (Ethernet)\n");
    }
}

#[test]
fn an_interface_that_goes_away_ends_it_with_its_counters() {
    let net = Net::new();
    let mut capture = net.capture(Source::PacketSocket, &["-w", "/dev/null"]);
    net.0.rtnl().unwrap().delete("b").unwrap();
    assert_eq!(capture.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    capture.stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("0 packets captured") && said.contains("interface a was removed"), "{said}");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let net = Net::new();
    for (arguments, status, says) in [
        (&[][..], 2, "name an interface with -i; there are lo, "),
        (&["-i", "a", "-c", "0"], 2, "'0' for '--count"),
        (&["-i", "a", "-Q", "up"], 2, "--direction"),
        (&["-i", "a", "-r", "x"], 2, "cannot be used with"),
        (&["-i", "a", "--abi", "plan9", "--device", "/dev/bpf"], 2, "no such dialect"),
        (&["-i", "a", "-y", "ETHER"], 2, "no such link type"),
        (&["-i", "nope"], 1, "no interface called \"nope\""),
        (&["-i", "a", "-y", "RAW"], 1, "link type"),
        (&["-i", "a", "tcp and"], 1, "syntax error"),
        (&["-i", "a", "--ddd", "/proc/self/status"], 1, "no program as tcpdump -ddd prints it: line 1"),
        (&["-i", "a", "--ddd", "/nonexistent"], 1, "cannot read the program /nonexistent"),
        (&["-i", "a", "-w", "/nonexistent/file"], 1, "cannot write /nonexistent/file"),
        (&["-i", "a", "--device", "/nonexistent"], 1, "cannot open /nonexistent"),
        (&["-i", "a", "--device", "/dev/null"], 1, "BIOCSBLEN on /dev/null: ENOTTY"),
        (&["-r", "/nonexistent"], 1, "reading the capture file /nonexistent"),
        (&["-r", "/proc/self/status"], 1, "reading the capture file /proc/self/status"),
    ] {
        let mut command = Command::new(bpfdev());
        command
            .arg("capture")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let out = net.0.run(&mut command).unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), said.lines().count()), (Some(status), 1), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
