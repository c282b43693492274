//! The device over a network in this process: what the character plane does by itself, whatever the tap.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "device/sys.rs"]
#[allow(dead_code)]
mod sys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bpfdev::fuse::{Daemon, ServeOptions};
use bpfdev_core::abi::Abi;
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::SystemClock;
use sys::{Bpf, Ifreq, frames, number};

struct Device {
    network: LoopbackNetwork,
    daemon: Daemon,
    dir: PathBuf,
}

impl Device {
    fn start(name: &str, abi: &str, change: impl FnOnce(&mut ServeOptions)) -> Device {
        let dir = std::env::temp_dir().join(format!("bpfdev-{name}-{}", std::process::id()));
        let clock = Arc::new(SystemClock::new());
        let network = LoopbackNetwork::new(clock.clone());
        network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
        network.add_ethernet("em1", [2, 0, 0, 0, 0, 2], 1);
        let mut options = ServeOptions::new(Abi::by_name(abi).unwrap(), Arc::new(network.clone()), clock);
        options.mount = dir.clone();
        options.link = None;
        change(&mut options);
        Device { network, daemon: Daemon::start(options).unwrap(), dir }
    }

    fn open(&self) -> Bpf {
        Bpf::open(&self.daemon.node())
    }
}

#[test]
fn packets_are_read_and_the_mount_goes_away() {
    let device = Device::start("read", "linux", |_| {});
    let bpf = device.open();
    assert_eq!(bpf.u32(number::GBLEN, 0), 4096);
    bpf.set_if("em0").unwrap();
    bpf.u32(number::IMMEDIATE, 1);
    assert_eq!(bpf.ioctl(number::GETIF, Ifreq::<40>::named("")).unwrap().name(), "em0");
    device.network.receive("em0", &[0xff; 60]);
    assert_eq!(frames(&bpf.read().unwrap()), [[0xff; 60]]);
    let reader = std::thread::scope(|s| {
        let reader = s.spawn(|| bpf.read().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        device.network.receive("em0", &[0xff; 61]);
        reader.join().unwrap()
    });
    assert_eq!(frames(&reader), [[0xff; 61]], "a blocked reader gets the next packet");
    drop(bpf);
    let dir = device.dir.clone();
    device.daemon.stop().unwrap();
    assert!(!dir.exists(), "unmounted, and the directory it made removed");
}

#[test]
fn bsd_numbers_are_taken_in_all_four_directions() {
    let device = Device::start("bsd", "freebsd", |_| {});
    let bpf = device.open();
    assert_eq!(bpf.u32(number::BSD_GBLEN, 0), 4096, "out");
    assert_eq!(bpf.u32(number::BSD_SBLEN, 8192), 8192, "in and out");
    assert_eq!(
        bpf.ioctl(number::BSD_SETIF, Ifreq::<32>::named("em0")).unwrap().name(),
        "em0",
        "in, unchanged"
    );
    bpf.ioctl_at(number::BSD_FLUSH, 0).unwrap();
    assert_eq!(bpf.ioctl(number::BSD_GETIF, Ifreq::<32>::named("")).unwrap().name(), "em0");
    assert_eq!(bpf.ioctl_at(number::BSD_GETIF, 8).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    assert_eq!(bpf.ioctl_at(number::BSD_SETIF, 8).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    assert_eq!(
        bpf.ioctl_at(number::GBLEN, 0).unwrap_err().raw_os_error(),
        Some(libc::EINVAL),
        "not FreeBSD's"
    );
    device.daemon.stop().unwrap();
}

#[test]
fn no_more_files_than_allowed() {
    let device = Device::start("max", "linux", |options| options.files.all = 2);
    let (_a, b) = (device.open(), device.open());
    let node = device.daemon.node();
    assert_eq!(Bpf::open_with(&node, libc::O_RDWR).unwrap_err().raw_os_error(), Some(libc::EMFILE));
    drop(b);
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while Bpf::open_with(&node, libc::O_RDWR).is_err() {
        assert!(
            std::time::Instant::now() < end,
            "a closed file makes room (RELEASE comes after close returns)"
        );
    }
}
