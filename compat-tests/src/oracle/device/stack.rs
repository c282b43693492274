//! The packets of the host's own stack. Linux's sends them; what NetBSD's does otherwise is made so.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

use super::super::call::{Answer, Trouble};
use super::super::host::port_unreachable;
use super::super::nodes::failed;
use crate::sys;

/// How long a datagram may take over the loopback.
const ARRIVAL: Duration = Duration::from_secs(5);

/// The longest IPv4 packet.
const PACKET_MAX: usize = 65535;

/// Sends a UDP datagram as a program does that then goes on; `own` are the host's addresses. One of them gets it over the
/// loopback, where nobody listens. The calling thread must be in the namespace.
///
/// # Errors
/// [`Trouble`] of what is around it; the call's own failure is an answer.
pub fn udp(to: Ipv4Addr, port: u16, payload: &[u8], own: &[Ipv4Addr]) -> Result<Answer, Trouble> {
    let around = |what: &str, error: std::io::Error| Trouble::fail(format!("the datagram's {what}: {error}"));
    // Who listens keeps Linux from its own answer, which quotes all of the datagram. An address that is not ours has none.
    let listener = UdpSocket::bind((to, port));
    let sniffer = raw(SockProtocol::Udp)?;
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| around("socket", error))?;
    sys::without_df(sender.as_fd()).map_err(|error| around("DF bit", error))?;
    let answer = match sender.send_to(payload, (to, port)) {
        Ok(count) => Answer::ok(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            // NetBSD has one name for both
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => Answer::error("EHOSTUNREACH"),
            errno => failed(errno),
        },
    };
    if answer.errno.is_some() || !own.contains(&to) {
        return Ok(answer);
    }
    listener.map_err(|error| around("listener", error))?;
    let from = sender.local_addr().map_err(|error| around("source port", error))?.port();
    let datagram = delivered(&sniffer, from, port)?;
    let message = port_unreachable(&datagram).ok_or_else(|| Trouble::fail("the datagram is no packet"))?;
    let back = SockaddrIn::from(SocketAddrV4::new(to, 0));
    // the header's checksum, and an identification, are put in by the kernel
    match sendto(raw(SockProtocol::Raw)?.as_raw_fd(), &message, &back, MsgFlags::empty()) {
        Ok(_) => Ok(answer),
        Err(errno) => Err(Trouble::fail(format!("answering the datagram: {errno}"))),
    }
}

/// A raw(7) socket: of UDP to receive whole packets, of no protocol to send them.
fn raw(protocol: SockProtocol) -> Result<OwnedFd, Trouble> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Inet, SockType::Raw, flags, protocol)
        .map_err(|errno| Trouble::fail(format!("a raw socket: {errno}")))
}

/// The packet of the datagram between these ports.
fn delivered(sniffer: &OwnedFd, from: u16, to: u16) -> Result<Vec<u8>, Trouble> {
    let end = Instant::now() + ARRIVAL;
    let mut packet = vec![0; PACKET_MAX];
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    while Instant::now() < end {
        match recv(sniffer.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(len) => {
                let header = usize::from(packet[0] & 15) * 4;
                if packet[..len].get(header..header + 4) == Some(&ports) {
                    packet.truncate(len);
                    return Ok(packet);
                }
            }
            Err(_) => {
                let mut fds = [PollFd::new(sniffer.as_fd(), PollFlags::POLLIN)];
                // an interruption is looked at like any arrival
                let _ = poll(&mut fds, PollTimeout::from(10u8));
            }
        }
    }
    Err(Trouble::fail("a datagram to the host itself did not arrive"))
}
