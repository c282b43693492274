//! Traffic between the two hosts, by their kernels' own sockets: what a client captures. It is bounded, and over when the
//! calls return: each waits until what it sent has arrived.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use etherparse::{PacketBuilder, VlanId};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, send, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::host::{Host, Stage};
use crate::sys;

/// How long a packet may take to the other host.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a TCP connection: many segments, and with offloads some of 64 KiB.
const STREAM: usize = 300_000;

/// All kinds, in turn: ARP, ping over IPv4 and IPv6, UDP both ways with small and large datagrams, UDP in a VLAN, TCP.
///
/// # Errors
/// Something did not arrive.
pub fn mixed(stage: &Stage) -> anyhow::Result<()> {
    let (here, there) = (&stage.here, &stage.there);
    arp(here, there)?;
    ping(here, there.ipv4.into(), 3)?;
    ping(here, there.ipv6.into(), 3)?;
    for len in [0, 18, 512, 1472, 4000] {
        udp((here, here.ipv4.into()), (there, there.ipv4.into()), len)?;
        udp((there, there.ipv4.into()), (here, here.ipv4.into()), len)?;
        udp((here, here.ipv6.into()), (there, there.ipv6.into()), len)?;
    }
    for len in [0, 100, 1468] {
        tagged(here, there, len)?;
        tagged(there, here, len)?;
    }
    tcp((here, here.ipv4.into()), (there, there.ipv4.into()), STREAM)?;
    tcp((there, there.ipv6.into()), (here, here.ipv6.into()), STREAM)?;
    Ok(())
}

/// Sends one UDP datagram of `len` octets from one host's address to the other's.
///
/// # Errors
/// It does not arrive.
pub fn udp(from: (&Host, IpAddr), to: (&Host, IpAddr), len: usize) -> anyhow::Result<()> {
    let far = to.0.namespace.enter(|| UdpSocket::bind((to.1, 0)))??;
    let near = from.0.namespace.enter(|| UdpSocket::bind((from.1, 0)))??;
    far.set_read_timeout(Some(PATIENCE))?;
    let sent = octets(len);
    near.send_to(&sent, far.local_addr()?)?;
    let mut received = vec![0; len + 1];
    let what = || format!("UDP, {len} octets from {} to {}", from.1, to.1);
    let (count, _) = far.recv_from(&mut received).with_context(what)?;
    ensure!(received.get(..count) == Some(&sent[..]), "{}: {count} others came", what());
    Ok(())
}

/// Sends `len` octets over a TCP connection that one host makes to the other.
///
/// # Errors
/// They do not arrive.
pub fn tcp(from: (&Host, IpAddr), to: (&Host, IpAddr), len: usize) -> anyhow::Result<()> {
    let listener = to.0.namespace.enter(|| TcpListener::bind((to.1, 0)))??;
    let address = listener.local_addr()?;
    // the kernel takes the connection, whether it is accepted yet or not
    let mut near = from.0.namespace.enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    let (mut far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
    }
    let sent = octets(len);
    let received = thread::scope(|scope| {
        let server = scope.spawn(move || -> std::io::Result<Vec<u8>> {
            let mut received = Vec::new();
            far.read_to_end(&mut received)?;
            Ok(received)
        });
        near.write_all(&sent)?;
        near.shutdown(Shutdown::Write)?;
        // when there is nothing more to read, the other end's FIN has come
        near.read_to_end(&mut Vec::new())?;
        Ok::<_, anyhow::Error>(server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??)
    });
    let what = || format!("TCP, {len} octets from {} to {}", from.1, to.1);
    ensure!(received.with_context(what)? == sent, "{}: others came", what());
    Ok(())
}

/// Has the other host's kernel answer so many echo requests.
///
/// # Errors
/// One is not answered.
pub fn ping(from: &Host, to: IpAddr, count: u16) -> anyhow::Result<()> {
    for sequence in 1..=count {
        ensure!(echo(from, to, sequence, PATIENCE)?, "ping {to}: echo request {sequence} is not answered");
    }
    Ok(())
}

