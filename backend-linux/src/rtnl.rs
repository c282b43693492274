//! A small synchronous rtnetlink(7) client: makes and changes interfaces without iproute2.
//!
//! The socket belongs to the network namespace of the thread that called [`Rtnl::open`] and stays there,
//! whatever that thread does afterwards. Each request waits for the kernel's acknowledgement.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth, InfoVlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

/// Largest reply, in octets: the kernel's own bound on one dump message is 32 KiB (af_netlink.c).
const REPLY_MAX: usize = 64 * 1024;

/// What was asked of the kernel, on what, and what it answered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {on}: {source}{}", cure(.source))]
pub struct Error {
    /// The operation, as a verb phrase: "create the veth pair".
    pub doing: &'static str,
    /// The object: an interface name, a path, a thread id.
    pub on: String,
    /// The system's answer; its `raw_os_error` is the errno.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(doing: &'static str, on: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error { doing, on: on.into(), source: source.into() }
    }

    /// The errno of the refused call, where there was one.
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }
}

/// What to try, for the answers that have one cure.
fn cure(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => " (needs root, or a user namespace that owns the network namespace)",
        Some(Errno::EOPNOTSUPP) => " (the kernel has no driver for this kind of interface)",
        _ => "",
    }
}

/// One interface, as RTM_GETLINK tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its network namespace.
    pub index: u32,
    /// Interface name, at most 15 octets.
    pub name: String,
    /// Link-layer address; six octets for Ethernet, empty where the interface has none.
    pub mac: Vec<u8>,
    /// Largest payload, in octets, without the link header.
    pub mtu: u32,
    /// IFF_UP: set up by the administrator.
    pub up: bool,
    /// IFF_RUNNING: up, and has a carrier.
    pub running: bool,
    /// How many asked for every frame on the wire: packet sockets count here, and do not show in IFF_PROMISC.
    pub promiscuity: u32,
}

