//! A host on smoltcp: answers echo requests, and gives back on TCP port 7 what it gets there (RFC 862).
//!
//! usage: smoltcp-client INTERFACE MAC IPV4 IPV6 ethernet|ip
//!
//! The last is the medium that smoltcp is told of; see [`Whole`]. Ends with its input.

use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RawSocket, wait};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// smoltcp reads as many bytes as its MTU, and that must be BIOCGBLEN: with `Medium::Ethernet` it adds 14, and read(2) is
/// EINVAL on every BSD. With `Medium::Ip` it adds nothing. Frames are the same; that they are Ethernet's is said here.
struct Whole {
    socket: RawSocket,
    medium: Medium,
}

impl Device for Whole {
    type RxToken<'a> = <RawSocket as Device>::RxToken<'a>;
    type TxToken<'a> = <RawSocket as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.socket.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.socket.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.socket.capabilities();
        if self.medium == Medium::Ip {
            capabilities.medium = Medium::Ethernet;
            capabilities.max_transmission_unit = 1514;
        }
        capabilities
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let mac = EthernetAddress::from_str(&arguments[2]).expect("MAC");
    let medium = if arguments[5] == "ip" { Medium::Ip } else { Medium::Ethernet };
    let socket = RawSocket::new(&arguments[1], medium).expect("RawSocket");
    let descriptor = socket.as_raw_fd();
    let mut device = Whole { socket, medium };
    let mut interface = Interface::new(Config::new(mac.into()), &mut device, Instant::now());
    interface.update_ip_addrs(|addresses| {
        for (address, prefix) in [(&arguments[3], 24), (&arguments[4], 64)] {
            addresses.push(IpCidr::new(IpAddress::from_str(address).expect("address"), prefix)).expect("room");
        }
    });
    let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
    let mut sockets = SocketSet::new(Vec::new());
    let echo = sockets.add(tcp::Socket::new(buffer(), buffer()));
    std::thread::spawn(|| {
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new()).expect("stdin");
        std::process::exit(0);
    });
    println!("open");
    loop {
        interface.poll(Instant::now(), &mut device, &mut sockets);
        let socket = sockets.get_mut::<tcp::Socket>(echo);
        if !socket.is_open() {
            socket.listen(7).expect("listen");
        }
        while socket.can_recv() && socket.can_send() {
            let room = socket.send_capacity() - socket.send_queue();
            let got = socket.recv(|data| (room.min(data.len()), data[..room.min(data.len())].to_vec())).expect("recv");
            socket.send_slice(&got).expect("send");
        }
        if !socket.may_recv() && socket.may_send() && !socket.can_recv() {
            socket.close();
        }
        let delay = interface.poll_delay(Instant::now(), &sockets);
        let delay = delay.map_or(Duration::from_millis(100), |delay| delay.into());
        wait(descriptor, Some(delay.min(Duration::from_millis(100)).into())).expect("select");
    }
}
