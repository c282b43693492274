//! The examples that work on a live interface, run in a namespace of their own.

#![allow(clippy::unwrap_used)] // the program module's

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::PacketSockets;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::backend::{Direction, Network as _, TapConfig, Visible};

mod program;

/// Builds the examples beside the program under test, and starts one in a namespace that has only `lo`.
fn start(namespace: &Namespace, name: &str, arguments: &[&str]) -> Child {
    let profile = program::bpfdev().parent().expect("a directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "bpfdev-examples", "--target-dir"]);
    cargo.arg(profile.parent().expect("a target directory")).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "building the examples");
    let program = Path::new(profile).join(name);
    let spawn = || Command::new(&program).args(arguments).stdout(Stdio::piped()).spawn();
    namespace.enter(spawn).expect("entered").expect("started")
}

/// What the child prints, line by line.
fn lines(child: &mut Child) -> std::sync::mpsc::Receiver<String> {
    let (say, said) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().expect("piped"));
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    said
}

/// Sends datagrams in the namespace until the child has printed a line that `wanted` holds of.
fn until(namespace: &Namespace, child: &mut Child, wanted: impl Fn(&str) -> bool) -> String {
    let said = lines(child);
    let socket = namespace.enter(|| UdpSocket::bind("127.0.0.1:0")).expect("entered").expect("bound");
    let late = Instant::now() + Duration::from_secs(5);
    while Instant::now() < late {
        socket.send_to(&[7; 100], "127.0.0.1:9").expect("sent");
        if let Ok(line) = said.recv_timeout(Duration::from_millis(50))
            && wanted(&line)
        {
            return line;
        }
    }
    panic!("it did not print what was wanted");
}

#[test]
fn bytes_are_summed_by_protocol() {
    let namespace = Namespace::new().expect("a network namespace");
    let mut child = start(&namespace, "protocol_bytes", &["lo"]);
    // 14 + 20 + 8 + 100 bytes a datagram
    let line = until(&namespace, &mut child, |line| line.contains("udp "));
    let udp = line.split(", ").find(|part| part.starts_with("udp ")).expect("udp");
    let bytes: u64 = udp.split(' ').nth(1).expect("a number").parse().expect("a number");
    assert!(bytes > 0 && bytes.is_multiple_of(142), "{line}");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

#[test]
fn the_four_instructions_run_in_the_kernel() {
    let namespace = Namespace::new().expect("a network namespace");
    namespace.veth_pair("v0", "v1").expect("a pair");
    let mut child = start(&namespace, "ethertype_filter", &["v0"]);
    let line = until(&namespace, &mut child, |line| line.contains("in the kernel"));
    assert!(line.contains("cbpf"), "{line}");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

#[test]
fn packets_of_an_interface_are_printed() {
    let namespace = Namespace::new().expect("a network namespace");
    // a datagram, and that nobody listens
    let mut child = start(&namespace, "capture", &["lo", "2"]);
    // 4 bytes of family, 20 + 8 + 100
    until(&namespace, &mut child, |line| line == "132 bytes on the wire, 132 kept");
    assert!(child.wait().expect("it ends").success(), "after two");
}

/// The portable program in C, on the device of a private /dev.
#[test]
fn so_are_those_of_the_c_example() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("example-capture");
    // the Makefile's flags
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O2", "-I"]).arg(project.join("bpfdev/include"));
    cc.arg("-o").arg(&program).arg(project.join("examples/c/capture.c"));
    assert!(cc.status().expect("cc runs").success(), "it compiles without a warning");
    let namespace = Namespace::new().expect("a network namespace");
    namespace.rtnl().expect("rtnetlink").set_up("lo").expect("up");
    let mut wrap = Command::new(program::bpfdev());
    wrap.args(["wrap", "--"]).arg(&program).args(["lo", "2"]).stdout(Stdio::piped());
    let mut child = namespace.enter(|| wrap.spawn()).expect("entered").expect("started");
    until(&namespace, &mut child, |line| line == "132 bytes on the wire, 132 kept");
    assert!(child.wait().expect("it ends").success(), "after two");
}

#[test]
fn what_opens_connections_is_printed() {
    let namespace = Namespace::new().expect("a network namespace");
    namespace.veth_pair("v0", "v1").expect("a pair");
    let mut child = start(&namespace, "filter", &["v0"]);
    let tap = || PacketSockets::default().attach("v1", &LINUX.tap_config(4096)).expect("attached");
    let mut far = namespace.enter(|| tap().injector().expect("sends")).expect("entered");
    let segment = |flags: u8, last: u8| {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0]);
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, last, 192, 0, 2, 99]);
        frame.extend([0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame
    };
    let lines = lines(&mut child);
    let late = Instant::now() + Duration::from_secs(5);
    let mut seen = Vec::new();
    while seen.len() < 2 && Instant::now() < late {
        for (flags, last) in [(0x12, 1), (0x10, 2), (0x02, 3)] {
            far.inject(&segment(flags, last), Visible::ToTaps).expect("sent");
        }
        let said = lines.recv_timeout(Duration::from_millis(50)).into_iter().chain(lines.try_iter());
        seen.extend(said.filter(|line| line.contains(" -> ")));
    }
    assert!(seen.len() >= 2, "it printed {seen:?}");
    assert!(seen.iter().all(|line| line == "192.0.2.3 -> 192.0.2.99, 54 bytes"), "{seen:?}");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

#[test]
fn an_arp_request_is_answered() {
    let namespace = Namespace::new().expect("a network namespace");
    namespace.veth_pair("v0", "v1").expect("a pair");
    let mut child = start(&namespace, "inject", &["v0", "192.0.2.7"]);
    let wanted = TapConfig { direction: Direction::In, ..LINUX.tap_config(4096) };
    let attach = || PacketSockets::default().attach("v1", &wanted).expect("attached");
    let mut far = namespace.enter(attach).expect("entered");
    let mut injector = far.injector().expect("sends");
    let asker = [2, 0, 0, 0, 0, 9];
    let arp = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let request = |target: u8| {
        let mut frame = [&[0xff; 6][..], &asker, &[0x08, 0x06], &arp, &asker, &[192, 0, 2, 1]].concat();
        frame.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, target]);
        frame
    };
    let late = Instant::now() + Duration::from_secs(5);
    let mut replies: Vec<Vec<u8>> = Vec::new();
    while replies.is_empty() && Instant::now() < late {
        injector.inject(&request(8), Visible::ToTaps).expect("sent");
        injector.inject(&request(7), Visible::ToTaps).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
        let mut batch = far.try_batch().expect("a batch");
        while let Some(packet) = batch.next() {
            replies.push(packet.data.to_vec());
        }
    }
    let reply = replies.first().expect("a reply came");
    let mac = namespace.rtnl().expect("rtnetlink").link("v0").expect("v0").mac;
    let expected =
        [&asker[..], &mac, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2], &mac, &[192, 0, 2, 7], &asker];
    assert_eq!(reply[..], [&expected.concat()[..], &[192, 0, 2, 1]].concat());
    assert!(replies.iter().all(|other| other == reply), "only its own address is answered for");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

