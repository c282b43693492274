//! The signal of BIOCSRSIG: each wake-up of a file sends it to the file's owner (FIOSETOWN, TIOCSPGRP).
//!
//! A process is held by a descriptor, so that the signal never reaches another one that got its number; a group's members
//! are looked up each time. Each is signalled only if whoever set the owner could do so himself, with the credentials it had
//! then. All of this reads /proc, so it is for helper threads and for the thread that sends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bpfdev_core::errno::Errno;

use super::process::{Home, Process, Setter};
use super::schedule::{self, Asking, Due};
use super::seldom::Seldom;
use crate::sys;

/// Sending takes at most this part of a processor's time for one file: then it rests so many times as long as it took.
const REST: u32 = 9;

/// Who is to be signalled.
#[derive(Debug)]
enum Whom {
    Process {
        pid: i32,
        held: OwnedFd,
    },
    /// All processes of a group of a session.
    Group {
        id: i32,
        session: i32,
    },
}

/// A file's owner.
#[derive(Debug)]
pub struct Owner {
    whom: Whom,
    setter: Setter,
    /// The signal that is wanted; 0 since none is any more. Held while one is sent: what is called off does not come after.
    signal: Mutex<i32>,
    /// The signal is to be sent, and has not begun to be: another one now would be the same.
    pending: AtomicBool,
    rests_until: Mutex<Instant>,
}

impl Owner {
    /// The owner that the thread `tid` means by a number of its own pid namespace: a process, or a group if it is negative;
    /// `None` for 0, nobody. The thread must be asleep in its request.
    ///
    /// # Errors
    /// FreeBSD's fsetown(): ESRCH when there is no such process or group, EPERM when it is in another session than the
    /// caller. EOPNOTSUPP for a caller outside our pid namespace.
    pub fn find(tid: u32, number: i32) -> Result<Option<Arc<Owner>>, Errno> {
        if number == 0 {
            return Ok(None);
        }
        let tid = i32::try_from(tid).ok().filter(|&tid| tid > 0).ok_or(Errno::OpNotSupp)?;
        let caller = Process::look(tid).ok_or(Errno::Srch)?;
        let home = Home::of(&caller, tid).ok_or(Errno::Srch)?;
        let setter = Setter::of(&caller, tid);
        let whom = if number > 0 {
            find_process(&caller, &home, number)
        } else {
            find_group(&caller, &home, number)
        }?;
        Ok(Some(Arc::new(Owner {
            whom,
            setter,
            signal: Mutex::new(0),
            pending: AtomicBool::new(false),
            rests_until: Mutex::new(Instant::now()),
        })))
    }

    fn signal(&self) -> MutexGuard<'_, i32> {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No signal is sent from here on, though one was to be. Waits for one system call at most.
    pub fn call_off(&self) {
        *self.signal() = 0;
    }

    fn send(&self) {
        match &self.whom {
            Whom::Process { pid, held } => {
                // Should it have ended and its number belong to another now, `held` still means the one that has ended.
                if let Some(process) = Process::look(*pid) {
                    self.send_to(&process, held);
                }
            }
            Whom::Group { id, session } => {
                let belongs =
                    |process: &Process| process.groups.first() == Some(id) && process.session == *session;
                for member in Process::all().filter(belongs) {
                    // Held first, then looked at again: it is the one that is held, or what is held has ended.
                    let Ok(held) = sys::process(member.tgid) else { continue };
                    if let Some(process) = Process::look(member.tgid).filter(belongs) {
                        self.send_to(&process, &held);
                    }
                }
            }
        }
    }

    fn send_to(&self, process: &Process, held: &OwnedFd) {
        // On a BSD the device is no process, and in nobody's group.
        if process.tgid == std::process::id().cast_signed() || !self.setter.may_signal(process) {
            return;
        }
        let wanted = self.signal();
        let signal = *wanted;
        if signal == 0 {
            return;
        }
        let sent = sys::send_signal(held.as_fd(), signal);
        drop(wanted);
        match sent {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                static SAID: Seldom = Seldom::new();
                if SAID.may_say() {
                    tracing::warn!(
                        pid = process.tgid,
                        signal,
                        "cannot signal; does the daemon have CAP_KILL?"
                    );
                }
            }
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                tracing::debug!(pid = process.tgid, signal, %error, "cannot signal");
            }
            _ => {}
        }
    }
}

