//! A world on a served node: one daemon for the whole run, a veth pair in a network namespace of its own, real time.

mod files;
mod stack;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bpfdev::cli::daemon::Daemon;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::Abi;

use super::call::{Answer, Call, Trouble, World};
use super::corpus;
use super::file::{Filter, Recording};
use super::host::interface_flags;
use super::play::{Stage, Tally, all};
use super::script::Needs;
use crate::wire::{LOOPBACK, Wire};
use files::Files;

/// How far a time may be off: a tick of the recorder's clock, and what a busy machine adds.
const TOLERANCE: Duration = Duration::from_millis(200);

/// After this time a call started in a thread has begun.
const SETTLED: Duration = Duration::from_millis(10);

/// A call of the main thread that lasts longer than this waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

/// Plays recordings on a device of the dialect `abi`; `plan` is where it runs filters.
///
/// # Errors
/// Without root, or when the device cannot be served or the veth pair not be made.
pub fn play(
    recordings: &[Recording],
    abi: &'static Abi,
    plan: Option<&str>,
    say: &mut (dyn FnMut(String) + Send),
) -> anyhow::Result<Tally> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("--on device needs root: it mounts, and makes a network namespace");
    }
    let mount = std::env::temp_dir().join(format!("bpfdev-oracle-{}", std::process::id()));
    let mut arguments: Vec<OsString> = ["--no-link", "--abi", abi.name, "--mount"].map(OsString::from).into();
    arguments.push(mount.clone().into());
    if let Some(plan) = plan {
        arguments.extend(["--plan", plan].map(OsString::from));
    }
    let namespace = Arc::new(Namespace::new()?);
    let mut daemon = Daemon::start(arguments)?;
    let tally = namespace.enter(|| -> anyhow::Result<Tally> {
        let wire = Wire::new(Arc::clone(&namespace)).context("the veth pair")?;
        Ok(all(recordings, &mut OnDevice { mount, wire }, say))
    })??;
    if let Some(status) = daemon.ended()? {
        anyhow::bail!("the daemon ended while recordings were played ({status})");
    }
    daemon.stop()?;
    Ok(tally)
}

struct OnDevice {
    mount: PathBuf,
    wire: Wire,
}

impl Stage for OnDevice {
    fn with_world(
        &mut self,
        needs: &Needs,
        scene: &mut dyn FnMut(&mut dyn World) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.wire.reset(needs)?;
        let files = Files::new(&self.mount);
        let threads = BTreeMap::new();
        scene(&mut Scene { wire: &mut self.wire, files, threads, loopback: Vec::new() })
    }

    fn filter(&mut self, filter: &Filter) -> Result<(), Trouble> {
        self.with_world(&Needs::default(), &mut |world| corpus::capture(filter, world))
    }
}

/// The world of one recording.
struct Scene<'w> {
    wire: &'w mut Wire,
    files: Files,
    threads: BTreeMap<u64, Receiver<Answer>>,
    /// Descriptors that asked for lo0 last.
    loopback: Vec<String>,
}

/// NetBSD's BIOCSETIF.
const SET_IF: u32 = 0x8090_426c;

