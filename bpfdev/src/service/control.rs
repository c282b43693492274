//! The control socket: who connects gets a [`Report`], and nothing he sends is read.
//!
//! A thread of its own answers, one after the other: it asks the loop, which only gathers, and writes with a time-out, so
//! a client that does not read keeps nobody but those behind it waiting, and the loop not at all.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::report::{About, Report};
use crate::chardev::status::Inquiry;

/// Where the sockets are unless told otherwise.
pub const DIRECTORY: &str = "/run/bpfdev";
/// Who asks again within this time gets the same report: the loop's work for it is bounded.
const FRESH: Duration = Duration::from_millis(100);
/// How long the loop may take to answer.
const LOOP: Duration = Duration::from_secs(4);
/// How long a client may take to make room for more.
const CLIENT: Duration = Duration::from_secs(1);
/// How long `stat` waits for the next bytes.
const SERVER: Duration = Duration::from_secs(10);

/// The socket of the daemon that is mounted at `mount`, unless it was told another.
pub fn path_for(mount: &Path) -> PathBuf {
    let mount = mount.to_string_lossy();
    let mut name = String::new();
    for letter in mount.trim_start_matches('/').chars() {
        match letter {
            '/' => name.push('-'),
            '-' => name.push_str("%2d"),
            '%' => name.push_str("%25"),
            other => name.push(other),
        }
    }
    Path::new(DIRECTORY).join(name + ".sock")
}

/// What failed with a control socket, on which, and what to try.
#[derive(Debug)]
pub struct ControlError {
    what: String,
    source: io::Error,
    cure: String,
}

impl ControlError {
    fn new(what: impl Into<String>, source: io::Error) -> ControlError {
        ControlError { what: what.into(), source, cure: String::new() }
    }

    fn cure(self, cure: impl Into<String>) -> ControlError {
        ControlError { cure: format!(": {}", cure.into()), ..self }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}){}", self.what, self.source, self.cure)
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A socket at which nobody is answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: by then another may have the name.
    id: (u64, u64),
}

impl Bound {
    /// Makes the socket, for root and the group `gid` only. What a crash left there is replaced, anything else is not.
    ///
    /// # Errors
    /// What was refused; another daemon's socket, or no socket, of that name.
    pub fn new(path: &Path, gid: Option<u32>) -> Result<Bound, ControlError> {
        let failed = |source: io::Error| {
            ControlError::new(format!("cannot make the control socket {}", path.display()), source)
                .cure("--control PATH chooses another place, --no-control does without")
        };
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::DirBuilder::new().mode(0o755).create(parent) {
            // Whatever the umask, the group finds the socket.
            Ok(()) => fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).map_err(failed)?,
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        if let Ok(there) = fs::symlink_metadata(path) {
            let dead = there.file_type().is_socket()
                && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
            if !dead {
                return Err(failed(ErrorKind::AlreadyExists.into()));
            }
        }
        // Where nobody else can reach it until it has its permissions.
        let private = parent.join(format!(".{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
        let made = (|| {
            let early = private.join("s");
            let listener = UnixListener::bind(&early)?;
            listener.set_nonblocking(true)?;
            chown(&early, None, gid)?;
            let mode = if gid.is_some() { 0o660 } else { 0o600 };
            fs::set_permissions(&early, fs::Permissions::from_mode(mode))?;
            let meta = fs::symlink_metadata(&early)?;
            fs::rename(&early, path)?;
            Ok(Bound { listener, path: path.to_owned(), id: (meta.dev(), meta.ino()) })
        })();
        let _ = fs::remove_file(private.join("s")); // not there, unless the rest failed
        let _ = fs::remove_dir(&private); // a directory of ours that is left harms nobody
        made.map_err(failed)
    }

    /// Answers who connects, until it is dropped.
    ///
    /// # Errors
    /// No thread or descriptor can be had.
    pub fn serve(self, about: About, inquiry: Inquiry) -> Result<Control, ControlError> {
        let failed = |source| ControlError::new("cannot serve the control socket", source);
        let stop = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let stop = Arc::new(stop.map_err(|errno| failed(errno.into()))?);
        let (until, bound) = (stop.clone(), Arc::new(self));
        let (ours, mut answers) = (bound.clone(), Answers { about, inquiry, last: None });
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            while let Some(client) = ours.next(&until) {
                answers.give(client);
            }
        });
        Ok(Control { _bound: bound, stop, thread: Some(thread.map_err(failed)?) })
    }