impl Due for Owner {
    fn earliest(&self) -> Instant {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> Option<Instant> {
        // From here on a wake-up is one more signal.
        self.pending.store(false, Ordering::SeqCst);
        let begin = Instant::now();
        self.send();
        let rest = begin.elapsed().saturating_mul(REST).min(Duration::from_secs(1));
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + rest;
        None
    }
}

/// `a` is in the session of `b`. Sessions outside our pid namespace have no number here and count as one: a container's first
/// processes are often of one. This is the BSD's error and no barrier: each signal is sent only where [`Setter`] could.
fn same_session(a: &Process, b: &Process) -> bool {
    a.session == b.session
}

fn find_process(caller: &Process, home: &Home, number: i32) -> Result<Whom, Errno> {
    let is_meant = |process: &Process| process.seen_from(home).is_some_and(|(pid, _)| pid == number);
    // In our own pid namespace the number is the process's.
    let direct = Process::look(number).filter(|process| process.tgid == number && is_meant(process));
    let pid = direct.or_else(|| Process::all().find(is_meant)).ok_or(Errno::Srch)?.tgid;
    let held = sys::process(pid).map_err(|_| Errno::Srch)?;
    // What is held may have ended, and another have its number.
    let process = Process::look(pid).filter(is_meant).ok_or(Errno::Srch)?;
    sys::send_signal(held.as_fd(), 0).or_else(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Ok(()),
        _ => Err(Errno::Srch),
    })?;
    if same_session(&process, caller) { Ok(Whom::Process { pid, held }) } else { Err(Errno::Perm) }
}

fn find_group(caller: &Process, home: &Home, number: i32) -> Result<Whom, Errno> {
    let number = number.checked_neg().ok_or(Errno::Srch)?;
    let member =
        Process::all().find(|process| process.seen_from(home).is_some_and(|(_, group)| group == number));
    let member = member.ok_or(Errno::Srch)?;
    if !same_session(&member, caller) {
        return Err(Errno::Perm);
    }
    Ok(Whom::Group { id: member.groups.first().copied().ok_or(Errno::Srch)?, session: member.session })
}

/// The thread that sends. It is started early: it must not have the loop's restrictions, as it reads /proc.
#[derive(Debug)]
pub struct Signals(Asking<Owner>);

impl Signals {
    /// Starts the thread; it ends with this.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start() -> std::io::Result<Signals> {
        let (asking, thread) = schedule::start("signals", || {})?;
        drop::<thread::JoinHandle<()>>(thread); // it ends by itself
        Ok(Signals(asking))
    }

    /// Has the signal sent to the owner of a file that woke. Never blocks.
    pub fn send(&self, owner: &Arc<Owner>, signal: u32) {
        *owner.signal() = i32::try_from(signal).unwrap_or(0);
        if !owner.pending.swap(true, Ordering::SeqCst) {
            let _ = self.0.send(owner.clone()); // the thread lasts as long as this end
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own_tid() -> u32 {
        nix::unistd::gettid().as_raw().cast_unsigned()
    }

    #[test]
    fn an_owner_is_a_process_or_a_group_of_the_callers_session() {
        let tid = own_tid();
        assert!(Owner::find(tid, 0).unwrap().is_none());
        let pid = std::process::id().cast_signed();
        assert!(matches!(Owner::find(tid, pid).unwrap().unwrap().whom, Whom::Process { .. }));
        let group = nix::unistd::getpgrp().as_raw();
        // 0: the test runs in a group of a pid namespace outside, which no number here means.
        if group != 0 {
            let owner = Owner::find(tid, -group).unwrap().unwrap();
            assert!(matches!(owner.whom, Whom::Group { id, .. } if id == group));
        }
        for nobody in [i32::MAX, -i32::MAX, i32::MIN] {
            assert_eq!(Owner::find(tid, nobody).unwrap_err(), Errno::Srch, "{nobody}");
        }
        assert_eq!(Owner::find(0, pid).unwrap_err(), Errno::OpNotSupp);
    }

    #[test]
    fn another_session_is_eperm() {
        // It leads no group, so setsid(1) need not fork.
        let mut child = std::process::Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
        let found = child.id().cast_signed();
        let end = Instant::now() + Duration::from_secs(5);
        while Process::look(found).unwrap().session != found {
            assert!(Instant::now() < end, "setsid makes a session");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(Owner::find(own_tid(), found).unwrap_err(), Errno::Perm);
        assert_eq!(Owner::find(own_tid(), -found).unwrap_err(), Errno::Perm);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
