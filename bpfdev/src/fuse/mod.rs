//! The FUSE front end: a mounted directory whose nodes are /dev/bpf, and one below it for each system.
//!
//! [`Daemon::start`] mounts and serves until it is stopped or dropped:
//! the character plane ([`crate::chardev`]) on one thread, the directory by fuser on another.

mod inodes;
mod mount;
mod mux;
mod namespace;
mod opens;
mod size;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use bpfdev_core::abi::Abi;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::chardev::nodes;
use crate::chardev::running::Running;
pub use crate::chardev::session::End;
use crate::chardev::session::Session;
use crate::chardev::status::Inquiry;
use crate::service::seccomp::Role;
use crate::serving::page_size;
pub use crate::serving::{ServeError, ServeOptions};
use mount::{Links, Mount};
use mux::Mux;
use namespace::{Access, Namespace};
use opens::Opens;

/// A served device. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    links: Option<Links>,
    mount: Mount,
    abi: &'static Abi,
    inquiry: Inquiry,
    character: Running,
    directory: Option<JoinHandle<io::Result<()>>>,
    refreshing: Option<JoinHandle<()>>,
}

/// A mounted device that nobody serves yet: who opens it waits. It is the time to give up privileges. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    options: ServeOptions,
    // Before the mount they lead to.
    links: Option<Links>,
    mount: Mount,
    device: OwnedFd,
}

impl Mounted {
    /// Mounts and links.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn new(options: ServeOptions) -> Result<Mounted, ServeError> {
        report_timeouts();
        let (mount, device) = Mount::new(&options.mount)?;
        let links = match &options.link {
            Some(link) => Some(Links::make(link, mount.dir(), options.abi)?),
            None => None,
        };
        Ok(Mounted { options, links, mount, device })
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        self.mount.dir()
    }

    /// The mount stays when the daemon ends: it could not unmount.
    pub fn stays(&mut self) {
        self.mount.lost();
    }

    /// Serves it.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn serve(self) -> Result<Daemon, ServeError> {
        let Mounted { options, links, mount, device } = self;
        let failed = |what: &'static str| {
            let dir = options.mount.clone();
            move |source: io::Error| ServeError::new(what, dir, source)
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, fusers) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|e| failed("serve")(e.into()))?;
        let config = options.session(max_piece(), Role::Memory);
        let opens = Opens::new(config.quotas.files.clone());
        let session = Session::new(config).map_err(failed("serve"))?;
        let inquiry = session.inquiry();
        let (sizes, refreshing) =
            size::Sizes::start(mount.dir().to_owned()).map_err(failed("start a thread for"))?;
        let name = sizes.name();
        let mux = Mux::new(session, device, ours, opens.clone(), sizes).map_err(failed("serve"))?;
        let character = Running::start(|stop| mux.run(stop)).map_err(failed("start a thread for"))?;
        // From here on dropping the daemon ends what has begun.
        let mut daemon = Daemon {
            links,
            mount,
            abi: options.abi,
            inquiry,
            character,
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
        let namespace = Namespace::new(options.abi, access, opens, name);
        let directory = fuser::Session::from_fd(namespace, fusers, fuser::SessionACL::All, config)
            .map_err(failed("serve the directory"))?;
        let guard = options.guard.clone();
        let serve = move || guard.enter(Role::Names).and_then(|()| directory.run());
        let directory = thread::Builder::new().name("names".into()).spawn(serve);
        daemon.directory = Some(directory.map_err(failed("start a thread for"))?);
        tracing::info!(mount = %daemon.mount.dir().display(), abi = options.abi.name, "serving");
        Ok(daemon)
    }
}

impl Daemon {
    /// Mounts, links and serves. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn start(options: ServeOptions) -> Result<Daemon, ServeError> {
        Mounted::new(options)?.serve()
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

    /// Who asks how its files and limits stand.
    pub fn inquiry(&self) -> Inquiry {
        self.inquiry.clone()
    }

    /// Becomes readable when the device is served no longer: somebody has unmounted it.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.character.ended()
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
        let by_itself = self.character.has_ended();
        if by_itself {
            self.mount.lost();
        }
        let unmounted = self.mount.unmount();
        let end = self.character.stop();
        match self.directory.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::warn!(%error, "the directory's thread ended badly"),
            Some(Err(_)) => tracing::warn!("the directory's thread panicked"),
            Some(Ok(Ok(()))) | None => {}
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
        if self.character.is_on()
            && let Err(error) = self.shut_down()
        {
            tracing::warn!(%error, "the device could not be shut down in order");
        }
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
