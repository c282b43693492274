//! The examples that work on a live interface, run in a namespace of their own.

#![allow(clippy::unwrap_used)] // the program module's

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::netns::Namespace;

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

/// Sends datagrams in the namespace until the child has printed a line that `wanted` holds of.
fn until(namespace: &Namespace, child: &mut Child, wanted: impl Fn(&str) -> bool) -> String {
    let (say, said) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().expect("piped"));
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
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
