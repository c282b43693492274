//! Who sleeps in the device, and what wakes him.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;

use crate::node::{Wire, frame, until};
use crate::sys::{catch, caught, frames, number};
use crate::{cuse, errno};

/// A client says that it is ready before it reads.
const A_MOMENT: Duration = Duration::from_millis(100);

pub fn ends_with_a_signal_as_eintr_whether_to_be_restarted_or_not() {
    let (device, wire) = (cuse(&[]), Wire::new());
    for mode in ["block", "block-restart"] {
        let mut client = wire.client(&device, &[mode]).ready();
        client.asleep();
        std::thread::sleep(A_MOMENT);
        client.signal(Signal::SIGUSR1);
        assert_eq!(client.line(), format!("read -1 errno {} handled 1", libc::EINTR), "{mode}");
        assert!(client.end().success());
    }
    // stopped and continued it has had no signal that is handled, and yet
    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    client.stop_and_continue();
    assert_eq!(client.line(), format!("read -1 errno {} handled 0", libc::EINTR));
}

pub fn ends_with_the_readers_death() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let witness = wire.bound(&device);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        let mut client = wire.client(&device, &["block"]).ready();
        until("its read waits", || device.limit("waiting").used == 1);
        client.signal(signal);
        assert_eq!(client.end().signal(), Some(signal as i32));
        until("it is released", || device.report().files.len() == 1 && device.limit("waiting").used == 0);
    }
    wire.send(&frame(60, 1));
    assert_eq!(frames(&witness.read().unwrap()), [frame(60, 1)], "another's descriptor notices nothing");
}

pub fn ends_with_packets_for_poll_select_and_epoll() {
    const COUNT: u8 = 10;
    let (device, wire) = (cuse(&[]), Wire::new());
    for how in ["poll", "select", "epoll"] {
        let mut client = wire.client(&device, &[how, &COUNT.to_string()]).ready();
        for mark in 0..COUNT {
            client.asleep();
            wire.send(&frame(60, mark));
            assert_eq!(client.line(), format!("frame 60 of 60, first {mark:02x}"), "{how}");
        }
        assert!(client.end().success(), "{how}");
    }
}

pub fn in_a_level_triggered_epoll_is_woken_again_and_again() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll.add(&bpf, EpollEvent::new(EpollFlags::EPOLLIN, 1)).unwrap();
    let wait = |millis: u16| epoll.wait(&mut [EpollEvent::empty(); 4], EpollTimeout::from(millis)).unwrap();
    assert_eq!(wait(0), 0);
    for mark in 0..3 {
        std::thread::scope(|s| {
            let waiting = s.spawn(|| wait(5000));
            std::thread::sleep(A_MOMENT);
            wire.send(&frame(60, mark));
            assert_eq!(waiting.join().unwrap(), 1, "who sleeps is woken");
        });
        assert_eq!([wait(0), wait(5000)], [1, 1], "as long as there is something");
        assert_eq!(frames(&bpf.read().unwrap()), [frame(60, mark)]);
        assert_eq!(wait(100), 0, "and no longer");
    }
    // once, until it is armed again
    epoll.modify(&bpf, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, 1)).unwrap();
    wire.send(&frame(60, 8));
    assert_eq!([wait(5000), wait(100)], [1, 0]);
    epoll.modify(&bpf, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, 1)).unwrap();
    assert_eq!(wait(5000), 1);
    // what can always be written needs no packet
    let mut fds = [PollFd::new(bpf.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
    assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(1));
    assert_eq!(fds[0].revents(), Some(PollFlags::POLLIN | PollFlags::POLLOUT));
}

pub fn not_at_all_without_a_packet_when_nonblocking() {
    const LINUX_FIONBIO: u32 = 0x5421;
    const BSD_FIONBIO: u32 = 0x8004_667e;
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let again = || errno(bpf.read());
    let sleeps = || {
        std::thread::scope(|s| {
            let reader = s.spawn(|| bpf.read().unwrap());
            std::thread::sleep(A_MOMENT);
            assert!(!reader.is_finished(), "it blocks");
            wire.send(&frame(60, 2));
            assert_eq!(frames(&reader.join().unwrap()), [frame(60, 2)]);
        });
    };
    bpf.set_nonblocking(true);
    assert_eq!(again(), Some(libc::EAGAIN));
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "what passed before the read is seen by it");
    bpf.set_nonblocking(false);
    sleeps();
    for request in [LINUX_FIONBIO, BSD_FIONBIO] {
        bpf.ioctl(request, 1i32).unwrap();
        assert_eq!(again(), Some(libc::EAGAIN), "{request:#x}");
        bpf.ioctl(request, 0i32).unwrap();
        sleeps();
    }
}

pub fn is_told_of_the_readable_bytes_exactly() {
    const LINUX: u32 = 0x541b;
    const BSD: u32 = 0x4004_667f;
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    for n in 0..10u8 {
        // at once, by either number: records of 86 bytes, aligned
        let bytes = if n == 0 { 0 } else { u32::from(n - 1) * 88 + 86 };
        for request in [LINUX, BSD, number::FIONREAD] {
            assert_eq!(bpf.u32(request, 9), bytes, "{request:#x} after {n} packets");
        }
        wire.send(&frame(60, n));
    }
    assert_eq!(bpf.read().unwrap().len(), 9 * 88 + 86);
    assert_eq!(bpf.u32(LINUX, 9), 0);
}

pub fn goes_on_and_its_owner_is_signalled() {
    // sys/filio.h
    const FIOASYNC: u32 = 0x8004_667d;
    const FIOSETOWN: u32 = 0x8004_667c;
    const LINUX_FIOASYNC: u32 = 0x5452;
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    catch(Signal::SIGIO);
    assert_eq!(errno(bpf.ioctl(LINUX_FIOASYNC, 1u32)), Some(libc::ENOTTY), "the VFS's answer");
    bpf.u32(FIOSETOWN, std::process::id());
    bpf.u32(FIOASYNC, 1);
    for n in 1..=3u8 {
        wire.send(&frame(60, n));
        until("SIGIO comes, though nobody reads or polls", || caught(Signal::SIGIO) >= n.into());
    }
    bpf.u32(FIOASYNC, 0);
    let before = caught(Signal::SIGIO);
    wire.send(&frame(60, 4));
    assert_eq!(frames(&bpf.read().unwrap()).len(), 4);
    std::thread::sleep(A_MOMENT);
    assert_eq!(caught(Signal::SIGIO), before);
}
