//! The open node.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpfdev_core::abi::{Abi, Header, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Interest, Ready};

use crate::encode::Encoded;
use crate::errno::errno_of;
use crate::sys;

/// An open bpf node that speaks one dialect.
#[derive(Debug)]
pub struct DeviceFile {
    file: File,
    abi: &'static Abi,
    path: PathBuf,
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

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (is the device served? on Linux: bpfdev serve, or bpfdev wrap)",
        io::ErrorKind::PermissionDenied => " (run as root, or join the group of the node)",
        _ => "",
    }
}

impl From<&OpenError> for Errno {
    fn from(error: &OpenError) -> Errno {
        errno_of(&error.source)
    }
}

/// The cloning node.
const CLONE: &str = "/dev/bpf";
/// Systems without a cloning node have numbered ones, each for one opener; more than this many nobody has.
const NUMBERED: u32 = 256;

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
            Ok(file) => Ok(DeviceFile { file, abi, path: path.to_owned() }),
            Err(source) => Err(OpenError { path: path.to_owned(), source }),
        }
    }

    /// Opens /dev/bpf, or the first of /dev/bpf0, /dev/bpf1, … that is not busy: what programs for the BSDs do.
    ///
    /// # Errors
    /// As [`DeviceFile::open`]: of /dev/bpf where there is no numbered node, else of the last one tried.
    pub fn open_any(abi: &'static Abi, access: Access) -> Result<DeviceFile, OpenError> {
        let mut refused = match DeviceFile::open(CLONE, abi, access) {
            Err(error) if goes_on(&error) => error,
            result => return result,
        };
        for number in 0..NUMBERED {
            match DeviceFile::open(format!("{CLONE}{number}"), abi, access) {
                Err(error) if error.source.raw_os_error() == Some(libc::EBUSY) => refused = error,
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => break,
                result => return result,
            }
        }
        Err(refused)
    }

    /// The dialect.
    pub fn abi(&self) -> &'static Abi {
        self.abi
    }

    /// The node's path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How records begin for this process: for [`crate::records()`].
    pub fn header(&self) -> &'static Header {
        self.abi.header_for(size_of::<usize>() == 4)
    }

    /// A buffer of the length that read(2) insists on (BIOCGBLEN).
    ///
    /// # Errors
    /// The device's.
    pub fn read_buffer(&self) -> Result<Vec<u8>, Errno> {
        match self.ioctl(&Request::GBlen)? {
            Response::U32(size) => Ok(vec![0; size as usize]),
            _ => Err(Errno::Inval),
        }
    }
}

/// No cloning node here, or somebody has it.
fn goes_on(error: &OpenError) -> bool {
    error.source.kind() == io::ErrorKind::NotFound || error.source.raw_os_error() == Some(libc::EBUSY)
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
        call.response(result)
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
        let there = sys::poll(self.as_fd(), events, timeout).map_err(|error| errno_of(&error))?;
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
    use bpfdev_core::abi::linux::LINUX;

    #[test]
    fn what_cannot_be_opened_is_named_with_a_cure() {
        let error = DeviceFile::open("/nonexistent/bpf", &LINUX, Access::Read).expect_err("no such node");
        assert_eq!(Errno::from(&error), Errno::NoEnt);
        let text = error.to_string();
        assert!(text.contains("/nonexistent/bpf") && text.contains("bpfdev serve"), "{text}");
    }

    #[test]
    fn another_device_answers_with_its_own_errors() {
        let file = DeviceFile::open("/dev/null", &LINUX, Access::ReadWrite).expect("opens");
        assert_eq!(file.ioctl(&Request::GBlen), Err(Errno::NoTty));
        assert_eq!(file.ioctl(&Request::GFeedback), Err(Errno::Inval), "not in the dialect at all");
        assert_eq!(file.read(&mut [0; 8]), Ok(0));
        assert_eq!(file.write(&[0; 60]), Ok(60));
        let ready = file.poll(Interest::BOTH, Some(Duration::ZERO)).expect("polls");
        assert!(ready.read && ready.write);
        assert_eq!(file.set_nonblocking(true), Ok(()));
    }
}
