//! `bpfdev demo`: exit status 0, and a last line that names what ran, on every backend and on the way down the ladder.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use program::bpfdev;

/// What was captured, and the last line; it must have ended with 0.
fn succeeded(out: &Output) -> (Vec<String>, String) {
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}: {text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    let captured = text.lines().filter(|line| line.contains(": Flags [")).map(str::to_owned).collect();
    (captured, text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn each_backend_captures_the_same_three_packets() {
    for (backend, started) in [
        ("device", "ok: device (/dev/bpf, served by FUSE): 3 of 8 frames captured"),
        ("packet-socket", "ok: packet-socket ("),
        ("replay", "ok: replay ("),
        ("auto", "ok: device ("),
    ] {
        let out = Command::new(bpfdev()).args(["demo", "--backend", backend]).output().unwrap();
        let (captured, last) = succeeded(&out);
        assert!(last.starts_with(started) && !last.contains("refused"), "{backend}: {last}");
        let without_time: Vec<_> =
            captured.iter().filter_map(|line| line.split_once(' ')).map(|l| l.1).collect();
        assert_eq!(
            without_time,
            [
                "IP 192.0.2.2.40000 > 192.0.2.1.7070: Flags [S], seq 1, win 64240, length 0",
                "IP6 2001:db8::2.40001 > 2001:db8::1.7070: Flags [S], seq 1, win 64800, length 0",
                "IP 192.0.2.2.40000 > 192.0.2.1.7070: Flags [P.], seq 2:18, ack 1, win 502, length 16",
            ],
            "{backend}"
        );
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("(007) ldh      [x + 16]"), "{backend}: the program is printed");
        assert!(text.contains("0 dropped"), "{backend}: the counters are printed");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.is_empty(), "{backend}: {said}");
    }
}

#[test]
fn the_hosts_network_is_not_touched() {
    let look = || fs::read_to_string("/proc/net/dev").map(|text| text.lines().count()).unwrap();
    let before = look();
    succeeded(&Command::new(bpfdev()).args(["demo"]).output().unwrap());
    assert_eq!(look(), before);
}

/// Runs a shell script in a private /dev.
fn sandboxed(script: &str) -> Output {
    let mut command = Command::new(bpfdev());
    command.args(["launch", "--sandbox", "own", "--", "sh", "-c", script]).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn where_the_device_is_refused_a_packet_socket_serves_and_the_cure_is_named() {
    let without_fuse = "umount /dev/fuse && rm -f /dev/fuse &&";
    let out = sandboxed(&format!("{without_fuse} exec {} demo", bpfdev().display()));
    let (captured, last) = succeeded(&out);
    assert_eq!(captured.len(), 3);
    assert!(
        last.starts_with("ok: packet-socket (") && last.contains("; device was refused: /dev/fuse: "),
        "{last}"
    );
    assert!(last.contains(" -> "), "how to mend it: {last}");

    let out = sandboxed(&format!("{without_fuse} exec {} demo --backend device", bpfdev().display()));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("/dev/fuse") && said.contains(" -> "), "{said}");
}

#[test]
fn an_ordinary_user_needs_no_more_than_the_fuse_node() {
    let place = std::env::temp_dir().join(format!("bpfdev-demo-user-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("bpfdev");
    fs::copy(bpfdev(), &program).unwrap();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    for (mode, started) in [("666", "ok: device ("), ("600", "ok: packet-socket (")] {
        let out = sandboxed(&format!(
            "umount /dev/fuse && rm -f /dev/fuse && mknod -m {mode} /dev/fuse c 10 229 && exec {nobody} {} demo",
            program.display()
        ));
        let (captured, last) = succeeded(&out);
        assert_eq!(captured.len(), 3);
        assert!(last.starts_with(started), "{last}");
        assert_eq!(last.contains("chmod 0666 /dev/fuse"), mode == "600", "names the cure: {last}");
    }
    fs::remove_dir_all(&place).unwrap();
}

#[test]
fn where_everything_is_refused_a_file_is_played() {
    // An ordinary user in a chroot can have no user namespace.
    let place = std::env::temp_dir().join(format!("bpfdev-demo-test-{}", std::process::id()));
    let root = place.join("root");
    fs::create_dir_all(&root).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("bpfdev");
    fs::copy(bpfdev(), &program).unwrap();
    let out = sandboxed(&format!(
        "mount --rbind / {0} && exec chroot --userspec=65534:65534 {0} {1} demo",
        root.display(),
        program.display()
    ));
    fs::remove_dir_all(&place).unwrap();
    let (captured, last) = succeeded(&out);
    assert_eq!(captured.len(), 3);
    assert!(last.starts_with("ok: replay ("), "{last}");
    for rung in ["device was refused: ", "packet-socket was refused: "] {
        assert!(last.contains(rung), "{last}");
    }
}

#[test]
fn a_backend_that_does_not_exist_is_a_usage_error() {
    let out = Command::new(bpfdev()).args(["demo", "--backend", "carrier-pigeon"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
}
