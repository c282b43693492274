//! The FUSE front end: a mounted directory whose nodes are /dev/bpf, and one below it for each system.
//!
//! [`Daemon::start`] mounts and serves until it is stopped or dropped:
//! the character plane ([`crate::chardev`]) on one thread, the directory by fuser on another.

mod inodes;
mod mount;
mod mux;
mod namespace;
mod nodes;
mod opens;
mod size;

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bpfdev_core::abi::Abi;
use bpfdev_core::backend::Network;
use bpfdev_core::time::Clock;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::chardev::helper::Limits;
use crate::chardev::session::{Config, Session};
use crate::chardev::wire::Channel;
use mount::{Links, Mount};
pub use mux::End;
use mux::Mux;
use namespace::{Access, Namespace};
use opens::Opens;

/// Where the device is mounted unless told otherwise.
pub const DEFAULT_MOUNT: &str = "/dev/bpfdev";
/// Where the symlinks are made unless told otherwise.
pub const DEFAULT_LINK: &str = "/dev";
/// Files open at once unless told otherwise; more are EMFILE.
pub const DEFAULT_MAX_OPEN: usize = 1024;
/// Helper threads unless told otherwise.
pub const DEFAULT_HELPERS: Limits = Limits { threads: 16, per_uid: 4 };

/// What is served, and where.
#[derive(Clone)]
pub struct ServeOptions {
    /// The directory to mount on; made if it is missing.
    pub mount: PathBuf,
    /// The directory for the symlinks `bpf`, `bpf0`, …; `None` makes none.
    pub link: Option<PathBuf>,
    /// The dialect of the top-level nodes, to which the symlinks lead.
    pub abi: &'static Abi,
    /// Permissions of the nodes.
    pub mode: u16,
    /// Group of the nodes; `None` is the daemon's own.
    pub gid: Option<u32>,
    /// Files open at once.
    pub max_open: usize,
    /// Helper threads that read callers' memory, and as many that attach taps.
    pub helpers: Limits,
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
            mode: 0o600,
            gid: None,
            max_open: DEFAULT_MAX_OPEN,
            helpers: DEFAULT_HELPERS,
            network,
            clock,
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("mount", &self.mount)
            .field("link", &self.link)
            .field("abi", &self.abi.name)
            .field("mode", &format_args!("{:o}", self.mode))
            .field("gid", &self.gid)
            .field("max_open", &self.max_open)
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
    fn new(what: &'static str, on: impl Into<PathBuf>, source: io::Error) -> ServeError {
        ServeError { what, on: on.into(), source, cure: Cure::None }
    }

    fn cure(self, cure: Cure) -> ServeError {
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

/// A served device. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    links: Option<Links>,
    mount: Mount,
    abi: &'static Abi,
    stop: Arc<EventFd>,
    ended: Arc<EventFd>,
    character: Option<JoinHandle<io::Result<End>>>,
    directory: Option<fuser::BackgroundSession>,
    refreshing: Option<JoinHandle<()>>,
}

/// Says that the loop has ended, however it did.
struct SayEnded(Arc<EventFd>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        let _ = self.0.write(1); // a counter near its limit is readable just the same
    }
}

