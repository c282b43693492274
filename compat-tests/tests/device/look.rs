//! A daemon seen from outside: what `bpfdev stat` and /proc say of it, and whether it does what most clients want.

use std::collections::HashMap;
use std::process::{Command, Output, Stdio};

use bpfdev::service::report::{Limit, Report};

use crate::node::{Device, Wire, client_program, frame, until};
use crate::program::bpfdev;
use crate::sys::{CountAndPointer, Insn, become_user, frames, number};

impl Device {
    /// What `bpfdev stat` is told.
    pub fn report(&self) -> Report {
        // What was told a moment ago is told again.
        std::thread::sleep(std::time::Duration::from_millis(120));
        let out = self.stat(&["--json"]).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    pub fn limit(&self, what: &str) -> Limit {
        self.report().limits.into_iter().find(|limit| limit.what == what).unwrap()
    }

    pub fn stat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bpfdev());
        command.arg("stat").arg("--mount").arg(&self.dir).args(arguments).stdin(Stdio::null());
        command
    }
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The systemd unit.
const UNIT: &str = include_str!("../../../bpfdev/dist/bpfdev.service");

/// Its settings; of those that come more than once, the last.
pub fn unit() -> HashMap<&'static str, &'static str> {
    let lines = UNIT.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

/// Runs a program with the unit's capabilities and no more.
pub fn as_the_unit() -> Command {
    let capabilities = unit()["CapabilityBoundingSet"];
    let kept: String =
        capabilities.split(' ').map(|name| format!(",+{}", &name[4..].to_lowercase())).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{kept}")).args(["--inh-caps=-all", "--no-new-privs"]);
    command.arg(bpfdev());
    command
}

/// Of each thread: its name, and the fields of /proc/PID/task/TID/status.
pub fn threads(device: &Device) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", device.pid())).unwrap();
    let threads = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((name.trim_end().to_owned(), std::fs::read_to_string(task.path().join("status")).ok()?))
    });
    threads.collect()
}

pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).trim()
}

pub fn mask(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).unwrap()
}

pub const ACCEPT_88B5: [Insn; 4] =
    [Insn(0x28, 0, 0, 12), Insn(0x15, 0, 1, 0x88b5), Insn(6, 0, 0, u32::MAX), Insn(6, 0, 0, 0)];

/// What most clients do: attach, filter, ask, read, write, poll.
pub fn works(device: &Device, wire: &Wire) {
    let bpf = wire.bound(device);
    bpf.set_filter(&ACCEPT_88B5).unwrap();
    bpf.u32(number::SHDRCMPLT, 1);
    let mut list = [0u32; 16];
    let room = CountAndPointer { count: 16, pointer: list.as_mut_ptr().expose_provenance() as u64 };
    assert_eq!(bpf.ioctl(number::GDLTLIST, room).unwrap().count, 1, "its list is written to our memory");
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    assert_eq!(bpf.write(&frame(70, 2)).unwrap(), 70);
    assert_eq!(wire.receive(), frame(70, 2));
    bpf.ioctl_at(number::PROMISC, 0).unwrap();
    let mut client = wire.client(device, &["poll", "1"]).ready();
    client.asleep();
    until("the poller is answered", || {
        wire.send(&frame(60, 3));
        matches!(client.child.try_wait(), Ok(Some(_)))
    });
    assert!(device.report().files.iter().any(|file| file.flags.starts_with('p')));
}

/// Does `work` on a thread that is this user's and nobody else's.
pub fn as_user<R: Send>(uid: u32, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user(uid);
            work()
        });
        thread.join().unwrap()
    })
}

/// Of a device of the group 4242: its members open it read-write, as their group or one of their groups, and capture; others get
/// EACCES.
pub fn members_of_the_group_capture(device: &Device, wire: &Wire) {
    let run = |ids: [&str; 3]| {
        let mut command = Command::new(client_program(false));
        let [uid, gid, supplementary] = ids;
        wire.client_by(&mut command, device, &["as", uid, gid, supplementary])
    };
    for ids in [["65534", "4242", "65534"], ["65534", "65534", "4242"]] {
        let mut client = run(ids);
        assert_eq!(client.line(), "opened", "{ids:?}");
        let mut client = client.ready();
        wire.send(&frame(60, 1));
        assert_eq!(client.line(), "frame 40 of 60, first 01");
    }
    let mut client = run(["65534", "65534", "65534"]);
    assert_eq!(client.line(), "open: errno 13 (Permission denied)");
    assert_eq!(client.end().code(), Some(1));
}
