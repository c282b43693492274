//! What goes away for a while: the daemon, killed under load; an interface's link; memory; the agreement of clocks. Removal is in
//! removal.rs, other changes of an interface and of its users in faults.rs, clients killed in any state in life.rs.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::serial;

use crate::node::{Device, SOON, Wire, frame, until};
use crate::program::bpfdev;
use crate::sys::{Bpf, Ifreq, frames, number};

/// Sends frames until `over`, some thousand a second.
fn load(wire: &Wire, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for mark in 0..20 {
            // an interface that is away takes none
            let _ = nix::unistd::write(wire.far(), &frame(60, mark));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Does `what` while frames are sent.
fn under_load<T>(wire: &Wire, what: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        let sender = s.spawn(|| load(wire, &over));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        over.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Reads until there is a frame.
fn a_frame(bpf: &Bpf) -> Vec<u8> {
    let end = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < end, "no frame comes");
        match bpf.read() {
            Ok(read) if !read.is_empty() => return frames(&read).remove(0),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
#[serial]
fn killed_under_load_and_started_again_it_serves_at_once_and_old_descriptors_are_told() {
    let (dir, wire) = (Device::fresh_dir(), Wire::new());
    let links = dir.with_extension("links");
    std::fs::create_dir(&links).unwrap();
    let node = links.join("bpf");
    let start = || {
        let mut daemon = Command::new(bpfdev());
        daemon.args(["serve", "--mount"]).arg(&dir).arg("--link").arg(&links).stderr(Stdio::null());
        let daemon = daemon.spawn().unwrap();
        until("the device can be opened", || Bpf::open_with(&node, libc::O_RDWR).is_ok());
        daemon
    };
    let mut old: Vec<(Bpf, Bpf)> = Vec::new();
    let mut daemon = start();
    for _ in 0..3 {
        let bound = || wire.ns.enter(|| Bpf::immediate(&node, "veth0")).unwrap();
        let (busy, idle) = (bound(), bound());
        under_load(&wire, || {
            std::thread::scope(|s| {
                let reader = s.spawn(|| {
                    loop {
                        if let Err(error) = busy.read_len(4096) {
                            return error.raw_os_error();
                        }
                    }
                });
                std::thread::sleep(Duration::from_millis(100));
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                // who was asleep in it, or comes later
                let told = reader.join().unwrap();
                assert!([Some(libc::ECONNABORTED), Some(libc::ENOTCONN)].contains(&told), "{told:?}");
            });
            // what the crash left is in the way of nobody: mount and links are the new daemon's
            daemon = start();
        });
        old.push((busy, idle));
        under_load(&wire, || {
            let fresh = wire.ns.enter(|| Bpf::immediate(&node, "veth0")).unwrap();
            assert_eq!(a_frame(&fresh).len(), 60);
        });
        for bpf in old.iter().flat_map(|(busy, idle)| [busy, idle]) {
            assert_eq!(errno(bpf.read_len(4096)), Some(libc::ENOTCONN));
            assert_eq!(errno(bpf.write(&frame(60, 0))), Some(libc::ENOTCONN));
            assert_eq!(errno(bpf.ioctl(number::GSTATS, [0u32; 2])), Some(libc::ENOTCONN));
            assert_eq!(errno(bpf.set_if("veth0")), Some(libc::ENOTCONN));
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert_eq!(mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).count(), 1, "{mounts}");
        assert_eq!(std::fs::read_link(&node).unwrap(), dir.join("bpf"));
    }
    kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&links).unwrap().count(), 0, "links are removed");
    std::fs::remove_dir(&links).unwrap();
    std::fs::remove_dir(&dir).unwrap(); // made by the first daemon, which did not come to remove it
}

#[test]
#[serial]
fn an_interface_that_goes_down_and_up_under_load_is_captured_again() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.set_nonblocking(true);
    let mut rtnl = wire.ns.rtnl().unwrap();
    under_load(&wire, || {
        for _ in 0..3 {
            assert_eq!(a_frame(&bpf).len(), 60);
            rtnl.set_down("veth0").unwrap();
            // FreeBSD's read(2) does not mind; a write does
            assert_eq!(errno(bpf.write(&frame(60, 0))), Some(libc::ENETDOWN));
            while bpf.read().is_ok() {}
            assert_eq!(errno(bpf.read()), Some(libc::EAGAIN));
            rtnl.set_up("veth0").unwrap();
        }
        assert_eq!(a_frame(&bpf).len(), 60);
    });
    until("a write is taken again", || bpf.write(&frame(60, 0)).is_ok());
}

/// What /proc/PID/status says of a process, KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[serial]
fn without_memory_for_a_ring_or_buffers_an_attach_is_enobufs_and_nobody_else_notices() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let witness = wire.bound(&device);
    let (bpf, mac) = (device.open(), Bpf::open(&device.dir.join("macos/bpf0")));
    bpf.u32(number::SBLEN, 524_288);
    mac.u32(number::BSD_SBLEN, 32 << 20);
    // a helper is there: it needs no new memory
    assert_eq!(wire.ns.enter(|| errno(bpf.set_if("none"))).unwrap(), Some(libc::ENXIO));
    let limit = |bytes: &str| {
        let prlimit = Command::new("prlimit").args(["--pid", &device.pid().to_string(), bytes]).status();
        assert!(prlimit.unwrap().success());
    };
    let used = memory(device.pid(), "VmSize:") * 1024;
    limit(&format!("--as={}:unlimited", used + (1 << 20)));
    assert_eq!(wire.ns.enter(|| errno(bpf.set_if("veth0"))).unwrap(), Some(libc::ENOBUFS), "the ring");
    limit(&format!("--as={}:unlimited", used + (150 << 20)));
    let set_if = || mac.ioctl(number::BSD_SETIF, Ifreq::<32>::named("veth0"));
    assert_eq!(wire.ns.enter(|| errno(set_if())).unwrap(), Some(libc::ENOBUFS), "the buffers");
    wire.send(&frame(60, 1));
    assert_eq!(frames(&witness.read().unwrap()), [frame(60, 1)], "another's descriptor notices nothing");
    assert_eq!(errno(bpf.read()), Some(libc::ENXIO), "as before");
    limit("--as=unlimited:unlimited");
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    wire.ns.enter(|| set_if().unwrap()).unwrap();
    bpf.u32(number::IMMEDIATE, 1);
    wire.send(&frame(60, 2));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 2)]);
}

