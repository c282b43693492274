//! One device node: it is there as long as its /dev/cuse is open.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::wire::InitIn;
use crate::chardev::channel::{Asker, Channel};
use crate::chardev::wire::{Header, opcode};
use crate::serving::{Cure, ServeError};

/// Where the kernel's end of CUSE is.
const DEV_CUSE: &str = "/dev/cuse";
/// Where the kernel makes nodes.
const DEV: &str = "/dev";
/// The kernel asks at once; so long it is waited for, milliseconds.
const HANDSHAKE: u16 = 5000;

/// Who may open the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits.
    pub mode: u16,
    /// Group; `None` is the kernel's choice, root's.
    pub gid: Option<u32>,
}

/// Opens the kernel's end.
///
/// # Errors
/// What was refused, and its cure.
pub fn open_cuse() -> Result<OwnedFd, ServeError> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEV_CUSE)
        .map(OwnedFd::from)
        .map_err(|e| ServeError::new("open", DEV_CUSE, e).cure(Cure::DevCuse))
}

/// The name the kernel must be given to make this node; `None`: it makes none there.
pub fn name_of(path: &Path) -> Option<&str> {
    let name = path.strip_prefix(DEV).ok()?;
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    name.to_str().filter(|text| !text.is_empty() && name.components().all(plain))
}

/// A node, which is there as long as its channel.
#[derive(Debug)]
pub struct Node {
    /// Where it is.
    pub path: PathBuf,
    /// The kernel's end of it.
    pub channel: Arc<Channel>,
    /// Its name, where /dev is no devtmpfs.
    pub name: Option<Name>,
}

impl Node {
    /// Makes the node at `path`.
    ///
    /// # Errors
    /// What was refused, on what, and the likely cure: EEXIST when there is something at `path`.
    pub fn make(path: &Path, access: Access) -> Result<Node, ServeError> {
        let failed = |what: &'static str| move |source: io::Error| ServeError::new(what, path, source);
        let name = name_of(path).ok_or_else(|| {
            failed("make the device")(io::ErrorKind::InvalidInput.into()).cure(Cure::NotInDev)
        })?;
        remove_left_over(path).map_err(failed("remove what is left of"))?;
        let taken = || failed("make the device")(Errno::EEXIST.into()).cure(Cure::Taken);
        // the kernel's class of these devices has them by name, wherever their nodes are
        let class = Path::new("/sys/class/cuse").join(name.replace('/', "!"));
        if fs::symlink_metadata(path).is_ok() || class.exists() {
            return Err(taken());
        }
        let channel = Arc::new(Channel::new(open_cuse()?));
        handshake(&channel, name).map_err(failed("make the device"))?;
        // Another daemon that was faster has the name: then the kernel has ended the connection.
        if is_gone(&channel).map_err(failed("make the device"))? {
            return Err(if class.exists() {
                taken()
            } else {
                failed("make the device")(Errno::ENODEV.into())
            });
        }
        let name = match fs::symlink_metadata(path) {
            Ok(_) => None,
            Err(_) => Some(Name::make(path, &class).map_err(failed("make the node"))?),
        };
        std::os::unix::fs::chown(path, None, access.gid).map_err(failed("set the group of"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode.into()))
            .map_err(failed("set the permissions of"))?;
        Ok(Node { path: path.to_owned(), channel, name })
    }
}

/// A node's name that is ours to remove, because /dev is no devtmpfs; dropping it does.
#[derive(Debug)]
pub struct Name {
    path: PathBuf,
    /// So are these directories, the inner ones first.
    dirs: Vec<PathBuf>,
}

impl Name {
    /// Names the device that the kernel shows at `class`.
    fn make(path: &Path, class: &Path) -> io::Result<Name> {
        let number = fs::read_to_string(class.join("dev"))?;
        let (major, minor) = number.trim().split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        let number = |text: &str| text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let device = makedev(number(major)?, number(minor)?);
        let missing = path.ancestors().skip(1).take_while(|dir| !dir.exists());
        let dirs: Vec<_> = missing.map(Path::to_owned).collect();
        for dir in dirs.iter().rev() {
            fs::create_dir(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?; // whatever the umask: as the kernel's
        }
        mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
        Ok(Name { path: path.to_owned(), dirs })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(node = %self.path.display(), %error, "cannot remove the node");
        }
        for dir in &self.dirs {
            let _ = fs::remove_dir(dir); // somebody else may use it now
        }
    }
}

/// The names of a device, the latest first: a directory's first name is made first and removed last.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<VecDeque<Name>>>);

impl Names {
    /// Removes this one with the others.
    pub fn keep(&self, name: Option<Name>) {
        if let Some(name) = name {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push_front(name);
        }
    }
}

/// Takes away what a daemon that was killed has left: its symlink (FUSE), or its node in a /dev that is no devtmpfs.
fn remove_left_over(path: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let kind = meta.file_type();
    let dangling = || {
        let ours = fs::read_link(path).is_ok_and(|to| to.starts_with(crate::serving::DEFAULT_MOUNT));
        ours && fs::metadata(path).is_err()
    };
    let driver = || {
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        PathBuf::from(format!("/sys/dev/char/{major}:{minor}"))
    };
    if (kind.is_symlink() && dangling()) || (kind.is_char_device() && !driver().exists()) {
        tracing::info!(path = %path.display(), "removing what a daemon that is gone has left");
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Answers the kernel's CUSE_INIT; the device is there then.
fn handshake(channel: &Arc<Channel>, name: &str) -> io::Result<()> {
    let mut buffer = vec![0; 8192];
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(HANDSHAKE))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel says nothing through /dev/cuse"));
    }
    let len = channel.receive(&mut buffer)?.unwrap_or(0);
    let message = buffer.get(..len).and_then(Header::split);
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "the kernel does not begin with CUSE_INIT");
    let (header, body) =
        message.filter(|(header, _)| header.opcode == opcode::CUSE_INIT).ok_or_else(unknown)?;
    let init = InitIn::parse(body).ok_or_else(unknown)?;
    if !init.is_spoken() {
        let what = format!(
            "the kernel speaks version {}.{} of the protocol, this program 7.16 or later",
            init.major, init.minor
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    let heard = Asker::new(channel, &header).reaches(&init.accept(name));
    if heard { Ok(()) } else { Err(Errno::ENODEV.into()) }
}

/// The kernel has ended the connection.
fn is_gone(channel: &Channel) -> io::Result<bool> {
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let events = fds[0].revents().unwrap_or(PollFlags::empty());
    Ok(events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_made_below_dev_only() {
        assert_eq!(name_of(Path::new("/dev/bpf0")), Some("bpf0"));
        assert_eq!(name_of(Path::new("/dev/bpfdev/openbsd/bpf")), Some("bpfdev/openbsd/bpf"));
        for path in ["/dev", "/dev/", "/tmp/bpf", "bpf", "/dev/../etc/bpf", "/devices/bpf"] {
            assert_eq!(name_of(Path::new(path)), None, "{path}");
        }
        let access = Access { mode: 0o600, gid: None };
        let error = Node::make(Path::new("/tmp/bpf"), access).unwrap_err().to_string();
        assert!(error.contains("/tmp/bpf") && error.contains("--front fuse"), "{error}");
    }

    #[test]
    fn a_name_that_is_taken_is_eexist_and_stays() {
        let error = Node::make(Path::new("/dev/null"), Access { mode: 0o600, gid: None }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("/dev/null"), "{error}");
        assert!(Path::new("/dev/null").exists());
    }
}
