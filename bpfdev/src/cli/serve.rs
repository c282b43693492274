//! `bpfdev serve`: the device, until a signal ends it.

use std::io::Write;
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::{Checksum, MonotonicClock, PacketSockets};
use bpfdev_core::abi::Abi;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Group;
use sd_notify::NotifyState;

use super::UsageError;
use crate::chardev::helper::Limits;
use crate::chardev::nodes;
use crate::chardev::quota;
use crate::chardev::session::End;
use crate::service::control::{Bound, path_for};
use crate::service::privilege::{GiveUp, drop_all_but_needed};
use crate::service::report::About;
use crate::service::seccomp::{Guard, Mode};
use crate::serving::{
    DEFAULT_FILES, DEFAULT_HELPERS, DEFAULT_LINK, DEFAULT_MEMORY, DEFAULT_MOUNT, DEFAULT_WAITING, FrontEnd,
    Prepared, ServeOptions, Served,
};

/// Serve the device until SIGTERM or SIGINT
///
/// The nodes of the device of --abi (bpf, bpf0, …: those that system has) are in /dev. Through CUSE they are character
/// devices. Through FUSE they are files of a mounted directory, and symlinks to them are made in /dev; a name there that is
/// not ours is never replaced. The directories freebsd, netbsd, openbsd, dragonfly and macos of /dev/bpfdev have the nodes
/// of these systems, each speaking its own dialect: through CUSE those that --also names, through FUSE all. Interfaces are
/// those of the network namespace of the thread that issues BIOCSETIF.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// How the kernel is spoken to
    #[arg(long, value_name = "FRONT", value_enum, default_value = "fuse")]
    front: FrontEnd,
    /// Directory of the device: to mount on, made if it is missing (FUSE), or below /dev (CUSE)
    #[arg(long, value_name = "DIR", default_value = DEFAULT_MOUNT)]
    mount: PathBuf,
    /// Directory for bpf, bpf0, …: symlinks to the nodes (FUSE), or the nodes themselves (CUSE, below /dev)
    #[arg(long, value_name = "DIR", default_value = DEFAULT_LINK, conflicts_with = "no_link")]
    link: PathBuf,
    /// Leave the nodes in the directory of --mount
    #[arg(long)]
    no_link: bool,
    /// Systems with nodes of their own dialect in a directory of their name, separated by commas; FUSE has them all
    #[arg(long, value_name = "SYSTEM", value_delimiter = ',', value_parser = directory)]
    also: Vec<&'static Abi>,
    /// The dialect of the top-level nodes: linux (FreeBSD's layout and requests), freebsd, netbsd, netbsd7, openbsd, dragonfly or macos
    #[arg(long, value_name = "DIALECT", default_value = "linux", value_parser = dialect)]
    abi: &'static Abi,
    /// Permissions of the nodes, octal [default: 0600, with --group 0660]
    #[arg(long, value_parser = octal)]
    mode: Option<u16>,
    /// Group of the nodes, by name or number
    #[arg(long)]
    group: Option<String>,
    /// Where filters run: in the kernel, counted (ebpf) or as classic BPF (cbpf), in the daemon (process), or the first of these that can (auto)
    #[arg(long, value_name = "PLAN", default_value = "auto")]
    plan: PlanChoice,
    /// Whether checksums the kernel left to the hardware are filled in (complete) or not (raw)
    #[arg(long, value_name = "HOW", default_value = "complete")]
    checksum: Checksum,
    /// Files open at once; more are EMFILE
    #[arg(long, value_name = "FILES", default_value_t = DEFAULT_FILES.all, value_parser = at_least_one)]
    max_open: usize,
    /// Of these, the most that one user other than root has; more are EMFILE
    #[arg(long, value_name = "FILES", default_value_t = DEFAULT_FILES.per_uid, value_parser = at_least_one)]
    max_open_per_user: usize,
    /// Mebibytes of buffers and rings; who wants more gets ENOBUFS
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY.all >> 20, value_parser = mebibytes)]
    max_memory: usize,
    /// Of these, the most that one user's files other than root's have; who wants more gets ENOBUFS
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY.per_uid >> 20, value_parser = mebibytes)]
    max_memory_per_user: usize,
    /// Requests that wait in files, sleeping reads among them; more are EBUSY
    #[arg(long, value_name = "REQUESTS", default_value_t = DEFAULT_WAITING.all, value_parser = at_least_one)]
    max_waiting: usize,
    /// Of these, the most that wait in one user's files other than root's; more are EBUSY
    #[arg(long, value_name = "REQUESTS", default_value_t = DEFAULT_WAITING.per_uid, value_parser = at_least_one)]
    max_waiting_per_user: usize,
    /// Threads that read callers' memory, and as many that attach interfaces
    #[arg(long, value_name = "THREADS", default_value_t = DEFAULT_HELPERS.threads, value_parser = at_least_one)]
    helpers: usize,
    /// Of these, the most that work for one user; his other requests wait
    #[arg(long, value_name = "THREADS", default_value_t = DEFAULT_HELPERS.per_uid, value_parser = at_least_one)]
    helpers_per_user: usize,
    /// Requests of one user that wait for such a thread; more are EBUSY
    #[arg(long, value_name = "REQUESTS", default_value_t = DEFAULT_HELPERS.queued_per_uid, value_parser = at_least_one)]
    max_queued_per_user: usize,
    /// Socket that tells bpfdev stat how the daemon stands, for root and --group [default: one for the mount, in /run/bpfdev]
    #[arg(long, value_name = "PATH", conflicts_with = "no_control")]
    control: Option<PathBuf>,
    /// Make no control socket
    #[arg(long)]
    no_control: bool,
    /// Give up a capability that the device can do without, and what stops working then; may be repeated
    #[arg(long, value_name = "CAPABILITY", conflicts_with = "keep_privileges")]
    give_up: Vec<GiveUp>,
    /// Give up none of the capabilities the program was started with
    #[arg(long)]
    keep_privileges: bool,
    /// What becomes of a system call that threads which take in clients' data have no need for
    #[arg(long, value_name = "WHAT", default_value = "deny")]
    seccomp: Mode,
    /// Write a byte to this inherited descriptor, and close it, once the device can be opened
    #[arg(long, value_name = "FD")]
    ready_fd: Option<RawFd>,
}

