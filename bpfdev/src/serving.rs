//! What a device is served with, whichever front end serves it, and how that fails.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpfdev_core::abi::Abi;
use bpfdev_core::backend::Network;
use bpfdev_core::time::Clock;

use crate::chardev::helper::Limits;
use crate::chardev::quota::{self, Quota, Quotas};
use crate::chardev::session::{Config, End};
use crate::chardev::status::Inquiry;
use crate::service::privilege::PrivilegeError;
use crate::service::seccomp::{Guard, Role};
use crate::{cuse, fuse};

/// Where the device is mounted unless told otherwise.
pub const DEFAULT_MOUNT: &str = "/dev/bpfdev";
/// Where the symlinks are made unless told otherwise.
pub const DEFAULT_LINK: &str = "/dev";
/// Files open at once unless told otherwise; more are EMFILE.
pub const DEFAULT_FILES: quota::Limits = quota::Limits { all: 1024, per_uid: 256 };
/// Bytes of buffers and rings unless told otherwise; more are ENOBUFS.
pub const DEFAULT_MEMORY: quota::Limits = quota::Limits { all: 1 << 30, per_uid: 256 << 20 };
/// Requests that wait in files unless told otherwise; more are EBUSY.
pub const DEFAULT_WAITING: quota::Limits = quota::Limits { all: 8192, per_uid: 2048 };
/// Helper threads, and what waits for them, unless told otherwise.
pub const DEFAULT_HELPERS: Limits = Limits { threads: 16, per_uid: 4, queued_per_uid: 64 };

/// What is served, and where.
#[derive(Clone)]
pub struct ServeOptions {
    /// The directory of the device: to mount on, made if it is missing; or below /dev, where the kernel makes it.
    pub mount: PathBuf,
    /// The directory for `bpf`, `bpf0`, …: symlinks to the nodes, or the nodes themselves; `None` leaves them in `mount`.
    pub link: Option<PathBuf>,
    /// The dialect of these.
    pub abi: &'static Abi,
    /// Dialects with nodes of their own in a directory of their name in `mount`; a mounted one has them all.
    pub also: Vec<&'static Abi>,
    /// Permissions of the nodes.
    pub mode: u16,
    /// Group of the nodes; `None` is the daemon's own.
    pub gid: Option<u32>,
    /// Files open at once.
    pub files: quota::Limits,
    /// Bytes of buffers and rings.
    pub memory: quota::Limits,
    /// Requests that wait in files.
    pub waiting: quota::Limits,
    /// Helper threads that read callers' memory, and as many that attach taps.
    pub helpers: Limits,
    /// What system calls the threads that take in clients' data may make; all, unless told otherwise.
    pub guard: Guard,
    /// Where taps come from, as seen from the thread that attaches.
    pub network: Arc<dyn Network>,
    /// The clock whose moments the network's packets carry.
    pub clock: Arc<dyn Clock>,
}

impl ServeOptions {
    /// The defaults: `/dev/bpfdev`, linked from `/dev`, for root only.
    pub fn new(abi: &'static Abi, network: Arc<dyn Network>, clock: Arc<dyn Clock>) -> ServeOptions {
        ServeOptions {
            mount: DEFAULT_MOUNT.into(),
            link: Some(DEFAULT_LINK.into()),
            abi,
            also: Vec::new(),
            mode: 0o600,
            gid: None,
            files: DEFAULT_FILES,
            memory: DEFAULT_MEMORY,
            waiting: DEFAULT_WAITING,
            helpers: DEFAULT_HELPERS,
            guard: Guard::default(),
            network,
            clock,
        }
    }
}

impl ServeOptions {
    /// What a session is made of, where the kernel asks for so many bytes at once at most, and helpers have this role.
    pub(crate) fn session(&self, max_piece: usize, helper: Role) -> Config {
        Config {
            network: self.network.clone(),
            clock: self.clock.clone(),
            helpers: self.helpers,
            max_piece,
            page: page_size(),
            quotas: Quotas {
                files: Quota::new(quota::FILES, self.files),
                memory: Quota::new(quota::MEMORY, self.memory),
                waiting: Quota::new(quota::WAITING, self.waiting),
            },
            guard: self.guard.clone(),
            helper,
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("mount", &self.mount)
            .field("link", &self.link)
            .field("abi", &self.abi.name)
            .field("also", &self.also.iter().map(|abi| abi.name).collect::<Vec<_>>())
            .field("mode", &format_args!("{:o}", self.mode))
            .field("gid", &self.gid)
            .field("files", &self.files)
            .field("memory", &self.memory)
            .field("waiting", &self.waiting)
            .field("helpers", &self.helpers)
            .finish_non_exhaustive()
    }
}

/// What would help against a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Nothing is known.
    None,
    /// /dev/fuse cannot be opened.
    DevFuse,
    /// mount(2) is refused.
    Mount,
    /// Names in /dev cannot be made.
    Links,
    /// Another daemon serves there.
    OtherDaemon,
    /// /dev/cuse cannot be opened.
    DevCuse,
    /// A node cannot be where the kernel makes none.
    NotInDev,
    /// A node's name is taken.
    Taken,
}

