//! FIOASYNC, FIOSETOWN, TIOCSPGRP and BIOCSRSIG: each wake-up signals the file's owner, as far as who set it may.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, become_user, catch, caught, frames, number};

// FreeBSD's numbers, which the dialect linux takes too: sys/filio.h, sys/ttycom.h, net/bpf.h
const FIOASYNC: u32 = 0x8004_667d;
const FIOSETOWN: u32 = 0x8004_667c;
const FIOGETOWN: u32 = 0x4004_667b;
const TIOCSPGRP: u32 = 0x8004_7476;
const TIOCGPGRP: u32 = 0x4004_7477;
const BIOCSRSIG: u32 = 0x8004_4273;
const BIOCLOCK: u32 = 0x2000_427a;

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn own_pid() -> u32 {
    std::process::id()
}

/// A process that says "ready", then the name of each signal it gets. Dropping it kills it.
struct Listener {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Listener {
    /// `group`: the process group it is put in, 0 for a new one.
    fn start(change: impl FnOnce(&mut Command)) -> Listener {
        let script = "trap 'echo usr1' USR1; trap 'echo io' IO; echo ready; while read line; do :; done; \
                      while :; do sleep 0.05; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut listener = Listener { child, out };
        assert_eq!(listener.line(), "ready");
        listener
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Everything it said before it is killed now.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[serial]
fn freebsd_each_wakeup_signals_the_owner_until_it_is_switched_off() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    catch(Signal::SIGIO);
    catch(Signal::SIGUSR2);
    let (io, usr2) = (caught(Signal::SIGIO), caught(Signal::SIGUSR2));
    assert_eq!(bpf.u32(FIOGETOWN, 7), 0, "nobody");
    bpf.u32(FIOASYNC, 1);
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    bpf.u32(FIOSETOWN, own_pid());
    assert_eq!(bpf.u32(FIOGETOWN, 0), own_pid());
    assert_eq!(bpf.u32(TIOCGPGRP, 0), own_pid().wrapping_neg(), "the same, with the other sign");
    assert_eq!((caught(Signal::SIGIO), caught(Signal::SIGUSR2)), (io, usr2), "not before it has an owner");
    for n in 1..=3 {
        wire.send(&frame(60, n));
        let seen = u32::from(n);
        until("SIGIO comes, though nobody reads or polls", || caught(Signal::SIGIO) >= io + seen);
    }
    assert_eq!(frames(&bpf.read().unwrap()).len(), 3);
    bpf.u32(BIOCSRSIG, Signal::SIGUSR2 as u32);
    let io = caught(Signal::SIGIO);
    wire.send(&frame(60, 4));
    until("the signal that was chosen comes", || caught(Signal::SIGUSR2) == usr2 + 1);
    bpf.u32(FIOASYNC, 0);
    wire.send(&frame(60, 5));
    bpf.u32(FIOASYNC, 1);
    bpf.u32(FIOSETOWN, 0);
    wire.send(&frame(60, 6));
    assert_eq!(bpf.readable_bytes(), 88 * 2 + 86);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        (caught(Signal::SIGIO), caught(Signal::SIGUSR2)),
        (io, usr2 + 1),
        "switched off, and nobody's"
    );
}

#[test]
#[serial]
fn freebsd_without_immediate_a_full_buffer_is_what_signals() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = device.open();
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    catch(Signal::SIGIO);
    let before = caught(Signal::SIGIO);
    bpf.u32(FIOSETOWN, own_pid());
    bpf.u32(FIOASYNC, 1);
    for n in 0..3 {
        wire.send(&frame(1000, n));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(caught(Signal::SIGIO), before, "three records of 1032 bytes fit into 4096");
    wire.send(&frame(1000, 3));
    until("the fourth makes the buffer the reader's", || caught(Signal::SIGIO) == before + 1);
    assert_eq!(frames(&bpf.read().unwrap()).len(), 3);
}

#[test]
#[serial]
fn freebsd_a_process_group_is_signalled_whole() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let mut first = Listener::start(|command| {
        command.process_group(0);
    });
    let group = first.id();
    let mut second = Listener::start(|command| {
        command.process_group(group.cast_signed());
    });
    let outside = Listener::start(|command| {
        command.process_group(0);
    });
    bpf.u32(BIOCSRSIG, Signal::SIGUSR1 as u32);
    bpf.u32(FIOASYNC, 1);
    bpf.u32(TIOCSPGRP, group);
    assert_eq!(bpf.u32(FIOGETOWN, 0), group.wrapping_neg());
    wire.send(&frame(60, 1));
    assert_eq!([first.line(), second.line()], ["usr1", "usr1"]);
    bpf.u32(FIOSETOWN, group.wrapping_neg());
    wire.send(&frame(60, 2));
    assert_eq!([first.line(), second.line()], ["usr1", "usr1"]);
    assert_eq!(outside.end(), "", "a process of another group");
}

