//! The host around the emulated descriptors: its interfaces' flags, and as much of its IP as the recordings use.

use std::net::Ipv4Addr;

use bpfdev_core::backend::Visible;
use bpfdev_core::loopback::LoopbackNetwork;

use super::call::{Answer, Call, Trouble};
use super::mask::OWN_ADDRESS;

/// IFF_UP, IFF_RUNNING, IFF_PROMISC of NetBSD.
const UP: u32 = 0x1;
const RUNNING: u32 = 0x40;
const PROMISC: u32 = 0x100;
/// IFF_BROADCAST, IFF_SIMPLEX, IFF_MULTICAST: an Ethernet's.
const ETHERNET: u32 = 0x8802;
/// IFF_LOOPBACK, IFF_MULTICAST.
const LOOPBACK: u32 = 0x8008;

struct Port {
    name: &'static str,
    up: bool,
    addresses: Vec<(Ipv4Addr, u8)>,
}

/// The flags NetBSD gives an Ethernet, or the loopback: a software interface runs when it is up.
pub fn interface_flags(loopback: bool, up: bool, promiscuous: bool) -> u32 {
    let mut flags = if loopback { LOOPBACK } else { ETHERNET };
    if up {
        flags |= UP | RUNNING;
    }
    if promiscuous {
        flags |= PROMISC;
    }
    flags
}

/// Interfaces and addresses.
pub struct Host {
    network: LoopbackNetwork,
    ports: Vec<Port>,
}

impl Host {
    /// A host with `shmif0`, `shmif1` and `lo0`; those of `down` are down.
    pub fn new(network: LoopbackNetwork, down: &[String]) -> Host {
        let port = |name: &'static str| {
            let up = !down.iter().any(|down| down == name);
            Port { name, up, addresses: Vec::new() }
        };
        Host { network, ports: ["shmif0", "shmif1", "lo0"].map(port).into() }
    }

    fn port(&mut self, name: &str) -> Result<&mut Port, Trouble> {
        let port = self.ports.iter_mut().find(|port| port.name == name);
        port.ok_or_else(|| Trouble::fail(format!("there is no interface {name}")))
    }

    /// Does what concerns the host and no descriptor.
    ///
    /// # Errors
    /// [`Trouble`], also for every call of a descriptor.
    pub fn call(&mut self, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::SetUp { interface, up } => {
                self.port(interface)?.up = *up;
                self.network.set_up(interface, *up);
                self.flags(interface)
            }
            Call::GetFlags { interface } => self.flags(interface),
            Call::SetMtu { interface, mtu } => {
                self.port(interface)?;
                self.network.set_mtu(interface, *mtu);
                Ok(Answer::ok(0))
            }
            Call::Destroy { interface } => {
                self.port(interface)?;
                self.ports.retain(|port| port.name != interface);
                self.network.remove(interface);
                Ok(Answer::ok(0))
            }
            Call::AddAddress { interface, address, prefix } => {
                self.port(interface)?.addresses.push((*address, *prefix));
                Ok(Answer::ok(0))
            }
            Call::Udp { to, port, payload } => Ok(self.udp(*to, *port, payload)),
            _ => Err(Trouble::fail(format!("{call:?} is no business of the host's"))),
        }
    }

    fn flags(&mut self, interface: &str) -> Result<Answer, Trouble> {
        let promiscuous = self.network.is_promiscuous(interface);
        let port = self.port(interface)?;
        let flags = interface_flags(port.name == "lo0", port.up, promiscuous);
        Ok(Answer { flags: Some(flags), ..Answer::ok(0) })
    }

    /// A datagram to an address of the host goes over lo0, where no one listens; one to a neighbour makes the host ask
    /// for its Ethernet address.
    fn udp(&self, to: Ipv4Addr, port: u16, payload: &[u8]) -> Answer {
        let sent = Answer::ok(i64::try_from(payload.len()).unwrap_or(i64::MAX));
        let mut addresses = self.ports.iter().filter(|port| port.up).flat_map(|port| {
            port.addresses.iter().map(move |&(address, prefix)| (port.name, address, prefix))
        });
        if addresses.clone().any(|(_, address, _)| address == to) {
            let datagram = ip(17, 64, [to, to], &udp_datagram(to, port, payload));
            let unreachable = port_unreachable(&datagram);
            for packet in [Some(datagram), unreachable].into_iter().flatten() {
                self.network.send("lo0", &[&2u32.to_ne_bytes(), &packet[..]].concat(), Visible::ToTaps);
            }
            return sent;
        }
        let on_link = |&(_, address, prefix): &(&str, Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            address.to_bits() & mask == to.to_bits() & mask
        };
        match addresses.find(on_link) {
            Some((interface, from, _)) if interface != "lo0" => {
                self.network.send(interface, &arp_request(from, to), Visible::ToTaps);
                sent
            }
            _ => Answer::error("EHOSTUNREACH"),
        }
    }
}

fn arp_request(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(OWN_ADDRESS);
    // ARP; Ethernet, IPv4, their lengths, request
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(OWN_ADDRESS);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(to.octets());
    frame
}

/// A packet of the host's, from the first address to the second, as it passes lo0: the header's checksum is left to the
/// hardware.
fn ip(protocol: u8, ttl: u8, addresses: [Ipv4Addr; 2], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, ttl, protocol, 0, 0]);
    packet.extend(addresses.map(|address| address.octets()).concat());
    packet.extend(payload);
    packet
}

/// An ephemeral port, as any other: recordings are compared without it.
const SOURCE_PORT: u16 = 61893;

fn udp_datagram(host: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let [a, b, c, d] = host.octets();
    let words = [[a, b], [c, d], [a, b], [c, d], [0, 17], len.to_be_bytes()];
    // what the hardware would go on from: the sum over the pseudo-header
    let sum = sum(words.concat().as_slice());
    let fields = [SOURCE_PORT, port, len, sum];
    fields.iter().flat_map(|field| field.to_be_bytes()).chain(payload.iter().copied()).collect()
}

/// What NetBSD answers an IPv4 datagram that nobody listens for: ICMP 3/3 with its header and eight bytes, and the largest
/// TTL. `None`: this is no IPv4 packet.
pub fn port_unreachable(datagram: &[u8]) -> Option<Vec<u8>> {
    let header = usize::from(datagram.first()? & 15) * 4;
    let address = |at: usize| datagram.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let [from, to] = [Ipv4Addr::from_bits(address(12)?), Ipv4Addr::from_bits(address(16)?)];
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(datagram.iter().take(header + 8));
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(ip(1, 255, [to, from], &message))
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |&low| u32::from(low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}
