//! Helper threads: a bounded number of them do what may block, and hand the outcome back to the loop.
//!
//! A client chooses the memory its pointers lead to, and can make a page fault there last for ever (userfaultfd, a
//! file on FUSE). So no user may hold more than a share of the threads: who waits beyond that waits for himself.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::channel::RequestId;

/// A thread that had nothing to do for so long ends: an idle daemon has none.
const IDLE: Duration = Duration::from_secs(5);

/// Jobs of one user that may wait for a thread; more are refused.
const QUEUED_PER_UID: usize = 64;

/// How many threads there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub threads: usize,
    /// Working for one user.
    pub per_uid: usize,
}

/// Where the outcomes come in; the loop's end is an [`mpsc::Receiver`], and the eventfd tells it to look.
#[derive(Debug)]
pub struct Outbox<T> {
    done: mpsc::Sender<T>,
    wake: Arc<EventFd>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Outbox<T> {
        Outbox { done: self.done.clone(), wake: self.wake.clone() }
    }
}

impl<T> Outbox<T> {
    /// An outbox, and the end at which the outcomes come out.
    pub fn new(wake: Arc<EventFd>) -> (Outbox<T>, mpsc::Receiver<T>) {
        let (done, outcomes) = mpsc::channel();
        (Outbox { done, wake }, outcomes)
    }

    fn put(&self, outcome: T) {
        // Either end may be gone when the daemon stops: then nobody waits for it.
        if self.done.send(outcome).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

type Work<T> = Box<dyn FnOnce() -> T + Send>;

struct Job<T> {
    id: RequestId,
    uid: u32,
    work: Work<T>,
    /// What to report when the work panics.
    lost: T,
}

struct State<T> {
    queue: VecDeque<Job<T>>,
    running: HashMap<u32, usize>,
    threads: usize,
    idle: usize,
    stopping: bool,
}

struct Inner<T> {
    name: &'static str,
    limits: Limits,
    outbox: Outbox<T>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// A pool of helper threads. Dropping it ends those that are idle; one that is stuck ends with the process.
pub struct Helpers<T>(Arc<Inner<T>>);

/// Why a job was not taken; the caller gets EBUSY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl<T: Send + 'static> Helpers<T> {
    /// A pool without threads; they are made when there is work.
    pub fn new(name: &'static str, limits: Limits, outbox: Outbox<T>) -> Helpers<T> {
        let state =
            State { queue: VecDeque::new(), running: HashMap::new(), threads: 0, idle: 0, stopping: false };
        Helpers(Arc::new(Inner { name, limits, outbox, state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Has `work` done for the request `id` of user `uid`; its outcome, or `lost` when it panics, comes out of
    /// the outbox. It may wait for a thread first.
    ///
    /// # Errors
    /// [`Refused`] when too many jobs of this user wait, or no thread can be had.
    pub fn run(
        &self,
        id: RequestId,
        uid: u32,
        lost: T,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), Refused> {
        let mut state = self.0.lock();
        if state.queue.iter().filter(|job| job.uid == uid).count() >= QUEUED_PER_UID {
            return Err(Refused);
        }
        state.queue.push_back(Job { id, uid, work: Box::new(work), lost });
        if state.idle >= state.queue.len() || state.threads >= self.0.limits.threads {
            drop(state);
            self.0.changed.notify_one();
            return Ok(());
        }
        let inner = self.0.clone();
        let spawned = thread::Builder::new().name(self.0.name.into()).spawn(move || inner.work());
        match spawned {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                tracing::error!(%error, "no helper thread can be had");
                state.queue.pop_back();
                return Err(Refused);
            }
            Err(_) => {} // those that run will come to it
        }
        Ok(())
    }

    /// Takes back a job that no thread has begun, and gives what it would have reported as lost. `None`: it runs, or is done.
    pub fn cancel(&self, id: RequestId) -> Option<T> {
        let mut state = self.0.lock();
        let at = state.queue.iter().position(|job| job.id == id);
        let job = at.and_then(|at| state.queue.remove(at));
        drop(state);
        job.map(|job| job.lost)
    }
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until there is nothing left to do.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(job) = self.next(&mut state) else {
                if state.stopping {
                    break;
                }
                state.idle += 1;
                let (after, waited) =
                    self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = after;
                state.idle -= 1;
                if waited.timed_out() && self.eligible(&state).is_none() {
                    break;
                }
                continue;
            };
            *state.running.entry(job.uid).or_default() += 1;
            drop(state);
            let outcome = catch_unwind(AssertUnwindSafe(job.work)).unwrap_or(job.lost);
            state = self.lock();
            if let Some(running) = state.running.get_mut(&job.uid) {
                *running -= 1;
                if *running == 0 {
                    state.running.remove(&job.uid);
                }
            }
            self.outbox.put(outcome);
        }
        state.threads -= 1;
    }

    /// The first job whose user is below his share of threads.
    fn eligible(&self, state: &State<T>) -> Option<usize> {
        state
            .queue
            .iter()
            .position(|job| state.running.get(&job.uid).is_none_or(|&running| running < self.limits.per_uid))
    }

    fn next(&self, state: &mut State<T>) -> Option<Job<T>> {
        let at = self.eligible(state)?;
        state.queue.remove(at)
    }
}

impl<T> Drop for Helpers<T> {
    fn drop(&mut self) {
        self.0.lock().stopping = true;
        self.0.changed.notify_all();
    }
}

impl<T> std::fmt::Debug for Helpers<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helpers").field("name", &self.0.name).field("limits", &self.0.limits).finish()
    }
}

/// A thread that only drops things whose end takes long: closing a ring takes 20 ms.
#[derive(Clone, Debug)]
pub struct Reaper(mpsc::Sender<Box<dyn Send>>);

impl Reaper {
    /// Starts the thread; it ends with the last clone of the reaper.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start() -> std::io::Result<Reaper> {
        let (sender, things) = mpsc::channel::<Box<dyn Send>>();
        thread::Builder::new().name("reaper".into()).spawn(move || things.into_iter().for_each(drop))?;
        Ok(Reaper(sender))
    }