impl Scene<'_> {
    /// Looks for what Linux's loopback cannot be asked.
    fn check(&mut self, call: &Call) -> Result<(), Trouble> {
        match call {
            Call::Ioctl { d, cmd: SET_IF, arg } => {
                if arg.bytes.starts_with(b"lo0\0") {
                    self.loopback.push(d.clone());
                } else if arg.bytes.starts_with(b"shmif") {
                    self.loopback.retain(|other| other != d);
                }
            }
            Call::Write { d, .. } if self.loopback.contains(d) => {
                return Err(Trouble::Skip("what is written to lo0 is Linux's business".into()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Begins a call in a thread; its answer comes through the channel.
    fn spawn(&mut self, call: &Call) -> Result<Receiver<Answer>, Trouble> {
        let run = self.files.prepare(call)?;
        let (sender, receiver) = channel();
        // it may be blocked for ever: nobody joins it, and it ends with the process at the latest
        let spawned = thread::Builder::new().name("recorded".into()).spawn(move || {
            let begin = Instant::now();
            let answer = run();
            // nobody waits for it any more after a difference
            let _ = sender.send(Answer { elapsed: begin.elapsed(), ..answer });
        });
        spawned.map_err(|error| Trouble::fail(format!("starting a thread: {error}")))?;
        Ok(receiver)
    }
}

impl World for Scene<'_> {
    fn call(&mut self, call: &Call) -> Result<Answer, Trouble> {
        self.check(call)?;
        match call {
            Call::Sleep { time } => {
                thread::sleep(*time);
                Ok(Answer::ok(0))
            }
            Call::Read { .. } | Call::Poll { .. } | Call::Select { .. } => {
                let receiver = self.spawn(call)?;
                let answer = receiver.recv_timeout(FOR_EVER);
                answer.map_err(|_| Trouble::fail(format!("{call:?} waits for ever here")))
            }
            Call::Open { .. }
            | Call::Ioctl { .. }
            | Call::Write { .. }
            | Call::SetFlags { .. }
            | Call::Close { .. } => Ok(self.files.prepare(call)?()),
            _ => interfaces(self.wire, call),
        }
    }

    fn start(&mut self, number: u64, call: &Call) -> Result<(), Trouble> {
        if self.threads.contains_key(&number) {
            return Err(Trouble::fail(format!("thread {number} has a call under way")));
        }
        self.check(call)?;
        let receiver = match call {
            Call::Open { .. }
            | Call::Ioctl { .. }
            | Call::Read { .. }
            | Call::Write { .. }
            | Call::Poll { .. }
            | Call::Select { .. }
            | Call::SetFlags { .. }
            | Call::Close { .. }
            | Call::Sleep { .. } => self.spawn(call)?,
            // what concerns the interfaces is soon done
            _ => {
                let begin = Instant::now();
                let answer = interfaces(self.wire, call)?;
                let (sender, receiver) = channel();
                let _ = sender.send(Answer { elapsed: begin.elapsed(), ..answer });
                receiver
            }
        };
        self.threads.insert(number, receiver);
        // calls are to begin in the order they were started
        thread::sleep(SETTLED);
        Ok(())
    }

    fn wait(&mut self, thread: u64, time: Duration) -> Result<Option<Answer>, Trouble> {
        let Some(receiver) = self.threads.get(&thread) else {
            return Err(Trouble::fail(format!("there is no thread {thread} to wait for")));
        };
        match receiver.recv_timeout(time) {
            Ok(answer) => {
                self.threads.remove(&thread);
                Ok(Some(answer))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Trouble::fail(format!("thread {thread} has died"))),
        }
    }

    fn tolerance(&self) -> Duration {
        TOLERANCE
    }
}

/// Does what concerns the interfaces and no descriptor.
fn interfaces(wire: &mut Wire, call: &Call) -> Result<Answer, Trouble> {
    match call {
        Call::Receive { frame } => wire.receive(frame)?,
        Call::SetUp { interface, up } => {
            wire.set_up(interface, *up)?;
            return flags(wire, interface);
        }
        Call::GetFlags { interface } => return flags(wire, interface),
        Call::SetMtu { interface, mtu } => wire.set_mtu(interface, *mtu)?,
        Call::Destroy { interface } => wire.destroy(interface)?,
        Call::AddAddress { interface, address, prefix } => {
            wire.add_address(interface, *address, *prefix)?;
        }
        Call::Udp { to, port, payload } => return stack::udp(*to, *port, payload, &wire.addresses()),
        _ => return Err(Trouble::fail(format!("{call:?} is no business of the wire's"))),
    }
    Ok(Answer::ok(0))
}

/// Flags as NetBSD gives them. What packet sockets ask for is not in Linux's, but counted.
fn flags(wire: &mut Wire, interface: &str) -> Result<Answer, Trouble> {
    let link = wire.link(interface)?;
    let flags = interface_flags(interface == LOOPBACK, link.up, link.promiscuity > 0);
    Ok(Answer { flags: Some(flags), ..Answer::ok(0) })
}
