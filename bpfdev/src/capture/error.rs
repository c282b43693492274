//! What can go wrong with a capture.

use std::io;

use bpfdev_core::backend::TapError;
use bpfdev_core::cbpf::Reject;

/// What kind of thing went wrong, for a program that acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A privilege is missing.
    Permission,
    /// There is no interface of that name.
    NoSuchInterface,
    /// This backend, or this system, cannot do it.
    Unsupported,
    /// The interface was removed.
    Gone,
    /// The interface is down.
    Down,
    /// The filter is not valid.
    Filter,
    /// The frame is too short, too long, or of an unknown family.
    Frame,
    /// No memory, or no room in a queue.
    NoBuffers,
    /// Anything else the system said.
    Io,
}

/// A capture's error: what failed, on what, and what may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A backend's error.
    #[error(transparent)]
    Tap(TapError),
    /// The backend lacks a capability.
    #[error("{capability} is not supported by the backend {backend}")]
    Unsupported {
        /// What was wanted.
        capability: &'static str,
        /// [`FilterBackend::name`](crate::backend::FilterBackend::name).
        backend: &'static str,
    },
    /// A filter that the native rules refuse.
    #[error("the filter is not valid: {0}")]
    Filter(#[from] Reject),
    /// A filter expression that libpcap does not compile.
    #[error("{0}")]
    Expression(String),
    /// A file cannot be opened, read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Tap(error) => match error {
                TapError::NoSuchInterface(_) => ErrorKind::NoSuchInterface,
                TapError::Gone(_) => ErrorKind::Gone,
                TapError::Down(_) => ErrorKind::Down,
                TapError::Permission { .. } => ErrorKind::Permission,
                TapError::Unsupported(_) => ErrorKind::Unsupported,
                TapError::TooLong { .. } | TapError::BadFrame { .. } | TapError::Family => ErrorKind::Frame,
                TapError::NoBuffers(_) => ErrorKind::NoBuffers,
                TapError::Io { source, .. } => of_io(source),
            },
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Filter(_) | Error::Expression(_) => ErrorKind::Filter,
            Error::Io { source, .. } => of_io(source),
        }
    }

    /// A backend's error; a missing capability gets the backend's name.
    pub(crate) fn of(backend: &'static str, error: TapError) -> Error {
        match error {
            TapError::Unsupported(capability) => Error::Unsupported { capability, backend },
            error => Error::Tap(error),
        }
    }
}

fn of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    }
}
