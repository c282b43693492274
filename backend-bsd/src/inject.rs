//! The sending half: write(2) on the same descriptor.

use std::sync::Arc;

use bpfdev_core::abi::rules::Removal;
use bpfdev_core::abi::{Op, Request};
use bpfdev_core::backend::{Inject, TapError, Visible};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::BpfFile;

use crate::device::DeviceFile;
use crate::errno::io_error;

/// Writes frames to an attached device.
#[derive(Debug)]
pub(crate) struct DeviceInjector {
    pub file: Arc<DeviceFile>,
    pub interface: String,
}

impl DeviceInjector {
    fn error(&self, errno: Errno, len: usize) -> TapError {
        let rules = &self.file.abi().rules;
        let interface = || self.interface.clone();
        let too_long =
            rules.write.largest.is_some_and(|largest| len > largest.bytes && errno == largest.errno);
        match errno {
            _ if too_long => TapError::TooLong { len, interface: interface() },
            Errno::NxIo => TapError::Gone(interface()),
            // The link type can be written, so it is the file that cannot.
            Errno::Io if rules.removal == Removal::Revokes => TapError::Gone(interface()),
            Errno::NetDown => TapError::Down(interface()),
            Errno::MsgSize if len < HEADER => TapError::BadFrame { len },
            Errno::MsgSize => TapError::TooLong { len, interface: interface() },
            _ if errno == rules.write.short => TapError::BadFrame { len },
            Errno::AfNoSupport => TapError::Family,
            Errno::NoBufs | Errno::NoMem | Errno::Again => TapError::NoBuffers("a frame to be sent"),
            errno => {
                TapError::io(format!("sending a frame of {len} bytes on {}", self.interface), io_error(errno))
            }
        }
    }
}

/// Bytes of an Ethernet header: no frame that is shorter is too long.
const HEADER: usize = 14;

impl Inject for DeviceInjector {
    fn inject(&mut self, frame: &[u8], visible: Visible) -> Result<(), TapError> {
        // Nothing is sent for a write of nothing, which succeeds.
        if frame.is_empty() {
            return Err(TapError::BadFrame { len: 0 });
        }
        match visible {
            // What the device does. Feeding a frame back is a switch of the descriptor, not of a frame.
            Visible::ToTaps | Visible::AsReceived | Visible::SentAndReceived => {}
            Visible::ToNobody => return Err(TapError::Unsupported("sending a frame that no tap sees")),
        }
        loop {
            match self.file.write(frame) {
                Ok(_) => return Ok(()),
                Err(Errno::Intr) => {}
                Err(errno) => return Err(self.error(errno, frame.len())),
            }
        }
    }

    fn set_priority(&mut self, priority: u32) -> Result<(), TapError> {
        if !self.file.has(Op::SetVlanPcp) {
            return Err(TapError::Unsupported("a frame's priority (BIOCSETVLANPCP)"));
        }
        self.file
            .ioctl(&Request::SetVlanPcp(priority))
            .map(drop)
            .map_err(|errno| TapError::io("setting the priority of frames", io_error(errno)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::{dragonfly::DRAGONFLY, freebsd::FREEBSD, openbsd::OPENBSD};
    use bpfdev_core::file::Access;

    #[test]
    fn an_error_is_told_by_what_it_means_there() {
        let error = |abi, errno, len| {
            let file = DeviceFile::open("/dev/null", abi, Access::Write).expect("opens");
            DeviceInjector { file: Arc::new(file), interface: "em0".into() }.error(errno, len)
        };
        // semantics.md 6: absolute limit; shorter than link header; semantics.md 4: interface goes away
        assert!(matches!(error(&FREEBSD, Errno::Io, 20_000), TapError::TooLong { len: 20_000, .. }));
        assert!(matches!(error(&FREEBSD, Errno::Io, 60), TapError::Io { .. }));
        assert!(matches!(error(&FREEBSD, Errno::MsgSize, 8), TapError::BadFrame { len: 8 }));
        assert!(matches!(error(&FREEBSD, Errno::MsgSize, 1600), TapError::TooLong { len: 1600, .. }));
        assert!(matches!(error(&DRAGONFLY, Errno::Io, 2049), TapError::TooLong { len: 2049, .. }));
        assert!(matches!(error(&DRAGONFLY, Errno::Perm, 9), TapError::BadFrame { len: 9 }));
        assert!(matches!(error(&OPENBSD, Errno::Io, 60), TapError::Gone(name) if name == "em0"));
        assert!(matches!(error(&OPENBSD, Errno::Inval, 9), TapError::BadFrame { len: 9 }));
        assert!(matches!(error(&OPENBSD, Errno::NetDown, 60), TapError::Down(name) if name == "em0"));
        assert!(matches!(error(&FREEBSD, Errno::NoBufs, 60), TapError::NoBuffers(_)));
    }
}
