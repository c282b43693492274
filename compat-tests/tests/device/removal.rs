//! The interface is removed under a descriptor: semantics.md 4, "interface goes away", and 5, "interface removed".

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{Bpf, Ifreq, number};

fn bound(device: &Device, wire: &Wire, node: &str) -> Bpf {
    let bpf = Bpf::open(&device.dir.join(node));
    let set_if = if node.starts_with("netbsd") { number::BSD_SETIF_NETBSD } else { number::BSD_SETIF };
    wire.ns.enter(|| bpf.ioctl(set_if, Ifreq::<144>::named("veth0")).unwrap()).unwrap();
    bpf
}

fn read(bpf: &Bpf) -> Result<usize, i32> {
    read_len(bpf, bpf.u32(number::BSD_GBLEN, 0) as usize)
}

fn read_len(bpf: &Bpf, len: usize) -> Result<usize, i32> {
    bpf.read_len(len).map(|read| read.len()).map_err(|error| error.raw_os_error().unwrap())
}

fn polled(bpf: &Bpf) -> PollFlags {
    let mut fds = [PollFd::new(bpf.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().unwrap()
}

/// Removes the interface while a reader sleeps; gives what the reader got.
fn removed_under_a_reader(bpf: &Bpf, wire: &Wire, len: usize) -> Result<usize, i32> {
    std::thread::scope(|s| {
        let reader = s.spawn(|| read_len(bpf, len));
        std::thread::sleep(Duration::from_millis(100));
        wire.ns.rtnl().unwrap().delete("veth0").unwrap();
        reader.join().unwrap()
    })
}

#[test]
#[serial]
fn freebsd_dragonfly_and_macos_sleepers_wake_and_reads_are_enxio() {
    for node in ["freebsd/bpf", "dragonfly/bpf", "macos/bpf0"] {
        let (device, wire) = (Device::start(&[]), Wire::new());
        let bpf = bound(&device, &wire, node);
        assert_eq!(removed_under_a_reader(&bpf, &wire, 4096), Err(libc::ENXIO), "{node}");
        assert_eq!(read(&bpf), Err(libc::ENXIO), "{node}");
        assert_eq!(bpf.write(&frame(60, 0)).unwrap_err().raw_os_error(), Some(libc::ENXIO), "{node}");
        assert_eq!(bpf.u32(number::BSD_GBLEN, 0), 4096, "{node}: requests go on");
        // and it can be bound anew
        let other = Wire::new();
        other.ns.enter(|| bpf.ioctl(number::BSD_SETIF, Ifreq::<32>::named("veth0")).unwrap()).unwrap();
        bpf.u32(number::BSD_IMMEDIATE, 1);
        other.send(&frame(60, 1));
        assert!(read(&bpf).unwrap() > 60, "{node}");
    }
}

#[test]
#[serial]
fn freebsd_what_is_buffered_comes_first() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire, "freebsd/bpf");
    bpf.set_nonblocking(true);
    wire.send(&frame(60, 1));
    assert_eq!(bpf.u32(0x4004_667f, 0), 86, "FIONREAD");
    wire.ns.rtnl().unwrap().delete("veth0").unwrap();
    assert_eq!(read(&bpf), Ok(86));
    assert_eq!(read(&bpf), Err(libc::ENXIO));
}

#[test]
#[serial]
fn openbsd_the_file_is_revoked() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire, "openbsd/bpf");
    assert_eq!(polled(&bpf), PollFlags::empty(), "never writable");
    assert_eq!(removed_under_a_reader(&bpf, &wire, 32768), Err(libc::EIO), "a sleeping reader");
    assert_eq!(read_len(&bpf, 32768), Err(libc::EIO), "a later one");
    assert_eq!(bpf.write(&frame(60, 0)).unwrap_err().raw_os_error(), Some(libc::EIO));
    for request in [number::BSD_GBLEN, number::BSD_GSTATS, number::BSD_SETIF] {
        let error = bpf.ioctl(request, Ifreq::<32>::named("lo").0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{request:#x}");
    }
    assert_eq!(polled(&bpf), PollFlags::POLLHUP);
}

#[test]
#[serial]
fn openbsd_a_poller_is_told_and_a_reader_gets_what_is_buffered() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let (bpf, reader) = (bound(&device, &wire, "openbsd/bpf"), bound(&device, &wire, "openbsd/bpf"));
    wire.send(&frame(60, 1));
    std::thread::scope(|s| {
        let poller = s.spawn(|| {
            let mut fds = [PollFd::new(bpf.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_000u16)).unwrap();
            fds[0].revents().unwrap()
        });
        assert_eq!(removed_under_a_reader(&reader, &wire, 32768), Ok(86), "26 + 60 bytes");
        assert_eq!(poller.join().unwrap(), PollFlags::POLLHUP);
    });
    assert_eq!(read_len(&reader, 32768), Err(libc::EIO));
}

#[test]
#[serial]
fn netbsd_nobody_notices() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = bound(&device, &wire, "netbsd/bpf");
    bpf.ioctl(0x8010_427a, [0i64, 600_000]).unwrap(); // BIOCSRTIMEOUT
    let begin = std::time::Instant::now();
    assert_eq!(removed_under_a_reader(&bpf, &wire, 32768), Ok(0), "the reader sleeps until its time-out");
    assert!(begin.elapsed() >= Duration::from_millis(600));
    assert_eq!(read(&bpf), Ok(0), "and so does a later one");
    bpf.set_nonblocking(true);
    assert_eq!(read(&bpf), Err(libc::EAGAIN));
    assert_eq!(polled(&bpf), PollFlags::POLLOUT, "as not attached");
    assert_eq!(bpf.write(&frame(60, 0)).unwrap_err().raw_os_error(), Some(libc::ENXIO));
}