    /// Drops `thing`, later and elsewhere.
    pub fn reap(&self, thing: impl Send + 'static) {
        // Without the thread it is dropped here: slower, nothing worse.
        let _ = self.0.send(Box::new(thing));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { threads: 3, per_uid: 2 };

    fn helpers() -> (Helpers<u32>, mpsc::Receiver<u32>) {
        let wake = Arc::new(EventFd::new().unwrap());
        let (outbox, outcomes) = Outbox::new(wake);
        (Helpers::new("test", LIMITS, outbox), outcomes)
    }

    fn next(outcomes: &mpsc::Receiver<u32>) -> u32 {
        outcomes.recv_timeout(Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn a_user_whose_jobs_are_stuck_stalls_only_himself() {
        let (helpers, outcomes) = helpers();
        let (release, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(Mutex::new(stuck));
        for unique in 0..3 {
            let stuck = stuck.clone();
            helpers
                .run(RequestId::of(unique), 1000, 99, move || {
                    stuck.lock().unwrap().recv().map_or(98, |()| 1000)
                })
                .unwrap();
        }
        helpers.run(RequestId::of(10), 0, 99, || 5).unwrap();
        assert_eq!(next(&outcomes), 5, "another user's job passes them");
        assert!(
            helpers.cancel(RequestId::of(2)).is_some(),
            "the third waits for one of its user's two threads, and can be taken back"
        );
        assert!(helpers.cancel(RequestId::of(10)).is_none(), "what is done cannot");
        drop(release);
        assert_eq!((next(&outcomes), next(&outcomes)), (98, 98));
    }

    #[test]
    fn a_panic_is_an_outcome() {
        let (helpers, outcomes) = helpers();
        helpers.run(RequestId::of(1), 0, 7, || panic!("on purpose")).unwrap();
        assert_eq!(next(&outcomes), 7);
        helpers.run(RequestId::of(2), 0, 7, || 8).unwrap();
        assert_eq!(next(&outcomes), 8, "and the pool goes on");
    }

    #[test]
    fn a_user_cannot_fill_the_queue() {
        let (helpers, _outcomes) = helpers();
        let (_release, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(Mutex::new(stuck));
        let mut taken = 0;
        for unique in 0..200 {
            let stuck = stuck.clone();
            taken += usize::from(
                helpers
                    .run(RequestId::of(unique), 1, 0, move || stuck.lock().unwrap().recv().map_or(0, |()| 0))
                    .is_ok(),
            );
        }
        assert!((QUEUED_PER_UID..=QUEUED_PER_UID + LIMITS.per_uid).contains(&taken), "{taken} were taken");
        helpers.run(RequestId::of(999), 2, 0, || 0).unwrap();
    }
}
