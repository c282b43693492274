//! The caller's memory: arguments in both encodings, bad pointers, pages that never come.

use std::io;

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{CountAndPointer, Ifreq, Insn, frames, number};

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
fn bsd_numbers_work_in_every_dialect_that_has_them() {
    let wire = Wire::new();
    let freebsd = [number::BSD_SETIF, number::BSD_GSTATS, number::BSD_GDLTLIST];
    let netbsd = [number::BSD_SETIF_NETBSD, number::BSD_GSTATS_NETBSD, number::BSD_GDLTLIST_NETBSD];
    for (abi, [set_if, stats, dlt_list]) in
        [("linux", freebsd), ("freebsd", freebsd), ("netbsd", netbsd), ("netbsd7", netbsd)]
    {
        let device = Device::start(&["--abi", abi]);
        let bpf = device.open();
        assert_eq!(bpf.u32(number::BSD_SBLEN, 8192), 8192, "{abi}: in and out");
        assert_eq!(bpf.u32(number::BSD_GBLEN, 0), 8192, "{abi}: out");
        assert_eq!(bpf.u32(number::BSD_VERSION, 0), 1 << 16 | 1, "{abi}");
        let ifreq = wire.ns.enter(|| bpf.ioctl(set_if, Ifreq::<144>::named("veth0"))).unwrap();
        assert_eq!(ifreq.unwrap().name(), "veth0", "{abi}: in; the argument stays as it is");
        assert_eq!(bpf.u32(number::BSD_IMMEDIATE, 1), 1, "{abi}");
        assert_eq!(bpf.u32(number::BSD_GDLT, 0), 1, "{abi}");
        bpf.ioctl_at(number::BSD_FLUSH, 0).unwrap();
        let insns = [Insn(6, 0, 0, 20)];
        let pointer = insns.as_ptr().expose_provenance() as u64;
        bpf.ioctl(number::BSD_SETF, CountAndPointer { count: 1, pointer }).unwrap();
        let mut room = [0u32; 4];
        let pointer = room.as_mut_ptr().expose_provenance() as u64;
        let list = bpf.ioctl(dlt_list, CountAndPointer { count: 4, pointer }).unwrap();
        assert!(list.count >= 1, "{abi}");
        assert_eq!(std::hint::black_box(&room)[0], 1, "{abi}: the list is written");
        wire.send(&frame(60, 1));
        let read = bpf.read_len(8192).unwrap();
        assert_eq!(read[read.len() - 20..], frame(20, 1), "{abi}");
        let counters = bpf.ioctl(stats, [0u32; 32]).unwrap();
        assert_eq!(counters[0], 1, "{abi}");
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