fn dialect(name: &str) -> Result<&'static Abi, String> {
    Abi::by_name(name).ok_or_else(|| {
        let names: Vec<_> = bpfdev_core::abi::ALL.iter().map(|abi| abi.name).collect();
        format!("no such dialect; there are {}", names.join(", "))
    })
}

fn directory(name: &str) -> Result<&'static Abi, String> {
    nodes::DIRECTORIES.into_iter().find(|abi| abi.name == name).ok_or_else(|| {
        let names = nodes::DIRECTORIES.map(|abi| abi.name);
        format!("no such system; there are {}", names.join(", "))
    })
}

fn octal(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("permissions are octal, at most 777".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("a number is wanted".into()),
    }
}

/// At least 1, and no more bytes than there are addresses.
fn mebibytes(text: &str) -> Result<usize, String> {
    let most = usize::MAX >> 20;
    at_least_one(text)
        .and_then(|number| if number <= most { Ok(number) } else { Err(format!("at most {most}")) })
}

/// Runs the subcommand.
///
/// # Errors
/// What was refused when mounting, or made it impossible to go on serving; a group that does not exist.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    // Blocked before the first thread starts, so that they reach only the descriptor below.
    let mut mask = SigSet::empty();
    mask.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    mask.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("cannot take signals")?;
    let ready = match args.ready_fd {
        Some(number) => Some(std::fs::File::from(
            crate::sys::inherited(number).map_err(|e| UsageError(format!("--ready-fd {number}: {e}")))?,
        )),
        None => None,
    };
    crate::sys::give_back_large_memory();
    if let Err(error) = crate::sys::raise_open_files() {
        tracing::warn!(%error, "the number of open files cannot be raised: fewer can capture at once");
    }
    let (front, socket) = (args.front, args.control.clone());
    let (wants_control, keep_privileges) = (!args.no_control, args.keep_privileges);
    let give_up = args.give_up.clone();
    let (options, since) = (options(args)?, Instant::now());
    let (dialect, gid) = (options.abi.name, options.gid);
    let mut prepared = Prepared::new(front, options)?;
    let mount = prepared.dir().to_owned();
    let bound = if wants_control { bind(socket, gid, &mount)? } else { None };
    if !keep_privileges {
        prepared.narrow()?;
        drop_all_but_needed(&give_up)?;
        if give_up.contains(&GiveUp::SysAdmin) {
            prepared.stays();
        }
    }
    // From here on there are threads with clients' data.
    let daemon = prepared.serve()?;
    let about = About { mount, dialect, since };
    let _control = bound.map(|bound| bound.serve(about, daemon.inquiry())).transpose()?;
    if let Some(mut ready) = ready {
        ready.write_all(b"\n").context("cannot say that the device is ready")?;
    }
    tell_manager(&[NotifyState::Ready]);
    wait(&signals, &daemon)?;
    tell_manager(&[NotifyState::Stopping]);
    Ok(match daemon.stop()? {
        End::Stopped => ExitCode::SUCCESS,
        End::Unmounted => {
            eprintln!("bpfdev: somebody has taken the device away (umount, or the connection's abort)");
            ExitCode::FAILURE
        }
    })
}

