//! Who sleeps in the device: woken by packets, by signals, by death.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{Insn, catch, caught, frames, number, signal_thread};

#[test]
#[serial]
fn a_handled_signal_ends_a_blocked_read_with_eintr() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    std::thread::sleep(Duration::from_millis(50)); // it prints before it reads
    client.signal(Signal::SIGUSR1);
    assert_eq!(client.line(), format!("read -1 errno {} handled 1", libc::EINTR));
    assert!(client.end().success());
}

#[test]
#[serial]
fn a_signal_that_kills_kills_a_blocked_reader() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        let mut client = wire.client(&device, &["block"]).ready();
        client.asleep();
        client.signal(signal);
        assert_eq!(client.end().signal(), Some(signal as i32));
    }
    // and once more: the connection still takes interrupts
    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    std::thread::sleep(Duration::from_millis(50));
    client.signal(Signal::SIGUSR1);
    assert!(client.line().starts_with("read -1 errno 4"));
}

#[test]
#[serial]
fn a_stopped_reader_goes_on() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    client.stop_and_continue();
    assert!(client.line().starts_with("read -1 errno 4"), "read(2) is not restarted");
}

/// While packets come that the filter keeps away, and others open, ask and close.
#[test]
#[serial]
fn a_blocked_read_ends_with_each_signal_and_for_no_other_reason() {
    const TIMES: u32 = 500;
    const MOST: Duration = Duration::from_secs(120);
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.set_filter(&[Insn(6, 0, 0, 0)]).unwrap();
    catch(Signal::SIGUSR1);
    let (over, ended) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|s| {
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..20).for_each(|mark| wire.send(&frame(60, mark)));
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let other = wire.bound(&device);
                other.u32(number::GBLEN, 0);
            }
        });
        let (say, tid) = std::sync::mpsc::channel();
        let (bpf, ended, over) = (&bpf, &ended, &over);
        let reader = s.spawn(move || {
            say.send(nix::unistd::gettid()).unwrap();
            let mut seen = caught(Signal::SIGUSR1);
            while !over.load(Ordering::Relaxed) {
                let read = bpf.read().map_err(|error| error.raw_os_error());
                assert_eq!(read, Err(Some(libc::EINTR)));
                let before = std::mem::replace(&mut seen, caught(Signal::SIGUSR1));
                assert!(seen > before, "it ended and no signal had come");
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        let tid = tid.recv().unwrap();
        let begin = Instant::now();
        while ended.load(Ordering::SeqCst) < TIMES && !reader.is_finished() && begin.elapsed() < MOST {
            let before = ended.load(Ordering::SeqCst);
            signal_thread(tid, Signal::SIGUSR1);
            // one that came before it was in its read ends none
            let sent = Instant::now();
            while ended.load(Ordering::SeqCst) == before && sent.elapsed() < Duration::from_millis(500) {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        over.store(true, Ordering::Relaxed);
        while !reader.is_finished() {
            signal_thread(tid, Signal::SIGUSR1);
            std::thread::sleep(Duration::from_millis(20));
        }
        reader.join().unwrap();
        assert!(
            ended.load(Ordering::SeqCst) >= TIMES,
            "{} reads in {:?}",
            ended.load(Ordering::SeqCst),
            MOST
        );
    });
}

fn each_packet_wakes(how: &str) {
    const COUNT: u8 = 20;
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut client = wire.client(&device, &[how, &COUNT.to_string()]).ready();
    for mark in 0..COUNT {
        client.asleep();
        wire.send(&frame(60, mark));
        assert_eq!(client.line(), format!("frame 60 of 60, first {mark:02x}"));
    }
    assert!(client.end().success());
}

#[test]
#[serial]
fn poll_wakes() {
    each_packet_wakes("poll");
}

#[test]
#[serial]
fn select_wakes() {
    each_packet_wakes("select");
}

#[test]
#[serial]
fn an_edge_triggered_epoll_wakes() {
    each_packet_wakes("epoll");
}

#[test]
#[serial]
fn poll_arms_the_time_out() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = device.open();
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.ioctl(number::SRTIMEOUT, [0i64, 200_000]).unwrap();
    let poll = |millis: u16, flags| {
        let mut fds = [PollFd::new(bpf.as_fd(), flags)];
        poll(&mut fds, PollTimeout::from(millis)).unwrap();
        fds[0].revents().unwrap()
    };
    assert_eq!(poll(0, PollFlags::POLLOUT | PollFlags::POLLIN), PollFlags::POLLOUT, "always writable");
    bpf.u32(number::GBLEN, 0); // any request stops the timer
    wire.send(&frame(60, 1));
    assert_eq!(poll(0, PollFlags::POLLIN), PollFlags::empty(), "neither full nor immediate");
    assert_eq!(poll(5000, PollFlags::POLLIN), PollFlags::POLLIN, "what is stored when the timer runs out");
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    assert_eq!(poll(600, PollFlags::POLLIN), PollFlags::empty(), "nothing is stored when it runs out");
    wire.send(&frame(60, 2));
    assert_eq!(poll(5000, PollFlags::POLLIN), PollFlags::POLLIN, "then the next packet counts");
}

#[test]
#[serial]
fn an_interface_that_goes_down_is_silence_and_one_that_is_removed_is_enxio() {
    for down_first in [false, true] {
        let (device, wire) = (Device::start(&[]), Wire::new());
        let bpf = wire.bound(&device);
        let mut rtnl = wire.ns.rtnl().unwrap();
        if down_first {
            rtnl.set_down("veth0").unwrap();
        }
        std::thread::scope(|s| {
            let reader = s.spawn(|| bpf.read());
            std::thread::sleep(Duration::from_millis(100));
            rtnl.set_down("veth0").unwrap();
            let before = device.cpu_ticks();
            std::thread::sleep(Duration::from_millis(500));
            assert!(!reader.is_finished(), "down is no error");
            assert!(device.cpu_ticks() - before <= 5, "and costs nothing");
            rtnl.set_up("veth0").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert!(!reader.is_finished(), "nor is up again");
            if down_first {
                rtnl.set_down("veth0").unwrap();
            }
            rtnl.delete("veth0").unwrap();
            let error = reader.join().unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{down_first}");
        });
        assert_eq!(bpf.read().unwrap_err().raw_os_error(), Some(libc::ENXIO));
        assert_eq!(bpf.write(&frame(60, 0)).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }
}

#[test]
#[serial]
fn an_idle_descriptor_costs_nothing() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let files: Vec<_> = (0..50).map(|_| wire.bound(&device)).collect();
    std::thread::sleep(Duration::from_millis(100)); // attaching them is over
    let before = device.cpu_ticks();
    for n in 0..2000 {
        wire.send(&frame(60, n as u8));
    }
    std::thread::sleep(Duration::from_millis(500));
    let used = device.cpu_ticks() - before;
    // 100,000 packets in all; for each alone the daemon would have been woken
    assert!(used <= 15, "nobody waits, so they are drained a few times a second: {used} clock ticks");
    assert_eq!(files[49].stats()[0], 2000, "and yet nothing is lost");
    std::thread::sleep(Duration::from_millis(3000)); // sizes were looked at for the last time
    let before = device.cpu_ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(device.cpu_ticks() - before <= 1, "no packets: no work");
}