impl Cure {
    fn text(self) -> &'static str {
        match self {
            Cure::None => "",
            Cure::DevFuse => {
                "; load the kernel's module (modprobe fuse); a container needs --device /dev/fuse"
            }
            Cure::Mount => "; it needs CAP_SYS_ADMIN: run as root, or in a user namespace (bpfdev wrap)",
            Cure::Links => "; --link DIR chooses another directory, --no-link makes no symlinks",
            Cure::DevCuse => {
                "; load the kernel's module (modprobe cuse), or serve with --front fuse, which needs nothing"
            }
            Cure::NotInDev => "; nodes of CUSE are in /dev: choose --link and --mount there, or --front fuse",
            Cure::Taken => {
                "; another bpfdev serves it, or a file has its name: stop that one, or choose other names (--no-link --mount DIR)"
            }
            Cure::OtherDaemon => "; another bpfdev serves there: stop it, or choose another --mount DIR",
        }
    }
}

/// The device could not be served: what failed, on what, and what may help.
#[derive(Debug)]
pub struct ServeError {
    what: &'static str,
    on: PathBuf,
    source: io::Error,
    cure: Cure,
}

impl ServeError {
    pub(crate) fn new(what: &'static str, on: impl Into<PathBuf>, source: io::Error) -> ServeError {
        ServeError { what, on: on.into(), source, cure: Cure::None }
    }

    pub(crate) fn cure(self, cure: Cure) -> ServeError {
        ServeError { cure, ..self }
    }

    /// The system's kind of error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}{}", self.what, self.on.display(), self.source, self.cure.text())
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// How the kernel is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FrontEnd {
    /// A mounted directory of files; every Linux has it
    Fuse,
    /// True character devices; where the kernel has the module cuse, and the nodes are below /dev
    Cuse,
    /// CUSE where it can be had, FUSE elsewhere
    Auto,
}

/// A device that nobody serves yet. It is the time to give up privileges.
#[derive(Debug)]
pub enum Prepared {
    /// Mounted already.
    Fuse(fuse::Mounted),
    /// The nodes are made already.
    Cuse(cuse::Made),
}

impl Prepared {
    /// Does what needs privileges.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn new(front: FrontEnd, options: ServeOptions) -> Result<Prepared, ServeError> {
        match front {
            FrontEnd::Auto if !cuse::can_serve(&options) => Prepared::new(FrontEnd::Fuse, options),
            FrontEnd::Fuse => fuse::Mounted::new(options).map(Prepared::Fuse),
            FrontEnd::Cuse | FrontEnd::Auto => cuse::Made::new(options).map(Prepared::Cuse),
        }
    }

    /// The directory of the device.
    pub fn dir(&self) -> &Path {
        match self {
            Prepared::Fuse(mounted) => mounted.dir(),
            Prepared::Cuse(made) => made.dir(),
        }
    }

    /// The mount, if there is one, stays when the daemon ends: it could not unmount.
    pub fn stays(&mut self) {
        if let Prepared::Fuse(mounted) = self {
            mounted.stays();
        }
    }

    /// A thread that is there already gives up the privileges it does not need.
    ///
    /// # Errors
    /// The system refused.
    pub fn narrow(&self) -> Result<(), PrivilegeError> {
        match self {
            Prepared::Fuse(_) => Ok(()),
            Prepared::Cuse(made) => made.narrow(),
        }
    }

    /// Serves. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn serve(self) -> Result<Served, ServeError> {
        match self {
            Prepared::Fuse(mounted) => mounted.serve().map(Served::Fuse),
            Prepared::Cuse(made) => made.serve().map(Served::Cuse),
        }
    }
}

/// A served device. Dropping it stops it.
#[derive(Debug)]
pub enum Served {
    /// By [`fuse`].
    Fuse(fuse::Daemon),
    /// By [`cuse`].
    Cuse(cuse::Daemon),
}

impl Served {
    /// Serves. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn start(front: FrontEnd, options: ServeOptions) -> Result<Served, ServeError> {
        Prepared::new(front, options)?.serve()
    }

    /// Who asks how its files and limits stand.
    pub fn inquiry(&self) -> Inquiry {
        match self {
            Served::Fuse(daemon) => daemon.inquiry(),
            Served::Cuse(daemon) => daemon.inquiry(),
        }
    }

    /// Becomes readable when the device is served no longer.
    pub fn ended(&self) -> BorrowedFd<'_> {
        match self {
            Served::Fuse(daemon) => daemon.ended(),
            Served::Cuse(daemon) => daemon.ended(),
        }
    }

    /// Ends it. Files that are still open fail from now on.
    ///
    /// # Errors
    /// What went wrong on the way; the rest is done all the same.
    pub fn stop(self) -> io::Result<End> {
        match self {
            Served::Fuse(daemon) => daemon.stop(),
            Served::Cuse(daemon) => daemon.stop(),
        }
    }
}

/// Size of a page, bytes.
pub(crate) fn page_size() -> usize {
    match nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(4096),
        _ => 4096,
    }
}
