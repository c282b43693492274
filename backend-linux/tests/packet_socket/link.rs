use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpfdev_backend_linux::PacketSocket;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::backend::{FilterBackend, LinkState, TapError, Waiter};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::*;

#[test]
fn down_is_silence_and_up_goes_on() {
    let ns = pair();
    let (mut v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    let mut rtnl = ns.rtnl().unwrap();
    send(&v1, &frame(ETHERTYPE, 1, 60)).unwrap();
    rtnl.set_down("v0").unwrap();
    assert_eq!(collect(&mut v0, 1)[0].data[15], 1, "what came before is still there");
    for _ in 0..10 {
        assert!(drain(&mut v0).is_empty());
    }
    assert_eq!(v0.link_state().unwrap(), LinkState { up: false, mtu: 1500 });
    assert!(v0.look_again().is_some());
    rtnl.set_up("v0").unwrap();
    // The carrier comes a moment later.
    eventually("packets come again", || {
        let _ = send(&v1, &frame(ETHERTYPE, 2, 60));
        !drain(&mut v0).is_empty()
    });
    eventually("nothing need be looked for", || {
        drain(&mut v0);
        v0.look_again().is_none()
    });
}

#[test]
fn an_interface_that_is_down_can_be_attached() {
    let ns = pair();
    let mut rtnl = ns.rtnl().unwrap();
    rtnl.set_down("v0").unwrap();
    let (mut v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    assert!(drain(&mut v0).is_empty());
    rtnl.set_up("v0").unwrap();
    eventually("packets come", || {
        let _ = send(&v1, &frame(ETHERTYPE, 2, 60));
        !drain(&mut v0).is_empty()
    });
}

fn assert_gone(tap: &mut PacketSocket) {
    let mut ended = false;
    eventually("the removal is told", || {
        match tap.try_batch() {
            Ok(mut batch) => assert!(batch.next().is_none()),
            Err(TapError::Gone(name)) => ended = name == "v0",
            Err(other) => panic!("{other}"),
        }
        ended
    });
    assert!(matches!(tap.try_batch().map(drop), Err(TapError::Gone(_))), "and told again");
    assert!(matches!(tap.link_state(), Err(TapError::Gone(_))));
}

#[test]
fn removal_is_told_after_the_queued_packets() {
    let ns = pair();
    let (mut v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    for i in 0..5 {
        send(&v1, &frame(ETHERTYPE, i, 60)).unwrap();
    }
    ns.rtnl().unwrap().delete("v0").unwrap();
    assert_eq!(collect(&mut v0, 5).len(), 5);
    assert_gone(&mut v0);
}

#[test]
fn moving_away_is_removal() {
    let (ns, other) = (pair(), Namespace::new().unwrap());
    let mut v0 = tap(&ns, "v0");
    ns.rtnl().unwrap().move_to_netns("v0", std::os::fd::AsFd::as_fd(&other)).unwrap();
    assert_gone(&mut v0);
}

/// A reader asleep in its waiter.
fn asleep(mut tap: PacketSocket) -> (Arc<dyn Waiter>, thread::JoinHandle<(PacketSocket, bool)>) {
    let waiter = tap.waiter().unwrap();
    let own = waiter.clone();
    let thread = thread::spawn(move || {
        let start = Instant::now();
        loop {
            own.wait(None);
            let came = tap.try_batch().map(|mut batch| batch.next().is_some());
            if came.is_err() || came.is_ok_and(|came| came) || start.elapsed() > BOUND {
                let gone = tap.try_batch().is_err();
                return (tap, gone);
            }
        }
    });
    (waiter, thread)
}

#[test]
fn a_waiting_reader_is_woken_by_a_packet_and_by_removal() {
    let ns = pair();
    let (v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    let (_waiter, reader) = asleep(v0);
    send(&v1, &frame(ETHERTYPE, 1, 60)).unwrap();
    let (mut v0, gone) = reader.join().unwrap();
    assert!(!gone);
    assert!(drain(&mut v0).is_empty());
    let (_waiter, reader) = asleep(v0);
    // Down first, as an administrator may have done long ago: the removal itself wakes no packet socket.
    let mut rtnl = ns.rtnl().unwrap();
    rtnl.set_down("v0").unwrap();
    thread::sleep(Duration::from_millis(50));
    rtnl.delete("v0").unwrap();
    assert!(reader.join().unwrap().1, "the reader learns of the removal");
}

#[test]
fn wake_ends_every_wait() {
    let ns = pair();
    let v0 = tap(&ns, "v0");
    let waiter = v0.waiter().unwrap();
    // Before anybody waits it ends the next wait.
    waiter.wake();
    waiter.wait(None);
    let start = Instant::now();
    waiter.wait(Some(Duration::from_millis(20)));
    assert!(start.elapsed() >= Duration::from_millis(20), "one wake is used up by one round of waits");
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (waiter, done) = (waiter.clone(), done.clone());
            thread::spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    waiter.wait(None);
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    done.store(true, Ordering::SeqCst);
    waiter.wake();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The interface's flags, IFF_PROMISC as packet sockets count it included: only sysfs tells them.
fn promiscuous(ns: &Namespace, name: &str) -> bool {
    let flags = ns.enter(|| {
        // This thread ends here; its mounts with it.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None).unwrap();
        mount::<str, str, str, str>(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None).unwrap();
        std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap()
    });
    u32::from_str_radix(flags.unwrap().trim().trim_start_matches("0x"), 16).unwrap() & 0x100 != 0
}

#[test]
fn promiscuous_mode_counts_once_a_tap() {
    let ns = pair();
    let (mut a, mut b) = (tap(&ns, "v0"), tap(&ns, "v0"));
    assert!(!promiscuous(&ns, "v0"));
    a.set_promiscuous(true).unwrap();
    a.set_promiscuous(true).unwrap();
    b.set_promiscuous(true).unwrap();
    assert!(promiscuous(&ns, "v0"));
    a.set_promiscuous(false).unwrap();
    a.set_promiscuous(false).unwrap();
    assert!(promiscuous(&ns, "v0"), "the other tap still wants it");
    let _waiter = b.waiter().unwrap();
    drop(b);
    assert!(!promiscuous(&ns, "v0"), "dropping a tap ends it at once, though its socket lives on");
    a.set_promiscuous(true).unwrap();
    ns.rtnl().unwrap().delete("v0").unwrap();
    a.set_promiscuous(false).unwrap();
}
