//! The systemd unit: with its settings, the device is seen from outside.

use std::collections::HashMap;
use std::process::Command;

use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::program::bpfdev;
use crate::sys::frames;

const UNIT: &str = include_str!("../../../bpfdev/dist/bpfdev.service");

fn settings() -> HashMap<&'static str, &'static str> {
    let lines = UNIT.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

/// systemd.exec(5): each of these gives the service a mount namespace of its own.
const OWN_NAMESPACE: [&str; 24] = [
    "RootDirectory",
    "RootImage",
    "MountAPIVFS",
    "ProtectProc",
    "ProcSubset",
    "BindPaths",
    "BindReadOnlyPaths",
    "ProtectSystem",
    "ProtectHome",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "TemporaryFileSystem",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "MountFlags",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "DynamicUser",
];

#[test]
fn the_unit_keeps_the_hosts_mount_namespace() {
    let settings = settings();
    for name in OWN_NAMESPACE {
        assert!(!settings.contains_key(name), "{name}");
    }
    assert_eq!((settings["Type"], settings["Restart"]), ("notify", "on-failure"));
    assert!(settings["ExecStart"].starts_with("/usr/bin/bpfdev serve"));
}

#[test]
#[serial]
fn with_its_capabilities_and_no_more_the_device_is_opened_from_outside() {
    let capabilities = settings()["CapabilityBoundingSet"];
    let kept: String =
        capabilities.split(' ').map(|name| format!(",+{}", &name[4..].to_lowercase())).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{kept}")).args(["--inh-caps=-all", "--no-new-privs"]);
    command.arg(bpfdev());
    let (group, dir) = ("54321", Device::fresh_dir());
    let device = Device::start_by(&mut command, &dir, &["--group", group]);
    let wire = Wire::new();
    let bpf = wire.bound(&device);
    wire.send(&frame(60, 5));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 5)]);
    assert_eq!(device.report().files.len(), 1);
}

#[test]
#[serial]
fn the_manager_is_told_when_the_device_can_be_opened_and_when_it_ends() {
    let dir = Device::fresh_dir();
    let path = dir.with_extension("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::node::SOON)).unwrap();
    let heard = || {
        let mut buf = [0; 256];
        let len = socket.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..len]).into_owned()
    };
    let mut command = Command::new(bpfdev());
    command.env("NOTIFY_SOCKET", &path);
    let device = Device::start_by(&mut command, &dir, &[]);
    assert!(heard().contains("READY=1"));
    drop(device.open());
    drop(device);
    assert!(heard().contains("STOPPING=1"));
    std::fs::remove_file(&path).unwrap();
}
