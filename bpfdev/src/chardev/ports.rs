//! What every open file works with: poll set, signals, helpers.

use std::io;
use std::sync::mpsc;

use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::{Op, Request, Response};
use bpfdev_core::backend::{TapConfig, TapError};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Finished, Task};
use bpfdev_core::time::Moment;

use super::argument;
use super::caller::{Attached, CallerNetwork, Place};
use super::channel::Asker;
use super::helper::{Helpers, Outbox};
use super::pump::Pump;
use super::quota::Quotas;
use super::request::{Found, Ioctl};
use super::session::Config;
use super::signal::Signals;
use crate::service::seccomp::{Guard, Role};

/// What helpers hand back.
pub(super) enum Outcome {
    /// An argument was fetched and decoded, and an owner found if it names one.
    Parsed(Box<Ioctl>, Result<(Request, Option<Found>), Errno>),
    /// A task has run.
    Ran(Box<Ioctl>, Box<Finished>),
    /// A reply was made and written as far as the kernel does not.
    Made { asker: Asker, result: Result<Vec<u8>, Errno> },
    /// The process that opened a file; 0: it is not known.
    Opener { fh: u64, process: u32 },
    /// A task died, and the tap with it.
    TaskLost { asker: Asker, fh: u64 },
}

/// What every file works with.
pub struct Ports {
    /// Poll set and timers.
    pub pump: Pump,
    /// Who sends files' signals.
    pub signals: Signals,
    /// Files open now.
    pub files: usize,
    /// What there may be.
    pub quotas: Quotas,
    config: Config,
    pub(super) memory: Helpers<Outcome>,
    pub(super) tasks: Helpers<Outcome>,
    /// The network namespace helpers are in.
    netns: (u64, u64),
}

impl Ports {
    /// Without files. What helpers have done goes to `outbox`.
    ///
    /// # Errors
    /// No descriptor or thread can be had, or /proc is not mounted.
    pub(super) fn new(config: Config, outbox: Outbox<Outcome>) -> io::Result<Ports> {
        let netns = Namespace::of_this_thread().and_then(|ns| ns.id()).map_err(io::Error::other)?;
        let enter = |guard: &Guard| {
            let (guard, role) = (guard.clone(), config.helper);
            move || guard.enter(role)
        };
        Ok(Ports {
            pump: Pump::new()?,
            signals: Signals::start()?,
            files: 0,
            quotas: config.quotas.clone(),
            memory: Helpers::new("memory", config.helpers, outbox.clone(), enter(&config.guard))?,
            tasks: Helpers::new("task", config.helpers, outbox, enter(&config.guard))?,
            config,
            netns,
        })
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.config.clock.now()
    }

    /// Restricts the calling thread to what its role needs.
    pub(super) fn enter(&self, role: Role) -> io::Result<()> {
        self.config.guard.enter(role)
    }

    /// The most that the ring of a tap can take, bytes.
    pub fn most_memory(&self, config: &TapConfig) -> usize {
        self.config.network.most_memory(config)
    }

    /// A piece of a read(2) of such a size may have been cut by the kernel, not by its caller: as many pages as it takes,
    /// of which the first may begin in the middle.
    pub fn cut_pieces(&self) -> std::ops::RangeInclusive<usize> {
        let max = self.config.max_piece;
        max.saturating_sub(self.config.page) + 1..=max
    }

    /// Answers an ioctl. What the kernel will not copy out is written by a helper first.
    pub fn answer(&self, ioctl: Ioctl, result: Result<Response, Errno>) {
        let response = match result {
            Ok(response) => response,
            Err(errno) => return ioctl.asker.fail(errno),
        };
        if !argument::is_written_by_helper(&ioctl, &response) {
            let (result, bytes) = argument::reply(&ioctl, &response);
            return ioctl.asker.ioctl_done(result, &bytes);
        }
        let asker = ioctl.asker.clone();
        let lost = Outcome::Made { asker: asker.clone(), result: Err(Errno::Io) };
        let uid = ioctl.uid;
        let make = move || {
            let result = argument::write_memory(&ioctl, &response);
            Outcome::Made { asker: ioctl.asker, result }
        };
        if self.memory.run(asker.id(), uid, lost, make).is_err() {
            asker.fail(Errno::Busy);
        }
    }

    /// Has a task run on a helper.
    ///
    /// # Errors
    /// No helper can be had: the task, ended without doing anything.
    pub fn run_task(
        &self,
        attached: Attached,
        ioctl: Ioctl,
        task: Task,
    ) -> Result<(), Box<(Ioctl, Finished)>> {
        let (asker, fh, uid) = (ioctl.asker.clone(), ioctl.fh, ioctl.uid);
        let place = match ioctl.call.row.op {
            Op::SetIf => Place::Thread(ioctl.tid),
            Op::AttachCount => Place::Once(ioctl.tid),
            _ => Place::Before,
        };
        let network = CallerNetwork::new(self.config.network.clone(), self.netns, place, attached);
        // Taken back when it is refused: the tap in it must not be lost.
        let (hand, taken) = mpsc::channel();
        let id = asker.id();
        let lost = Outcome::TaskLost { asker: asker.clone(), fh };
        let run = move || match taken.recv() {
            Ok((ioctl, task)) => {
                let task: Task = task;
                Outcome::Ran(Box::new(ioctl), Box::new(task.run(&network)))
            }
            Err(_) => Outcome::TaskLost { asker, fh },
        };
        if self.tasks.run(id, uid, lost, run).is_err() {
            return Err(Box::new((ioctl, task.fail(TapError::NoBuffers("helper threads")))));
        }
        // The helper waits for it, so this cannot fail.
        match hand.send((ioctl, task)) {
            Ok(()) => Ok(()),
            Err(mpsc::SendError((ioctl, task))) => {
                Err(Box::new((ioctl, task.fail(TapError::NoBuffers("helper threads")))))
            }
        }
    }
}
