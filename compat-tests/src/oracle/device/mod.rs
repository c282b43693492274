//! Worlds on Linux in real time: a veth pair in a network namespace of its own, and on it descriptors of a served node, or
//! of this process over packet sockets.

mod sockets;
mod stack;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bpfdev::cli::daemon::Daemon;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::Abi;

use super::call::{Answer, Call, Trouble, World};
use super::corpus;
use super::file::{Filter, Recording};
use super::host::interface_flags;
use super::nodes::Files;
use super::play::{Stage, Tally, all};
use super::real::{Descriptors, RealTime, Surroundings};
use super::script::Needs;
use crate::place::{Front, Place};
use crate::wire::{LOOPBACK, Wire};
use sockets::Sockets;

/// Plays recordings on a device of the dialect `abi`, served by `front`; `plan` is where it runs filters.
///
/// # Errors
/// Without root, or when the device cannot be served or the veth pair not be made.
pub fn play(
    recordings: &[Recording],
    abi: &'static Abi,
    front: Front,
    plan: Option<&str>,
    say: &mut (dyn FnMut(String) + Send),
) -> anyhow::Result<Tally> {
    with_device(abi, front, plan, &mut |stage| all(recordings, stage, say))
}

/// Calls `act` with a stage on a device of its own, served by `front`; `plan` is where it runs filters.
///
/// # Errors
/// Without root, or when the device cannot be served or the veth pair not be made; the device ended meanwhile.
pub fn with_device<T: Send>(
    abi: &'static Abi,
    front: Front,
    plan: Option<&str>,
    act: &mut (dyn FnMut(&mut dyn Stage) -> T + Send),
) -> anyhow::Result<T> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("a device needs root: it mounts, and makes a network namespace");
    }
    let place = Place::new(front, &format!("oracle-{}", abi.name));
    let plan = plan.into_iter().flat_map(|plan| ["--plan".into(), plan.into()]);
    let mut daemon = Daemon::start(place.arguments(abi).into_iter().chain(plan))?;
    let result = on_wire(abi, Some(place.dir().to_owned()), act)?;
    if let Some(status) = daemon.ended()? {
        anyhow::bail!("the daemon ended while recordings were played ({status})");
    }
    daemon.stop()?;
    Ok(result)
}

/// Calls `act` with a stage on a veth pair in a namespace of its own. Nodes are those of the directory `dir`, which speak
/// `abi`; without one descriptors are in this process, over packet sockets.
///
/// # Errors
/// Without root; the veth pair cannot be made.
pub fn on_wire<T: Send>(
    abi: &'static Abi,
    dir: Option<PathBuf>,
    act: &mut (dyn FnMut(&mut dyn Stage) -> T + Send),
) -> anyhow::Result<T> {
    let namespace = Arc::new(Namespace::new()?);
    namespace.enter(|| -> anyhow::Result<T> {
        let wire = Wire::new(Arc::clone(&namespace)).context("the veth pair")?;
        Ok(act(&mut OnWire { abi, dir, wire }))
    })?
}

struct OnWire {
    abi: &'static Abi,
    dir: Option<PathBuf>,
    wire: Wire,
}

impl Stage for OnWire {
    fn with_world(
        &mut self,
        needs: &Needs,
        scene: &mut dyn FnMut(&mut dyn World) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.wire.reset(needs)?;
        let files: Box<dyn Descriptors> = match &self.dir {
            Some(dir) => Box::new(Files::new(dir, self.abi)),
            None => Box::new(Sockets::new(self.abi)),
        };
        scene(&mut RealTime::new(&mut self.wire, files))
    }

    fn filter(&mut self, filter: &Filter) -> Result<(), Trouble> {
        self.with_world(&Needs::default(), &mut |world| corpus::capture(filter, world))
    }
}

impl Surroundings for Wire {
    fn happen(&mut self, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::Receive { frame } => self.receive(frame)?,
            Call::SetUp { interface, up } => {
                self.set_up(interface, *up)?;
                return flags(self, interface);
            }
            Call::GetFlags { interface } => return flags(self, interface),
            Call::SetMtu { interface, mtu } => self.set_mtu(interface, *mtu)?,
            Call::Destroy { interface } => self.destroy(interface)?,
            Call::AddAddress { interface, address, prefix } => {
                self.add_address(interface, *address, *prefix)?;
            }
            Call::Udp { to, port, payload } => return stack::udp(*to, *port, payload, &self.addresses()),
            _ => return Err(Trouble::fail(format!("{call:?} is no business of the wire's"))),
        }
        Ok(Answer::ok(0))
    }

    fn refuses_loopback(&self) -> Option<&'static str> {
        Some("what is written to lo0 is Linux's business")
    }
}

/// Flags as NetBSD gives them. What packet sockets ask for is not in Linux's, but counted.
fn flags(wire: &mut Wire, interface: &str) -> Result<Answer, Trouble> {
    let link = wire.link(interface)?;
    let flags = interface_flags(interface == LOOPBACK, link.up, link.promiscuity > 0);
    Ok(Answer { flags: Some(flags), ..Answer::ok(0) })
}
