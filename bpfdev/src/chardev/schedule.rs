//! A thread that does things of one kind, each when it is due.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// What can be due.
pub trait Due: Send + Sync + 'static {
    /// Not before this moment, though it was asked for.
    fn earliest(&self) -> Instant;

    /// Does it; when it is due again by itself.
    fn run(&self) -> Option<Instant>;
}

/// Each thing once, by its time. A thing is known by its place in memory, which the schedule holds.
struct Schedule<T> {
    due: BTreeMap<(Instant, usize), Arc<T>>,
    at: HashMap<usize, Instant>,
}

impl<T: Due> Schedule<T> {
    /// It is due then, or earlier if it was to be.
    fn put(&mut self, thing: Arc<T>, at: Instant) {
        let key = Arc::as_ptr(&thing) as usize;
        if let Some(&before) = self.at.get(&key) {
            if before <= at {
                return;
            }
            self.due.remove(&(before, key));
        }
        self.at.insert(key, at);
        self.due.insert((at, key), thing);
    }

    fn take(&mut self, now: Instant) -> Option<Arc<T>> {
        let first = self.due.first_entry()?;
        let (at, key) = *first.key();
        if at > now {
            return None;
        }
        self.at.remove(&key);
        Some(first.remove())
    }

    fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}

/// Where things are asked for; the thread ends when this and all its clones are gone.
pub type Asking<T> = mpsc::Sender<Arc<T>>;

/// Starts a thread of this name; it calls `begin` first. With nothing due it sleeps.
///
/// # Errors
/// No thread can be had.
pub fn start<T: Due>(
    name: &str,
    begin: impl FnOnce() + Send + 'static,
) -> io::Result<(Asking<T>, JoinHandle<()>)> {
    let (asking, asked) = mpsc::channel();
    let thread = thread::Builder::new().name(name.into()).spawn(move || {
        begin();
        serve(&asked);
    })?;
    Ok((asking, thread))
}

fn serve<T: Due>(asked: &mpsc::Receiver<Arc<T>>) {
    let mut schedule = Schedule { due: BTreeMap::new(), at: HashMap::new() };
    loop {
        let thing = match schedule.next() {
            None => asked.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(at) => asked.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match thing {
            Ok(thing) => {
                let at = thing.earliest();
                schedule.put(thing, at);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        while let Some(thing) = schedule.take(Instant::now()) {
            if let Some(again) = thing.run() {
                schedule.put(thing, again);
            }
            // What was asked for meanwhile has its turn: one thing cannot keep the others waiting.
            while let Ok(thing) = asked.try_recv() {
                let at = thing.earliest();
                schedule.put(thing, at);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    struct Thing {
        at: Instant,
        again: Mutex<Option<Instant>>,
        done: Mutex<mpsc::Sender<&'static str>>,
        name: &'static str,
    }

    impl Due for Thing {
        fn earliest(&self) -> Instant {
            self.at
        }
        fn run(&self) -> Option<Instant> {
            self.done.lock().unwrap().send(self.name).unwrap();
            self.again.lock().unwrap().take()
        }
    }

    #[test]
    fn things_are_done_when_they_are_due_and_once_however_often_they_are_asked_for() {
        let (asking, thread) = start::<Thing>("test", || {}).unwrap();
        let (done, order) = mpsc::channel();
        let now = Instant::now();
        let thing = |name, after: u64, again: Option<u64>| {
            Arc::new(Thing {
                at: now + Duration::from_millis(after),
                again: Mutex::new(again.map(|after| now + Duration::from_millis(after))),
                done: Mutex::new(done.clone()),
                name,
            })
        };
        let (late, soon) = (thing("late", 200, None), thing("soon", 100, Some(300)));
        for _ in 0..3 {
            asking.send(late.clone()).unwrap();
            asking.send(soon.clone()).unwrap();
        }
        let next = || order.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!([next(), next(), next()], ["soon", "late", "soon"]);
        drop(asking);
        thread.join().unwrap();
        assert!(order.try_recv().is_err());
    }
}
