//! An ioctl's argument: the kernel copies it, and what it points to, when it is asked to.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::node::{Device, Wire, client_program, frame, until};
use crate::sys::{CountAndPointer, Insn, Pages, frames, number};
use crate::systems::NUMBERS;
use crate::{cuse, errno};

/// An address that nothing is mapped at.
const NOWHERE: usize = 8;

const ACCEPT: u16 = 6;

/// So many instructions, the last but one of which decides: packets marked 7 are kept, 20 bytes of each.
fn program(len: usize) -> Vec<Insn> {
    let mut insns = vec![Insn(0x30, 0, 0, 14); len - 3];
    insns.extend([Insn(0x15, 0, 1, 7), Insn(ACCEPT, 0, 0, 20), Insn(ACCEPT, 0, 0, 0)]);
    insns
}

pub fn behind_a_pointer_is_read() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    for len in [5, 512] {
        bpf.set_filter(&program(len)).unwrap();
        (0..10).for_each(|mark| wire.send(&frame(64, mark)));
        assert_eq!(frames(&bpf.read().unwrap()), [frame(20, 7)], "{len} instructions");
        assert_eq!(bpf.stats(), [10, 0], "counted before the filter");
        bpf.ioctl_at(number::FLUSH, 0).unwrap();
    }
    assert_eq!(errno(bpf.set_filter(&program(513))), Some(libc::EINVAL), "BPF_MAXINSNS");
    let none = CountAndPointer { count: 0, pointer: NOWHERE as u64 };
    assert_eq!(bpf.ioctl(number::SETF, none).unwrap().count, 0, "no instructions, nothing read");
    wire.send(&frame(64, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(64, 1)], "and no filter");
}

pub fn behind_a_pointer_is_written() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let list = |count, room: Option<&mut [u32; 4]>| {
        let pointer = room.map_or(0, |room| room.as_mut_ptr().expose_provenance() as u64);
        bpf.ioctl(number::GDLTLIST, CountAndPointer { count, pointer })
    };
    let mut room = [9u32; 4];
    assert_eq!(list(4, Some(&mut room)).unwrap().count, 1);
    assert_eq!(black_box(&room), &[1, 9, 9, 9], "Ethernet, and nothing behind it");
    assert_eq!(list(4, None).unwrap().count, 1, "without a list it is counted");
    assert_eq!(errno(list(0, Some(&mut room))), Some(libc::ENOMEM), "no room for one");
    assert_eq!(errno(device.open().ioctl(number::GDLTLIST, [0u64; 2])), Some(libc::EINVAL), "not bound");
}

pub fn at_a_bad_address_is_efault() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let linux =
        [number::GBLEN, number::IMMEDIATE, number::SETIF, number::GSTATS, number::SETF, number::GDLTLIST];
    let bsd =
        [number::BSD_GBLEN, number::BSD_IMMEDIATE, number::BSD_SETIF, number::BSD_GSTATS, number::BSD_SETF];
    for request in linux.into_iter().chain(bsd) {
        for address in [0, NOWHERE, usize::MAX - 3] {
            assert_eq!(
                errno(bpf.ioctl_at(request, address)),
                Some(libc::EFAULT),
                "{request:#x} at {address:#x}"
            );
        }
    }
    let inside = |count| CountAndPointer { count, pointer: NOWHERE as u64 };
    for request in [number::SETF, number::BSD_SETF, number::GDLTLIST, number::BSD_GDLTLIST] {
        assert_eq!(
            errno(bpf.ioctl(request, inside(3))),
            Some(libc::EFAULT),
            "{request:#x}: behind the pointer"
        );
    }
    assert_eq!(errno(bpf.ioctl(number::SETF, inside(u32::MAX))), Some(libc::EINVAL), "too many to be read");
    for request in [0x5401, 0x8936, 0xc020_4242, 0, u32::MAX] {
        assert_eq!(errno(bpf.ioctl_at(request, NOWHERE)), Some(libc::EINVAL), "{request:#x} is no request");
    }
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "it still works");
}