// semantics.md 5, "signal"; FreeBSD's fsetown()
#[test]
#[serial]
fn freebsd_an_owner_that_is_not_there_is_esrch_and_one_of_another_session_eperm() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let pid = own_pid();
    bpf.u32(FIOSETOWN, pid);
    for nobody in [i32::MAX, -i32::MAX, i32::MIN] {
        assert_eq!(errno(bpf.ioctl(FIOSETOWN, nobody)), Some(libc::ESRCH), "{nobody}");
    }
    assert_eq!(errno(bpf.ioctl(TIOCSPGRP, i32::MAX)), Some(libc::ESRCH));
    let mut other = Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
    let id = other.id().cast_signed();
    until("it has a session of its own", || {
        nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(id))).is_ok_and(|sid| sid.as_raw() == id)
    });
    for owner in [id, -id] {
        assert_eq!(errno(bpf.ioctl(FIOSETOWN, owner)), Some(libc::EPERM), "{owner}");
    }
    assert_eq!(bpf.u32(FIOGETOWN, 0), pid, "nothing has changed");
    other.kill().unwrap();
    other.wait().unwrap();
    bpf.ioctl_at(BIOCLOCK, 0).unwrap();
    for owner in [id, pid.cast_signed(), 0] {
        assert_eq!(errno(bpf.ioctl(FIOSETOWN, owner)), Some(libc::EPERM), "locked, whoever it is: {owner}");
    }
}

#[test]
#[serial]
fn nobody_is_signalled_whom_the_setter_could_not_signal_itself() {
    const NOBODY: u32 = 65534;
    let (device, wire) = (Device::start(&["--mode", "666"]), Wire::new());
    let roots = Listener::start(|_| {});
    let mut nobodys = Listener::start(|command| {
        command.uid(NOBODY);
    });
    let node = device.node();
    // A thread of another user: what it asks for is asked for with its credentials, which are gone when it is signalled.
    let by_nobody = |owner: u32| {
        let node = node.clone();
        let asking = move || {
            become_user(NOBODY);
            let bpf = Bpf::immediate(&node, "veth0");
            bpf.u32(BIOCSRSIG, Signal::SIGUSR1 as u32);
            bpf.u32(FIOASYNC, 1);
            bpf.u32(FIOSETOWN, owner);
            bpf
        };
        wire.ns.enter(|| std::thread::spawn(asking).join().unwrap()).unwrap()
    };
    let files = [by_nobody(roots.id()), by_nobody(nobodys.id())];
    wire.send(&frame(60, 1));
    assert_eq!(nobodys.line(), "usr1", "its own user's process");
    assert_eq!(files[0].u32(FIOGETOWN, 0), roots.id(), "the other may be named: it is of the same session");
    // root may signal anybody, and a signal that comes later is not lost
    let bpf = wire.bound(&device);
    bpf.u32(FIOSETOWN, nobodys.id());
    bpf.u32(BIOCSRSIG, Signal::SIGIO as u32);
    bpf.u32(FIOASYNC, 1);
    wire.send(&frame(60, 2));
    let mut said = [nobodys.line(), nobodys.line()];
    said.sort();
    assert_eq!(said, ["io", "usr1"]);
    assert_eq!(roots.end(), "", "root's process was not signalled for another user");
}