impl Daemon {
    /// Mounts, serves and links. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn start(options: ServeOptions) -> Result<Daemon, ServeError> {
        report_timeouts();
        let (mount, device) = Mount::new(&options.mount)?;
        let failed = |what: &'static str| {
            let dir = options.mount.clone();
            move |source: io::Error| ServeError::new(what, dir, source)
        };
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map(Arc::new);
        let stop = event().map_err(|e| failed("serve")(e.into()))?;
        let ended = event().map_err(|e| failed("serve")(e.into()))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, fusers) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|e| failed("serve")(e.into()))?;
        let opens = Opens::new(options.max_open);
        let config = Config {
            network: options.network.clone(),
            clock: options.clock.clone(),
            helpers: options.helpers,
            max_piece: max_piece(),
            page: page_size(),
        };
        let session = Session::new(Channel::new(device), config).map_err(failed("serve"))?;
        let (sizes, refreshing) =
            size::Sizes::start(mount.dir().to_owned()).map_err(failed("start a thread for"))?;
        let names = sizes.names();
        let mux = Mux::new(session, ours, opens.clone(), sizes, stop.clone()).map_err(failed("serve"))?;
        let say_ended = SayEnded(ended.clone());
        let serve = move || {
            let _say_ended = say_ended;
            let end = mux.run();
            if let Err(error) = &end {
                tracing::error!(%error, "the device cannot be served any longer");
            }
            end
        };
        let character =
            thread::Builder::new().name("bpf".into()).spawn(serve).map_err(failed("start a thread for"))?;
        // From here on dropping the daemon ends what has begun.
        let mut daemon = Daemon {
            links: None,
            mount,
            abi: options.abi,
            stop,
            ended,
            character: Some(character),
            directory: None,
            refreshing: Some(refreshing),
        };
        let access = Access {
            mode: options.mode,
            uid: nix::unistd::geteuid().as_raw(),
            gid: options.gid.unwrap_or_else(|| nix::unistd::getegid().as_raw()),
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(1);
        let namespace = Namespace::new(options.abi, access, opens, names);
        let directory = fuser::Session::from_fd(namespace, fusers, fuser::SessionACL::All, config);
        let directory = directory.and_then(fuser::Session::spawn).map_err(failed("serve the directory"))?;
        daemon.directory = Some(directory);
        if let Some(link) = &options.link {
            daemon.links = Some(Links::make(link, daemon.mount.dir(), options.abi)?);
        }
        tracing::info!(mount = %daemon.mount.dir().display(), abi = options.abi.name, "serving");
        Ok(daemon)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        self.mount.dir()
    }

    /// The node a program opens first.
    pub fn node(&self) -> PathBuf {
        self.mount.dir().join(nodes::first_name(self.abi))
    }

    /// The directories that have nodes of a dialect of their own, by its name.
    pub fn directories(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        nodes::DIRECTORIES.iter().map(|abi| (abi.name, self.mount.dir().join(abi.name)))
    }

    /// The symlinks that lead to the nodes.
    pub fn links(&self) -> impl Iterator<Item = &Path> {
        self.links.iter().flat_map(Links::paths)
    }

    /// Becomes readable when the device is served no longer: somebody has unmounted it.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Unmounts, removes the links and ends the threads. Files that are still open fail from now on (ENOTCONN). A helper
    /// thread that is stuck in a caller's memory stays until the process ends.
    ///
    /// # Errors
    /// What went wrong on the way; the rest is done all the same.
    pub fn stop(mut self) -> io::Result<End> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> io::Result<End> {
        self.links = None;
        let by_itself = self.ended.read().is_ok();
        if by_itself {
            self.mount.lost();
        }
        let unmounted = self.mount.unmount();
        let _ = self.stop.write(1); // a counter near its limit is readable just the same
        let end = match self.character.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            Some(Err(_)) => Err(io::Error::other("the device's thread panicked")),
            None => Ok(End::Stopped),
        };
        if let Some(Err(error)) = self.directory.take().map(fuser::BackgroundSession::join) {
            tracing::warn!(%error, "the directory's thread ended badly");
        }
        // What it asked the loop for has failed with the loop's end, and nothing asks it any more.
        if self.refreshing.take().map(JoinHandle::join).is_some_and(|ended| ended.is_err()) {
            tracing::warn!("the thread that keeps sizes panicked");
        }
        unmounted?;
        // With no file open our own unmounting is what ends the loop.
        end.map(|end| if by_itself { end } else { End::Stopped })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.character.is_some()
            && let Err(error) = self.shut_down()
        {
            tracing::warn!(%error, "the device could not be shut down in order");
        }
    }
}

fn page_size() -> usize {
    match nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(4096),
        _ => 4096,
    }
}

/// The most the kernel asks for at once, bytes: what we tell it, or the administrator's limit of pages.
fn max_piece() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit").ok();
    // A kernel without that file takes 256 pages.
    let pages = limit.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(256);
    (namespace::MAX_WRITE as usize).min(pages.saturating_mul(page_size()))
}

/// A reader may sleep for ever. A kernel that limits how long a request may take would end the whole mount then.
fn report_timeouts() {
    for name in ["default_request_timeout", "max_request_timeout"] {
        let path = format!("/proc/sys/fs/fuse/{name}");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.trim() != "0" {
            tracing::warn!(
                "{path} is {} s: a read that waits longer makes the kernel abort the whole device; \
                 set it to 0 (sysctl fs.fuse.{name}=0) before the device is served",
                text.trim()
            );
        }
    }
}