pub fn that_ends_in_a_page_that_is_not_there_is_efault_and_changes_nothing() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let (bpf, pages) = (wire.bound(&device), Pages::new());
    // whole arguments at the page's end are fine
    let at = pages.before_the_end(&8192u32.to_ne_bytes());
    bpf.ioctl_at(number::GBLEN, at).unwrap();
    assert_eq!(pages.left_of_the_end(4), 4096u32.to_ne_bytes());
    // half of it there
    pages.before_the_end(&[0xee; 16]);
    for request in [number::GSTATS, number::SETIF, number::SETF] {
        assert_eq!(errno(bpf.ioctl_at(request, at)), Some(libc::EFAULT), "{request:#x}");
    }
    assert_eq!(pages.left_of_the_end(16)[..12], [0xee; 12], "nothing in front of it");
    // instructions, of which the last is not there
    let insns = pages.before_the_end(&[6, 0, 0, 0, 0, 0, 0, 0]);
    let two = CountAndPointer { count: 2, pointer: insns as u64 };
    assert_eq!(errno(bpf.ioctl(number::SETF, two)), Some(libc::EFAULT));
    // memory that can only be read takes no answer
    let constant = pages.read_only(&7u32.to_ne_bytes());
    assert_eq!(errno(bpf.ioctl_at(number::GBLEN, constant)), Some(libc::EFAULT));
    bpf.ioctl_at(number::IMMEDIATE, constant).unwrap();
    let list = CountAndPointer { count: 1, pointer: constant as u64 };
    assert_eq!(errno(bpf.ioctl(number::GDLTLIST, list)), Some(libc::EFAULT));
    assert_eq!(pages.read_only_bytes(4), 7u32.to_ne_bytes());
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "neither filter nor binding has changed");
}

pub fn of_a_bsds_number_in_every_dialect() {
    let wire = Wire::new();
    for numbers in NUMBERS {
        let device = cuse(&["--abi", numbers.abi]);
        numbers.are_spoken(&device, &wire);
    }
}

fn captures(device: &Device, wire: &Wire, ilp32: bool) {
    let mut command = Command::new(client_program(ilp32));
    let mut client = wire.client_by(&mut command, device, &["capture", "2"]).ready();
    let mut other = frame(60, 2);
    other[13] = 0;
    for frame in [frame(60, 1), other, frame(1514, 3)] {
        wire.send(&frame);
    }
    assert_eq!(client.line(), "frame 40 of 60, first 01");
    assert_eq!(client.line(), "frame 40 of 1514, first 03");
    assert!(client.line().ends_with("drop 0"));
    assert!(client.end().success());
}

pub fn of_a_32_bit_caller() {
    let (device, wire) = (cuse(&[]), Wire::new());
    for ilp32 in [true, false] {
        captures(&device, &wire, ilp32);
    }
    let mut command = Command::new(client_program(true));
    let mut client = wire.client_by(&mut command, &device, &["block"]).ready();
    client.asleep();
    std::thread::sleep(Duration::from_millis(50));
    client.signal(Signal::SIGUSR1);
    assert_eq!(client.line(), format!("read -1 errno {} handled 1", libc::EINTR));
}

pub fn in_a_page_that_never_comes_stalls_its_caller_alone() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let mut stuck: Vec<_> = (0..2).map(|_| wire.client(&device, &["fault"]).ready()).collect();
    stuck.iter().for_each(|client| client.asleep());
    std::thread::sleep(Duration::from_millis(100));
    let bpf = wire.bound(&device);
    bpf.set_filter(&[Insn(ACCEPT, 0, 0, 30)]).unwrap();
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(30, 1)]);
    let helpers = device.report().helpers;
    assert!(helpers.iter().all(|of| of.working + of.queued == 0), "no thread of ours waits: {helpers:?}");
    // the kernel copies in the caller's name: it can be killed
    let mut killed = stuck.remove(0);
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.end().signal(), Some(Signal::SIGKILL as i32));
    let client = &mut stuck[0];
    client.close_stdin();
    // a page of zeroes is no program, as its last instruction does not return
    assert_eq!(client.line(), format!("BIOCSETF -1 errno {}", libc::EINVAL));
    assert!(client.end().success());
}

pub fn of_a_caller_outside_the_pid_namespace_is_taken_but_not_its_network() {
    let wire = Wire::new();
    // the daemon is in a pid namespace of its own: it cannot name its callers
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child=SIGTERM", "--"]).arg(crate::program::bpfdev());
    let device = Device::start_by(&mut unshare, &crate::fresh_dir(), &["--front", "cuse"]);
    let bpf = device.open();
    bpf.set_filter(&program(5)).unwrap();
    assert_eq!(wire.ns.enter(|| errno(bpf.set_if("veth0"))).unwrap(), Some(libc::EOPNOTSUPP));
    assert!(device.log().contains("pid namespace"), "{}", device.log());
    drop(bpf);
    let dir = device.crash();
    until("the daemon ends with it, and its nodes go", || !dir.exists());
}
