//! What the daemon keeps, what can be done without, and its limits.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::look::{ACCEPT_88B5, as_the_unit, as_user, field, mask, threads, works};
use crate::node::{Device, Wire, client_program, frame, until};
use crate::sys::{Bpf, frames, number};
use crate::{cuse, errno, fresh_dir};

const CHOWN: u64 = 1;
const MKNOD: u64 = 1 << 27;
const SYS_PTRACE: u64 = 1 << 19;

/// The threads of this name.
fn of_name(device: &Device, name: &str) -> Vec<String> {
    threads(device).into_iter().filter(|(of, _)| of == name).map(|(_, status)| status).collect()
}

pub fn is_no_more_than_is_needed() {
    let wire = Wire::new();
    for arguments in [&[][..], &["--group", "4242", "--also", "macos"]] {
        let device = cuse(arguments);
        works(&device, &wire);
        for (name, status) in threads(&device) {
            let makes_nodes = name == "nodes";
            for set in ["CapPrm", "CapEff", "CapBnd"] {
                let capabilities = mask(&status, set);
                if makes_nodes {
                    assert_eq!(capabilities & !(CHOWN | MKNOD), 0, "{set} of {name}");
                } else {
                    assert_eq!(capabilities & (CHOWN | MKNOD), 0, "{set} of {name}");
                }
            }
            assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        }
        for guarded in ["bpf", "memory", "task"] {
            let threads = of_name(&device, guarded);
            assert!(!threads.is_empty(), "{guarded}");
            assert!(threads.iter().all(|status| field(status, "Seccomp") == "2"), "{guarded}");
        }
        // Only macOS has nodes that are made later.
        let makers = of_name(&device, "nodes");
        assert_eq!(makers.len(), usize::from(!arguments.is_empty()));
        assert!(makers.iter().all(|status| field(status, "Seccomp") == "2"));
    }
}

pub fn of_ptrace_can_be_done_without() {
    let (device, wire) = (cuse(&["--give-up", "sys-ptrace"]), Wire::new());
    assert!(threads(&device).iter().all(|(_, status)| mask(status, "CapEff") & SYS_PTRACE == 0));
    let bpf = wire.ns.enter(|| Bpf::open(&device.node())).unwrap();
    bpf.set_filter(&ACCEPT_88B5).unwrap();
    let refused = wire.ns.enter(|| errno(bpf.set_if("veth0"))).unwrap();
    assert_eq!(refused, Some(libc::EACCES), "our memory is the kernel's to read, but not where we are");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(client_program(false));
    let mut client = wire.client_by(&mut command, &device, &["capture", "1"]).ready();
    wire.send(&frame(60, 1));
    assert!(client.line().starts_with("frame"), "attached, with a filter and a list of link types");
    client.end();
}

pub fn of_every_plan_suffices() {
    let wire = Wire::new();
    for plan in ["ebpf", "cbpf", "process"] {
        works(&cuse(&["--plan", plan]), &wire);
    }
    works(&cuse(&["--keep-privileges", "--seccomp", "off", "--also", "macos"]), &wire);
}

pub fn of_the_unit_suffices() {
    let mut command = as_the_unit();
    let arguments = ["--front", "cuse", "--group", "4242", "--also", "macos"];
    let device = Device::start_by(&mut command, &fresh_dir(), &arguments);
    works(&device, &Wire::new());
    let held: Vec<_> = (0..4).map(|n| Bpf::open(&device.dir.join(format!("macos/bpf{n}")))).collect();
    let meta = std::fs::metadata(device.dir.join("macos/bpf4")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::gid(&meta), held.len()), (4242, 4));
}

pub fn is_limited_and_shown_by_stat() {
    const USER: u32 = 54_322;
    let limits = ["--max-open", "4", "--max-open-per-user", "2", "--max-memory", "4", "--max-waiting", "1"];
    let (device, wire) = (cuse(&[&["--mode", "0666"], &limits[..]].concat()), Wire::new());
    let open = || Bpf::open_with(&device.node(), libc::O_RDWR);
    let theirs = as_user(USER, || [open().unwrap(), open().unwrap()]);
    assert_eq!(errno(as_user(USER, open)), Some(libc::EMFILE));
    let ours = [open().unwrap(), open().unwrap()];
    assert_eq!(errno(open()), Some(libc::EMFILE), "in all, root too");
    let files = device.limit("files");
    assert_eq!((files.used, files.all, files.per_user, files.refused), (4, 4, 2, 2));
    drop((theirs, ours));
    until("they are closed", || device.limit("files").used == 0);
    let large = open().unwrap();
    large.u32(number::SBLEN, 524_288);
    assert_eq!(wire.ns.enter(|| errno(large.set_if("veth0"))).unwrap(), Some(libc::ENOBUFS));
    drop(large);
    until("it is closed", || device.limit("files").used == 0);
    let bpf = wire.bound(&device);
    let mut client = wire.client(&device, &["block"]).ready();
    until("its read waits", || device.limit("waiting").used == 1);
    assert_eq!(errno(bpf.read_len(4096)), Some(libc::EBUSY));
    wire.send(&frame(60, 1));
    assert!(client.line().starts_with("read 86 "));
    client.end();
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    until("it is closed", || device.report().files.len() == 1);
    let report = device.report();
    let file = &report.files[0];
    assert_eq!((file.pid, file.uid, file.dialect.as_str()), (std::process::id(), 0, "linux"));
    assert_eq!(
        (file.interface.as_deref(), file.received, file.flags.as_str()),
        (Some("veth0"), 1, "-ifs---")
    );
    client = wire.client(&device, &["poll", "1"]).ready();
    client.signal(Signal::SIGKILL);
    client.end();
}
