//! `bpfdev wrap`: the command's own exit status, a private /dev with the device, and nothing left behind.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::bpfdev;

fn wrap(arguments: &[&str]) -> Command {
    let mut command = Command::new(bpfdev());
    command.arg("wrap").args(arguments).stdin(Stdio::null());
    bpfdev_compat::signals_by_default(&mut command);
    command
}

/// Runs a shell script under `wrap` and gives its stdout; it must end with 0.
fn shell(flags: &[&str], script: &str) -> String {
    let out = wrap(&[flags, &["--", "sh", "-c", script]].concat()).output().unwrap();
    assert!(out.status.success(), "{script}: {}\n{}", out.status, text(&out));
    String::from_utf8(out.stdout).unwrap()
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The children of a process: pid and arguments.
fn children(parent: u32) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == format!("PPid:\t{parent}")) {
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.insert(pid, String::from_utf8_lossy(&arguments).replace('\0', " "));
        }
    }
    found
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a script that writes a line once it runs, and waits for that line. Its stdin ends when it is waited
/// for.
fn started(script: &str) -> Running {
    let mut command = wrap(&["--", "sh", "-c", script]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let running = Running(child);
    assert_eq!(line, "ready\n");
    running
}

/// A `wrap` that ends with the test, and its command with it, however the test ends.
struct Running(Child);

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn wait(&mut self) -> ExitStatus {
        drop(self.0.stdin.take());
        let mut status = None;
        until("wrap ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The pid of the child whose arguments are like this.
    fn child(&self, what: &str, like: impl Fn(&str) -> bool) -> u32 {
        let mut found = None;
        until(what, || {
            found = children(self.pid()).iter().find(|(_, arguments)| like(arguments)).map(|(pid, _)| *pid);
            found.is_some()
        });
        found.unwrap()
    }

    fn daemon(&self) -> u32 {
        self.child("a daemon", |arguments| arguments.contains(" serve "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            signal(self.pid(), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

#[test]
fn the_exit_status_is_the_commands() {
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["/nonexistent"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let out = wrap(&[&["--"], command].concat()).output().unwrap();
        assert_eq!(out.status.code(), Some(status), "{command:?}: {}", text(&out));
    }
}

#[test]
fn the_device_is_there_under_all_its_names() {
    let names = shell(
        &[],
        "for n in bpf bpf0 bpf15; do exec 3<>/dev/$n && ls -lL /dev/$n; done; ls /dev/bpf16 || true",
    );
    assert_eq!(names.lines().count(), 3, "{names}");
    // The nodes every program expects, and no host device under a name of ours.
    shell(
        &[],
        "echo x >/dev/null && [ $(head -c 4 /dev/zero | wc -c) = 4 ] && [ -e /dev/fuse ] && [ -c /dev/tty ]",
    );
}

#[test]
fn each_dialect_can_be_chosen() {
    for abi in ["linux", "freebsd", "netbsd"] {
        shell(&["--abi", abi], "exec 3<>/dev/bpf");
    }
    let wrong = wrap(&["--abi", "plan9", "--", "true"]).output().unwrap();
    assert_eq!((wrong.status.code(), text(&wrong).lines().count()), (Some(2), 1), "{}", text(&wrong));
}

#[test]
fn the_hosts_dev_and_mounts_stay_as_they_are() {
    let look = || {
        let mut names: Vec<_> = fs::read_dir("/dev").unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        // Other tests have mounts of their own meanwhile, in namespaces of their own.
        (names, fs::read_to_string("/proc/self/mounts").unwrap())
    };
    let before = look();
    let mut running =
        started("touch /dev/only-inside && ls /dev/only-inside >/dev/null && echo ready && read line");
    assert_eq!(look(), before, "while the device is served");
    running.wait();
    assert_eq!(look(), before, "afterwards");
}

#[test]
fn stdin_and_stdout_go_through() {
    let mut child = wrap(&["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(0), &b"through"[..]));
}

#[test]
fn signals_reach_the_command_and_not_the_daemon() {
    for (name, number) in [("TERM", Signal::SIGTERM), ("INT", Signal::SIGINT), ("HUP", Signal::SIGHUP)] {
        // The trap runs while the device still answers.
        let script = format!(
            "trap 'exec 3<>/dev/bpf && exit 5; exit 6' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let mut running = started(&script);
        signal(running.pid(), number);
        assert_eq!(running.wait().code(), Some(5), "{name}");
    }
}

#[test]
fn the_daemon_ends_with_the_command() {
    let mut running = started("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    let daemon = running.daemon();
    signal(running.pid(), Signal::SIGTERM);
    assert_eq!(running.wait().code(), Some(0));
    assert!(!Path::new(&format!("/proc/{daemon}")).exists(), "reaped before wrap ended");
}

#[test]
fn the_daemon_ends_when_wrap_is_killed() {
    let mut running = started("echo ready; exec sleep 1000");
    let daemon = running.daemon();
    let command = running.child("the command", |arguments| arguments.starts_with("sleep 1000"));
    signal(running.pid(), Signal::SIGKILL);
    assert_eq!(running.wait().signal(), Some(9));
    until("the daemon has ended", || !alive(daemon));
    signal(command, Signal::SIGKILL);
}

/// A zombie that its new parent has not yet reaped counts as ended.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_daemon_that_dies_is_reported_and_the_command_goes_on() {
    let mut running = started("trap 'exit 4' USR1; echo ready; while :; do sleep 0.1; done");
    signal(running.daemon(), Signal::SIGKILL);
    let mut stderr = BufReader::new(running.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("/dev/bpf is gone") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    signal(running.pid(), Signal::SIGUSR1);
    assert_eq!(running.wait().code(), Some(4));
}

#[test]
fn a_network_of_its_own_has_lo_and_a_pair() {
    let interfaces = shell(&["--own-network"], "cat /proc/net/dev");
    let mut names: Vec<_> =
        interfaces.lines().filter_map(|l| l.split_once(':')).map(|(n, _)| n.trim()).collect();
    names.sort_unstable();
    assert_eq!(names, ["lo", "veth0", "veth1"]);
}

#[test]
fn without_root_it_works_or_names_the_cure() {
    if !nix::unistd::geteuid().is_root() {
        let out = wrap(&["--", "true"]).output().unwrap();
        return unprivileged(&out, fs::metadata("/dev/fuse").unwrap().mode());
    }
    // A place that nobody can reach, wherever the target directory is.
    let place = std::env::temp_dir().join(format!("bpfdev-wrap-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("bpfdev");
    fs::copy(bpfdev(), &program).unwrap();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    // The node's mode belongs to the host: another node for the same driver is made in a private /dev.
    for mode in [0o600, 0o666] {
        let script = format!(
            "umount /dev/fuse && rm -f /dev/fuse && mknod -m {mode:o} /dev/fuse c 10 229 && \
             exec {nobody} {} wrap -- sh -c 'exec 3<>/dev/bpf && cat /proc/net/dev && id -u'",
            program.display()
        );
        let out = Command::new(bpfdev())
            .args(["launch", "--sandbox", "own", "--", "sh", "-c", &script])
            .output()
            .unwrap();
        unprivileged(&out, mode);
        if mode == 0o666 {
            let stdout = String::from_utf8_lossy(&out.stdout);
            assert!(stdout.contains("veth1:") && stdout.ends_with("0\n"), "{}", text(&out));
        }
    }
    fs::remove_dir_all(&place).unwrap();
}

fn unprivileged(out: &Output, fuse_mode: u32) {
    let said = String::from_utf8_lossy(&out.stderr);
    if fuse_mode & 0o006 == 0o006 {
        assert!(out.status.success(), "{}", text(out));
        assert!(said.contains("not root") && said.contains("veth0, veth1"), "says what it did: {said}");
    } else {
        assert_eq!(out.status.code(), Some(1), "{}", text(out));
        assert!(said.contains("/dev/fuse") && said.contains("chmod 0666"), "names the cure: {said}");
    }
}