/// An rtnetlink socket in one network namespace.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
    reply: Vec<u8>,
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// EMFILE, ENFILE; EACCES or EPERM where a sandbox forbids AF_NETLINK.
    pub fn open() -> Result<Rtnl, Error> {
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            Some(SockProtocol::NetlinkRoute),
        )
        .and_then(|fd| bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map(|()| fd));
        let socket = opened.map_err(|errno| Error::new("open", "an rtnetlink socket", errno))?;
        Ok(Rtnl { socket, sequence: 0, reply: vec![0; REPLY_MAX] })
    }

    /// Makes a veth pair; both ends are down.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, EEXIST when a name is taken, EOPNOTSUPP without the veth driver,
    /// EINVAL or ERANGE for a name that cannot be one.
    pub fn create_veth(&mut self, a: &str, b: &str) -> Result<(), Error> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(b.to_owned()));
        let mut link = named(a);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.create(link).map_err(|e| Error::new("create the veth pair", format!("{a}, {b}"), e))
    }

    /// Makes the VLAN interface `name` with the identifier `id` (0 to 4094) on `parent`.
    ///
    /// # Errors
    /// ENODEV when there is no `parent`, EEXIST, ERANGE for an `id` above 4094, EPERM, EOPNOTSUPP.
    pub fn add_vlan(&mut self, parent: &str, id: u16, name: &str) -> Result<(), Error> {
        let on = || format!("{name} on {parent}");
        let lower = self.index(parent).map_err(|e| Error::new("create the VLAN", on(), e))?;
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Link(lower));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)])),
        ]));
        self.create(link).map_err(|e| Error::new("create the VLAN", on(), e))
    }

    /// Makes a bridge without ports, down. It does not snoop on multicast groups, and so sends nothing by itself.
    ///
    /// # Errors
    /// EEXIST, EPERM, EOPNOTSUPP without the bridge driver.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), Error> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]));
        self.create(link).map_err(|e| Error::new("create the bridge", name, e))
    }

    /// Makes `port` a port of `bridge`.
    ///
    /// # Errors
    /// ENODEV, EPERM, EBUSY when it is another's port, ELOOP for a bridge, EINVAL for what cannot be a port (`lo`),
    /// EOPNOTSUPP when `bridge` takes no ports.
    pub fn add_port(&mut self, bridge: &str, port: &str) -> Result<(), Error> {
        let on = || format!("{port} of {bridge}");
        let index = self.index(bridge).map_err(|e| Error::new("make a port", on(), e))?;
        self.set(port, LinkAttribute::Controller(index)).map_err(|e| Error::new("make a port", on(), e))
    }

    /// Sets the interface up.
    ///
    /// # Errors
    /// ENODEV, EPERM, and whatever its driver answers.
    pub fn set_up(&mut self, name: &str) -> Result<(), Error> {
        self.set_flags(name, LinkFlags::Up).map_err(|e| Error::new("set up", name, e))
    }

    /// Sets the interface down.
    ///
    /// # Errors
    /// ENODEV, EPERM.
    pub fn set_down(&mut self, name: &str) -> Result<(), Error> {
        self.set_flags(name, LinkFlags::empty()).map_err(|e| Error::new("set down", name, e))
    }

    /// Gives the interface the Ethernet address `mac`.
    ///
    /// # Errors
    /// ENODEV, EPERM, EADDRNOTAVAIL for a group address.
    pub fn set_mac(&mut self, name: &str, mac: [u8; 6]) -> Result<(), Error> {
        self.set(name, LinkAttribute::Address(mac.to_vec()))
            .map_err(|e| Error::new("set the address of", name, e))
    }

    /// Sets the interface's MTU, in octets.
    ///
    /// # Errors
    /// ENODEV, EPERM, EINVAL outside the driver's bounds.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), Error> {
        self.set(name, LinkAttribute::Mtu(mtu)).map_err(|e| Error::new("set the MTU of", name, e))
    }

    /// Keeps the kernel from giving the interface an IPv6 link-local address, and so from sending by itself.
    /// For a namespace whose /proc/sys is read-only; `disable_ipv6` is the plainer way.
    ///
    /// # Errors
    /// ENODEV, EPERM, EAFNOSUPPORT without IPv6.
    pub fn set_no_link_local(&mut self, name: &str) -> Result<(), Error> {
        let mode = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
        self.set(name, LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)]))
            .map_err(|e| Error::new("turn off the link-local address of", name, e))
    }

    /// Renames the interface; older kernels want it down.
    ///
    /// # Errors
    /// ENODEV, EEXIST, EBUSY while it is up (before Linux 6.2), EPERM.
    pub fn rename(&mut self, name: &str, new_name: &str) -> Result<(), Error> {
        let on = || format!("{name} to {new_name}");
        let index = self.index(name).map_err(|e| Error::new("rename", on(), e))?;
        let mut link = named(new_name);
        link.header.index = index;
        self.call(RouteNetlinkMessage::SetLink(link), 0).map_err(|e| Error::new("rename", on(), e))
    }

    /// Moves the interface into another network namespace, given by an fd of /proc/PID/ns/net.
    ///
    /// # Errors
    /// ENODEV, EEXIST when its name is taken there, EINVAL when it may not leave (`lo`), EPERM.
    pub fn move_to_netns(&mut self, name: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
        self.set(name, LinkAttribute::NetNsFd(netns.as_raw_fd()))
            .map_err(|e| Error::new("move to another network namespace", name, e))
    }

    /// Adds the IPv4 or IPv6 address `address`/`prefix` to the interface. It is good at once: nobody is asked whether it
    /// is taken.
    ///
    /// # Errors
    /// ENODEV, EEXIST, EINVAL for a prefix longer than the address, EPERM, EACCES for IPv6 where it is off.
    pub fn add_address(&mut self, name: &str, address: IpAddr, prefix: u8) -> Result<(), Error> {
        self.address(name, address, prefix)
            .and_then(|new| self.call(RouteNetlinkMessage::NewAddress(new), NLM_F_CREATE | NLM_F_EXCL))
            .map_err(|e| Error::new("add", format!("{address}/{prefix} to {name}"), e))
    }

    /// Takes the address `address`/`prefix` from the interface.
    ///
    /// # Errors
    /// ENODEV, EADDRNOTAVAIL when it has no such address, EPERM.
    pub fn remove_address(&mut self, name: &str, address: IpAddr, prefix: u8) -> Result<(), Error> {
        self.address(name, address, prefix)
            .and_then(|old| self.call(RouteNetlinkMessage::DelAddress(old), 0))
            .map_err(|e| Error::new("remove", format!("{address}/{prefix} from {name}"), e))
    }

    fn address(&mut self, name: &str, address: IpAddr, prefix: u8) -> io::Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(name)?;
        message.header.prefix_len = prefix;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.family = match address {
            IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
            IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
        };
        // IFA_LOCAL is the address itself, IFA_ADDRESS the far end: one and the same but on point-to-point.
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        Ok(message)
    }

    /// Removes the interface; a veth's other end goes with it.
    ///
    /// # Errors
    /// ENODEV, EPERM, EOPNOTSUPP for one that cannot be removed.
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        self.call(RouteNetlinkMessage::DelLink(named(name)), 0).map_err(|e| Error::new("remove", name, e))
    }

    /// The interfaces of the namespace, in index order.
    ///
    /// # Errors
    /// EINTR when the list changed while it was read (ask again); EINVAL for a reply that cannot be decoded.
    pub fn list(&mut self) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        self.exchange(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |link| {
            links.push(link);
        })
        .map_err(|e| Error::new("list", "the interfaces", e))?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The interface called `name`.
    ///
    /// # Errors
    /// ENODEV.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        self.look_up(name).map_err(|e| Error::new("look up", name, e))
    }

    fn look_up(&mut self, name: &str) -> io::Result<Link> {
        let mut found = None;
        self.exchange(RouteNetlinkMessage::GetLink(named(name)), NLM_F_ACK, |link| found = Some(link))?;
        found.ok_or_else(|| Errno::ENODEV.into())
    }

    fn index(&mut self, name: &str) -> io::Result<u32> {
        Ok(self.look_up(name)?.index)
    }

    fn create(&mut self, link: LinkMessage) -> io::Result<()> {
        self.call(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set(&mut self, name: &str, attribute: LinkAttribute) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(attribute);
        self.call(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn set_flags(&mut self, name: &str, flags: LinkFlags) -> io::Result<()> {
        let mut link = named(name);
        link.header.flags = flags;
        link.header.change_mask = LinkFlags::Up;
        self.call(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn call(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(request, flags | NLM_F_ACK, |_| ())
    }

    /// Sends one request and reads its answers up to the acknowledgement or the end of the dump.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(Link),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        sendto(self.socket.as_raw_fd(), &octets, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        loop {
            let len = match recv(self.socket.as_raw_fd(), &mut self.reply, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = &self.reply[..len];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                let whole = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(whole..).unwrap_or_default();
                // An answer to a request that was given up earlier.
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        each(Link::from(link))
                    }
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// A link message that names its interface.
fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Link {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            mac: Vec::new(),
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            running: message.header.flags.contains(LinkFlags::Running),
            promiscuity: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Promiscuity(count) => link.promiscuity = count,
                _ => {}
            }
        }
        link
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netns::Namespace;
    use std::os::fd::AsFd;

    #[test]
    fn a_veth_pair_is_made_changed_and_removed() {
        let ns = Namespace::new().unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        rtnl.create_veth("va", "vb").unwrap();
        rtnl.set_mac("va", [2, 0, 0, 0, 0, 0xa]).unwrap();
        rtnl.set_mtu("va", 9000).unwrap();
        rtnl.set_up("va").unwrap();
        rtnl.set_up("vb").unwrap();
        let va = rtnl.link("va").unwrap();
        assert_eq!((va.mac.as_slice(), va.mtu, va.up), (&[2, 0, 0, 0, 0, 0xa][..], 9000, true));
        rtnl.set_down("va").unwrap();
        rtnl.rename("va", "vc").unwrap();
        let names: Vec<_> = rtnl.list().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names.len(), 3, "lo and both ends: {names:?}");
        assert!(names.contains(&"vc".into()) && !rtnl.link("vc").unwrap().up);
        rtnl.delete("vc").unwrap();
        assert_eq!(rtnl.list().unwrap().len(), 1, "the far end goes with the near one");
    }

    #[test]
    fn addresses_are_added_and_removed() {
        let ns = Namespace::new().unwrap();
        ns.veth_pair("va", "vb").unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        rtnl.add_address("va", "192.0.2.1".parse().unwrap(), 24).unwrap();
        rtnl.add_address("lo", "2001:db8::1".parse().unwrap(), 128).unwrap_err();
        // Only an address of an interface can be bound to.
        ns.enter(|| std::net::UdpSocket::bind("192.0.2.1:0").map(drop)).unwrap().unwrap();
        ns.enter(|| std::net::UdpSocket::bind("192.0.2.2:0").map(drop)).unwrap().unwrap_err();
        let again = rtnl.add_address("va", "192.0.2.1".parse().unwrap(), 24).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EEXIST));
        rtnl.remove_address("va", "192.0.2.1".parse().unwrap(), 24).unwrap();
        ns.enter(|| std::net::UdpSocket::bind("192.0.2.1:0").map(drop)).unwrap().unwrap_err();
        let again = rtnl.remove_address("va", "192.0.2.1".parse().unwrap(), 24).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EADDRNOTAVAIL), "{again}");
    }

    #[test]
    fn a_bridge_takes_a_port_and_makes_it_promiscuous_or_its_driver_is_named_as_missing() {
        let ns = Namespace::new().unwrap();
        ns.veth_pair("va", "vb").unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        if let Err(error) = rtnl.create_bridge("br") {
            assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
            eprintln!("this kernel has no bridge: only the refusal was tested");
            return;
        }
        rtnl.set_up("br").unwrap();
        assert_eq!(rtnl.link("vb").unwrap().promiscuity, 0);
        rtnl.add_port("br", "vb").unwrap();
        assert_eq!((rtnl.link("vb").unwrap().promiscuity, rtnl.link("br").unwrap().promiscuity), (1, 0));
        let wrong = rtnl.add_port("va", "br").unwrap_err();
        assert_eq!(wrong.errno(), Some(Errno::EOPNOTSUPP), "{wrong}");
        rtnl.delete("br").unwrap();
        assert_eq!(rtnl.link("vb").unwrap().promiscuity, 0);
    }

    #[test]
    fn a_vlan_is_made_or_its_driver_named_as_missing() {
        let ns = Namespace::new().unwrap();
        ns.veth_pair("va", "vb").unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        match rtnl.add_vlan("va", 42, "va.42") {
            Ok(()) => {
                rtnl.set_up("va.42").unwrap();
                assert!(rtnl.link("va.42").unwrap().up);
                let wrong = rtnl.add_vlan("va", 4095, "va.4095").unwrap_err();
                assert_eq!(wrong.errno(), Some(Errno::ERANGE), "{wrong}");
            }
            Err(error) => {
                assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
                assert!(error.to_string().contains("no driver"), "{error}");
                eprintln!("this kernel has no 8021q: only the refusal was tested");
            }
        }
    }

    #[test]
    fn an_end_moves_to_another_namespace() {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        here.veth_pair("va", "vb").unwrap();
        here.rtnl().unwrap().move_to_netns("vb", there.as_fd()).unwrap();
        assert_eq!(here.rtnl().unwrap().link("vb").unwrap_err().errno(), Some(Errno::ENODEV));
        assert_eq!(there.rtnl().unwrap().link("vb").unwrap().name, "vb");
    }

    #[test]
    fn errors_say_what_on_what_and_keep_the_errno() {
        let ns = Namespace::new().unwrap();
        let mut rtnl = ns.rtnl().unwrap();
        type Case = (&'static str, Errno, fn(&mut Rtnl) -> Result<(), Error>);
        let cases: [Case; 7] = [
            ("cannot set up none: ", Errno::ENODEV, |r| r.set_up("none")),
            ("cannot remove none: ", Errno::ENODEV, |r| r.delete("none")),
            ("cannot create the VLAN v on none: ", Errno::ENODEV, |r| r.add_vlan("none", 1, "v")),
            ("cannot rename none to some: ", Errno::ENODEV, |r| r.rename("none", "some")),
            ("cannot create the veth pair lo, vb: ", Errno::EEXIST, |r| r.create_veth("lo", "vb")),
            ("cannot remove lo: ", Errno::EOPNOTSUPP, |r| r.delete("lo")),
            ("cannot create the veth pair /, b: ", Errno::EINVAL, |r| r.create_veth("/", "b")),
        ];
        for (text, errno, call) in cases {
            let error = call(&mut rtnl).unwrap_err();
            assert_eq!(error.errno(), Some(errno), "{error}");
            assert!(error.to_string().starts_with(text), "{error}");
        }
        let long = rtnl.create_veth("sixteen-octets-x", "b").unwrap_err();
        assert!(matches!(long.errno(), Some(Errno::ERANGE | Errno::EINVAL)), "{long}");
        // The socket is still in step after every refusal.
        assert_eq!(rtnl.list().unwrap()[0].name, "lo");
    }
}