    /// Who connects next; `None`: it is over.
    fn next(&self, stop: &EventFd) -> Option<UnixStream> {
        loop {
            let mut fds = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut fds, PollTimeout::NONE); // EINTR: both are asked again
            if stop.read().is_ok() {
                return None;
            }
            match self.listener.accept() {
                Ok((client, _)) => return Some(client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    // EMFILE stays for a while, and the socket readable.
                    tracing::debug!(%error, "the control socket");
                    thread::sleep(FRESH);
                }
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if now.is_ok_and(|now| now == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// A served control socket. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Control {
    _bound: Arc<Bound>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.stop.write(1); // a counter near its limit is readable just the same
        if self.thread.take().map(JoinHandle::join).is_some_and(|ended| ended.is_err()) {
            tracing::warn!("the thread of the control socket panicked");
        }
    }
}

/// What clients are told.
struct Answers {
    about: About,
    inquiry: Inquiry,
    last: Option<(Instant, Vec<u8>)>,
}

impl Answers {
    fn give(&mut self, mut client: UnixStream) {
        let Some(report) = self.report() else { return };
        let sent = client
            .set_nonblocking(false)
            .and_then(|()| client.set_write_timeout(Some(CLIENT)))
            .and_then(|()| client.write_all(report));
        if let Err(error) = sent {
            tracing::debug!(%error, "a client of the control socket did not read");
        }
    }

    fn report(&mut self) -> Option<&[u8]> {
        if self.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            let status = self.inquiry.ask(LOOP)?;
            let mut text = serde_json::to_vec(&Report::new(&self.about, status)).ok()?;
            text.push(b'\n');
            self.last = Some((Instant::now(), text));
        }
        self.last.as_ref().map(|(_, text)| text.as_slice())
    }
}

/// Asks the daemon whose control socket this is.
///
/// # Errors
/// There is none, it is not for us, or it does not answer: which, and what to try.
pub fn ask(path: &Path) -> Result<Report, ControlError> {
    let shown = path.display();
    let mut stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ControlError::new(format!("no daemon answers at {shown}"), source)
                .cure("start it with bpfdev serve, or say where it is with --mount DIR or --control PATH")
        }
        ErrorKind::PermissionDenied => {
            ControlError::new(format!("the control socket {shown} is not for this user"), source)
                .cure("it is for root and for the group of bpfdev serve --group")
        }
        _ => ControlError::new(format!("cannot connect to the control socket {shown}"), source),
    })?;
    let failed = |source| ControlError::new(format!("cannot read from the control socket {shown}"), source);
    stream.set_read_timeout(Some(SERVER)).map_err(failed)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(failed)?;
    if text.is_empty() {
        return Err(
            failed(ErrorKind::UnexpectedEof.into()).cure("the daemon is ending, or does not come to it")
        );
    }
    serde_json::from_slice(&text).map_err(|error| {
        let source = io::Error::new(ErrorKind::InvalidData, error);
        failed(source).cure("is it of another version, or no daemon of ours?")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_mount_has_a_socket_of_its_own() {
        assert_eq!(path_for(Path::new("/dev/bpfdev")), Path::new("/run/bpfdev/dev-bpfdev.sock"));
        let all = ["/a/b", "/a-b", "/a%2db", "/a%b", "/a--b"].map(|mount| path_for(Path::new(mount)));
        for (at, path) in all.iter().enumerate() {
            assert!(!all[..at].contains(path), "{}", path.display());
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("bpfdev-control-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("control");
        drop(UnixListener::bind(&path).unwrap());
        let bound = Bound::new(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = Bound::new(&path, None).unwrap_err().to_string();
        assert!(second.contains("--no-control"), "{second}");
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert!(Bound::new(&path, None).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let none = ask(&dir.join("nowhere")).unwrap_err().to_string();
        assert!(none.contains("bpfdev serve"), "{none}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