/// The wall clock cannot be stepped for one test: it is everybody's. What can be done is to have the daemon live by other
/// monotonic clocks than its clients and the kernel's stamps, by more than any step.
#[test]
#[serial]
fn a_daemon_whose_clocks_differ_by_days_keeps_time_outs_and_stamps() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--time", "--monotonic", "500000", "--boottime", "900000", "--"]).arg(bpfdev());
    let (device, wire) = (Device::start_by(&mut unshare, &Device::fresh_dir(), &[]), Wire::new());
    let bpf = device.open();
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.ioctl(number::SRTIMEOUT, [0i64, 300_000]).unwrap();
    let begin = Instant::now();
    assert!(bpf.read().unwrap().is_empty(), "a time-out with nothing");
    assert!((Duration::from_millis(290)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    wire.send(&frame(60, 1));
    let read = bpf.read().unwrap();
    let stamp = u64::from_ne_bytes(read[..8].try_into().unwrap());
    assert!((before..=now()).contains(&stamp), "{stamp}, sent at {before}");
    let openbsd = Bpf::open(&device.dir.join("openbsd/bpf"));
    wire.ns.enter(|| openbsd.ioctl(number::BSD_SETIF, Ifreq::<32>::named("veth0")).unwrap()).unwrap();
    openbsd.ioctl(number::BSD_SWTIMEOUT, [0i64, 300_000]).unwrap();
    let begin = Instant::now();
    wire.send(&frame(60, 2));
    assert_eq!(openbsd.read_len(32_768).unwrap().len(), 86, "the wait time-out of a packet's arrival");
    assert!((Duration::from_millis(290)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}
