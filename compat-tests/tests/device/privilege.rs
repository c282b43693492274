//! What the daemon keeps once it serves, and what still works without each capability that can be given up. Every daemon of
//! these tests runs with `--seccomp kill`: a system call missing from the list ends it.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::serial;

use crate::look::{ACCEPT_88B5, field, mask, threads, works};
use crate::node::{Device, Wire, client_program, frame, until};
use crate::sys::{Bpf, Ifreq, number};

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const KILL: u64 = 1 << 5;
const BPF: u64 = 1 << 39;

#[test]
#[serial]
fn it_keeps_only_the_capabilities_it_needs_and_its_threads_have_filters() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    works(&device, &wire);
    let before = mask(&std::fs::read_to_string("/proc/self/status").unwrap(), "CapPrm");
    let kept = (NET_ADMIN | NET_RAW | SYS_PTRACE | SYS_ADMIN | KILL | BPF) & before;
    let threads = threads(&device);
    for (name, status) in &threads {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(mask(status, set), kept, "{set} of {name}");
        }
        assert_eq!((mask(status, "CapInh"), mask(status, "CapAmb")), (0, 0), "{name}");
        assert_eq!(field(status, "NoNewPrivs"), "1", "{name}");
    }
    for guarded in ["bpf", "names", "memory", "task"] {
        let of_name: Vec<_> = threads.iter().filter(|(name, _)| name == guarded).collect();
        assert!(!of_name.is_empty(), "{guarded}");
        for (_, status) in of_name {
            assert_eq!(field(status, "Seccomp"), "2", "{guarded}");
        }
    }
    drop(device);
    let device = Device::start(&["--keep-privileges", "--seccomp", "off"]);
    works(&device, &wire);
    for (name, status) in crate::look::threads(&device) {
        assert_eq!((mask(&status, "CapEff"), field(&status, "Seccomp")), (before, "0"), "{name}");
    }
}

#[test]
#[serial]
fn without_cap_kill_cap_net_admin_or_cap_bpf_the_device_works() {
    let wire = Wire::new();
    for (given_up, gone) in [("kill", KILL), ("net-admin", NET_ADMIN), ("bpf", BPF)] {
        let device = Device::start(&["--give-up", given_up]);
        for (name, status) in threads(&device) {
            assert_eq!(mask(&status, "CapEff") & gone, 0, "{name}");
        }
        works(&device, &wire);
    }
}

#[test]
#[serial]
fn without_cap_bpf_filters_are_classic_bpf() {
    let open = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let open = open.is_ok_and(|value| value.trim() == "0");
    let wire = Wire::new();
    let both = &["--give-up", "bpf", "--give-up", "sys-admin"][..];
    for (arguments, plan) in [(&[][..], "ebpf"), (both, if open { "ebpf" } else { "cbpf" })] {
        let dir = Device::fresh_dir();
        let device = wire.ns.enter(|| Device::start_at(&dir, arguments)).unwrap();
        let bpf = wire.bound(&device);
        bpf.set_filter(&ACCEPT_88B5).unwrap();
        assert_eq!(device.report().files[0].plan.as_deref(), Some(plan));
        drop(bpf);
        device.crash();
        nix::mount::umount2(&dir, nix::mount::MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_dir(&dir).unwrap();
    }
}

#[test]
#[serial]
fn without_cap_sys_ptrace_a_caller_with_no_more_than_the_daemon_has_still_works() {
    let (device, wire) = (Device::start(&["--give-up", "sys-ptrace"]), Wire::new());
    let bpf = wire.ns.enter(|| Bpf::open(&device.node())).unwrap();
    assert_eq!(bpf.u32(number::GBLEN, 0), 4096);
    let refused = wire.ns.enter(|| bpf.set_if("veth0").unwrap_err()).unwrap();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "we have every capability");
    // FreeBSD's answer to a program that cannot be read.
    assert_eq!(bpf.set_filter(&ACCEPT_88B5).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(client_program(false));
    let mut client = wire.client_by(&mut command, &device, &["capture", "1"]).ready();
    wire.send(&frame(60, 1));
    assert!(client.line().starts_with("frame"), "attached, with a filter");
    client.end();
}

#[test]
#[serial]
fn without_cap_sys_admin_the_daemons_own_network_still_works() {
    let wire = Wire::new();
    // A daemon that lives in the wire's network.
    let dir = Device::fresh_dir();
    let device = wire.ns.enter(|| Device::start_at(&dir, &["--give-up", "sys-admin"])).unwrap();
    works(&device, &wire);
    let here = device.open();
    assert_eq!(here.set_if("lo").unwrap_err().raw_os_error(), Some(libc::EACCES), "another network");
    drop(here);
    // It ends well, and what it leaves is taken away by the next.
    kill(Pid::from_raw(device.pid().cast_signed()), Signal::SIGTERM).unwrap();
    until("it ends", || Bpf::open_with(&dir.join("bpf"), libc::O_RDWR).is_err());
    let dir = device.crash();
    let again = Device::start_at(&dir, &[]);
    works(&again, &wire);
    kill(Pid::from_raw(again.pid().cast_signed()), Signal::SIGTERM).unwrap();
    until("it unmounts", || std::fs::remove_dir(&dir).is_ok());
    drop(again);
}

#[test]
#[serial]
fn without_cap_net_admin_large_packets_have_the_queue_that_anybody_may_have() {
    const PACKETS: u32 = 2000;
    const LENT: u32 = 8192;
    let wire = Wire::new();
    let mut rtnl = wire.ns.rtnl().unwrap();
    for name in ["veth0", "veth1"] {
        rtnl.set_mtu(name, 9000).unwrap();
    }
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let most: u32 = most.trim().parse().unwrap();
    // Each is lent so much of it at least, and the kernel doubles what it is asked for.
    let short = most.saturating_mul(2) / LENT < PACKETS;
    for (arguments, dropped) in [(&[][..], false), (&["--give-up", "net-admin"][..], short)] {
        let device = Device::start(arguments);
        // macOS's buffers are large enough for more than the queue holds.
        let bpf = Bpf::open(&device.dir.join("macos/bpf0"));
        bpf.u32(number::BSD_SBLEN, 8 << 20);
        let set_if = || bpf.ioctl(number::BSD_SETIF, Ifreq::<32>::named("veth0")).unwrap();
        wire.ns.enter(set_if).unwrap();
        for mark in 0..PACKETS {
            wire.send(&frame(5000, mark as u8));
        }
        let stats = || bpf.ioctl(number::BSD_GSTATS, [0u32; 2]).unwrap();
        until("all are counted", || stats()[0] == PACKETS);
        assert_eq!(stats()[1] > 0, dropped, "{arguments:?}: {:?}, rmem_max is {most}", stats());
    }
}

#[test]
#[serial]
fn every_plan_and_dialect_lives_with_its_list_of_system_calls() {
    let wire = Wire::new();
    for plan in ["ebpf", "cbpf", "process"] {
        works(&Device::start(&["--plan", plan]), &wire);
    }
    let help = Command::new(crate::program::bpfdev()).args(["serve", "--help"]).stdin(Stdio::null()).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    for capability in ["sys-admin", "sys-ptrace", "bpf", "net-admin", "kill"] {
        assert!(
            help.contains(&format!("- {capability}:")),
            "what stops working without it: {capability}\n{help}"
        );
    }
}
