//! What a system refuses, and how to mend it there.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// Something the product needs and did not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {why} -> {cure}")]
pub struct Refusal {
    /// What was tried: "FUSE mount".
    pub what: String,
    /// What the system answered.
    pub why: String,
    /// What to do about it, on this system.
    pub cure: String,
}

impl Refusal {
    /// A refusal of `need`, with the cure for the system we run on.
    pub fn new(need: Need, why: impl ToString) -> Refusal {
        let cure = need.cure(&Host::look());
        Refusal { what: need.what().into(), why: why.to_string(), cure }
    }
}

/// What the device and the demo need of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The file /dev/fuse, with its driver.
    FuseDevice,
    /// The right to open /dev/fuse.
    FuseAccess,
    /// unshare(CLONE_NEWUSER) and capabilities in it, without root.
    UserNamespace,
    /// A mount namespace and mounts in it.
    Mount,
    /// A mount of the type fuse.
    FuseMount,
    /// AF_PACKET sockets.
    PacketSocket,
    /// A network namespace with a veth pair.
    Veth,
    /// bpf(2).
    Bpf,
    /// process_vm_readv(2) on the callers of the device.
    CallerMemory,
}

/// What the container must be started with; `--cap-add` takes one name a flag in Docker.
pub const CONTAINER_FLAGS: &str = "--device /dev/fuse --cap-add SYS_ADMIN --cap-add SYS_PTRACE \
     --cap-add NET_ADMIN --cap-add NET_RAW --security-opt apparmor=unconfined";

impl Need {
    /// Its name in the output.
    pub fn what(self) -> &'static str {
        match self {
            Need::FuseDevice | Need::FuseAccess => "/dev/fuse",
            Need::UserNamespace => "user namespace",
            Need::Mount => "mount",
            Need::FuseMount => "FUSE mount",
            Need::PacketSocket => "packet socket",
            Need::Veth => "veth",
            Need::Bpf => "bpf(2)",
            Need::CallerMemory => "caller's memory",
        }
    }

    /// What mends it on `host`.
    pub fn cure(self, host: &Host) -> String {
        if self == Need::FuseDevice && host.kind == Kind::Wsl1 {
            return "WSL 1 has no Linux kernel: `wsl --set-version DISTRIBUTION 2` in Windows".into();
        }
        if self == Need::UserNamespace {
            for (name, refusing, cure) in USER_NAMESPACE_SYSCTLS {
                if sysctl(name).as_deref() == Some(*refusing) {
                    return format!("{cure}, or run as root (sudo)");
                }
            }
        }
        // A file's mode is the same inside and outside.
        if host.kind == Kind::Container && !matches!(self, Need::Bpf | Need::FuseAccess) {
            return format!("start the container with {CONTAINER_FLAGS}");
        }
        match self {
            Need::FuseDevice => "sudo modprobe fuse (a kernel with CONFIG_FUSE_FS)",
            Need::FuseAccess => "sudo chmod 0666 /dev/fuse, as most systems have it, or run as root (sudo)",
            Need::Bpf if host.root => "CAP_BPF or CAP_SYS_ADMIN; without it filters stay classic BPF",
            Need::Bpf => "run as root (sudo); without it filters stay classic BPF",
            Need::UserNamespace => "run as root (sudo)",
            Need::Mount | Need::FuseMount if host.root => "run with CAP_SYS_ADMIN, outside any sandbox",
            Need::PacketSocket if host.root => "run with CAP_NET_RAW",
            Need::Veth if host.root => {
                "run with CAP_NET_ADMIN and CAP_SYS_ADMIN, and a kernel with CONFIG_VETH"
            }
            Need::CallerMemory if host.root => {
                "run with CAP_SYS_PTRACE, and with kernel.yama.ptrace_scope below 3 (that one takes a reboot)"
            }
            Need::Mount | Need::FuseMount | Need::PacketSocket | Need::Veth | Need::CallerMemory => {
                "run as root (sudo), or mend the user namespace first"
            }
        }
        .into()
    }
}

/// The sysctls that refuse user namespaces: name, the value that refuses, the cure.
const USER_NAMESPACE_SYSCTLS: &[(&str, &str, &str)] = &[
    // Ubuntu 23.10 and later, GitHub's ubuntu-24.04 runners. unshare(2) succeeds there, with no capability.
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04, GitHub's runners)",
    ),
    // Debian's and Arch's own switch.
    ("kernel.unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    ("user.max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=15000"),
];

/// The value of a sysctl, if this kernel has it.
pub fn sysctl(name: &str) -> Option<String> {
    let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(value.trim().to_owned())
}