/// As ping(8) does: sends one echo request after the other, until so many are answered; gives how many that took.
///
/// # Errors
/// After the most that may be sent, too few are answered.
pub fn ping_until(from: &Host, to: IpAddr, answers: u16, most: u16) -> anyhow::Result<u16> {
    let mut answered = 0;
    for sequence in 1..=most {
        if echo(from, to, sequence, Duration::from_secs(2))? {
            answered += 1;
        }
        if answered == answers {
            return Ok(sequence);
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("{to} answered {answered} of {most} echo requests")
}

/// The identifier of our echo requests.
const IDENTIFIER: [u8; 2] = [0xbf, 0xde];

/// Sends one echo request, and says whether it is answered in this time.
///
/// # Errors
/// It cannot be sent.
fn echo(from: &Host, to: IpAddr, sequence: u16, patience: Duration) -> anyhow::Result<bool> {
    let v4 = to.is_ipv4();
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket =
        from.namespace.enter(|| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol))??;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
    let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
    let identity = [&IDENTIFIER[..], &sequence.to_be_bytes()].concat();
    let mut message = [&[request, 0, 0, 0][..], &identity, &octets(56)].concat();
    if v4 {
        // over ICMPv6 the kernel fills it in
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    sendto(socket.as_raw_fd(), &message, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    let end = Instant::now() + patience;
    let mut buffer = [0; 1 << 11];
    while Instant::now() < end {
        let received = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(len) => buffer.get(..len).unwrap_or_default(),
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        // a raw IPv4 socket's packets have their header
        let icmp = if v4 { received.get(20..).unwrap_or_default() } else { received };
        if icmp.first() == Some(&reply) && icmp.get(4..8) == Some(&identity[..]) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX))
}

/// Asks for the other host's Ethernet address, and waits for its answer.
///
/// # Errors
/// There is none, or another's.
pub fn arp(from: &Host, to: &Host) -> anyhow::Result<()> {
    const ARP: u16 = 0x0806;
    let index = from.namespace.rtnl()?.link(from.interface)?.index;
    let socket = from.namespace.enter(|| sys::packet_socket(index, ARP))??;
    let addresses = [&from.mac[..], &from.ipv4.octets(), &[0; 6], &to.ipv4.octets()].concat();
    let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &addresses].concat();
    let frame = [&[0xff; 6][..], &from.mac, &ARP.to_be_bytes(), &request].concat();
    send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
    // what is sent is seen here, too
    let answer = [&[0, 2][..], &to.mac, &to.ipv4.octets()].concat();
    receive(&socket, |received| received.get(20..32) == Some(&answer[..]))
        .with_context(|| format!("the answer of {} to an ARP request", to.ipv4))
}

/// The VLAN of tagged frames.
pub const VLAN: u16 = 7;

/// The UDP ports of tagged frames.
pub const TAGGED_PORTS: [u16; 2] = [50_007, 60_007];

/// Sends a UDP datagram of `len` octets in a frame with a VLAN tag: a whole frame, since not every kernel has VLAN
/// interfaces. What receives it takes the tag off, as it does on any interface.
///
/// # Errors
/// It does not arrive.
pub fn tagged(from: &Host, to: &Host, len: usize) -> anyhow::Result<()> {
    const EVERY_FRAME: u16 = 3;
    let socket = |host: &Host, protocol| -> anyhow::Result<OwnedFd> {
        let index = host.namespace.rtnl()?.link(host.interface)?.index;
        Ok(host.namespace.enter(|| sys::packet_socket(index, protocol))??)
    };
    let [source, destination] = TAGGED_PORTS;
    let vlan = VlanId::try_new(VLAN).context("a VLAN identifier")?;
    let packet = PacketBuilder::ethernet2(from.mac, to.mac)
        .single_vlan(vlan)
        .ipv4(from.ipv4.octets(), to.ipv4.octets(), 64)
        .udp(source, destination);
    let (mut frame, payload) = (Vec::new(), octets(len));
    packet.write(&mut frame, &payload).context("a frame with a VLAN tag")?;
    let far = socket(to, EVERY_FRAME)?;
    send(socket(from, 0)?.as_raw_fd(), &frame, MsgFlags::empty())?;
    // both addresses, then what follows the tag
    let untagged = [&frame[..12], &frame[16..]].concat();
    receive(&far, |received| received == untagged)
        .with_context(|| format!("a tagged frame with {len} octets of payload from {}", from.ipv4))
}

/// Waits for a frame.
fn receive(socket: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 1 << 11];
    while Instant::now() < end {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100u8))?;
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(len) if wanted(buffer.get(..len).unwrap_or_default()) => return Ok(()),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bail!("it did not come within {} s", PATIENCE.as_secs())
}

/// So many octets, of which no two neighbours are alike.
fn octets(len: usize) -> Vec<u8> {
    (0u8..251).cycle().take(len).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clients::cache::Built;

    #[test]
    fn everything_arrives() {
        mixed(&Stage::new(Built::default(), crate::place::Front::Fuse).unwrap()).unwrap();
    }
}
