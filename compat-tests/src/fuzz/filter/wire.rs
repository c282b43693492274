//! Programs attached to packet sockets: each frame that arrives over a veth pair is judged by all of them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, ensure};
use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::ebpf::{Target, Translated, translate};
use bpfdev_backend_linux::filter::{LinkKind, rewrite};
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::cbpf::Program;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::super::random::Lcg;
use super::super::random::filter::{frame, program, stripped_tag};
use super::test_run::kept_before_tag;
use super::{Difference, FuzzPlan, SYSTEMS, Tally, sys};
use crate::sys::packet_socket;

/// Programs of one seed, each on its own socket, and frames for all of them.
const SOCKETS: usize = 32;
const FRAMES: usize = 64;
/// Ethertype of the socket option that sees all.
const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

/// How a socket's filter runs.
enum Attached {
    Ebpf { translated: Translated, _filter: SocketFilter },
    Cbpf,
}

/// A namespace with a veth pair, a sender, and sockets where its frames arrive.
pub(super) struct Wire {
    _namespace: Namespace,
    plan: FuzzPlan,
    sender: OwnedFd,
    witness: OwnedFd,
    filtered: Vec<OwnedFd>,
    map: CounterMap,
}

impl Wire {
    pub fn new(plan: FuzzPlan) -> anyhow::Result<Wire> {
        let namespace = Namespace::new().context("the fuzzer needs a network namespace of its own")?;
        namespace.veth_pair("fuzz0", "fuzz1")?;
        let mut rtnl = namespace.rtnl()?;
        let (from, to) = (rtnl.link("fuzz0")?.index, rtnl.link("fuzz1")?.index);
        let (sender, witness, filtered) = namespace.enter(|| -> std::io::Result<_> {
            // The kernel hands a packet first to the socket that was bound last: what the witness has seen, all have
            // judged.
            let witness = packet_socket(to, ETH_P_ALL)?;
            let filtered =
                (0..SOCKETS).map(|_| packet_socket(to, ETH_P_ALL)).collect::<Result<Vec<_>, _>>()?;
            Ok((packet_socket(from, 0)?, witness, filtered))
        })??;
        Ok(Wire { _namespace: namespace, plan, sender, witness, filtered, map: CounterMap::new()? })
    }

    /// Runs the programs of one seed.
    pub fn round(&mut self, seed: u64, tally: &mut Tally) -> anyhow::Result<()> {
        // Other programs than those of the test runs.
        let mut rng = Lcg(!seed);
        let before = self.map.read()?;
        let mut subjects = Vec::new();
        for (number, socket) in self.filtered.iter().enumerate() {
            let system = SYSTEMS[(seed as usize).wrapping_add(number) % SYSTEMS.len()];
            let max_len = if rng.once_in(64) { 300 } else { 24 };
            let program = program(&mut rng, system, max_len);
            match self.attach(socket, number, &program)? {
                Some(attached) => subjects.push((socket, program, attached)),
                None => tally.not_exact += 1,
            }
            tally.programs += 1;
        }
        let (mut translated_runs, mut translated_accepted) = (0, 0);
        for _ in 0..FRAMES {
            let frame = sendable(&mut rng);
            self.pass(&frame)?;
            let tagged = stripped_tag(&frame).is_some();
            let framelen = frame.len() as u32;
            let len = if tagged { framelen - 4 } else { framelen };
            for (socket, program, attached) in &subjects {
                let captured = received(socket)?;
                let bsd = program.run(&frame, framelen);
                let (plan, kept) = match attached {
                    Attached::Cbpf => ("cBPF", bsd),
                    Attached::Ebpf { translated, .. } if tagged => {
                        ("eBPF on a socket", kept_before_tag(translated, bsd))
                    }
                    Attached::Ebpf { .. } => ("eBPF on a socket", bsd),
                };
                if captured != kept.min(len) {
                    let both = [captured, kept.min(len)];
                    return Err(Difference::new(seed, plan, program, &frame, tagged, both).into());
                }
                let accepted = u64::from(bsd != 0);
                if let Attached::Ebpf { .. } = attached {
                    translated_runs += 1;
                    translated_accepted += accepted;
                } else {
                    tally.cbpf += 1;
                }
                tally.accepted += accepted;
                tally.tagged += u64::from(tagged);
            }
        }
        tally.ebpf += translated_runs;
        let after = self.map.read()?;
        let counted = (after.received - before.received, after.accepted - before.accepted);
        ensure!(
            counted == (translated_runs, translated_accepted),
            "seed {seed}: {translated_runs} packets, {translated_accepted} accepted, but {counted:?} counted"
        );
        Ok(())
    }

    /// Attaches the program; `None` where classic BPF cannot express it, and then the socket rejects all.
    fn attach(&self, socket: &OwnedFd, number: usize, program: &Program) -> anyhow::Result<Option<Attached>> {
        let ebpf = match self.plan {
            FuzzPlan::Ebpf => true,
            FuzzPlan::Cbpf => false,
            FuzzPlan::All => number.is_multiple_of(2),
        };
        if ebpf {
            let translated = translate(program, &Target::new(LinkKind::Ethernet))?;
            let mut filter = SocketFilter::load(&translated, &self.map)?;
            filter.attach(socket.as_fd())?;
            return Ok(Some(Attached::Ebpf { translated, _filter: filter }));
        }
        let attached = match rewrite(program, LinkKind::Ethernet) {
            Ok(rewritten) => match sys::attach_filter(socket.as_fd(), &rewritten.insns) {
                Ok(()) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => false,
                Err(error) => return Err(error).context("attaching a rewritten filter"),
            },
            Err(_) => false,
        };
        if !attached {
            let reject = bpfdev_core::cbpf::Insn::stmt(bpfdev_core::cbpf::code::RET_K, 0);
            sys::attach_filter(socket.as_fd(), &[reject]).context("attaching a filter that rejects")?;
        }
        Ok(attached.then_some(Attached::Cbpf))
    }

    /// Sends a frame and waits until every socket has judged it.
    fn pass(&self, frame: &[u8]) -> anyhow::Result<()> {
        send(self.sender.as_raw_fd(), frame, MsgFlags::empty()).context("sending a frame")?;
        let mut wait = [PollFd::new(self.witness.as_fd(), PollFlags::POLLIN)];
        ensure!(poll(&mut wait, PollTimeout::from(10_000_u16))? == 1, "a frame of the fuzzer did not arrive");
        received(&self.witness).map(drop)
    }
}

/// Bytes of the packet that is there, 0 without one.
fn received(socket: &OwnedFd) -> anyhow::Result<u32> {
    match recv(socket.as_raw_fd(), &mut [0; 256], MsgFlags::empty()) {
        Err(Errno::EAGAIN) => Ok(0),
        answer => Ok(answer.context("receiving a frame")? as u32),
    }
}

/// Frames that skb_vlan_untag() lets through: a tagged one has at least two bytes behind the tag.
fn sendable(rng: &mut Lcg) -> Vec<u8> {
    loop {
        let len = 14 + if rng.once_in(3) { rng.below(8) } else { rng.below(100) };
        let frame = frame(rng, len as usize);
        let tagged = matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]));
        if !tagged || frame.len() >= 20 {
            return frame;
        }
    }
}
