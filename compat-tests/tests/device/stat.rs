//! `bpfdev stat`: what it says of files, limits and helpers, and to whom.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bpfdev::service::report::{File, Report};
use serial_test::serial;

use crate::look::text;
use crate::node::{Device, Wire, frame, until};
use crate::program::bpfdev;
use crate::sys::{Bpf, frames, number};

fn only(report: Report) -> File {
    let [file]: [File; 1] = report.files.try_into().unwrap();
    file
}

#[test]
#[serial]
fn a_file_is_shown_as_it_stands() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    assert!(device.report().files.is_empty());
    let bpf = device.open();
    let file = only(device.report());
    assert_eq!((file.interface, file.plan, file.flags.as_str()), (None, None, "--fs---"));
    assert_eq!((file.pid, file.dialect.as_str(), file.buffer), (std::process::id(), "linux", 4096));
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(file.command.as_deref(), Some(own.trim_end()));
    drop(bpf);

    let bpf = wire.bound(&device);
    until("the first is closed", || device.report().files.len() == 1);
    for mark in 1..=3 {
        wire.send(&frame(60, mark));
    }
    until("three packets are stored", || bpf.readable_bytes() >= 3 * 60);
    let file = only(device.report());
    assert_eq!((file.interface.as_deref(), file.flags.as_str()), (Some("veth0"), "-ifs---"));
    assert_eq!((file.received, file.matched, file.dropped), (3, 3, 0));
    assert!(file.stored >= 180 && file.held == 0 && file.memory > 2 * 4096, "{file:?}");
    assert_eq!((file.plan.as_deref(), file.waiting), (Some("accept-all"), 0));
    assert_eq!(frames(&bpf.read().unwrap()).len(), 3);
    assert_eq!(only(device.report()).stored, 0);

    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    until("its read waits", || device.report().files.iter().any(|file| file.waiting == 1));
    let report = device.report();
    let theirs = report.files.iter().find(|file| file.waiting == 1).unwrap();
    assert_eq!(theirs.pid, client.child.id());
    assert_eq!(device.limit("waiting").used, 1);
    assert_eq!(device.limit("files").used, 2);
    client.signal(nix::sys::signal::Signal::SIGKILL);
    client.end();
    until("what it had is given back", || device.limit("waiting").used == 0);
}

#[test]
#[serial]
fn the_table_has_a_line_a_file_and_the_limits() {
    let (device, wire) = (Device::start(&["--max-open", "77", "--max-memory", "99"]), Wire::new());
    let _bpf = wire.bound(&device);
    let out = device.stat(&[]).output().unwrap();
    let said = text(&out);
    assert!(out.status.success(), "{said}");
    let head = said.lines().next().unwrap();
    for column in
        ["Pid", "Netif", "Flags", "Recv", "Drop", "Match", "Sblen", "Hblen", "Plan", "Dialect", "Buffer"]
    {
        assert!(head.contains(column), "{head}");
    }
    let line = said.lines().nth(1).unwrap();
    assert!(line.contains("veth0") && line.contains(&std::process::id().to_string()), "{said}");
    for (limit, all) in [("files", "77"), ("memory", "99.0M"), ("waiting", "8192"), ("task helpers", "16")] {
        let line = said.lines().find(|line| line.starts_with(limit)).unwrap();
        assert!(line.split_whitespace().any(|word| word == all), "{line}");
    }
    // Not a terminal: one after the other, until it has looked often enough.
    let out = device.stat(&["--watch", "--interval", "0.1", "--count", "3"]).output().unwrap();
    assert_eq!(text(&out).matches("Netif").count(), 3);
    assert!(!text(&out).contains('\x1b'));
    let out = device.stat(&["--watch", "--interval", "0.1", "--count", "2", "--json"]).output().unwrap();
    let reports: Vec<Report> = text(&out).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    // On one, where it was.
    let mut command = Command::new("script");
    let line = format!(
        "{} stat --mount {} --watch --interval 0.1 --count 2",
        bpfdev().display(),
        device.dir.display()
    );
    let out = command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(text(&out).matches("\x1b[H").count(), 2, "{}", text(&out));
}

/// The socket of the daemon that is mounted there.
fn socket(device: &Device) -> PathBuf {
    bpfdev::service::control::path_for(&device.dir)
}

#[test]
#[serial]
fn root_and_the_group_may_ask_and_nobody_else() {
    const GROUP: u32 = 54321;
    // Where any user finds it.
    let program = std::env::temp_dir().join(format!("bpfdev-stat-{}", std::process::id()));
    std::fs::copy(bpfdev(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_user = |device: &Device, gid: u32| {
        let mut command = Command::new(&program);
        command.args(["stat", "--json", "--mount"]).arg(&device.dir);
        command.uid(54322).gid(gid).current_dir("/").output().unwrap()
    };
    for group in [Some(GROUP), None] {
        let number = GROUP.to_string();
        let arguments = if group.is_some() { &["--group", number.as_str()][..] } else { &[] };
        let device = Device::start(arguments);
        let meta = std::fs::metadata(socket(&device)).unwrap();
        let expected = group.map_or((0, 0o600), |group| (group, 0o660));
        assert_eq!((meta.gid(), meta.mode() & 0o7777), expected);
        assert_eq!(device.report().pid, device.pid(), "root may");
        let member = as_user(&device, GROUP);
        assert_eq!(member.status.success(), group.is_some(), "{}", text(&member));
        let other = as_user(&device, 54323);
        assert_eq!(other.status.code(), Some(1));
        let said = text(&other);
        assert!(said.contains("for root and for the group") && said.lines().count() == 1, "{said}");
    }
    std::fs::remove_file(&program).unwrap();
}

#[test]
#[serial]
fn without_a_daemon_it_says_what_to_do() {
    let device = Device::start(&["--no-control"]);
    for device in [None, Some(&device)] {
        let mut command = Command::new(bpfdev());
        command.args(["stat", "--mount"]);
        command.arg(device.map_or("/nowhere".into(), |device| device.dir.clone()));
        let out = command.output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        let said = text(&out);
        assert!(said.contains("bpfdev serve") && said.lines().count() == 1, "{said}");
    }
    let out = device.stat(&["--count", "2"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "--count wants --watch: {}", text(&out));
}

#[test]
#[serial]
fn a_socket_that_a_crash_left_is_replaced_and_one_that_ended_is_gone() {
    let device = Device::start(&[]);
    let path = socket(&device);
    let dir = device.crash();
    assert!(path.exists());
    let again = Device::start_at(&dir, &[]);
    assert_eq!(again.report().pid, again.pid());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(again.pid().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    until("the socket is removed", || !path.exists());
    until("it has unmounted", || std::fs::remove_dir(&dir).is_ok());
    drop(again);
}

#[test]
#[serial]
fn who_does_not_read_his_report_stops_nobody() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let _others: Vec<_> = (0..100).map(|_| device.open()).collect();
    let idle: Vec<_> =
        (0..5).map(|_| std::os::unix::net::UnixStream::connect(socket(&device)).unwrap()).collect();
    for mark in 0..20 {
        wire.send(&frame(60, mark));
        assert_eq!(frames(&bpf.read().unwrap()), [frame(60, mark)], "the device works meanwhile");
    }
    assert_eq!(device.report().files.len(), 101);
    drop(idle);
    assert_eq!(bpf.u32(number::GBLEN, 0), 4096);
    assert!(Bpf::open_with(&device.node(), libc::O_RDWR).is_ok());
}
