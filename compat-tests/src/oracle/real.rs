//! A world in real time: descriptors, and the interfaces around them.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bpfdev_core::abi::{Abi, Op};

use super::call::{Answer, Call, Trouble, World};

/// How far a time may be off: a tick of the recorder's clock, and what a busy machine adds.
const TOLERANCE: Duration = Duration::from_millis(200);

/// After this time a call started in a thread has begun.
const SETTLED: Duration = Duration::from_millis(10);

/// A call of the main thread that lasts longer than this waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

/// A system call, ready to be made on any thread.
pub type Prepared = Box<dyn FnOnce() -> Answer + Send>;

/// Descriptors by name.
pub trait Descriptors {
    /// Their dialect.
    fn abi(&self) -> &'static Abi;

    /// Makes a call of a descriptor ready. open(2) and close(2) are made at once.
    ///
    /// # Errors
    /// [`Trouble`]: no such descriptor, or a call that has no sense here.
    fn prepare(&mut self, call: &Call) -> Result<Prepared, Trouble>;
}

/// The interfaces around descriptors.
pub trait Surroundings {
    /// Does what concerns the interfaces and no descriptor.
    ///
    /// # Errors
    /// [`Trouble`].
    fn happen(&mut self, call: &Call) -> Result<Answer, Trouble>;

    /// Why what is written to the loopback interface cannot be asked here; `None`: it can.
    fn refuses_loopback(&self) -> Option<&'static str> {
        None
    }
}

/// The world of one recording.
pub struct RealTime<'w> {
    around: &'w mut dyn Surroundings,
    files: Box<dyn Descriptors + 'w>,
    threads: BTreeMap<u64, Receiver<Answer>>,
    /// Descriptors that asked for lo0 last.
    loopback: Vec<String>,
}

impl<'w> RealTime<'w> {
    /// A world of these.
    pub fn new(around: &'w mut dyn Surroundings, files: Box<dyn Descriptors + 'w>) -> RealTime<'w> {
        RealTime { around, files, threads: BTreeMap::new(), loopback: Vec::new() }
    }

    /// Looks for what the loopback interface cannot be asked.
    fn check(&mut self, call: &Call) -> Result<(), Trouble> {
        let is_set_if = |cmd| self.files.abi().decode(cmd).is_some_and(|call| call.row.op == Op::SetIf);
        match call {
            Call::Ioctl { d, cmd, arg } if is_set_if(*cmd) => {
                if arg.bytes.starts_with(b"lo0\0") {
                    self.loopback.push(d.clone());
                } else if arg.bytes.starts_with(b"shmif") {
                    self.loopback.retain(|other| other != d);
                }
            }
            Call::Write { d, .. } if self.loopback.contains(d) => {
                if let Some(why) = self.around.refuses_loopback() {
                    return Err(Trouble::Skip(why.into()));
                }
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

impl World for RealTime<'_> {
    fn abi(&self) -> &'static Abi {
        self.files.abi()
    }

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
            call if call.is_of_descriptor() => Ok(self.files.prepare(call)?()),
            _ => self.around.happen(call),
        }
    }

    fn start(&mut self, number: u64, call: &Call) -> Result<(), Trouble> {
        if self.threads.contains_key(&number) {
            return Err(Trouble::fail(format!("thread {number} has a call under way")));
        }
        self.check(call)?;
        let receiver = if call.is_of_descriptor() || matches!(call, Call::Sleep { .. }) {
            self.spawn(call)?
        } else {
            // what concerns the interfaces is soon done
            let begin = Instant::now();
            let answer = self.around.happen(call)?;
            let (sender, receiver) = channel();
            let _ = sender.send(Answer { elapsed: begin.elapsed(), ..answer });
            receiver
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
