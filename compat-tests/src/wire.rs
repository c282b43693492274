//! The interfaces that stand for shmif0, shmif1 and lo0, in their namespace.
//!
//! shmif0 and shmif1 are a veth pair. A veth has no address filter, and goes when its other end does; so where that matters,
//! shmif0 is a bridge whose only port is the other end of shmif1's pair: it takes frames for others only while it is
//! promiscuous.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpfdev_backend_linux::netns::{Error, Namespace};
use bpfdev_backend_linux::rtnl::{Link, Rtnl};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, send};

use crate::oracle::call::Trouble;
use crate::oracle::mask::OWN_ADDRESS;
use crate::oracle::script::Needs;
use crate::sys;

/// The interface that is observed.
pub const OBSERVED: &str = "shmif0";
/// The far end of its wire.
pub const PEER: &str = "shmif1";
/// The loopback interface.
pub const LOOPBACK: &str = "lo0";
/// The bridge's port.
const PORT: &str = "port";
/// The far end of shmif1 when shmif0 was removed.
const SPARE: &str = "spare";

/// The address Linux gives a loopback interface without one that is set up.
const LOCALHOST: (Ipv4Addr, u8) = (Ipv4Addr::LOCALHOST, 8);

/// ETH_P_ALL: every frame.
const EVERY_FRAME: u16 = 3;

/// What the interfaces begin with, in bytes.
const ETHERNET_MTU: u32 = 1500;

/// How long a frame may take through a veth pair.
const ARRIVAL: Duration = Duration::from_secs(5);

/// The pair, and sockets at both ends. The calling thread must be in the namespace.
pub struct Wire {
    namespace: Arc<Namespace>,
    rtnl: Rtnl,
    ends: Option<Ends>,
    /// shmif0 is a bridge.
    bridged: bool,
    /// An interface was changed: the next recording gets a new pair.
    changed: bool,
    /// shmif0 is there, and up.
    up: bool,
    /// The addresses this recording has given.
    addresses: Vec<(String, Ipv4Addr, u8)>,
}

/// Sockets at the ends of one pair.
struct Ends {
    sender: OwnedFd,
    /// At shmif0 it is attached before any descriptor, so given every frame after them: what it has, they have. At the
    /// bridge's port it is given every frame before the bridge.
    witness: OwnedFd,
    /// Where the witness is.
    near: u32,
    /// Gets what comes out at the far end, once somebody listens there.
    listener: Option<OwnedFd>,
    /// Where the far end is.
    far: u32,
}

