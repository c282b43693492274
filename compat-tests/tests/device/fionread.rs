//! FIONREAD by Linux's own number: the kernel answers it from the size it has of the file, which follows within moments.

use std::time::Duration;

use serial_test::serial;

use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, Ifreq, number};

/// `<sys/ioctl.h>` of Linux.
const FIONREAD: u32 = 0x541b;

fn becomes(bpf: &Bpf, bytes: u32, what: &str) {
    let mut last = 0;
    until(&format!("{what}: FIONREAD becomes {bytes}"), || {
        last = bpf.u32(FIONREAD, 0);
        last == bytes
    });
}

/// Opened and bound, and neither read nor polled.
fn bound(device: &Device, wire: &Wire) -> Bpf {
    let bpf = device.open();
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf
}

#[test]
#[serial]
fn it_is_right_after_packets_reads_writes_and_flushes() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire);
    assert_eq!(bpf.u32(FIONREAD, 0), 0);
    // records of 26 + 60 bytes, aligned to 8 but for the last (semantics.md 4, "Header written before each packet")
    for count in 1..=3 {
        wire.send(&frame(60, 1));
        becomes(&bpf, count * 88 - 2, "a packet more, for a client that only sleeps");
    }
    bpf.set_nonblocking(true);
    assert_eq!(bpf.read().unwrap().len(), 262);
    becomes(&bpf, 0, "read");
    bpf.u32(number::SDIRECTION, 0); // in: what is written is not seen
    assert_eq!(bpf.write(&frame(1500, 2)).unwrap(), 1500);
    becomes(&bpf, 0, "written, and not seen");
    bpf.u32(number::SDIRECTION, 1);
    assert_eq!(bpf.write(&frame(1500, 2)).unwrap(), 1500);
    becomes(&bpf, 1526, "written, and seen");
    bpf.ioctl_at(number::FLUSH, 0).unwrap();
    becomes(&bpf, 0, "flushed");
    wire.send(&frame(100, 3));
    becomes(&bpf, 126, "a packet after all that");
}

#[test]
#[serial]
fn it_grows_until_both_buffers_are_full_and_each_file_has_its_own() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let (full, other) = (bound(&device, &wire), bound(&device, &wire));
    other.set_filter(&[crate::sys::Insn(6, 0, 0, 14)]).unwrap();
    for n in 0..50 {
        wire.send(&frame(1000, n));
    }
    // three records of 1026 bytes, aligned, in each buffer of 4096
    becomes(&full, 2 * (2 * 1032 + 1026), "hold and store");
    becomes(&other, 50 * 40, "50 records of 26 + 14 bytes");
    assert_eq!(full.readable_bytes(), 6180, "as the device's own number says");
    full.set_nonblocking(true);
    assert_eq!(full.read().unwrap().len(), 3090);
    becomes(&full, 3090, "the hold was read");
    for n in 0..50 {
        wire.send(&frame(1000, n));
    }
    becomes(&full, 6180, "full again");
}

#[test]
#[serial]
fn it_is_right_for_one_who_polls_and_does_not_read() {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire);
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    epoll.add(&bpf, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
    wire.send(&frame(60, 1));
    becomes(&bpf, 86, "nothing to read yet");
    for n in 0..50 {
        wire.send(&frame(1000, n));
    }
    // 86 and its padding of 2, two records of 1032 and one of 1026 in the hold; then the same without the first
    becomes(&bpf, (88 + 2 * 1032 + 1026) + (2 * 1032 + 1026), "full");
}

// semantics.md 5, "FIONREAD": M counts the store alone
#[test]
#[serial]
fn it_is_what_the_dialect_counts() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = Bpf::open(&device.dir.join("macos/bpf0"));
    wire.ns.enter(|| bpf.ioctl(number::BSD_SETIF, Ifreq::<32>::named("veth0")).unwrap()).unwrap();
    for n in 0..50 {
        wire.send(&frame(1000, n));
    }
    // four records of 18 + 1000 bytes, aligned to 4, fit into 4096
    becomes(&bpf, 3 * 1020 + 1018, "the store");
    assert_eq!(bpf.u32(0x4004_667f, 0), 4078, "as macOS's own number says");
}

#[test]
#[serial]
fn it_is_kept_when_the_filter_runs_in_the_daemon() {
    let (device, wire) = (Device::start(&["--plan", "process"]), Wire::new());
    let bpf = bound(&device, &wire);
    wire.send(&frame(60, 1));
    becomes(&bpf, 86, "a packet");
}

#[test]
#[serial]
fn the_names_it_takes_are_nobodys_and_a_closed_file_does_not_hold_the_mount() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire);
    wire.send(&frame(60, 1));
    becomes(&bpf, 86, "a packet");
    let inode = std::os::unix::fs::MetadataExt::ino(
        &std::fs::File::from(std::os::fd::AsFd::as_fd(&bpf).try_clone_to_owned().unwrap())
            .metadata()
            .unwrap(),
    );
    assert!(inode < 1 << 32, "a 32-bit program can stat it");
    let hidden = device.dir.join(format!(".{inode}"));
    assert_eq!(Bpf::open_with(&hidden, libc::O_PATH).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    wire.send(&frame(60, 2));
    becomes(&bpf, 174, "it was looked for, which changes nothing");
    drop(bpf);
    until("the mount is not held any longer", || nix::mount::umount(&device.dir).is_ok());
    until("the daemon has noticed", || device.log().contains("taken the device away"));
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
#[serial]
fn what_nobody_asks_for_costs_next_to_nothing() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let files: Vec<_> = (0..50).map(|_| bound(&device, &wire)).collect();
    for n in 0..100 {
        wire.send(&frame(1000, n));
    }
    becomes(&files[49], 6180, "full");
    becomes(&files[0], 6180, "full");
    std::thread::sleep(Duration::from_millis(1000));
    let before = device.cpu_ticks();
    std::thread::sleep(Duration::from_millis(1000));
    assert!(device.cpu_ticks() - before <= 1, "full buffers and no traffic: no work");
}

#[test]
#[serial]
fn it_is_right_in_the_end_whatever_happened_at_once() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire);
    bpf.u32(number::SDIRECTION, 0); // in: what is written is not seen
    bpf.set_nonblocking(true);
    let file = std::fs::File::from(std::os::fd::AsFd::as_fd(&bpf).try_clone_to_owned().unwrap());
    for round in 0..20u8 {
        std::thread::scope(|s| {
            s.spawn(|| (0..20).for_each(|n| assert!(bpf.write(&frame(60 + 70 * n, 1)).is_ok())));
            s.spawn(|| (0..50).for_each(|_| assert!(file.metadata().is_ok())));
            s.spawn(|| (0..round).for_each(|n| wire.send(&frame(60, n))));
            s.spawn(|| (0..5).for_each(|_| drop(bpf.read())));
        });
        let bytes = bpf.readable_bytes();
        becomes(&bpf, bytes, &format!("round {round}"));
        bpf.ioctl_at(number::FLUSH, 0).unwrap();
    }
}
