//! The nodes: what they are, who opens them, where and when they are made.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::look::members_of_the_group_capture;
use crate::node::{Device, Wire, frame, until};
use crate::program::bpfdev;
use crate::sys::{Bpf, frames, number};
use crate::systems::{see_the_same_frames_at_once, system};
use crate::{cuse, errno, fresh_dir};

/// Permission bits, owner and group of a character device.
fn access(node: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(node).unwrap();
    assert!(meta.file_type().is_char_device(), "{}", node.display());
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

/// Where the kernel's class has the node.
fn class(node: &Path) -> PathBuf {
    let name = node.strip_prefix("/dev").unwrap().to_str().unwrap().replace('/', "!");
    Path::new("/sys/class/cuse").join(name)
}

pub fn are_character_devices_with_a_mode_and_a_group() {
    let device = cuse(&["--mode", "0640", "--group", "4242"]);
    let mut numbers = HashSet::new();
    for name in ["bpf", "bpf0", "bpf15"] {
        let node = device.dir.join(name);
        assert_eq!(access(&node), (0o640, 0, 4242), "{name}");
        let rdev = fs::metadata(&node).unwrap().rdev();
        let number = format!("{}:{}", libc::major(rdev), libc::minor(rdev));
        assert_eq!(fs::read_to_string(class(&node).join("dev")).unwrap().trim(), number, "st_rdev of {name}");
        assert!(numbers.insert(rdev), "a device each");
        let test = Command::new("sh").args(["-c", "test -c \"$0\""]).arg(&node).status().unwrap();
        assert!(test.success(), "test -c {name}");
    }
    assert_eq!(fs::read_dir(&device.dir).unwrap().count(), 17);
    assert_eq!(access(&cuse(&[]).node()), (0o600, 0, 0));
}

pub fn are_dev_bpf_and_its_numbers_by_default() {
    for name in ["/dev/bpf", "/dev/bpf0"] {
        assert!(fs::symlink_metadata(name).is_err(), "{name} is there: another daemon serves it");
    }
    let mut daemon = Command::new(bpfdev());
    daemon.args(["serve", "--front", "cuse", "--no-control", "--seccomp", "kill"]).stdin(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let wire = Wire::new();
    until("the last node can be opened", || Bpf::open_with(Path::new("/dev/bpf15"), libc::O_RDWR).is_ok());
    for name in ["/dev/bpf", "/dev/bpf0", "/dev/bpf15"] {
        access(Path::new(name)); // who may open it can be udev's decision
        let bpf = wire.ns.enter(|| Bpf::immediate(Path::new(name), "veth0")).unwrap();
        wire.send(&frame(60, 1));
        assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "{name}");
    }
    kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    for name in ["/dev/bpf", "/dev/bpf0", "/dev/bpf15", "/dev/bpfdev"] {
        assert!(fs::symlink_metadata(name).is_err(), "{name} is gone");
    }
}

pub fn are_opened_by_members_of_the_group_and_nobody_else() {
    members_of_the_group_capture(&cuse(&["--group", "4242"]), &Wire::new());
}

pub fn of_several_dialects_are_served_at_once() {
    let device = cuse(&["--also", "freebsd,netbsd,openbsd,dragonfly,macos", "--group", "4242"]);
    see_the_same_frames_at_once(&device, &Wire::new());
    for node in ["freebsd/bpf0", "netbsd/bpf15", "openbsd/bpf", "dragonfly/bpf3", "macos/bpf3"] {
        assert_eq!(access(&device.dir.join(node)), (0o660, 0, 4242), "{node}");
    }
    assert_eq!(device.open().u32(number::GBLEN, 0), 4096, "the top has its own");
    let held = Bpf::open(&device.dir.join("dragonfly/bpf2"));
    let another = Bpf::open_with(&device.dir.join("dragonfly/bpf2"), libc::O_RDWR);
    assert_eq!(errno(another), Some(libc::EBUSY), "one opener each");
    drop(held);
    until("it is free again", || Bpf::open_with(&device.dir.join("dragonfly/bpf2"), libc::O_RDWR).is_ok());
}

pub fn of_macos_come_as_the_last_is_taken() {
    let device = cuse(&["--abi", "macos", "--group", "4242"]);
    let node = |n: usize| device.dir.join(format!("bpf{n}"));
    assert!(node(3).exists() && !node(4).exists());
    let mut held = Vec::new();
    for n in 0..12 {
        // who tries one after the other always finds the next, at once
        held.push(Bpf::open(&node(n)));
        assert_eq!(access(&node(n)), (0o660, 0, 4242));
        assert_eq!(errno(Bpf::open_with(&node(n), libc::O_RDWR)), Some(libc::EBUSY));
    }
    assert_eq!(fs::read_dir(&device.dir).unwrap().count(), 13);
    let wire = Wire::new();
    let macos = system("macos");
    let ifreq = crate::sys::Ifreq::<32>::named("veth0");
    let last = held.last().unwrap();
    wire.ns.enter(|| last.ioctl(macos.set_if, ifreq).unwrap()).unwrap();
    last.u32(number::BSD_IMMEDIATE, 1);
    wire.send(&frame(60, 4));
    assert_eq!(macos.frames(&last.read_len(4096).unwrap()), [frame(60, 4)]);
}

pub fn are_refused_where_a_name_is_taken() {
    let device = cuse(&[]);
    let refused = |dir: &Path, name: &str| {
        let out = Command::new(bpfdev())
            .args(["serve", "--front", "cuse", "--no-link", "--no-control", "--mount"])
            .arg(dir)
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(
            said.contains(&format!("cannot make the device {}: File exists", dir.join(name).display())),
            "{said}"
        );
    };
    refused(&device.dir, "bpf");
    assert_eq!(device.open().u32(number::GBLEN, 0), 4096, "and the first notices nothing");
    // something else of that name, and whatever was made before it
    let dir = fresh_dir();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("bpf1"), "mine").unwrap();
    refused(&dir, "bpf1");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bpf1"]);
    assert_eq!(fs::read_to_string(dir.join("bpf1")).unwrap(), "mine");
    fs::remove_dir_all(&dir).unwrap();
}

