//! Two hosts on a veth pair, each in a network namespace of its own, and the device in a private /dev of one.
//!
//! Offloads are as a veth has them: checksums are left open, and a TCP segment has up to 64 KiB.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bpfdev::cli::daemon::Daemon;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_backend_linux::rtnl::Rtnl;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::cache::Built;
use super::process::Running;
use super::traffic::VLAN;
use crate::place::Front;

/// How long the device may take to be there, and to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the two hosts.
#[derive(Debug)]
pub struct Host {
    /// Its network.
    pub namespace: Namespace,
    /// Its end of the pair.
    pub interface: &'static str,
    /// The interface of [`VLAN`] on it, where the kernel has such interfaces.
    pub vlan: Option<&'static str>,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its address, with a prefix of 24.
    pub ipv4: Ipv4Addr,
    /// Its address, with a prefix of 64.
    pub ipv6: Ipv6Addr,
    /// Its address on that, with a prefix of 24.
    pub vlan_ipv4: Ipv4Addr,
    scratch: PathBuf,
    holder: Holder,
    front: Front,
}

/// The two hosts, and what was built.
#[derive(Debug)]
pub struct Stage {
    /// Where the client runs.
    pub here: Host,
    /// The other one.
    pub there: Host,
    built: Built,
    scratch: PathBuf,
}

impl Stage {
    /// Makes both hosts; devices are served by `front`.
    ///
    /// # Errors
    /// Without root, or where the kernel has no veth or VLAN interfaces.
    pub fn new(built: Built, front: Front) -> anyhow::Result<Stage> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let scratch = std::env::temp_dir().join(format!("bpfdev-clients-{}-{since}", std::process::id()));
        // others may look: some clients drop their privileges
        fs::DirBuilder::new().mode(0o755).create(&scratch).with_context(|| scratch.display().to_string())?;
        let hosts = pair(&scratch, front).context("making two hosts (this needs root)");
        let [here, there] = hosts.inspect_err(|_| sweep(&scratch))?;
        Ok(Stage { here, there, built, scratch })
    }

    /// Where the build of this name installed.
    ///
    /// # Errors
    /// It is not among the client's builds.
    pub fn built(&self, name: &str) -> anyhow::Result<&Path> {
        self.built.dir(name)
    }

    /// A directory for the client's files, removed at the end.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        sweep(&self.scratch);
    }
}

fn sweep(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("bpfdev-compat: removing {}: {error}", dir.display());
    }
}

fn pair(scratch: &Path, front: Front) -> anyhow::Result<[Host; 2]> {
    let host = |number: u8, interface| -> anyhow::Result<Host> {
        let namespace = Namespace::new()?;
        let holder = Holder::start(&namespace, Command::new("sh").args(["-c", HOLD]))?;
        Ok(Host {
            namespace,
            interface,
            vlan: None,
            mac: [2, 0, 0, 0, 0, number],
            // RFC 5737 and RFC 3849: nobody's
            ipv4: Ipv4Addr::new(192, 0, 2, number),
            ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()),
            vlan_ipv4: Ipv4Addr::new(198, 51, 100, number),
            scratch: scratch.to_owned(),
            holder,
            front,
        })
    };
    let [mut here, mut there] = [host(1, "c0")?, host(2, "c1")?];
    let mut rtnl = here.namespace.rtnl()?;
    rtnl.create_veth(here.interface, there.interface)?;
    let far = there.namespace.enter(|| fs::File::open("/proc/thread-self/ns/net"))??;
    rtnl.move_to_netns(there.interface, far.as_fd())?;
    for (host, vlan) in [(&mut here, "c0.7"), (&mut there, "c1.7")] {
        let mut rtnl = host.namespace.rtnl()?;
        host.vlan = match rtnl.add_vlan(host.interface, VLAN, vlan) {
            Ok(()) => Some(vlan),
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => None,
            Err(error) => return Err(error.into()),
        };
        host.set_up(&mut rtnl)?;
    }
    Ok([here, there])
}

impl Host {
    fn set_up(&self, rtnl: &mut Rtnl) -> anyhow::Result<()> {
        rtnl.set_mac(self.interface, self.mac)?;
        // a VLAN's interface comes up with the one it is on
        for interface in std::iter::once(self.interface).chain(self.vlan) {
            rtnl.set_no_link_local(interface)?;
        }
        rtnl.set_up(self.interface)?;
        rtnl.add_address(self.interface, self.ipv4.into(), 24)?;
        rtnl.add_address(self.interface, self.ipv6.into(), 64)?;
        if let Some(vlan) = self.vlan {
            rtnl.set_up(vlan)?;
            rtnl.add_address(vlan, self.vlan_ipv4.into(), 24)?;
        }
        self.namespace.enter(|| self.trust_neighbours())??;
        Ok(())
    }

