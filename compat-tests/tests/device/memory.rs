//! The caller's memory: arguments in both encodings, bad pointers, pages that never come.

use std::io;

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{CountAndPointer, Insn, frames, number};
use crate::systems::NUMBERS;

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

/// An address that nothing is mapped at.
const NOWHERE: usize = 8;

#[test]
#[serial]
fn a_bad_pointer_is_efault_but_in_a_filter_einval() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    for request in
        [number::GBLEN, number::IMMEDIATE, number::SETIF, number::GSTATS, number::SETF, number::GDLTLIST]
    {
        assert_eq!(errno(bpf.ioctl_at(request, NOWHERE)), Some(libc::EFAULT), "{request:#x}");
    }
    for request in [number::BSD_GBLEN, number::BSD_IMMEDIATE, number::BSD_SETF, number::BSD_GSTATS] {
        assert_eq!(errno(bpf.ioctl_at(request, NOWHERE)), Some(libc::EFAULT), "{request:#x}");
    }
    let inside = |count| CountAndPointer { count, pointer: NOWHERE as u64 };
    assert_eq!(errno(bpf.ioctl(number::SETF, inside(1))), Some(libc::EINVAL), "the filter's instructions");
    assert_eq!(errno(bpf.ioctl(number::SETF, inside(u32::MAX))), Some(libc::EINVAL));
    assert_eq!(errno(bpf.ioctl(number::BSD_SETF, inside(1))), Some(libc::EINVAL));
    assert_eq!(errno(bpf.ioctl(number::GDLTLIST, inside(8))), Some(libc::EFAULT), "the list");
    assert_eq!(bpf.ioctl(number::SETF, inside(0)).unwrap().count, 0, "no instructions, nothing read");
    for request in [0x5401, 0x8936, 0xc020_4242, 0, u32::MAX] {
        assert_eq!(
            errno(bpf.ioctl_at(request, NOWHERE)).map(|e| e == libc::EINVAL || e == libc::EFAULT),
            Some(true)
        );
    }
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "it still works");
}

#[test]
#[serial]
fn bsd_numbers_work_in_every_dialect() {
    let wire = Wire::new();
    for numbers in NUMBERS {
        numbers.are_spoken(&Device::start(&["--abi", numbers.abi]), &wire);
    }
}

/// A client whose filter lies in a page that does not come until its stdin ends.
#[test]
#[serial]
fn a_pointer_that_faults_for_ever_stalls_only_its_caller() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut stuck: Vec<_> = (0..3).map(|_| wire.client(&device, &["fault"]).ready()).collect();
    for client in &stuck {
        client.asleep();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    // others of the same user do all they like meanwhile
    let bpf = wire.bound(&device);
    bpf.set_filter(&[Insn(6, 0, 0, 30)]).unwrap();
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(30, 1)]);
    for mut client in stuck.drain(..) {
        assert!(client.child.try_wait().unwrap().is_none(), "it is stuck");
        client.close_stdin();
        // a page of zeroes: `ld [0]` thrice is no program, as its last instruction does not return
        assert_eq!(client.line(), format!("BIOCSETF -1 errno {}", libc::EINVAL));
        assert!(client.end().success());
    }
}

#[test]
#[serial]
fn more_stuck_callers_than_threads_are_interruptible_and_stall_only_their_user() {
    let (device, wire) =
        (Device::start(&["--mode", "666", "--helpers", "4", "--helpers-per-user", "2"]), Wire::new());
    let mut stuck: Vec<_> = (0..2).map(|_| wire.client(&device, &["fault"]).ready()).collect();
    stuck.iter().for_each(|client| client.asleep());
    std::thread::sleep(std::time::Duration::from_millis(50));
    // root's two threads are stuck: its third waits, and can be killed, since no thread uses its memory
    let mut waiting = wire.client(&device, &["fault"]).ready();
    waiting.asleep();
    std::thread::sleep(std::time::Duration::from_millis(50));
    waiting.signal(Signal::SIGKILL);
    waiting.end();
    // another user goes on
    let mut other = wire.client(&device, &["as", "65534", "65534", "65534"]);
    assert_eq!(other.line(), "opened");
    let other = other.ready();
    drop(other);
    for client in &mut stuck {
        client.close_stdin();
        assert!(client.line().starts_with("BIOCSETF -1"));
        client.end();
    }
    let bpf = wire.bound(&device);
    bpf.set_filter(&[Insn(6, 0, 0, 30)]).unwrap();
}

#[test]
#[serial]
fn a_caller_outside_the_pid_namespace_is_told_so() {
    let wire = Wire::new();
    // the daemon is in a pid namespace of its own: it cannot name its callers
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child=SIGTERM", "--"]).arg(crate::program::bpfdev());
    let device = Device::start_by(&mut unshare, &Device::fresh_dir(), &[]);
    let bpf = device.open();
    assert_eq!(bpf.u32(number::GBLEN, 0), 4096, "what needs no caller works");
    assert_eq!(errno(bpf.set_filter(&[Insn(6, 0, 0, 30)])), Some(libc::EOPNOTSUPP));
    assert_eq!(wire.ns.enter(|| errno(bpf.set_if("veth0"))).unwrap(), Some(libc::EOPNOTSUPP));
    assert!(device.log().contains("pid namespace"), "{}", device.log());
    drop(bpf);
    let dir = device.crash();
    crate::node::until("the daemon ends with it, and takes its mount away", || !dir.exists());
    drop(Device::start_at(&dir, &[]));
}