impl Wire {
    /// Makes the pair in `namespace`, and calls its loopback interface lo0.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(namespace: Arc<Namespace>) -> anyhow::Result<Wire> {
        let mut rtnl = namespace.rtnl()?;
        rtnl.set_down("lo")?;
        rtnl.rename("lo", LOOPBACK)?;
        let addresses = Vec::new();
        let mut wire =
            Wire { namespace, rtnl, ends: None, bridged: false, changed: true, up: false, addresses };
        wire.make(false)?;
        Ok(wire)
    }

    fn make(&mut self, bridged: bool) -> Result<(), Error> {
        self.ends = None;
        for (interface, address, prefix) in std::mem::take(&mut self.addresses) {
            if interface == LOOPBACK {
                self.rtnl.remove_address(LOOPBACK, address.into(), prefix)?;
            }
        }
        self.set_loopback_up()?;
        for interface in [OBSERVED, PEER] {
            if self.rtnl.link(interface).is_ok() {
                self.rtnl.delete(interface)?;
            }
        }
        let near = if bridged { PORT } else { OBSERVED };
        self.namespace.veth_pair(near, PEER)?;
        if bridged {
            self.rtnl.create_bridge(OBSERVED)?;
            self.namespace.silence(&mut self.rtnl, OBSERVED)?;
        }
        self.rtnl.set_mac(OBSERVED, OWN_ADDRESS)?;
        if bridged {
            self.rtnl.add_port(OBSERVED, PORT)?;
            self.rtnl.set_up(OBSERVED)?;
        }
        let (far, near) = (self.rtnl.link(PEER)?.index, self.rtnl.link(near)?.index);
        let sender = packet_socket(far, 0)?;
        let witness = packet_socket(near, EVERY_FRAME)?;
        self.ends = Some(Ends { sender, witness, near, listener: None, far });
        (self.up, self.bridged, self.changed) = (true, bridged, false);
        Ok(())
    }

    /// The interfaces as a recording finds them.
    ///
    /// # Errors
    /// [`Trouble`]; where the kernel has no bridge, what needs one is skipped.
    pub fn reset(&mut self, needs: &Needs) -> Result<(), Trouble> {
        if self.changed || self.bridged != needs.own_interface {
            self.changed = true;
            match self.make(needs.own_interface) {
                Ok(()) => {}
                Err(error) if needs.own_interface && error.errno() == Some(Errno::EOPNOTSUPP) => {
                    return Err(Trouble::Skip(format!("no interface has an address filter here: {error}")));
                }
                Err(error) => return Err(Trouble::fail(error.to_string())),
            }
        }
        for interface in &needs.down {
            self.set_up(interface, false)?;
        }
        Ok(())
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn set_up(&mut self, interface: &str, up: bool) -> Result<(), Trouble> {
        self.changed = true;
        if interface == OBSERVED {
            self.up = up;
        }
        if !up {
            return refused(self.rtnl.set_down(interface));
        }
        if interface == LOOPBACK {
            return refused(self.set_loopback_up());
        }
        refused(self.rtnl.set_up(interface))?;
        // the far end of a veth sends once it has noticed
        let end = Instant::now() + ARRIVAL;
        while interface == OBSERVED && !self.bridged && !self.rtnl.link(PEER).is_ok_and(|link| link.running) {
            if Instant::now() > end {
                return Err(Trouble::fail("the far end does not notice that the near one is up"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// NetBSD's loopback has the addresses it was given, and no other.
    fn set_loopback_up(&mut self) -> Result<(), Error> {
        self.rtnl.set_up(LOOPBACK)?;
        let (address, prefix) = LOCALHOST;
        if self.addresses.contains(&(LOOPBACK.to_owned(), address, prefix)) {
            return Ok(());
        }
        unless(Errno::EADDRNOTAVAIL, self.rtnl.remove_address(LOOPBACK, address.into(), prefix))
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn add_address(&mut self, interface: &str, address: Ipv4Addr, prefix: u8) -> Result<(), Trouble> {
        self.changed = true;
        // it may have it: giving it once more changes nothing
        refused(unless(Errno::EEXIST, self.rtnl.add_address(interface, address.into(), prefix)))?;
        let given = (interface.to_owned(), address, prefix);
        if !self.addresses.contains(&given) {
            self.addresses.push(given);
        }
        Ok(())
    }

    /// Removes an interface. The other end of a veth goes with it; where shmif1 does so, it is made anew.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn destroy(&mut self, interface: &str) -> Result<(), Trouble> {
        self.changed = true;
        if interface == OBSERVED {
            self.up = false;
        }
        self.ends = None;
        self.addresses.retain(|(other, ..)| other != interface);
        refused(self.rtnl.delete(interface))?;
        if interface == PEER || self.bridged {
            return Ok(());
        }
        refused(self.namespace.veth_pair(PEER, SPARE))
    }

    /// The addresses this recording has given.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.addresses.iter().map(|&(_, address, _)| address).collect()
    }

    /// What rtnetlink says of an interface.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn link(&mut self, interface: &str) -> Result<Link, Trouble> {
        self.rtnl.link(interface).map_err(|error| Trouble::fail(error.to_string()))
    }

    /// Sets the MTU, and that of what is behind the interface where it would carry less.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn set_mtu(&mut self, interface: &str, mtu: u32) -> Result<(), Trouble> {
        self.changed = true;
        refused(self.rtnl.set_mtu(interface, mtu))?;
        // whatever the wire carries reaches it
        let rest = if self.bridged { &[PEER, PORT][..] } else { &[PEER] };
        for end in rest.iter().filter(|_| interface == OBSERVED && mtu > ETHERNET_MTU) {
            refused(self.rtnl.set_mtu(end, mtu))?;
        }
        Ok(())
    }

    /// Listens at the far end from now on; what came out there before is forgotten.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn listen_far(&mut self) -> Result<(), Trouble> {
        if let Some(ends) = &mut self.ends {
            if ends.listener.is_none() {
                ends.listener = Some(refused(packet_socket(ends.far, EVERY_FRAME))?);
            }
            self.far_frames();
        }
        Ok(())
    }

    /// Frames that came out at the far end since [`Wire::listen_far`] or the last call.
    pub fn far_frames(&mut self) -> Vec<Vec<u8>> {
        let Some(listener) = self.ends.as_ref().and_then(|ends| ends.listener.as_ref()) else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        let mut frame = vec![0; 1 << 16];
        while let Ok((length, from)) = recvfrom::<LinkAddr>(listener.as_raw_fd(), &mut frame) {
            // what is sent from there is seen there, too
            if from.is_none_or(|from| from.pkttype() != libc::PACKET_OUTGOING) {
                frames.push(frame[..length.min(1 << 16)].to_vec());
            }
        }
        frames
    }

    /// Sends a frame from the far end and waits until the near end's taps have it, or do not get it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn receive(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        if self.bridged && !passes_a_bridge(frame) {
            return Err(Trouble::Skip(
                "a bridge, here for its address filter, does not take this frame".into(),
            ));
        }
        let ends = match &self.ends {
            Some(ends) => ends,
            None if self.up => return Err(Trouble::fail("shmif1, from which frames are sent, is gone")),
            None => return Ok(()),
        };
        while next(&ends.witness).is_some() {}
        let sent = send(ends.sender.as_raw_fd(), frame, MsgFlags::empty());
        if !self.up && !self.bridged {
            // it is lost, or cannot even leave
            return Ok(());
        }
        match sent {
            Ok(_) => {}
            Err(Errno::EMSGSIZE) => {
                return Err(Trouble::Skip(format!("a frame of {} bytes does not fit a veth", frame.len())));
            }
            Err(errno) => return Err(Trouble::fail(format!("sending from the far end: {errno}"))),
        }
        let end = Instant::now() + ARRIVAL;
        loop {
            match next(&ends.witness) {
                // Closing a packet socket waits until the kernel is done with every frame it was at work on (the
                // synchronize_net of packet_release): the bridge has passed this one on, or dropped it.
                Some(true) if self.bridged => {
                    return refused(packet_socket(ends.near, EVERY_FRAME).map(drop));
                }
                Some(true) => return Ok(()),
                Some(false) => {}
                None if Instant::now() < end => {
                    let mut fds = [PollFd::new(ends.witness.as_fd(), PollFlags::POLLIN)];
                    // an interruption is looked at like any arrival
                    let _ = poll(&mut fds, PollTimeout::from(10u8));
                }
                None => return Err(Trouble::fail("a frame sent from the far end did not arrive")),
            }
        }
    }
}

