//! The systemd unit: with its settings, the device is seen from outside.

use std::process::Command;

use serial_test::serial;

use crate::look::{as_the_unit, unit};
use crate::node::{Device, Wire, frame};
use crate::program::bpfdev;
use crate::sys::frames;

/// systemd.exec(5): each of these gives the service a mount namespace of its own.
const OWN_NAMESPACE: [&str; 29] = [
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
    "PrivateIPC",
    "IPCNamespacePath",
    "MountImages",
    "ExtensionImages",
    "ExtensionDirectories",
];

#[test]
fn the_unit_keeps_the_hosts_mount_namespace() {
    let settings = unit();
    for name in OWN_NAMESPACE {
        assert!(!settings.contains_key(name), "{name}");
    }
    assert_eq!((settings["Type"], settings["Restart"]), ("notify", "on-failure"));
    assert!(settings["ExecStart"].starts_with("/usr/bin/bpfdev serve"));
    // of @mount what the device is mounted with, and not chroot(2) and pivot_root(2)
    let calls: Vec<_> = settings["SystemCallFilter"].split(' ').collect();
    assert!(
        calls.contains(&"mount") && calls.contains(&"umount2") && !calls.contains(&"@mount"),
        "{calls:?}"
    );
}

/// udev decides last who may open a node of CUSE: its rule and the unit have to be of one mind.
#[test]
fn the_udev_rule_gives_the_nodes_to_the_units_group() {
    let rules = include_str!("../../../bpfdev/dist/bpfdev.rules");
    let rule: Vec<_> = rules.lines().filter(|line| !line.starts_with('#')).collect();
    let [rule] = rule[..] else { panic!("{rule:?}") };
    let group = unit()["ExecStart"].split(' ').skip_while(|word| *word != "--group").nth(1).unwrap();
    let parts: Vec<_> = rule.split(", ").collect();
    let wanted = ["SUBSYSTEM==\"cuse\"", "KERNEL==\"bpf*\"", &format!("GROUP=\"{group}\""), "MODE=\"0660\""];
    for part in wanted {
        assert!(parts.contains(&part), "{part} of {rule}");
    }
}

#[test]
fn what_is_in_dist_is_in_the_package() {
    let manifest = include_str!("../../../bpfdev/Cargo.toml");
    let dist = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpfdev/dist");
    let mut found = 0;
    for entry in std::fs::read_dir(dist).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // .ci/deb fills in the templates
        if !name.ends_with(".in") {
            assert!(manifest.contains(&format!("\"dist/{name}\"")), "{name}");
            found += 1;
        }
    }
    assert!(found >= 7, "{found} files");
}

#[test]
#[serial]
fn with_its_capabilities_and_no_more_the_device_is_opened_from_outside() {
    let (group, dir) = ("54321", Device::fresh_dir());
    let device = Device::start_by(&mut as_the_unit(), &dir, &["--group", group]);
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