#[test]
fn two_interfaces_are_counted_in_one_thread() {
    let namespace = Namespace::new().expect("a network namespace");
    namespace.veth_pair("v0", "v1").expect("a pair");
    let mut child = start(&namespace, "async_capture", &["v0", "lo", "60"]);
    let line = until(&namespace, &mut child, |line| line.starts_with("lo: "));
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [packets, bytes] = numbers[..] else { panic!("{line}") };
    // datagrams of 132 bytes, and that nobody listens in 160
    assert!(packets > 0 && (packets * 132..=packets * 160).contains(&bytes), "{line}");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

/// A daemon that ends with the test.
struct Served(Child, std::path::PathBuf);

impl Served {
    fn start(namespace: &Namespace) -> Served {
        let mount = std::env::temp_dir().join(format!("bpfdev-examples-{}", std::process::id()));
        let mut serve = Command::new(program::bpfdev());
        serve.args(["serve", "--no-link", "--mount"]).arg(&mount);
        let child = namespace.enter(|| serve.spawn()).expect("entered").expect("served");
        let late = Instant::now() + Duration::from_secs(5);
        while !mount.join("bpf").exists() {
            assert!(Instant::now() < late, "the device is served");
            std::thread::sleep(Duration::from_millis(10));
        }
        Served(child, mount)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
        let _ = std::fs::remove_dir(&self.1);
    }
}

#[test]
fn the_same_program_sees_the_same_packets_natively_and_through_the_device() {
    let namespace = Namespace::new().expect("a network namespace");
    namespace.veth_pair("v0", "v1").expect("a pair");
    let served = Served::start(&namespace);
    let systems = ["freebsd", "netbsd", "openbsd", "dragonfly", "macos"];
    let places = systems.map(|system| served.1.join(system).display().to_string());
    let mut children = vec![start(&namespace, "two_platforms", &["v0", "native", "3"])];
    for (system, place) in systems.iter().zip(&places) {
        children.push(start(&namespace, "two_platforms", &["v0", system, place, "3"]));
    }
    let said: Vec<_> = children.iter_mut().map(lines).collect();
    for (i, said) in said.iter().enumerate() {
        let ready = said.recv_timeout(Duration::from_secs(5)).expect("it is ready");
        assert_eq!(ready, if i == 0 { "ready: packet socket" } else { "ready: bpf device" });
    }
    let tap = || PacketSockets::default().attach("v1", &LINUX.tap_config(4096)).expect("attached");
    let mut far = namespace.enter(|| tap().injector().expect("sends")).expect("entered");
    let frames: Vec<Vec<u8>> = (0u8..3)
        .map(|i| {
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
            frame.resize(60 + 500 * usize::from(i), i);
            frame
        })
        .collect();
    for frame in &frames {
        let mut other = frame.clone();
        other[13] = 0xb6;
        far.inject(&other, Visible::ToTaps).expect("sent");
        far.inject(frame, Visible::ToTaps).expect("sent");
    }
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (said, child) in said.iter().zip(&mut children) {
        for frame in &frames {
            let line = said.recv_timeout(Duration::from_secs(5)).expect("a packet");
            assert_eq!(line, format!("{} {}", frame.len(), hex(frame)));
        }
        assert!(child.wait().expect("it ends").success());
    }
}
