//! The sending half: a packet socket of its own, because a packet socket does not see what it sends itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bpfdev_core::backend::{Inject, TapError, Visible};
use nix::sys::socket::{setsockopt, sockopt};

use crate::filter::LinkKind;
use crate::sys::{self, SlowClose};

/// Octets of an Ethernet header.
const ETHER_HEADER: usize = 14;
/// Octets of a loopback packet's family word.
const FAMILY_WORD: usize = 4;

/// The sending socket of an attached interface, shared by its injectors.
#[derive(Debug)]
pub(crate) struct Transmitter {
    socket: SlowClose,
    interface: String,
    index: i32,
    kind: LinkKind,
    /// Whether PACKET_QDISC_BYPASS is set: what is sent so passes no tap.
    bypass: Mutex<bool>,
}

impl Transmitter {
    /// Sends by `socket`, bound with protocol 0 so that it receives nothing.
    pub fn new(socket: OwnedFd, interface: String, index: i32, kind: LinkKind) -> Transmitter {
        Transmitter { socket: socket.into(), interface, index, kind, bypass: Mutex::new(false) }
    }

    fn send(&self, frame: &[u8], visible: Visible) -> Result<(), TapError> {
        let mut header = [0; ETHER_HEADER];
        let (head, body, to): (&[u8], &[u8], _) = match self.kind {
            LinkKind::Ethernet => (&[], frame, None),
            LinkKind::Loopback(framing) => {
                let Some((word, body)) = frame.split_first_chunk::<FAMILY_WORD>() else {
                    return Err(TapError::BadFrame { len: frame.len() });
                };
                let ethertype = framing.ethertype(*word).ok_or(TapError::Family)?;
                header[12..].copy_from_slice(&ethertype.to_be_bytes());
                (&header, body, None)
            }
            LinkKind::Raw => {
                // No header tells the kernel the protocol.
                let protocol = match frame.first().map(|octet| octet >> 4) {
                    Some(4) => 0x0800,
                    Some(6) => 0x86dd,
                    _ => 0,
                };
                (&[], frame, Some(sys::link_address(self.index, protocol)))
            }
        };
        // Held while sending: another injector may want it the other way.
        let mut bypass = self.bypass.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = visible == Visible::ToNobody;
        if *bypass != wanted {
            sys::set_int(self.socket.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, wanted.into())
                .map_err(|error| self.error(error, frame))?;
            *bypass = wanted;
        }
        loop {
            match sys::send(self.socket.as_fd(), [head, body], to.as_ref()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error, frame)),
            }
        }
    }

    fn error(&self, error: io::Error, frame: &[u8]) -> TapError {
        let len = frame.len();
        match error.raw_os_error() {
            Some(libc::ENXIO | libc::ENODEV) => TapError::Gone(self.interface.clone()),
            Some(libc::ENETDOWN) => TapError::Down(self.interface.clone()),
            Some(libc::EMSGSIZE) => TapError::TooLong { len, interface: self.interface.clone() },
            Some(libc::EINVAL) => TapError::BadFrame { len },
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => TapError::NoBuffers("a frame to be sent"),
            _ => TapError::io(format!("sending a frame of {len} bytes on {}", self.interface), error),
        }
    }
}

/// One sending half.
#[derive(Debug)]
pub(crate) struct PacketInjector(pub Arc<Transmitter>);

impl Inject for PacketInjector {
    fn inject(&mut self, frame: &[u8], visible: Visible) -> Result<(), TapError> {
        self.0.send(frame, visible)
    }

    /// The frame's priority in the kernel, which a VLAN interface's egress map makes that of the tag.
    fn set_priority(&mut self, priority: u32) -> Result<(), TapError> {
        let value = i32::try_from(priority).unwrap_or(0);
        setsockopt(&self.0.socket.as_fd(), sockopt::Priority, &value)
            .map_err(|errno| TapError::io("setting the priority of frames", errno.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};

    #[test]
    fn the_priority_is_the_sockets() {
        // any socket has one
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let transmitter = Arc::new(Transmitter::new(socket, "v0".into(), 1, LinkKind::Ethernet));
        PacketInjector(transmitter.clone()).set_priority(5).unwrap();
        assert_eq!(getsockopt(&transmitter.socket.as_fd(), sockopt::Priority).unwrap(), 5);
    }
}