    /// The kernel asks by itself (ARP, neighbour solicitations) whether a neighbour is still there, at times that no check
    /// can know: never within an hour.
    fn trust_neighbours(&self) -> anyhow::Result<()> {
        for interface in std::iter::once(self.interface).chain(self.vlan) {
            for family in ["ipv4", "ipv6"] {
                for (name, value) in
                    [("base_reachable_time_ms", "3600000"), ("delay_first_probe_time", "3600")]
                {
                    let path = format!("/proc/sys/net/{family}/neigh/{interface}/{name}");
                    fs::write(&path, value).context(path)?;
                }
            }
        }
        Ok(())
    }

    /// A program in this host's network, with the machine's own /dev, in the scratch directory. nsenter(1) and env(1) exec
    /// it: the child is the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.holder.command(&["--net"], &self.scratch, program)
    }

    /// Serves a device of this dialect, with these further options of `bpfdev wrap`, in a private /dev; through CUSE as the
    /// machine's own, so one at a time. To be called by the main thread.
    ///
    /// # Errors
    /// It cannot be served; with what the daemon said.
    pub fn device(&self, abi: &str, options: &[&str]) -> anyhow::Result<Device> {
        let serving = match self.front {
            Front::Fuse => Serving::Wrapped(self.wrapped(abi, options)?),
            Front::Cuse => {
                let arguments = ["--front", "cuse", "--no-control", "--abi", abi];
                let arguments = arguments.iter().chain(options).map(OsString::from);
                let daemon = Daemon::start(arguments).with_context(|| format!("a device {abi}"))?;
                Serving::Beside { host: self.holder.pid(), _daemon: daemon }
            }
        };
        Ok(Device { serving, scratch: self.scratch.clone() })
    }

    fn wrapped(&self, abi: &str, options: &[&str]) -> anyhow::Result<Holder> {
        let mut wrap = Command::new(std::env::current_exe()?);
        wrap.args(["wrap", "--abi", abi]).args(options).args(["--", "sh", "-c", HOLD]);
        Holder::start(&self.namespace, &mut wrap).with_context(|| format!("a device {abi}"))
    }
}

/// The device of one host. Dropping it ends the daemon.
#[derive(Debug)]
pub struct Device {
    serving: Serving,
    scratch: PathBuf,
}

#[derive(Debug)]
enum Serving {
    /// In a private /dev, with the host's network.
    Wrapped(Holder),
    /// In the machine's /dev, for programs in the network of the host that this process holds.
    Beside { host: Pid, _daemon: Daemon },
}

impl Device {
    /// A program with this device in its /dev, in the host's network and the scratch directory. nsenter(1) and env(1) exec
    /// it: the child is the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.serving {
            Serving::Wrapped(holder) => holder.command(&["--net", "--mount"], &self.scratch, program),
            Serving::Beside { host, .. } => in_namespaces(*host, &["--net"], &self.scratch, program),
        }
    }
}

/// Says that it is there, and stays until its input ends.
const HOLD: &str = "echo held && exec cat";

/// A process by which namespaces are entered. It ends with us: then its input does.
#[derive(Debug)]
struct Holder(Option<Running>);

impl Holder {
    fn start(namespace: &Namespace, command: &mut Command) -> anyhow::Result<Holder> {
        let running = namespace.enter(|| Running::hold(command))??;
        running.wait_for_line(|line| line == "held", PATIENCE)?;
        Ok(Holder(Some(running)))
    }

    fn pid(&self) -> Pid {
        self.0.as_ref().map_or(Pid::from_raw(0), Running::pid)
    }

    fn command(&self, of: &[&str], dir: &Path, program: impl AsRef<OsStr>) -> Command {
        in_namespaces(self.pid(), of, dir, program)
    }
}

/// A program in these namespaces of a process, and in the directory.
fn in_namespaces(pid: Pid, of: &[&str], dir: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(pid.to_string()).args(of);
    command.args(["--", "env", "-C"]).arg(dir).arg(program);
    command
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(mut running) = self.0.take() else { return };
        running.close_input();
        if let Err(error) = running.finish(PATIENCE) {
            eprintln!("bpfdev-compat: {error:#}");
        }
    }
}
