//! Tries what the product needs, each thing by doing it, in a throw-away child: nothing on the host changes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::launch::SELF;
use super::refusal::{CAP_SYS_PTRACE, Host, Need, Refusal, refused};
use super::sandbox::{self, MOUNT, Network, Sandbox};

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// A user namespace, as root in it.
    UserNamespace,
    /// A mount namespace with a private /dev.
    Mount,
    /// A FUSE file system mounted in it.
    FuseMount,
    /// An AF_PACKET socket.
    PacketSocket,
    /// A network namespace with a veth pair.
    Veth,
    /// bpf(2).
    Bpf,
    /// Another process's memory, read.
    CallerMemory,
}

/// `bpfdev probe WHAT`, hidden: one probe, in this process; the answer is a line of JSON.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    what: Probe,
}

/// Runs the subcommand.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: ProbeArgs) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string(&args.what.here())?);
    Ok(ExitCode::SUCCESS)
}

/// `bpfdev probe-peer`, hidden: a process whose memory is read; lasts until its stdin ends.
#[derive(Debug, clap::Args)]
pub struct PeerArgs {}

/// Runs the subcommand.
///
/// # Errors
/// Those of read(2).
pub fn run_peer(_: PeerArgs) -> anyhow::Result<ExitCode> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a process like this one can open /dev/fuse.
///
/// # Errors
/// No file, no driver, no right.
pub fn fuse_device() -> Result<String, Refusal> {
    open_fuse().map(|_| "can be opened".into())
}

fn open_fuse() -> Result<File, Refusal> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| {
        // EACCES is the file's mode; EPERM is a container's list of devices.
        let mode = error.raw_os_error() == Some(libc::EACCES);
        Refusal::new(if mode { Need::FuseAccess } else { Need::FuseDevice }, error)
    })
}

impl Probe {
    /// Tries it in a child process, and says what was seen. The child takes a user namespace first where we
    /// are not root.
    ///
    /// # Errors
    /// What was refused.
    pub fn in_child(self) -> Result<String, Refusal> {
        let name = clap::ValueEnum::to_possible_value(&self).map(|v| v.get_name().to_owned());
        let ran = Command::new(SELF)
            .arg0("bpfdev")
            .args(["probe", name.as_deref().unwrap_or_default()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let out = refused(self.need(), "starting a child", ran)?;
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| {
            Err(Refusal::new(self.need(), format_args!("the child ended: {}", out.status)))
        })
    }

    fn need(self) -> Need {
        match self {
            Probe::UserNamespace => Need::UserNamespace,
            Probe::Mount => Need::Mount,
            Probe::FuseMount => Need::FuseMount,
            Probe::PacketSocket => Need::PacketSocket,
            Probe::Veth => Need::Veth,
            Probe::Bpf => Need::Bpf,
            Probe::CallerMemory => Need::CallerMemory,
        }
    }

    /// Tries it in this process, which is changed by it.
    fn here(self) -> Result<String, Refusal> {
        let host = Host::look();
        // The rest of a user namespace's probes says what root in it may do.
        if !host.privileged() && !matches!(self, Probe::UserNamespace | Probe::FuseMount | Probe::Bpf) {
            sandbox::enter_user_namespace()?;
        }
        match self {
            Probe::UserNamespace => {
                sandbox::enter_user_namespace()?;
                // Under AppArmor's restriction all of that succeeds and gives no capability.
                sandbox::enter_mount_namespace().map_err(|e| Refusal::new(Need::UserNamespace, e.why))?;
                Ok("root in one".into())
            }
            Probe::Mount => {
                sandbox::enter_mount_namespace()?;
                sandbox::private_dev()?;
                Ok("a private /dev in a mount namespace".into())
            }
            Probe::FuseMount => fuse_mount(),
            Probe::PacketSocket => {
                if !host.privileged() {
                    sandbox::own_network()?;
                }
                // Protocol 0: receives nothing.
                let made = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
                refused(Need::PacketSocket, "socket(AF_PACKET)", made)?;
                Ok(if host.privileged() { "in the host's network" } else { "in a network namespace" }.into())
            }
            Probe::Veth => {
                sandbox::own_network()?;
                Ok("a pair in a network namespace".into())
            }
            Probe::Bpf => super::filter::load_smallest().map_err(|why| Refusal::new(Need::Bpf, why)),
            Probe::CallerMemory => caller_memory(host.privileged()),
        }
    }
}

/// Mounts a FUSE file system that nobody serves: mount(2) itself does not wait for an answer.
fn fuse_mount() -> Result<String, Refusal> {
    Sandbox::enter(Network::Host)?;
    let need = Need::FuseMount;
    let fuse = open_fuse()?;
    let fd = fuse.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    refused(need, "mount(2)", mount(Some("bpfdev"), MOUNT, Some("fuse"), flags, Some(options.as_str())))?;
    Ok(format!("mounted on a private {MOUNT}"))
}

/// Reads the head of another process's program, as the daemon reads its callers' filters.
fn caller_memory(privileged: bool) -> Result<String, Refusal> {
    const NOBODY: u32 = 65534;
    const ELF: &[u8; 4] = b"\x7fELF";
    let need = Need::CallerMemory;
    let mut other = privileged;
    let mut peer = Command::new(SELF);
    peer.arg0("bpfdev").arg("probe-peer").stdin(Stdio::piped()).stdout(Stdio::null());
    if privileged {
        peer.uid(NOBODY).gid(NOBODY);
    }
    let mut child = peer.spawn();
    if child.is_err() && privileged {
        // The program may be one that only root can execute.
        other = false;
        child = peer.uid(0).gid(0).spawn();
    }
    let mut child = refused(need, "starting a child", child)?;
    // A process is there before its program is mapped.
    let late = Instant::now() + Duration::from_secs(2);
    let mut read = read_head(&child);
    while !matches!(&read, Ok(head) if head == ELF) && Instant::now() < late {
        std::thread::sleep(Duration::from_millis(2));
        read = read_head(&child);
    }
    drop(child.stdin.take());
    refused(need, "waiting for a child", child.wait())?;
    let head = refused(need, "process_vm_readv", read)?;
    if &head != ELF {
        return Err(Refusal::new(
            need,
            format_args!("process_vm_readv gave {head:x?}, not the program read"),
        ));
    }
    let by = if Host::look().has(CAP_SYS_PTRACE) { "with CAP_SYS_PTRACE" } else { "without CAP_SYS_PTRACE" };
    Ok(format!("read from {} user's process, {by}", if other { "another" } else { "the same" }))
}

fn read_head(child: &Child) -> io::Result<[u8; 4]> {
    let mut maps = String::new();
    File::open(format!("/proc/{}/maps", child.id()))?.read_to_string(&mut maps)?;
    let exe = fs::canonicalize(format!("/proc/{}/exe", child.id()))?;
    let exe = exe.to_string_lossy();
    // "55d0c8a00000-55d0c8b00000 r--p 00000000 fd:00 1234 /usr/bin/bpfdev", the first of the program's own.
    let line = maps.lines().find(|line| line.ends_with(&*exe)).or(maps.lines().next());
    let start =
        line.and_then(|line| line.split('-').next()).and_then(|at| usize::from_str_radix(at, 16).ok());
    let base = start.ok_or_else(|| io::Error::other("no mapping in /proc/PID/maps"))?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut head = [0; 4];
    let remote = [RemoteIoVec { base, len: head.len() }];
    let n = process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(&mut head)], &remote)?;
    if n == head.len() { Ok(head) } else { Err(io::Error::other(format!("{n} octets of {}", head.len()))) }
}
