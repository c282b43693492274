//! Every system's nodes in one daemon: who may open them, and that each speaks its own dialect to its client.

use std::path::Path;

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, Ifreq, catch, frames, number, signal_thread};
use crate::systems::{IFREQ32, SYSTEMS, System, see_the_same_frames_at_once, system};

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn open_errno(node: &Path) -> Option<i32> {
    errno(Bpf::open_with(node, libc::O_RDWR))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[serial]
fn five_systems_see_the_same_frames_at_once_each_in_its_own_dialect() {
    see_the_same_frames_at_once(&Device::start(&[]), &Wire::new());
}

// semantics.md 1, "node(s)"
#[test]
#[serial]
fn each_directory_has_the_nodes_of_its_system() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let device = Device::start(&["--mode", "640", "--group", "4242"]);
    let below = ["dragonfly", "freebsd", "macos", "netbsd", "openbsd"];
    assert_eq!(names(&device.dir)[17..], below, "after bpf and bpf0 to bpf15");
    for (dir, nodes) in [
        ("freebsd", &["bpf", "bpf0"][..]),
        ("openbsd", &["bpf", "bpf0"]),
        ("dragonfly", &["bpf", "bpf0", "bpf1", "bpf2", "bpf3"]),
        ("macos", &["bpf0", "bpf1", "bpf2", "bpf3"]),
    ] {
        assert_eq!(names(&device.dir.join(dir)), nodes, "{dir}");
    }
    assert_eq!(names(&device.dir.join("netbsd")).len(), 17);
    for dir in below {
        let dir = device.dir.join(dir);
        let (own, node) = (dir.metadata().unwrap(), dir.join("bpf0").metadata().unwrap());
        assert_eq!((own.permissions().mode() & 0o7777, own.is_dir()), (0o755, true), "{}", dir.display());
        assert_eq!((node.permissions().mode() & 0o777, node.gid()), (0o640, 4242), "{}", dir.display());
        for name in ["bpf16", "bpf00", "bpf-1", "freebsd", ".256", "null"] {
            assert_eq!(open_errno(&dir.join(name)), Some(libc::ENOENT), "{}/{name}", dir.display());
        }
        let made = std::fs::write(dir.join("new"), "").unwrap_err().raw_os_error();
        assert_eq!(made, Some(libc::EPERM), "names come from the device");
        assert_eq!(errno(std::fs::remove_dir(&dir)), Some(libc::EPERM));
        let mode = std::fs::Permissions::from_mode(0o700);
        assert_eq!(errno(std::fs::set_permissions(&dir, mode)), Some(libc::EPERM));
    }
    // chmod(1) on any node is for all of them
    std::fs::set_permissions(device.dir.join("macos/bpf2"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mode = device.dir.join("netbsd/bpf").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

// semantics.md 1, "busy"
#[test]
#[serial]
fn dragonfly_numbered_nodes_have_one_opener_and_bpf_clones() {
    let device = Device::start(&[]);
    let dir = device.dir.join("dragonfly");
    let held = Bpf::open(&dir.join("bpf1"));
    assert_eq!(open_errno(&dir.join("bpf1")), Some(libc::EBUSY));
    let clones = [Bpf::open(&dir.join("bpf")), Bpf::open(&dir.join("bpf")), Bpf::open(&dir.join("bpf0"))];
    assert_eq!(open_errno(&dir.join("bpf0")), Some(libc::EBUSY));
    assert_eq!(open_errno(&dir.join("bpf4")), Some(libc::ENOENT));
    drop(held);
    drop(Bpf::open(&dir.join("bpf1"))); // as soon as close(2) has returned
    drop(clones);
    for name in ["freebsd/bpf0", "netbsd/bpf3", "openbsd/bpf0"] {
        let _both = [Bpf::open(&device.dir.join(name)), Bpf::open(&device.dir.join(name))];
    }
}

#[test]
#[serial]
fn macos_one_opener_each_and_one_more_when_the_last_is_opened() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let dir = device.dir.join("macos");
    assert_eq!(open_errno(&dir.join("bpf4")), Some(libc::ENOENT));
    let third = Bpf::open(&dir.join("bpf3"));
    let fourth = Bpf::open(&dir.join("bpf4"));
    assert_eq!(open_errno(&dir.join("bpf3")), Some(libc::EBUSY));
    assert_eq!(names(&dir).len(), 6);
    drop((third, fourth));
    assert_eq!(names(&dir).len(), 6, "nodes stay");
    // it is busy until it is closed, and free then, though what it held takes longer
    for _ in 0..20 {
        system("macos").bound(&device, &wire);
    }
    // the loop of a macOS program, as often as there are nodes
    let next = || {
        (0..300).find_map(|n| match Bpf::open_with(&dir.join(format!("bpf{n}")), libc::O_RDWR) {
            Ok(bpf) => Some(Ok(bpf)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => None,
            Err(error) => Some(Err((n, error.raw_os_error()))),
        })
    };
    let files: Vec<_> = (0..256).map(|_| next().unwrap().unwrap()).collect();
    assert_eq!(files.len(), 256);
    assert_eq!(next().unwrap().unwrap_err(), (256, Some(libc::ENOENT)), "there are bpf0 to bpf255");
    assert_eq!(names(&dir).len(), 256);
}

#[test]
#[serial]
fn macos_at_the_top_is_found_through_its_links() {
    let dir = Device::fresh_dir();
    let links = dir.with_extension("links");
    std::fs::create_dir(&links).unwrap();
    let mut child = std::process::Command::new(crate::program::bpfdev())
        .args(["serve", "--abi", "macos", "--mount"])
        .arg(&dir)
        .arg("--link")
        .arg(&links)
        .spawn()
        .unwrap();
    until("the device is linked", || links.join("bpf255").symlink_metadata().is_ok());
    let files: Vec<_> = (0..10)
        .map(|n| {
            let taken = (0..n).map(|n| open_errno(&links.join(format!("bpf{n}"))));
            assert!(taken.into_iter().all(|errno| errno == Some(libc::EBUSY)), "{n}");
            Bpf::open(&links.join(format!("bpf{n}")))
        })
        .collect();
    assert_eq!(files[9].u32(number::BSD_GBLEN, 0), 4096);
    assert_eq!(open_errno(&links.join("bpf11")), Some(libc::ENOENT), "not yet");
    assert_eq!(open_errno(&links.join("bpf")), Some(libc::ENOENT), "macOS has none");
    // the directory of the same name is a device of its own
    drop(Bpf::open(&dir.join("macos/bpf0")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&links).unwrap().count(), 0, "the links are gone");
    std::fs::remove_dir(&links).unwrap();
}

// semantics.md 1, "O_WRONLY": F's writer sees no packets until a read filter is set; elsewhere it makes no difference
#[test]
#[serial]
fn freebsd_a_write_only_descriptor_counts_nothing_before_it_has_a_filter() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let open = |node: &str, flags, set_if| {
        let bpf = Bpf::open_with(&device.dir.join(node), flags).unwrap();
        wire.ns.enter(|| bpf.ioctl(set_if, Ifreq::<144>::named("veth0")).unwrap()).unwrap();
        bpf
    };
    let writer = open("freebsd/bpf", libc::O_WRONLY, IFREQ32);
    let both = open("freebsd/bpf", libc::O_RDWR, IFREQ32);
    let dragonfly = open("dragonfly/bpf", libc::O_WRONLY, IFREQ32);
    let linux = open("bpf", libc::O_WRONLY, IFREQ32);
    (0..3).for_each(|n| wire.send(&frame(60, n)));
    let received = |bpf: &Bpf| bpf.ioctl(number::BSD_GSTATS, [0u32; 2]).unwrap()[0];
    assert_eq!([&both, &dragonfly, &linux].map(received), [3, 3, 3]);
    assert_eq!(received(&writer), 0);
    assert_eq!(errno(writer.read_len(4096)), Some(libc::EBADF));
    let accept = [
        crate::sys::Insn(0x28, 0, 0, 12),
        crate::sys::Insn(0x15, 0, 1, 0x88b5),
        crate::sys::Insn(6, 0, 0, u32::MAX),
        crate::sys::Insn(6, 0, 0, 0),
    ];
    let pointer = accept.as_ptr().expose_provenance() as u64;
    writer.ioctl(number::BSD_SETF, crate::sys::CountAndPointer { count: 4, pointer }).unwrap();
    wire.send(&frame(60, 4));
    assert_eq!(received(&writer), 1);
}

// semantics.md 4, "signal": M gives what is buffered; the others EINTR
#[test]
#[serial]
fn a_signal_to_a_sleeping_read_gives_what_is_buffered_on_macos_and_eintr_elsewhere() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    catch(Signal::SIGUSR1);
    for system in &SYSTEMS {
        for buffered in [false, true] {
            let bpf = system.bound(&device, &wire);
            std::thread::scope(|s| {
                let (say, tid) = std::sync::mpsc::channel();
                let reader = s.spawn(move || {
                    say.send(nix::unistd::gettid()).unwrap();
                    bpf.read_len(system.bufsize as usize)
                });
                let tid = tid.recv().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
                if buffered {
                    wire.send(&frame(60, 5)); // does not wake: the buffer is not full
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                assert!(!reader.is_finished(), "{}", system.name);
                signal_thread(tid, Signal::SIGUSR1);
                let read = reader.join().unwrap();
                if system.name == "macos" && buffered {
                    assert_eq!(system.frames(&read.unwrap()), [frame(60, 5)]);
                } else {
                    assert_eq!(errno(read), Some(libc::EINTR), "{}, buffered: {buffered}", system.name);
                }
            });
        }
    }
}

/// Reads a whole buffer of `size` bytes, which no request of the kernel's is large enough for, in one read(2).
fn large(system: &System, size: u32) {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = Bpf::open(&device.dir.join(system.node));
    assert_eq!(bpf.u32(number::BSD_SBLEN, u32::MAX), size, "{}: clipped to the largest", system.name);
    let ifreq = Ifreq::<144>::named("veth0");
    wire.ns.enter(|| bpf.ioctl(system.set_if, ifreq).unwrap()).unwrap();
    // 1482 bytes and a header fill a multiple of any alignment
    let record = (system.hdrlen + 1482).next_multiple_of(system.align) as u32;
    let fit = size / record;
    std::thread::scope(|s| {
        let reader = s.spawn(|| bpf.read_len(size as usize).unwrap());
        for n in 0..=fit {
            let mut frame = frame(1482, 0);
            frame[14..18].copy_from_slice(&n.to_be_bytes());
            wire.send(&frame);
        }
        let seen = system.frames(&reader.join().unwrap());
        assert_eq!(seen.len(), fit as usize, "{}: one hold, whole", system.name);
        for (n, frame) in (0u32..).zip(&seen) {
            assert_eq!((frame.len(), &frame[14..18]), (1482, &n.to_be_bytes()[..]), "{}", system.name);
        }
    });
    bpf.set_nonblocking(true);
    let rest = system.frames(&bpf.read_len(size as usize).unwrap());
    assert_eq!(rest.len(), 1, "{}: what did not fit", system.name);
}

// semantics.md 3, "BIOCSBLEN clamp"
#[test]
#[serial]
fn openbsd_a_buffer_of_2_mib_is_read_whole() {
    large(system("openbsd"), 2 << 20);
}

#[test]
#[serial]
fn macos_a_buffer_of_32_mib_is_read_whole() {
    large(system("macos"), 32 << 20);
}

#[test]
#[serial]
fn the_dialect_of_the_top_does_not_change_those_below() {
    let (device, wire) = (Device::start(&["--abi", "openbsd"]), Wire::new());
    assert_eq!(names(&device.dir), ["bpf", "bpf0", "dragonfly", "freebsd", "macos", "netbsd", "openbsd"]);
    let top = Bpf::open(&device.node());
    assert_eq!(top.u32(number::BSD_GBLEN, 0), 32768);
    let below = system("freebsd").bound(&device, &wire);
    assert_eq!(below.u32(number::BSD_GBLEN, 0), 4096);
    below.u32(number::BSD_IMMEDIATE, 1);
    wire.send(&frame(60, 1));
    assert_eq!(frames(&below.read_len(4096).unwrap()), [frame(60, 1)]);
}