/// Takes a frame from the socket: whether it came from the wire. `None`: there is none. The error an interface leaves
/// when it goes down is no frame either.
fn next(socket: &OwnedFd) -> Option<bool> {
    let (_, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut [0; 64]).ok()?;
    Some(from.is_none_or(|from| from.pkttype() != libc::PACKET_OUTGOING))
}

/// Whether a bridge takes the frame at all: not what is for the bridges on a link themselves (IEEE 802.1Q 8.6.3), nor what
/// no station can have sent.
fn passes_a_bridge(frame: &[u8]) -> bool {
    let between_bridges =
        frame.starts_with(&[1, 0x80, 0xc2, 0, 0]) && frame.get(5).is_some_and(|last| *last < 16);
    let sent_by_a_station = frame.get(6..12).is_some_and(|from| from[0] & 1 == 0 && from != [0; 6]);
    sent_by_a_station && !between_bridges
}

fn packet_socket(index: u32, protocol: u16) -> Result<OwnedFd, Error> {
    sys::packet_socket(index, protocol).map_err(|source| Error {
        doing: "open a packet socket on",
        on: format!("interface {index}"),
        source,
    })
}

/// The result, where this refusal is as good as success.
fn unless(harmless: Errno, result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|error| if error.errno() == Some(harmless) { Ok(()) } else { Err(error) })
}

fn refused<T>(result: Result<T, Error>) -> Result<T, Trouble> {
    result.map_err(|error| Trouble::fail(error.to_string()))
}
