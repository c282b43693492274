//! Beginnings and ends: of clients in any state, of the daemon, of what a crash leaves.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::serial;

use crate::node::{Device, Wire, frame, until};
use crate::program::bpfdev;
use crate::sys::{Bpf, frames, number};

#[test]
#[serial]
fn a_client_killed_in_any_state_takes_only_its_descriptor_with_it() {
    let (device, wire) = (Device::start(&["--max-open", "8"]), Wire::new());
    let witness = wire.bound(&device);
    for round in 0..3 {
        for state in
            [&["block"][..], &["poll", "1"], &["select", "1"], &["epoll", "1"], &["capture", "1"], &["pass"]]
        {
            let mut client = wire.client(&device, state).ready();
            if round > 0 {
                client.asleep();
            }
            client.signal(Signal::SIGKILL);
            client.end();
        }
        wire.send(&frame(60, round));
        assert_eq!(
            frames(&witness.read().unwrap()),
            [frame(60, round)],
            "another's descriptor notices nothing"
        );
    }
    // their places are free again: eight at once
    let mut files = Vec::new();
    until("every descriptor of the killed was released", || {
        files.extend(Bpf::open_with(&device.node(), libc::O_RDWR));
        files.len() == 7
    });
    assert_eq!(Bpf::open_with(&device.node(), libc::O_RDWR).unwrap_err().raw_os_error(), Some(libc::EMFILE));
}

#[test]
#[serial]
fn a_daemon_that_dies_ends_its_readers_and_the_next_takes_its_mount_away() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let dir = std::thread::scope(|s| {
        let reader = s.spawn(|| bpf.read().unwrap_err().raw_os_error());
        std::thread::sleep(Duration::from_millis(50));
        let dir = device.crash();
        assert_eq!(reader.join().unwrap(), Some(libc::ECONNABORTED));
        dir
    });
    assert_eq!(bpf.read_len(4096).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let error = Bpf::open_with(&dir.join("bpf"), libc::O_RDWR).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    let again = Device::start_at(&dir, &[]);
    assert_eq!(again.open().u32(number::GBLEN, 0), 4096);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert_eq!(mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).count(), 1, "{mounts}");
    // The directory was there before this daemon (a crash left it), so it stays; the next test may not mind.
    drop_leaving_directory(again);
}

/// Ends a daemon whose directory it did not make.
fn drop_leaving_directory(device: Device) {
    let dir = device.dir.clone();
    kill(Pid::from_raw(device.pid().cast_signed()), Signal::SIGTERM).unwrap();
    until("it unmounts", || {
        !std::fs::read_to_string("/proc/mounts").unwrap().contains(dir.to_str().unwrap())
    });
    std::fs::remove_dir(&dir).unwrap();
}

#[test]
#[serial]
fn sigterm_and_sigint_end_it_with_clients_in_it() {
    let wire = Wire::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let device = Device::start(&[]);
        let mut client = wire.client(&device, &["block"]).ready();
        client.asleep();
        std::thread::sleep(Duration::from_millis(50));
        kill(Pid::from_raw(device.pid().cast_signed()), signal).unwrap();
        assert_eq!(client.line(), format!("read -1 errno {} handled 0", libc::ENXIO));
        client.end();
        drop(device);
    }
}

#[test]
#[serial]
fn it_ends_even_with_a_caller_stuck_in_it() {
    let wire = Wire::new();
    let device = Device::start(&[]);
    let mut client = wire.client(&device, &["fault"]).ready();
    client.asleep();
    std::thread::sleep(Duration::from_millis(50));
    client.signal(Signal::SIGKILL);
    drop(device); // asserts that SIGTERM ends it
    client.end();
}

#[test]
#[serial]
fn links_are_made_and_removed_and_what_is_foreign_stays() {
    let dir = Device::fresh_dir();
    let links = dir.with_extension("links");
    std::fs::create_dir(&links).unwrap();
    std::fs::write(links.join("bpf3"), "mine").unwrap();
    let mut child = Command::new(bpfdev())
        .args(["serve", "--mount"])
        .arg(&dir)
        .arg("--link")
        .arg(&links)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the device is linked", || Bpf::open_with(&links.join("bpf15"), libc::O_RDWR).is_ok());
    assert_eq!(Bpf::open(&links.join("bpf")).u32(number::GBLEN, 0), 4096);
    assert_eq!(std::fs::read_link(links.join("bpf0")).unwrap(), dir.join("bpf0"));
    assert_eq!(std::fs::read_to_string(links.join("bpf3")).unwrap(), "mine");
    // a second daemon on the same directory is refused, and harms nothing
    let second = Command::new(bpfdev()).args(["serve", "--no-link", "--mount"]).arg(&dir).output().unwrap();
    let says = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{says}");
    assert!(says.contains("another bpfdev serves there"), "{says}");
    assert_eq!(Bpf::open(&links.join("bpf")).u32(number::GBLEN, 0), 4096);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(&links).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["bpf3"]);
    std::fs::remove_dir_all(&links).unwrap();
}

#[test]
#[serial]
fn who_unmounts_it_ends_it() {
    let mut device = Some(Device::start(&[]));
    let dir = device.as_ref().unwrap().dir.clone();
    let pid = device.as_ref().unwrap().pid();
    nix::mount::umount(&dir).unwrap();
    until("the daemon ends", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(device.as_ref().unwrap().log().contains("taken the device away"));
    drop(device.take());
}

#[test]
fn wrong_arguments_are_one_line_and_exit_2() {
    for (arguments, says) in [
        (&["--abi", "plan9"][..], "no such dialect; there are linux, freebsd, netbsd, netbsd7"),
        (&["--mode", "999"], "permissions are octal"),
        (&["--group", "no-such-group-here"], "there is no group"),
        (&["--max-open", "0"], "at least 1"),
        (&["--link", "/x", "--no-link"], "cannot be used with"),
        (&["--ready-fd", "1"], "--ready-fd 1"),
        (&["--ready-fd", "777"], "--ready-fd 777"),
    ] {
        let out = Command::new(bpfdev()).arg("serve").args(arguments).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    let out =
        Command::new(bpfdev()).args(["serve", "--no-link", "--mount", "/proc/nowhere"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "a refusal is a failure, not wrong usage");
}