/// What surrounds us, as far as cures differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Container, WSL or neither.
    pub kind: Kind,
    /// Effective uid 0.
    pub root: bool,
    /// Effective capabilities, a bit each (capabilities(7)).
    pub capabilities: u64,
    /// "Debian GNU/Linux 12 (bookworm), Linux 6.18.44".
    pub system: String,
}

/// Where a kernel may be wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A machine of its own, virtual or not.
    Machine,
    /// Docker, podman, or another container.
    Container,
    /// WSL 1: system calls translated, no FUSE.
    Wsl1,
    /// WSL 2: a Linux kernel.
    Wsl2,
}

/// CAP_SYS_PTRACE of capabilities(7).
pub const CAP_SYS_PTRACE: u32 = 19;
/// CAP_SYS_ADMIN of capabilities(7).
pub const CAP_SYS_ADMIN: u32 = 21;

impl Host {
    /// Looks at the system we run on. What cannot be read counts as absent.
    pub fn look() -> Host {
        let line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().find_map(|l| l.strip_prefix(key)).map(|v| v.trim().trim_matches('"').to_owned())
        };
        let release = sysctl("kernel.osrelease").unwrap_or_default();
        let name = line("/etc/os-release", "PRETTY_NAME=").unwrap_or_else(|| "unknown system".into());
        let bits = line("/proc/thread-self/status", "CapEff:").unwrap_or_default();
        Host {
            kind: kind(&release),
            root: nix::unistd::geteuid().is_root(),
            capabilities: u64::from_str_radix(&bits, 16).unwrap_or(0),
            system: format!("{name}, Linux {release}"),
        }
    }

    /// Whether the capability with this number is effective.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Root that may make mounts and namespaces: needs no user namespace.
    pub fn privileged(&self) -> bool {
        self.root && self.has(CAP_SYS_ADMIN)
    }
}

fn kind(release: &str) -> Kind {
    let exists = |path| fs::exists(path).unwrap_or(false);
    // systemd's own convention, which podman, LXC and others follow; Docker has only its file.
    let told = fs::read("/proc/1/environ").is_ok_and(|env| {
        env.split(|b| *b == 0).any(|v| v.starts_with(b"container=") && v.len() > b"container=".len())
    });
    if told || exists("/.dockerenv") || exists("/run/.containerenv") || exists("/run/systemd/container") {
        return Kind::Container;
    }
    // "4.4.0-19041-Microsoft" is WSL 1, "5.15.90.1-microsoft-standard-WSL2" is WSL 2.
    if release.ends_with("-Microsoft") {
        Kind::Wsl1
    } else if release.contains("microsoft") {
        Kind::Wsl2
    } else {
        Kind::Machine
    }
}

/// Turns an I/O result into a refusal of `need`, with `doing` said before the system's answer.
pub(crate) fn refused<T>(
    need: Need,
    doing: &str,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, Refusal> {
    result.map_err(|e| Refusal::new(need, format_args!("{doing}: {}", e.into())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_cure_on_every_host() {
        let needs = [
            Need::FuseDevice,
            Need::FuseAccess,
            Need::UserNamespace,
            Need::Mount,
            Need::FuseMount,
            Need::PacketSocket,
            Need::Veth,
            Need::Bpf,
            Need::CallerMemory,
        ];
        for kind in [Kind::Machine, Kind::Container, Kind::Wsl1, Kind::Wsl2] {
            for root in [true, false] {
                let host = Host { kind, root, capabilities: 0, system: String::new() };
                for need in needs {
                    let cure = need.cure(&host);
                    assert!(!cure.is_empty() && !cure.contains('\n'), "{need:?} on {host:?}: {cure}");
                }
            }
        }
    }

    #[test]
    fn wsl_is_told_by_its_kernel_release() {
        if kind("6.1.0") == Kind::Container {
            return; // A container is told first, whatever its kernel.
        }
        assert_eq!(kind("4.4.0-19041-Microsoft"), Kind::Wsl1);
        assert_eq!(kind("5.15.90.1-microsoft-standard-WSL2"), Kind::Wsl2);
        assert_eq!(kind("6.18.44-fc-v509"), Kind::Machine);
    }

    #[test]
    fn a_refusal_reads_as_one_line() {
        let refusal = Refusal { what: "mount".into(), why: "tmpfs: EPERM".into(), cure: "be root".into() };
        assert_eq!(refusal.to_string(), "mount: tmpfs: EPERM -> be root");
    }
}
