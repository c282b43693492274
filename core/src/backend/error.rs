//! What can go wrong with a tap.

use std::io;

use crate::errno::Errno;

/// What can go wrong with a tap. Says what failed and on what; its kind is the variant.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No interface of that name.
    #[error("no interface called {0:?} in this network namespace")]
    NoSuchInterface(String),
    /// The interface was removed.
    #[error("interface {0} was removed")]
    Gone(String),
    /// The interface is down.
    #[error("interface {0} is down")]
    Down(String),
    /// The system refuses for want of a privilege.
    #[error("{what}: permission denied ({cure})")]
    Permission {
        /// What was tried.
        what: String,
        /// What would help.
        cure: &'static str,
    },
    /// The backend cannot do it.
    #[error("{0} is not supported by this backend")]
    Unsupported(&'static str),
    /// The frame is longer than the interface takes.
    #[error("frame of {len} bytes is too long for interface {interface}")]
    TooLong {
        /// Length of the frame in bytes.
        len: usize,
        /// The interface.
        interface: String,
    },
    /// The frame is shorter than a link header, or has none the interface knows.
    #[error("frame of {len} bytes has no valid link header")]
    BadFrame {
        /// Length of the frame in bytes.
        len: usize,
    },
    /// No room to queue the frame, or the packets.
    #[error("no buffer space for {0}")]
    NoBuffers(&'static str),
    /// The address family of a loopback frame is unknown.
    #[error("address family not supported")]
    Family,
    /// Anything else the system said.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl TapError {
    /// Wraps the system's error with what was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> TapError {
        TapError::Io { what: what.into(), source }
    }
}

impl From<&TapError> for Errno {
    /// The errno a client of the device gets (semantics.md sections 3 and 6 where the kind decides).
    fn from(error: &TapError) -> Errno {
        match error {
            TapError::NoSuchInterface(_) | TapError::Gone(_) => Errno::NxIo,
            TapError::Down(_) => Errno::NetDown,
            TapError::Permission { .. } => Errno::Access,
            TapError::Unsupported(_) => Errno::OpNotSupp,
            TapError::TooLong { .. } | TapError::BadFrame { .. } => Errno::MsgSize,
            TapError::NoBuffers(_) => Errno::NoBufs,
            TapError::Family => Errno::AfNoSupport,
            TapError::Io { source, .. } => {
                let named = source.get_ref().and_then(|inner| inner.downcast_ref().copied());
                named.or_else(|| Errno::from_linux(source.raw_os_error()?)).unwrap_or(Errno::Io)
            }
        }
    }
}