/// A container's /dev: a tmpfs with /dev/cuse in it.
const OWN_DEV: &str = "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && touch $d/cuse && mount --bind /dev/cuse $d/cuse && \
                       mount --move $d /dev && rmdir $d && umask 077 && exec \"$0\" \"$@\"";

pub fn are_made_where_dev_is_no_devtmpfs() {
    let (dir, wire) = (fresh_dir(), Wire::new());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", OWN_DEV]).arg(bpfdev());
    let arguments = ["--front", "cuse", "--group", "4242", "--also", "macos"];
    let device = Device::start_by(&mut command, &dir, &arguments);
    // its /dev, from outside
    let seen =
        Path::new("/proc").join(device.pid().to_string()).join("root").join(dir.strip_prefix("/").unwrap());
    assert_eq!(access(&seen.join("bpf0")), (0o660, 0, 4242));
    let bpf = wire.ns.enter(|| Bpf::immediate(&seen.join("bpf0"), "veth0")).unwrap();
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    let held: Vec<_> = (0..4).map(|n| Bpf::open(&seen.join(format!("macos/bpf{n}")))).collect();
    assert_eq!(access(&seen.join("macos/bpf4")), (0o660, 0, 4242), "one more, made by us too");
    drop((bpf, held));
    let meta = fs::metadata(seen.join("macos")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o755, "a member of the group gets there");
    // it takes away what it has made
    let root = fs::File::open(Path::new("/proc").join(device.pid().to_string()).join("root/dev")).unwrap();
    drop(device);
    let root = format!("/proc/self/fd/{}", root.as_raw_fd());
    let left: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["cuse"]);
}
