//! A private /dev and, where wanted, a private network: what `wrap` and `demo` run their children in.
//!
//! Everything made here belongs to namespaces, and goes with the last process in them.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use bpfdev_backend_linux::netns::{self, Namespace};
use bpfdev_backend_linux::rtnl::Rtnl;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::refusal::{Host, Need, Refusal, refused};

/// Which interfaces the sandbox sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// Those of the host. Needs root: without it this means `Own`.
    Host,
    /// `lo` and a veth pair, in a network namespace of its own.
    Own,
}

/// The two ends of the veth pair of [`Network::Own`].
pub const VETH: [&str; 2] = ["veth0", "veth1"];

/// Where the device is served in the private /dev (`serve --mount`).
pub const MOUNT: &str = "/dev/bpfdev";

/// What [`Sandbox::enter`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// Which interfaces are seen.
    pub network: Network,
    /// We had no privilege, and are root in a user namespace.
    pub user_namespace: bool,
}

impl Sandbox {
    /// Moves this process into namespaces of its own with a private /dev: a tmpfs with the host's nodes bound
    /// in, /dev/fuse included, without any bpf. To be called once, before any thread is started; there is no
    /// way back, and after a refusal the process may be half way.
    ///
    /// # Errors
    /// The first thing the system refused, with its cure.
    pub fn enter(network: Network) -> Result<Sandbox, Refusal> {
        let user_namespace = !Host::look().privileged();
        let network = if user_namespace { Network::Own } else { network };
        if user_namespace {
            enter_user_namespace()?;
        }
        enter_mount_namespace()?;
        private_dev()?;
        if network == Network::Own {
            own_network()?;
        }
        Ok(Sandbox { network, user_namespace })
    }

    /// One line for the user: what can be seen in here, and why.
    pub fn describe(&self) -> String {
        let why = if self.user_namespace { "not root: user, mount and network" } else { "mount and network" };
        match self.network {
            Network::Host => "a private /dev; the interfaces are the host's".into(),
            Network::Own => format!(
                "{why} namespaces of its own, with lo and the veth pair {}, {}; the host's interfaces are not seen",
                VETH[0], VETH[1]
            ),
        }
    }
}

/// Becomes root in a user namespace, as the only user there.
///
/// # Errors
/// Where unprivileged user namespaces are forbidden (unshare, or the maps that follow it).
pub fn enter_user_namespace() -> Result<(), Refusal> {
    let (uid, gid) = (geteuid(), getegid());
    let need = Need::UserNamespace;
    // EINVAL would mean that this process has threads already.
    refused(need, "unshare(CLONE_NEWUSER)", unshare(CloneFlags::CLONE_NEWUSER))?;
    // A gid map may be written without privilege only when setgroups(2) is given up (user_namespaces(7)).
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        refused(need, path, fs::write(path, text))?;
    }
    Ok(())
}

/// Leaves the host's mounts: from here on nothing we mount is seen outside, nor the other way round.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; EACCES from an LSM.
pub fn enter_mount_namespace() -> Result<(), Refusal> {
    refused(Need::Mount, "unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    refused(Need::Mount, "making / private", mount(NONE, "/", NONE, private, NONE))
}

const NONE: Option<&str> = None;

/// Puts a tmpfs over /dev with the host's nodes in it. /dev itself is one devtmpfs for the whole machine: a
/// name made there would appear on the host, and without root none can be made (datapath: rule 14).
///
/// # Errors
/// What mount(2) refused.
pub fn private_dev() -> Result<(), Refusal> {
    let need = Need::Mount;
    // Built on a directory that exists, then moved: bound from /dev while that is still the host's.
    let stage = ["/tmp", "/run", "/mnt"].map(Path::new).into_iter().find(|dir| dir.is_dir());
    let stage = stage.ok_or_else(|| Refusal::new(need, "no /tmp, /run or /mnt to build a /dev in"))?;
    let tmpfs = mount(Some("bpfdev"), stage, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=4m"));
    refused(need, "a tmpfs for /dev", tmpfs)?;
    for entry in refused(need, "reading /dev", fs::read_dir("/dev"))? {
        let entry = refused(need, "reading /dev", entry)?;
        let name = entry.file_name();
        if ours(&name.to_string_lossy()) {
            continue;
        }
        let (host, private) = (entry.path(), stage.join(&name));
        if let Err(error) = entry.file_type().and_then(|kind| bring(&host, &private, kind, stage)) {
            // A node nobody asked for (it vanished, an LSM hides it) is no reason to stop.
            if matches!(name.to_str(), Some("null" | "zero" | "fuse" | "urandom")) {
                return Err(Refusal::new(need, format_args!("binding {}: {error}", host.display())));
            }
            tracing::debug!("{} is not in the private /dev: {error}", host.display());
        }
    }
    let mount_point = fs::DirBuilder::new().mode(0o755).create(stage.join("bpfdev"));
    refused(need, "a directory for the device", mount_point)?;
    refused(need, "moving the tmpfs to /dev", mount(Some(stage), "/dev", NONE, MsFlags::MS_MOVE, NONE))
}

/// The names a device of ours has on the host: not to be seen beside the private one.
fn ours(name: &str) -> bool {
    name == "bpfdev" || name.strip_prefix("bpf").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// The host's /dev as it is, below the private one; only ptmx needs it.
const HOST: &str = ".host";

fn bring(host: &Path, private: &Path, kind: fs::FileType, stage: &Path) -> std::io::Result<()> {
    let bind = |from: &Path, to: &Path| {
        // Without MS_REC a directory with mounts below it cannot be bound in a user namespace.
        mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(std::io::Error::from)
    };
    if kind.is_symlink() {
        return symlink(fs::read_link(host)?, private);
    }
    if kind.is_char_device() && host.ends_with("ptmx") {
        // The driver looks for "pts" beside the ptmx that is opened (devpts_mntget), and a file bound alone
        // has nothing beside it.
        let below = stage.join(HOST);
        fs::create_dir(&below)?;
        bind(Path::new("/dev"), &below)?;
        return symlink(PathBuf::from(HOST).join("ptmx"), private);
    }
    if kind.is_dir() {
        fs::create_dir(private)?;
    } else {
        File::create(private)?;
    }
    bind(host, private).inspect_err(|_| {
        // Leaves no empty file where a device is expected.
        let _ = if kind.is_dir() { fs::remove_dir(private) } else { fs::remove_file(private) };
    })
}

/// A network namespace of our own with `lo` and the pair [`VETH`], all up, IPv6 off on the pair.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN and CAP_NET_ADMIN; a kernel without veth.
pub fn own_network() -> Result<(), Refusal> {
    let need = Need::Veth;
    refused(need, "unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    let made = || -> Result<(), netns::Error> {
        Rtnl::open()?.set_up("lo")?;
        Namespace::of_this_thread()?.veth_pair(VETH[0], VETH[1])
    };
    made().map_err(|e| Refusal::new(need, e))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_our_own_names_are_left_out() {
        for (name, ours) in [
            ("bpf", true),
            ("bpf0", true),
            ("bpf15", true),
            ("bpfdev", true),
            ("bpffs", false),
            ("null", false),
        ] {
            assert_eq!(super::ours(name), ours, "{name}");
        }
    }
}
