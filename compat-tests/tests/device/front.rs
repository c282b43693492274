//! Where there is no /dev/cuse: `--front cuse` says what would help, `--front auto` does without.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::program::bpfdev;
use crate::sys::{Bpf, frames, number};

/// A /dev with /dev/fuse and without /dev/cuse, whatever this machine has.
const OWN_DEV: &str = "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && touch $d/fuse $d/null && \
                       mount --bind /dev/fuse $d/fuse && mount --bind /dev/null $d/null && \
                       mount --move $d /dev && rmdir $d && exec \"$0\" \"$@\"";

fn without_cuse(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", OWN_DEV]).arg(bpfdev()).args(arguments).stdin(Stdio::null());
    command
}

#[test]
#[serial]
fn without_dev_cuse_the_refusal_is_one_line_with_both_cures() {
    let out = without_cuse(&["serve", "--front", "cuse", "--no-control"]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    for words in ["/dev/cuse", "modprobe cuse", "--front fuse, which needs nothing"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
#[serial]
fn without_dev_cuse_auto_is_fuse() {
    let (dir, wire) = (Device::fresh_dir(), Wire::new());
    let device = Device::start_by(&mut without_cuse(&[]), &dir, &["--front", "auto"]);
    // its mounts are its own
    let root = Path::new("/proc").join(device.pid().to_string()).join("root");
    let node = root.join(dir.strip_prefix("/").unwrap()).join("bpf");
    assert!(fs::metadata(&node).unwrap().is_file());
    let bpf = wire.ns.enter(|| Bpf::immediate(&node, "veth0")).unwrap();
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    assert_eq!(bpf.u32(number::GBLEN, 0), 4096);
}
