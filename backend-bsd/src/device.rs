//! The open node.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bpfdev_core::abi::rules::Nodes;
use bpfdev_core::abi::{Abi, Flag, Header, Op, Request, Response, Stamp};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Interest, Ready};
use bpfdev_core::linktype::Linktype;

use crate::encode::Encoded;
use crate::errno::errno_of;
use crate::sys;

/// An open bpf node that speaks one dialect.
#[derive(Debug)]
pub struct DeviceFile {
    file: File,
    abi: &'static Abi,
    path: PathBuf,
    /// What BIOCSTSTAMP has set.
    stamp: AtomicU32,
    /// What BIOCSEXTHDR has set.
    extended: AtomicBool,
}

/// A node that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}: {source}{}", path.display(), cure(.source))]
pub struct OpenError {
    /// The node.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// What helps against an error of open(2).
pub(crate) fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (is the device served? on Linux: bpfdev serve, or bpfdev wrap)",
        io::ErrorKind::PermissionDenied => " (run as root, or join the group of the node)",
        _ if error.raw_os_error() == Some(libc::EBUSY) => " (every node there is is in use)",
        _ => "",
    }
}

impl From<&OpenError> for Errno {
    fn from(error: &OpenError) -> Errno {
        errno_of(&error.source)
    }
}

/// Where the nodes are.
pub(crate) const DEV: &str = "/dev";
/// The cloning node there; numbered ones are called the same, with a number behind.
const NODE: &str = "bpf";
/// More numbered nodes than this no system has.
const NUMBERED: u32 = 256;
/// No smaller buffer is asked for than one of so many bytes, unless it is wanted.
const BUFSIZE_LEAST: u32 = 512;

impl DeviceFile {
    /// Opens the node at `path`, which speaks `abi`.
    ///
    /// # Errors
    /// Those of open(2), with the path: ENOENT, EACCES, EBUSY for a node that somebody else has open.
    pub fn open(path: impl AsRef<Path>, abi: &'static Abi, access: Access) -> Result<DeviceFile, OpenError> {
        let path = path.as_ref();
        let opened =
            OpenOptions::new().read(access != Access::Write).write(access != Access::Read).open(path);
        match opened {
            Ok(file) => Ok(DeviceFile { path: path.to_owned(), ..DeviceFile::of_open(file, abi) }),
            Err(source) => Err(OpenError { path: path.to_owned(), source }),
        }
    }

    /// A node that is open already and speaks `abi`: one that was inherited, or passed on by its opener (SCM_RIGHTS). What
    /// the opener had set with BIOCSTSTAMP and BIOCSEXTHDR is not known.
    pub fn of_open(file: File, abi: &'static Abi) -> DeviceFile {
        let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        DeviceFile { file, abi, path, stamp: AtomicU32::new(0), extended: AtomicBool::new(false) }
    }

    /// Opens the system's device in /dev, as [`DeviceFile::open_in`].
    ///
    /// # Errors
    /// As there.
    pub fn open_any(abi: &'static Abi, access: Access) -> Result<DeviceFile, OpenError> {
        DeviceFile::open_in(DEV, abi, access)
    }

    /// Opens the device whose nodes are in `dir`, by the dialect's rule (semantics.md 1): `bpf`, each open of which is a
    /// descriptor of its own, and where there is no such node the first of `bpf0`, `bpf1`, … that is not busy. macOS has
    /// only these.
    ///
    /// # Errors
    /// As [`DeviceFile::open`]: of `bpf` where there is no numbered node, else of the last one that there is: EBUSY when
    /// all are in use.
    pub fn open_in(
        dir: impl AsRef<Path>,
        abi: &'static Abi,
        access: Access,
    ) -> Result<DeviceFile, OpenError> {
        let open = |name: String| DeviceFile::open(dir.as_ref().join(name), abi, access);
        let is_busy = |error: &OpenError| error.source.raw_os_error() == Some(libc::EBUSY);
        let is_absent = |error: &OpenError| error.source.kind() == io::ErrorKind::NotFound;
        let mut refused = None;
        if !matches!(abi.rules.nodes, Nodes::OneOpenerEach { .. }) {
            match open(NODE.to_owned()) {
                Err(error) if is_absent(&error) || is_busy(&error) => refused = Some(error),
                result => return result,
            }
        }
        for number in 0..NUMBERED {
            match open(format!("{NODE}{number}")) {
                Err(error) if is_busy(&error) => refused = Some(error),
                Err(error) if is_absent(&error) => return Err(refused.unwrap_or(error)),
                result => return result,
            }
        }
        Err(refused.unwrap_or_else(|| OpenError {
            path: dir.as_ref().join(NODE),
            source: io::Error::from_raw_os_error(libc::EBUSY),
        }))
    }