/// The control socket. Without one the device is served all the same, unless it was asked for.
fn bind(asked_for: Option<PathBuf>, gid: Option<u32>, mount: &Path) -> anyhow::Result<Option<Bound>> {
    let path = asked_for.clone().unwrap_or_else(|| path_for(mount));
    match Bound::new(&path, gid) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if asked_for.is_some() => Err(error.into()),
        Err(error) => {
            tracing::warn!("{error}; bpfdev stat has nobody to ask");
            Ok(None)
        }
    }
}

fn options(args: ServeArgs) -> anyhow::Result<ServeOptions> {
    let network =
        Arc::new(PacketSockets { plan: args.plan, checksum: args.checksum, ..PacketSockets::default() });
    let gid = args.group.as_deref().map(group).transpose()?;
    let mode = args.mode.unwrap_or(if gid.is_some() { 0o660 } else { 0o600 });
    Ok(ServeOptions {
        mount: args.mount,
        link: (!args.no_link).then_some(args.link),
        mode,
        gid,
        also: args.also,
        files: quota::Limits { all: args.max_open, per_uid: args.max_open_per_user },
        memory: quota::Limits { all: args.max_memory << 20, per_uid: args.max_memory_per_user << 20 },
        waiting: quota::Limits { all: args.max_waiting, per_uid: args.max_waiting_per_user },
        helpers: Limits {
            threads: args.helpers,
            per_uid: args.helpers_per_user,
            queued_per_uid: args.max_queued_per_user,
        },
        guard: Guard::new(args.seccomp)
            .context("--seccomp off serves without a filter; this one cannot be made")?,
        ..ServeOptions::new(args.abi, network, Arc::new(MonotonicClock))
    })
}

/// The group's number.
fn group(name: &str) -> anyhow::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid.as_raw()),
        None => {
            Err(UsageError(format!("there is no group {name:?}: make it with groupadd, or give a number"))
                .into())
        }
    }
}

/// Tells systemd, if it has started us.
fn tell_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Until a signal comes, or the device is served no longer.
fn wait(signals: &SignalFd, daemon: &Served) -> anyhow::Result<()> {
    let mut fds =
        [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(daemon.ended(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for a signal"),
        }
    }
}
