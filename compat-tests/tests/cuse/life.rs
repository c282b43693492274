//! The daemon's life: killed, started again, told to end.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, frames, number};
use crate::{cuse, cuse_at, errno, fresh_dir};

/// What poll(2) says at once.
fn polled(bpf: &Bpf) -> PollFlags {
    let mut fds = [PollFd::new(bpf.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().unwrap()
}

pub fn ended_by_a_kill_is_told_and_begins_again() {
    let wire = Wire::new();
    let mut device = cuse(&["--also", "openbsd"]);
    let mut old = Vec::new();
    for round in 0..2 {
        let bpf = wire.bound(&device);
        let mut client = wire.client(&device, &["block"]).ready();
        client.asleep();
        std::thread::sleep(Duration::from_millis(100));
        let dir = device.crash();
        assert_eq!(client.line(), format!("read -1 errno {} handled 0", libc::ECONNABORTED));
        client.end();
        assert!(!dir.exists(), "the nodes go with it");
        old.push(bpf);
        for bpf in &old {
            assert_eq!(errno(bpf.read_len(4096)), Some(libc::ENOTCONN));
            assert_eq!(errno(bpf.write(&frame(60, 0))), Some(libc::ENOTCONN));
            assert_eq!(errno(bpf.ioctl(number::GSTATS, [0u32; 2])), Some(libc::ENOTCONN));
            assert!(polled(bpf).contains(PollFlags::POLLERR), "{:?}", polled(bpf));
        }
        device = cuse_at(&dir, &["--also", "openbsd"]);
        let fresh = wire.bound(&device);
        wire.send(&frame(60, round));
        assert_eq!(frames(&fresh.read().unwrap()), [frame(60, round)]);
        assert_eq!(errno(old[0].read_len(4096)), Some(libc::ENOTCONN), "an old one stays dead");
    }
}

pub fn ended_by_sigterm_leaves_nothing() {
    let wire = Wire::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let device = cuse(&["--also", "macos"]);
        let dir = device.dir.clone();
        let bpf = wire.bound(&device);
        let mut client = wire.client(&device, &["block"]).ready();
        client.asleep();
        std::thread::sleep(Duration::from_millis(100));
        kill(Pid::from_raw(device.pid().cast_signed()), signal).unwrap();
        assert_eq!(client.line(), format!("read -1 errno {} handled 0", libc::ENXIO));
        client.end();
        until("the nodes are gone", || !dir.exists());
        let name = dir.file_name().unwrap().to_str().unwrap();
        let classes = fs::read_dir("/sys/class/cuse").unwrap().flatten();
        let left: Vec<_> = classes
            .filter(|entry| entry.file_name().to_str().unwrap().starts_with(&format!("{name}!")))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(errno(bpf.read_len(4096)), Some(libc::ENOTCONN));
        drop(device); // it has ended
        assert!(!bpfdev::service::control::path_for(&dir).exists(), "nor its control socket");
    }
}

pub fn begins_of_itself_where_dev_cuse_and_nodes_in_dev_are() {
    let device = Device::start_at(&fresh_dir(), &["--front", "auto"]);
    assert!(fs::metadata(device.node()).unwrap().file_type().is_char_device());
    let elsewhere = Device::start(&["--front", "auto"]);
    assert!(fs::metadata(elsewhere.node()).unwrap().is_file(), "not below /dev: FUSE's");
}
