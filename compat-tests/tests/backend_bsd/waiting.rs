//! Waiting, waking, and the end of an interface.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bpfdev_core::backend::{FilterBackend, TapError, Visible};
use nix::poll::{PollFd, PollFlags, poll};

use crate::device::{Served, data, packets};
use crate::node::{SOON, frame};
use crate::on_every_system;

on_every_system! {
    a_wait_is_ended_from_another_thread
    a_packet_makes_the_descriptor_readable
    a_removed_interface_is_told_after_its_packets
}

fn a_wait_is_ended_from_another_thread(served: &Served) {
    let tap = served.tap();
    let waiter = tap.waiter().unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    let sleeper = {
        let waiter = waiter.clone();
        std::thread::spawn(move || {
            let began = Instant::now();
            // where removal is silent, a wait ends by itself to look for it
            while began.elapsed() < Duration::from_secs(30) {
                waiter.wait(None);
                if ended.send(()).is_err() {
                    return;
                }
            }
        })
    };
    std::thread::sleep(Duration::from_millis(20));
    let began = Instant::now();
    waiter.wake();
    end.recv_timeout(SOON).unwrap();
    drop(end);
    waiter.wake();
    crate::node::until("the sleeper has ended", || {
        waiter.wake();
        sleeper.is_finished()
    });
    assert!(began.elapsed() < SOON);
    sleeper.join().unwrap();
}

fn a_packet_makes_the_descriptor_readable(served: &Served) {
    let mut tap = served.tap();
    let readable = |tap: &bpfdev_backend_bsd::DeviceTap, milliseconds: u16| {
        let mut fds = [PollFd::new(tap.as_fd().unwrap(), PollFlags::POLLIN)];
        poll(&mut fds, milliseconds).unwrap() == 1
    };
    assert!(!readable(&tap, 0));
    served.wire.send(&frame(60, 1));
    assert!(readable(&tap, 5_000));
    assert_eq!(data(&packets(&mut tap, 1)), [frame(60, 1)]);
    assert!(!readable(&tap, 0));
    assert_eq!(served.dir().join("bpf").exists(), served.abi.name != "macos", "semantics.md 1, node(s)");
    assert!(tap.file().as_fd().try_clone_to_owned().is_ok());
}

fn a_removed_interface_is_told_after_its_packets(served: &Served) {
    let mut tap = served.tap();
    let mut injector = tap.injector().unwrap();
    let waiter = tap.waiter().unwrap();
    served.wire.send(&frame(60, 1));
    crate::node::until("it was counted", || tap.stats().unwrap().received == Some(1));
    served.wire.ns.rtnl().unwrap().delete("veth1").unwrap();
    let end = Instant::now() + SOON;
    let mut seen = Vec::new();
    let error = loop {
        assert!(Instant::now() < end, "{seen:?}: the removal is told");
        match tap.try_batch() {
            Ok(mut batch) => {
                while let Some(packet) = batch.next() {
                    seen.push(packet.data.to_vec());
                }
            }
            Err(error) => break error,
        }
        waiter.wait(Some(end.saturating_duration_since(Instant::now())));
    };
    assert!(matches!(&error, TapError::Gone(name) if name == "veth0"), "{error:?}");
    // OpenBSD revokes the device, and what nobody was reading is lost (semantics.md 4, interface goes away)
    let kept = if served.abi.name == "openbsd" { vec![] } else { vec![frame(60, 1)] };
    assert_eq!(seen, kept);
    assert!(matches!(tap.link_state(), Err(TapError::Gone(_))));
    assert!(matches!(tap.set_promiscuous(true), Err(TapError::Gone(_))));
    let error = injector.inject(&frame(60, 2), Visible::ToTaps).unwrap_err();
    assert!(matches!(error, TapError::Gone(_)), "{error:?}");
}