#[test]
#[serial]
fn an_owner_that_has_ended_is_nobody_whoever_gets_its_number() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let gone = Listener::start(|_| {});
    bpf.u32(FIOASYNC, 1);
    bpf.u32(FIOSETOWN, gone.id());
    drop(gone);
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    // and the device goes on
    catch(Signal::SIGIO);
    let before = caught(Signal::SIGIO);
    bpf.u32(FIOSETOWN, own_pid());
    wire.send(&frame(60, 2));
    until("the next owner gets its own", || caught(Signal::SIGIO) > before);
}

/// The C program that waits for SIGIO.
fn program(ilp32: bool) -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(if ilp32 { "signal32" } else { "signal" });
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O1"]).arg(if ilp32 { "-m32" } else { "-m64" });
    cc.arg("-o").arg(&program).arg(here.join("tests/device/signal.c"));
    assert!(cc.status().unwrap().success(), "cc compiles it (-m32 needs gcc-multilib)");
    program
}

#[test]
#[serial]
fn an_owner_is_a_number_of_the_callers_own_pid_namespace() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let unshare = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--"];
    for (ilp32, before) in [(false, &[][..]), (true, &[]), (false, &unshare), (true, &unshare)] {
        let node = device.dir.join("freebsd/bpf");
        let mut command = match before.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program(ilp32));
                command
            }
            None => Command::new(program(ilp32)),
        };
        command.arg(&node).arg("veth0").stdout(Stdio::piped());
        let mut child = wire.ns.run(&mut command).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        assert_eq!(line(), "ready 1", "{before:?}, 32-bit: {ilp32}");
        wire.send(&frame(60, 1));
        assert_eq!(line(), format!("signal {}", libc::SIGIO), "{before:?}, 32-bit: {ilp32}");
        assert!(child.wait().unwrap().success());
    }
}

// DIFFERENCES.md, "fcntl(2)": what a BSD program asks of the file layer is the device's number here
#[test]
#[serial]
fn openbsd_has_its_own_numbers_for_the_signal() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = Bpf::open(&device.dir.join("openbsd/bpf"));
    let ifreq = crate::sys::Ifreq::<32>::named("veth0");
    wire.ns.enter(|| bpf.ioctl(number::BSD_SETIF, ifreq).unwrap()).unwrap();
    bpf.u32(number::BSD_IMMEDIATE, 1);
    catch(Signal::SIGUSR2);
    let before = caught(Signal::SIGUSR2);
    bpf.u32(0x8004_4272, Signal::SIGUSR2 as u32); // BIOCSRSIG, 114
    assert_eq!(bpf.u32(0x4004_4273, 0), Signal::SIGUSR2 as u32, "BIOCGRSIG, 115");
    bpf.u32(FIOSETOWN, own_pid());
    bpf.u32(FIOASYNC, 1);
    wire.send(&frame(60, 1));
    until("it is signalled", || caught(Signal::SIGUSR2) > before);
}

#[test]
#[serial]
fn without_cap_kill_only_processes_of_the_daemons_own_user_are_signalled() {
    let wire = Wire::new();
    for (arguments, signals) in [(&[][..], true), (&["--give-up", "kill"][..], false)] {
        let device = Device::start(arguments);
        let mut roots = Listener::start(|_| {});
        let mut nobodys = Listener::start(|command| {
            command.uid(65534);
        });
        let files = [nobodys.id(), roots.id()].map(|owner| {
            let bpf = wire.bound(&device);
            bpf.u32(BIOCSRSIG, Signal::SIGUSR1 as u32);
            bpf.u32(FIOASYNC, 1);
            bpf.u32(FIOSETOWN, owner);
            bpf
        });
        wire.send(&frame(60, 1));
        assert_eq!(roots.line(), "usr1", "{arguments:?}");
        if signals {
            assert_eq!(nobodys.line(), "usr1");
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(nobodys.end(), "", "another user's process");
        }
        assert_eq!(frames(&files[0].read().unwrap()), [frame(60, 1)], "the file goes on");
    }
}
