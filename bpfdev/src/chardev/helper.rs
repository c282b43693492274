//! Helper threads: a bounded number of them do what may block, and hand the outcome back to the loop.
//!
//! A client chooses the memory its pointers lead to, and can make a page fault there last for ever (userfaultfd, a
//! file on FUSE). So no user may hold more than a share of the threads: who waits beyond that waits for himself.
//!
//! A thread has the restrictions of the one that made it (seccomp(2)), so it is not the loop that makes them: the first is
//! there from the beginning, and each sees to it that there is a spare one before it begins a job.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::channel::RequestId;
use super::seldom::Seldom;

/// A thread that had nothing to do for so long ends, but for the last that waits.
const IDLE: Duration = Duration::from_secs(5);

/// How many threads there may be, and jobs that wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads, in all.
    pub threads: usize,
    /// Threads working for one user.
    pub per_uid: usize,
    /// Jobs of one user, root among them, that wait; more are refused.
    pub queued_per_uid: usize,
}

/// How a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What there may be.
    pub limits: Limits,
    /// Threads there are.
    pub threads: usize,
    /// Threads that do something.
    pub working: usize,
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// Jobs that were refused.
    pub refused: u64,
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
    working: usize,
    refused: u64,
    stopping: bool,
}

impl<T> State<T> {
    /// The job at `at` of the queue, and those before it, are more than there may be threads for, in all or for its user.
    fn waits_for_others(&self, at: usize, limits: Limits) -> bool {
        let Some(uid) = self.queue.get(at).map(|job| job.uid) else { return false };
        let own = self.queue.iter().take(at).filter(|job| job.uid == uid).count();
        let running = self.running.get(&uid).copied().unwrap_or(0);
        self.working + at >= limits.threads || running + own >= limits.per_uid
    }
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
    /// A pool with one thread, which calls `begin` first; others have its restrictions, and are made when there is work.
    ///
    /// # Errors
    /// No thread can be had; what `begin` says.
    pub fn new(
        name: &'static str,
        limits: Limits,
        outbox: Outbox<T>,
        begin: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Helpers<T>> {
        let state = State {
            queue: VecDeque::new(),
            running: HashMap::new(),
            threads: 1,
            working: 0,
            refused: 0,
            stopping: false,
        };
        let inner =
            Arc::new(Inner { name, limits, outbox, state: Mutex::new(state), changed: Condvar::new() });
        let first = inner.clone();
        let (say, said) = mpsc::channel();
        thread::Builder::new().name(name.into()).spawn(move || {
            let began = begin();
            let works = began.is_ok();
            if say.send(began).is_ok() && works {
                first.work();
            }
        })?;
        said.recv().map_err(|_| io::Error::other("a helper thread panicked"))??;
        Ok(Helpers(inner))
    }

    /// Has `work` done for the request `id` of user `uid`; its outcome, or `lost` when it panics, comes out of
    /// the outbox. It may wait for a thread first.
    ///
    /// # Errors
    /// [`Refused`] when too many jobs of this user wait.
    pub fn run(
        &self,
        id: RequestId,
        uid: u32,
        lost: T,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), Refused> {
        static SAID: Seldom = Seldom::new();
        let mut state = self.0.lock();
        if state.queue.iter().filter(|job| job.uid == uid).count() >= self.0.limits.queued_per_uid {
            state.refused += 1;
            let refused = state.refused;
            drop(state);
            if SAID.may_say() {
                tracing::warn!(
                    uid,
                    refused,
                    pool = self.0.name,
                    "too many of this user's requests wait for a helper, the next fails with EBUSY: his memory or \
                     interfaces take their time; --max-queued-per-user sets the limit, --helpers-per-user how many run"
                );
            }
            return Err(Refused);
        }
        state.queue.push_back(Job { id, uid, work: Box::new(work), lost });
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// How it stands now.
    pub fn usage(&self) -> Usage {
        let state = self.0.lock();
        Usage {
            limits: self.0.limits,
            threads: state.threads,
            working: state.working,
            queued: state.queue.len(),
            refused: state.refused,
        }
    }

    /// Takes back a job that must wait for others to end, and gives what it would have reported as lost. `None`: it runs, is
    /// done, or there is a thread for it, which only has not come to begin it: its caller need not be told of a signal then.
    pub fn cancel(&self, id: RequestId) -> Option<T> {
        let mut state = self.0.lock();
        let at = state.queue.iter().position(|job| job.id == id)?;
        if state.waits_for_others(at, self.0.limits) {
            state.queue.remove(at).map(|job| job.lost)
        } else {
            None
        }
    }
}

impl<T: Send + 'static> Inner<T> {
    /// What a thread does until there is nothing left to do, and another to wait for more.
    fn work(self: Arc<Inner<T>>) {
        let mut state = self.lock();
        loop {
            let Some(job) = self.next(&mut state) else {
                if state.stopping {
                    break;
                }
                let (after, waited) =
                    self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = after;
                if waited.timed_out() && state.threads > state.working + 1 && self.eligible(&state).is_none()
                {
                    break;
                }
                continue;
            };
            *state.running.entry(job.uid).or_default() += 1;
            state.working += 1;
            if state.working == state.threads && state.threads < self.limits.threads {
                self.spare(&mut state);
            }
            drop(state);
            let outcome = catch_unwind(AssertUnwindSafe(job.work)).unwrap_or(job.lost);
            state = self.lock();
            state.working -= 1;
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

    /// One more thread.
    fn spare(self: &Arc<Inner<T>>, state: &mut State<T>) {
        let inner = self.clone();
        match thread::Builder::new().name(self.name.into()).spawn(move || inner.work()) {
            Ok(_) => state.threads += 1,
            Err(error) => {
                static SAID: Seldom = Seldom::new();
                if SAID.may_say() {
                    tracing::error!(%error, threads = state.threads,
                        "no more helper threads can be had: requests wait for those there are; raise TasksMax or ulimit -u");
                }
            }
        }
    }
}

impl<T> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    const LIMITS: Limits = Limits { threads: 3, per_uid: 2, queued_per_uid: 64 };

    fn helpers() -> (Helpers<u32>, mpsc::Receiver<u32>) {
        let wake = Arc::new(EventFd::new().unwrap());
        let (outbox, outcomes) = Outbox::new(wake);
        (Helpers::new("test", LIMITS, outbox, || Ok(())).unwrap(), outcomes)
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
    fn a_job_is_taken_back_only_when_it_waits_for_others() {
        let job = |id, uid| Job { id: RequestId::of(id), uid, work: Box::new(|| 0), lost: 0 };
        let mut state = State {
            queue: VecDeque::from([job(1, 1000), job(2, 1000), job(3, 1001), job(4, 1001)]),
            running: HashMap::new(),
            threads: 1,
            working: 0,
            refused: 0,
            stopping: false,
        };
        let waits = |state: &State<u32>| [0, 1, 2, 3, 4].map(|at| state.waits_for_others(at, LIMITS));
        assert_eq!(waits(&state), [false, false, false, true, false], "three threads, two for each user");
        state.working = 1;
        state.running.insert(1000, 1);
        assert_eq!(waits(&state), [false, true, true, true, false]);
        state.working = 3;
        assert_eq!(waits(&state), [true, true, true, true, false]);
    }

    #[test]
    fn threads_are_made_when_there_is_work_and_refusals_are_counted() {
        let (helpers, outcomes) = helpers();
        assert_eq!(helpers.usage().threads, 1);
        let (release, stuck) = mpsc::channel::<()>();
        helpers.run(RequestId::of(1), 7, 0, move || stuck.recv().map_or(1, |()| 2)).unwrap();
        helpers.run(RequestId::of(2), 8, 0, || 3).unwrap();
        assert_eq!(next(&outcomes), 3, "while the first is stuck");
        let usage = helpers.usage();
        assert_eq!((usage.working, usage.queued, usage.refused), (1, 0, 0));
        assert!((2..=3).contains(&usage.threads), "{usage:?}");
        drop(release);
        assert_eq!(next(&outcomes), 1);
        let refused = Helpers::<u32>::new("test", LIMITS, helpers.0.outbox.clone(), || {
            Err(std::io::Error::other("on purpose"))
        });
        assert!(refused.is_err(), "a pool whose thread cannot begin is none");
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
        assert!(
            (LIMITS.queued_per_uid..=LIMITS.queued_per_uid + LIMITS.per_uid).contains(&taken),
            "{taken} were taken"
        );
        assert_eq!(helpers.usage().refused, 200 - taken as u64);
        helpers.run(RequestId::of(999), 2, 0, || 0).unwrap();
    }
}
