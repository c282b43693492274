//! The veth pair that stands for shmif0 and shmif1, in its namespace.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::netns::{Error, Namespace};
use bpfdev_backend_linux::rtnl::Rtnl;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, send};

use super::super::call::{Answer, Call, Trouble};
use super::super::mask::OWN_ADDRESS;
use crate::sys;

const OBSERVED: &str = "shmif0";
const PEER: &str = "shmif1";
/// The far end of whichever is left when the other is removed.
const SPARE: &str = "spare";

/// ETH_P_ALL: every frame.
const EVERY_FRAME: u16 = 3;

/// How long a frame may take through a veth pair.
const ARRIVAL: Duration = Duration::from_secs(5);

/// The pair, and sockets at both ends. The calling thread must be in the namespace.
pub struct Wire<'a> {
    namespace: &'a Namespace,
    rtnl: Rtnl,
    ends: Option<Ends>,
    /// An interface was changed: the next recording gets a new pair.
    changed: bool,
    up: bool,
}

/// Sockets at the ends of one pair.
struct Ends {
    sender: OwnedFd,
    /// Attached before any descriptor, so given every frame after them: what it has, they have.
    witness: OwnedFd,
}

impl<'a> Wire<'a> {
    /// Makes the pair in `namespace`, and calls its loopback interface lo0.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(namespace: &'a Namespace) -> anyhow::Result<Wire<'a>> {
        let mut rtnl = namespace.rtnl()?;
        rtnl.set_down("lo")?;
        rtnl.rename("lo", "lo0")?;
        rtnl.set_up("lo0")?;
        let mut wire = Wire { namespace, rtnl, ends: None, changed: true, up: false };
        wire.make()?;
        Ok(wire)
    }

    fn make(&mut self) -> anyhow::Result<()> {
        for interface in [OBSERVED, PEER] {
            if self.rtnl.link(interface).is_ok() {
                self.rtnl.delete(interface)?;
            }
        }
        self.namespace.veth_pair(OBSERVED, PEER)?;
        self.rtnl.set_mac(OBSERVED, OWN_ADDRESS)?;
        self.rtnl.set_up("lo0")?;
        let sender = sys::packet_socket(self.rtnl.link(PEER)?.index, 0)?;
        let witness = sys::packet_socket(self.rtnl.link(OBSERVED)?.index, EVERY_FRAME)?;
        self.ends = Some(Ends { sender, witness });
        (self.up, self.changed) = (true, false);
        Ok(())
    }

    /// The pair as a recording finds it; the interfaces of `down` are down.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn reset(&mut self, down: &[String]) -> Result<(), Trouble> {
        if self.changed {
            self.make().map_err(|error| Trouble::fail(format!("the veth pair: {error:#}")))?;
        }
        for interface in down {
            self.set_up(interface, false)?;
        }
        Ok(())
    }

    fn set_up(&mut self, interface: &str, up: bool) -> Result<(), Trouble> {
        self.changed = true;
        if interface == OBSERVED {
            self.up = up;
        }
        if !up {
            return refused(self.rtnl.set_down(interface));
        }
        refused(self.rtnl.set_up(interface))?;
        // the far end sends once it has noticed
        let end = Instant::now() + ARRIVAL;
        while interface == OBSERVED && !self.rtnl.link(PEER).is_ok_and(|link| link.running) {
            if Instant::now() > end {
                return Err(Trouble::fail("the far end does not notice that the near one is up"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Removes an interface. The other end of a veth goes with it, and is made anew.
    fn destroy(&mut self, interface: &str) -> Result<(), Trouble> {
        self.changed = true;
        self.up = false;
        self.ends = None;
        refused(self.rtnl.delete(interface))?;
        let left = if interface == OBSERVED { PEER } else { OBSERVED };
        refused(self.namespace.veth_pair(left, SPARE))
    }

    /// Does what concerns the interfaces and no descriptor.
    ///
    /// # Errors
    /// [`Trouble`]; what the host's own stack would answer is skipped.
    pub fn call(&mut self, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::Receive { frame } => self.receive(frame)?,
            Call::SetUp { interface, up } => self.set_up(interface, *up)?,
            Call::SetMtu { interface, mtu } => {
                self.changed = true;
                refused(self.rtnl.set_mtu(interface, *mtu))?;
            }
            Call::Destroy { interface } => self.destroy(interface)?,
            Call::GetFlags { .. } => {
                return Err(Trouble::Unasked("interface flags are Linux's, which hide promiscuity".into()));
            }
            Call::AddAddress { .. } | Call::Udp { .. } => {
                return Err(Trouble::Skip("the host's own packets are Linux's".into()));
            }
            _ => return Err(Trouble::fail(format!("{call:?} is no business of the wire's"))),
        }
        Ok(Answer::ok(0))
    }

    /// Sends a frame from the far end and waits until the near end's taps have it.
    fn receive(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let Some(ends) = &self.ends else { return Err(Trouble::fail("there is no pair")) };
        while next(&ends.witness).is_some() {}
        let sent = send(ends.sender.as_raw_fd(), frame, MsgFlags::empty());
        if !self.up {
            // it is lost, or cannot even leave
            return Ok(());
        }
        match sent {
            Ok(_) => {}
            Err(nix::errno::Errno::EMSGSIZE) => {
                return Err(Trouble::Skip(format!("a frame of {} bytes does not fit a veth", frame.len())));
            }
            Err(errno) => return Err(Trouble::fail(format!("sending from the far end: {errno}"))),
        }
        let end = Instant::now() + ARRIVAL;
        loop {
            match next(&ends.witness) {
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

fn refused(result: Result<(), Error>) -> Result<(), Trouble> {
    result.map_err(|error| Trouble::fail(error.to_string()))
}