    /// The dialect.
    pub fn abi(&self) -> &'static Abi {
        self.abi
    }

    /// The node's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dialect has this request.
    pub(crate) fn has(&self, op: Op) -> bool {
        self.abi.requests.iter().any(|row| row.op == op)
    }

    /// How records begin for this process, for [`crate::records()`]: as BIOCSTSTAMP and BIOCSEXTHDR through this file
    /// have it. They change the records of later packets; what is buffered keeps its header, so issue them before
    /// BIOCSETIF, or BIOCFLUSH after them.
    pub fn header(&self) -> Header {
        if let Some(extended) = self.abi.extended
            && self.extended.load(Ordering::Acquire)
        {
            return extended;
        }
        let header = *self.abi.header_for(size_of::<usize>() == 4);
        // BPF_T_FORMAT_MASK; BPF_T_NONE's header is the plain one
        match self.stamp.load(Ordering::Acquire) & 3 {
            1 => header.stamped(Stamp::Nano64),
            2 => header.stamped(Stamp::Bin64),
            _ => header,
        }
    }

    fn number(&self, request: &Request) -> Result<u32, Errno> {
        match self.ioctl(request)? {
            Response::U32(number) => Ok(number),
            _ => Err(Errno::Inval),
        }
    }

    /// BIOCGBLEN: the length in bytes that read(2) insists on.
    ///
    /// # Errors
    /// The device's.
    pub fn bufsize(&self) -> Result<usize, Errno> {
        self.number(&Request::GBlen).map(|size| size as usize)
    }

    /// BIOCSBLEN: asks for a buffer of `wanted` bytes, and for half as many as long as the device has not the memory or
    /// refuses (ENOBUFS, ENOMEM, EINVAL). Gives what BIOCGBLEN says then: the device rounds, and has limits of its own.
    ///
    /// # Errors
    /// The device's, for the smallest size tried; EINVAL once an interface is attached.
    pub fn set_bufsize(&self, wanted: u32) -> Result<usize, Errno> {
        let mut size = wanted;
        loop {
            match self.ioctl(&Request::SBlen(size)) {
                Ok(_) => return self.bufsize(),
                Err(Errno::NoBufs | Errno::NoMem | Errno::Inval) if size / 2 >= BUFSIZE_LEAST => size /= 2,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// A buffer of the length that read(2) insists on.
    ///
    /// # Errors
    /// The device's.
    pub fn read_buffer(&self) -> Result<Vec<u8>, Errno> {
        Ok(vec![0; self.bufsize()?])
    }

    /// BIOCGDLT: the link type of the attached interface's packets.
    ///
    /// # Errors
    /// EINVAL without an interface.
    pub fn linktype(&self) -> Result<Linktype, Errno> {
        self.number(&Request::GDlt).map(|dlt| self.abi.linktype(dlt).unwrap_or(Linktype(dlt)))
    }

    /// BIOCGDLTLIST: every link type the attached interface offers, in the device's order.
    ///
    /// # Errors
    /// EINVAL without an interface.
    pub fn linktypes(&self) -> Result<Vec<Linktype>, Errno> {
        let list = |room| match self.ioctl(&Request::GDltList(room))? {
            Response::DltList { error: Some(errno), .. } => Err(errno),
            Response::DltList { count, list, error: None } => Ok((count, list)),
            _ => Err(Errno::Inval),
        };
        let (count, _) = list(None)?;
        let (_, list) = list(Some(count.unwrap_or_default()))?;
        Ok(list.into_iter().map(|dlt| self.abi.linktype(dlt).unwrap_or(Linktype(dlt))).collect())
    }
}

impl AsFd for DeviceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BpfFile for DeviceFile {
    fn ioctl(&self, request: &Request) -> Result<Response, Errno> {
        let mut call = Encoded::new(self.abi, request)?;
        let result = sys::ioctl(self.as_fd(), &mut call).map_err(|error| errno_of(&error));
        let response = call.response(result)?;
        match request {
            Request::STStamp(value) => self.stamp.store(*value, Ordering::Release),
            Request::SetFlag(Flag::ExtendedHeader, on) => self.extended.store(*on != 0, Ordering::Release),
            _ => {}
        }
        Ok(response)
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        (&self.file).read(buf).map_err(|error| errno_of(&error))
    }

    fn write(&self, frame: &[u8]) -> Result<usize, Errno> {
        (&self.file).write(frame).map_err(|error| errno_of(&error))
    }

    fn poll(&self, want: Interest, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let mut events = 0;
        if want.read {
            events |= libc::POLLIN;
        }
        if want.write {
            events |= libc::POLLOUT;
        }
        let [there] = sys::poll([(self.as_fd(), events)], timeout).map_err(|error| errno_of(&error))?;
        // An error is seen by reading and writing.
        let broken = there & (libc::POLLERR | libc::POLLNVAL) != 0;
        Ok(Ready {
            read: want.read && (broken || there & libc::POLLIN != 0),
            write: want.write && (broken || there & libc::POLLOUT != 0),
            hangup: there & libc::POLLHUP != 0,
        })
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Errno> {
        sys::set_nonblocking(self.as_fd(), on).map_err(|error| errno_of(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::{freebsd::FREEBSD, hdr, linux::LINUX, macos::MACOS};

    #[test]
    fn what_cannot_be_opened_is_named_with_a_cure() {
        let error = DeviceFile::open("/nonexistent/bpf", &LINUX, Access::Read).expect_err("no such node");
        assert_eq!(Errno::from(&error), Errno::NoEnt);
        let text = error.to_string();
        assert!(text.contains("/nonexistent/bpf") && text.contains("bpfdev serve"), "{text}");
    }

    #[test]
    fn nodes_are_tried_in_the_systems_order() {
        let dir = std::env::temp_dir().join(format!("bpfdev-nodes-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let opened = |abi| DeviceFile::open_in(&dir, abi, Access::Read).map(|file| file.path().to_owned());
        let refused = |abi| DeviceFile::open_in(&dir, abi, Access::Read).expect_err("nothing there").path;
        assert_eq!(refused(&FREEBSD), dir.join("bpf"), "semantics.md 1, node(s): /dev/bpf");
        assert_eq!(refused(&MACOS), dir.join("bpf0"), "semantics.md 1, node(s): /dev/bpf0 on macOS");
        std::fs::write(dir.join("bpf0"), []).expect("a file");
        assert_eq!(opened(&FREEBSD).expect("the numbered one"), dir.join("bpf0"));
        std::fs::write(dir.join("bpf"), []).expect("a file");
        assert_eq!(opened(&FREEBSD).expect("the cloning one"), dir.join("bpf"));
        assert_eq!(opened(&MACOS).expect("the numbered one"), dir.join("bpf0"));
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn another_device_answers_with_its_own_errors() {
        let file = DeviceFile::open("/dev/null", &LINUX, Access::ReadWrite).expect("opens");
        assert_eq!(file.ioctl(&Request::GBlen), Err(Errno::NoTty));
        assert_eq!(file.set_bufsize(4096), Err(Errno::NoTty));
        assert_eq!(file.ioctl(&Request::GFeedback), Err(Errno::Inval), "not in the dialect at all");
        assert_eq!(file.read(&mut [0; 8]), Ok(0));
        assert_eq!(file.write(&[0; 60]), Ok(60));
        let ready = file.poll(Interest::BOTH, Some(Duration::ZERO)).expect("polls");
        assert!(ready.read && ready.write);
        assert_eq!(file.set_nonblocking(true), Ok(()));
    }

    #[test]
    fn a_request_that_was_refused_changes_no_header() {
        let file = DeviceFile::open("/dev/null", &FREEBSD, Access::ReadWrite).expect("opens");
        assert_eq!(file.ioctl(&Request::STStamp(1)), Err(Errno::NoTty));
        assert_eq!(file.header(), *FREEBSD.header_for(size_of::<usize>() == 4));
        file.stamp.store(0x201, Ordering::Release);
        assert_eq!(file.header().stamp, Stamp::Nano64, "BPF_T_NANOTIME | BPF_T_MONOTONIC");
        let file = DeviceFile::open("/dev/null", &MACOS, Access::ReadWrite).expect("opens");
        file.extended.store(true, Ordering::Release);
        assert_eq!(file.header(), hdr::MACOS_EXTENDED);
    }
}
