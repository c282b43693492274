//! What a case works with: it asks the descriptors of a stage, and each answer is compared as text.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, Interest, Ready};

use super::frame::frame;
use super::records::{Record, layout, walk};
use super::report::Check;
use super::stage::{Call, Event, SharedFile, Stage, Trouble};
use super::system::{Per, System, per};
use super::text;

/// Why a case ends before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A difference, or a step that could not be made.
    Failed(Check),
    /// The target cannot express it; says why.
    Skip(String),
}

/// What a case, and a step of it, come to.
pub type Done = Result<(), Stop>;

/// BIOCGBLEN of a fresh descriptor, bytes: bpf_bufsize of each system's bpf.c.
const BUFSIZE: Per<usize> = per(4096, 32_768, 32_768, 4096, 4096);

/// The buffers of a descriptor from [`Scene::tap`], bytes: small, so that they are soon full.
pub const SMALL: u32 = 512;

/// An open file, and the length that its reads must have.
pub struct Bpf {
    file: SharedFile,
    length: AtomicUsize,
}

/// The step under way, and when it began.
pub type Progress = Arc<Mutex<(String, Instant)>>;

/// One case on one stage.
pub struct Scene {
    stage: Arc<dyn Stage>,
    system: System,
    checks: Arc<Mutex<Vec<Check>>>,
    progress: Progress,
    /// When the last event was ordered that nothing has been timed against.
    ordered: Option<Duration>,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        match trouble {
            Trouble::Skip(why) => Stop::Skip(why),
            Trouble::Fail(what) => {
                Stop::Failed(Check { step: "on the stage".into(), expected: "it happens".into(), seen: what })
            }
        }
    }
}

impl Scene {
    /// A case on `stage`; others may look at `checks` and `progress` meanwhile.
    pub fn new(stage: Arc<dyn Stage>, checks: Arc<Mutex<Vec<Check>>>, progress: Progress) -> Scene {
        let system = stage.system();
        Scene { stage, system, checks, progress, ordered: None }
    }

    /// The system whose rules count.
    pub fn system(&self) -> System {
        self.system
    }

    /// The surroundings.
    pub fn stage(&self) -> &dyn Stage {
        &*self.stage
    }

    fn step(&self, step: &str) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = (step.to_owned(), Instant::now());
    }

    /// Compares one answer.
    ///
    /// # Errors
    /// They differ.
    pub fn check(
        &mut self,
        step: impl Into<String>,
        expected: impl Into<Per<&'static str>>,
        seen: impl Into<String>,
    ) -> Done {
        let expected = expected.into().of(self.system).to_owned();
        let mut seen = seen.into();
        if self.stage.is_stuck() {
            seen = "it waits for ever".into();
        }
        let check = Check { step: step.into(), expected, seen };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check.clone());
        if check.expected == check.seen { Ok(()) } else { Err(Stop::Failed(check)) }
    }

    /// Ends the case where a system has no such thing.
    ///
    /// # Errors
    /// Always, where this is none of `systems`.
    pub fn only(&self, systems: &[System], otherwise: &str) -> Done {
        if systems.contains(&self.system) { Ok(()) } else { Err(Stop::Skip(otherwise.to_owned())) }
    }

    /// Opens the device for reading and writing.
    ///
    /// # Errors
    /// It is refused.
    pub fn open(&mut self) -> Result<Bpf, Stop> {
        self.open_for(Access::ReadWrite)
    }

    /// Opens the device.
    ///
    /// # Errors
    /// It is refused.
    pub fn open_for(&mut self, access: Access) -> Result<Bpf, Stop> {
        let step = format!("open ({access:?})");
        self.step(&step);
        match self.stage.open(access) {
            Ok(file) => Ok(Bpf { file, length: AtomicUsize::new(BUFSIZE.of(self.system)) }),
            Err(errno) => Err(failed(step, "a descriptor", errno.name())),
        }
    }

    /// A non-blocking descriptor with buffers of [`SMALL`] bytes on the observed interface.
    ///
    /// # Errors
    /// Something of it is refused.
    pub fn tap(&mut self) -> Result<Bpf, Stop> {
        self.tap_with(SMALL)
    }

    /// The same, with buffers of this size.
    ///
    /// # Errors
    /// Something of it is refused.
    pub fn tap_with(&mut self, buffer: u32) -> Result<Bpf, Stop> {
        let bpf = self.open()?;
        self.ask(&bpf, Request::SBlen(buffer))?;
        self.attach(&bpf)?;
        self.nonblocking(&bpf, true)?;
        Ok(bpf)
    }

    /// The same, blocking.
    ///
    /// # Errors
    /// Something of it is refused.
    pub fn blocking_tap(&mut self) -> Result<Bpf, Stop> {
        let bpf = self.tap()?;
        self.nonblocking(&bpf, false)?;
        Ok(bpf)
    }

    /// BIOCSETIF to the observed interface.
    ///
    /// # Errors
    /// It is refused.
    pub fn attach(&mut self, bpf: &Bpf) -> Done {
        let name = self.stage.interface().to_owned();
        self.ask(bpf, set_if(&name)).map(drop)
    }

    /// fcntl(2), O_NONBLOCK.
    ///
    /// # Errors
    /// It is refused.
    pub fn nonblocking(&mut self, bpf: &Bpf, on: bool) -> Done {
        self.step("fcntl O_NONBLOCK");
        bpf.file.set_nonblocking(on).map_err(|errno| failed("fcntl O_NONBLOCK", "ok", errno.name()))
    }

    /// ioctl(2) that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn ask(&mut self, bpf: &Bpf, request: Request) -> Result<Response, Stop> {
        let step = text::describe(self.system, &request);
        self.step(&step);
        let answer = bpf.file.ioctl(&request);
        if let (Request::SBlen(_), Ok(Response::U32(length))) = (&request, &answer) {
            bpf.length.store(*length as usize, Ordering::Relaxed);
        }
        answer.map_err(|errno| failed(step, "success", errno.name()))
    }

    /// ioctl(2), and its answer.
    ///
    /// # Errors
    /// Another answer.
    pub fn request(&mut self, bpf: &Bpf, request: Request, expected: impl Into<Per<&'static str>>) -> Done {
        let step = text::describe(self.system, &request);
        self.step(&step);
        let answer = bpf.file.ioctl(&request);
        if let (Request::SBlen(_), Ok(Response::U32(length))) = (&request, &answer) {
            bpf.length.store(*length as usize, Ordering::Relaxed);
        }
        let seen = text::answer(self.system, &answer);
        self.check(step, expected, seen)
    }

    /// BIOCSETF that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn filter(&mut self, bpf: &Bpf, program: &[Insn]) -> Done {
        self.ask(bpf, Request::SetF(FilterSource::new(program))).map(drop)
    }

    /// read(2) of `length` bytes, uncompared.
    pub fn read_raw(&self, bpf: &Bpf, length: usize) -> Result<Vec<u8>, Errno> {
        self.step(&format!("read {length}"));
        let mut buffer = vec![0; length];
        let n = bpf.file.read(&mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    }

    /// read(2) of a whole buffer, and the numbers of the frames it gives.
    ///
    /// # Errors
    /// Others, or another error.
    pub fn read(&mut self, bpf: &Bpf, expected: impl Into<Per<&'static str>>) -> Done {
        let result = self.read_raw(bpf, bpf.length());
        let seen = text::numbers(self.system, &result);
        self.check("read", expected, seen)
    }

    /// read(2) of a whole buffer, and how many bytes it gives.
    ///
    /// # Errors
    /// Another number.
    pub fn read_length(&mut self, bpf: &Bpf, expected: impl Into<Per<&'static str>>) -> Done {
        let result = self.read_raw(bpf, bpf.length());
        self.check("read", expected, text::bytes(&result))
    }

    /// read(2) of so many bytes, and how many it gives.
    ///
    /// # Errors
    /// Another number.
    pub fn read_sized(&mut self, bpf: &Bpf, length: usize, expected: impl Into<Per<&'static str>>) -> Done {
        let result = self.read_raw(bpf, length);
        self.check(format!("read of {length} bytes"), expected, text::bytes(&result))
    }

    /// The records of one read(2), which must be well formed.
    ///
    /// # Errors
    /// They are not, or there is an error.
    pub fn records(&mut self, bpf: &Bpf) -> Result<Vec<Record>, Stop> {
        let whole = |seen: String| failed("read", "whole records", &seen);
        let buffer = self.read_raw(bpf, bpf.length()).map_err(|errno| whole(errno.name().into()))?;
        walk(&buffer, layout(self.system)).map_err(|malformed| whole(malformed.0))
    }

    /// write(2).
    ///
    /// # Errors
    /// Another result.
    pub fn write(&mut self, bpf: &Bpf, frame: &[u8], expected: impl Into<Per<&'static str>>) -> Done {
        let step = format!("write of {} bytes", frame.len());
        self.step(&step);
        let seen = match bpf.file.write(frame) {
            Ok(n) => n.to_string(),
            Err(errno) => errno.name().to_owned(),
        };
        self.check(step, expected, seen)
    }

    /// Writes a 60-byte frame with this number, which must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn send(&mut self, bpf: &Bpf, number: u16) -> Done {
        self.step("write");
        match bpf.file.write(&frame(60, number)) {
            Ok(60) => Ok(()),
            Ok(n) => Err(failed("write of 60 bytes", "60", &n.to_string())),
            Err(errno) => Err(failed("write of 60 bytes", "60", errno.name())),
        }
    }

    /// poll(2) that does not wait.
    ///
    /// # Errors
    /// Another answer.
    pub fn poll(&mut self, bpf: &Bpf, want: Interest, expected: impl Into<Per<&'static str>>) -> Done {
        self.poll_for(bpf, want, 0, expected)
    }

    /// poll(2) that waits so many milliseconds at most.
    ///
    /// # Errors
    /// Another answer.
    pub fn poll_for(
        &mut self,
        bpf: &Bpf,
        want: Interest,
        ms: u64,
        expected: impl Into<Per<&'static str>>,
    ) -> Done {
        let asked = text::ready(Ready { read: want.read, write: want.write, hangup: false });
        let step = format!("poll for {asked}, {ms} ms");
        self.step(&step);
        let seen = match bpf.file.poll(want, Some(Duration::from_millis(ms))) {
            Ok(answer) => text::ready(answer),
            Err(errno) => errno.name().to_owned(),
        };
        self.check(step, expected, seen)
    }

    /// Something happens.
    ///
    /// # Errors
    /// It cannot.
    pub fn happen(&mut self, event: Event) -> Done {
        self.step("an event");
        Ok(self.stage.happen(&event)?)
    }

    /// A 60-byte broadcast frame with this number comes from the far end.
    ///
    /// # Errors
    /// It cannot.
    pub fn receive(&mut self, number: u16) -> Done {
        self.happen(Event::Receive(frame(60, number)))
    }

    /// So do several, numbered on.
    ///
    /// # Errors
    /// They cannot.
    pub fn receive_all(&mut self, numbers: impl IntoIterator<Item = u16>) -> Done {
        numbers.into_iter().try_for_each(|number| self.receive(number))
    }

    /// Something happens in so many milliseconds.
    pub fn after(&mut self, ms: u64, event: Event) {
        self.ordered.get_or_insert(self.stage.clock());
        self.stage.after(Duration::from_millis(ms), event);
    }

    /// Time passes.
    pub fn sleep(&mut self, ms: u64) {
        self.step("sleep");
        self.stage.sleep(Duration::from_millis(ms));
    }

    /// How long it takes, against bounds in milliseconds; a busy machine may take the stage's slack longer. Where events
    /// were ordered before, counted from the first of them.
    ///
    /// # Errors
    /// It takes less or more, or fails.
    pub fn takes(
        &mut self,
        what: &str,
        at_least: u64,
        at_most: u64,
        act: impl FnOnce(&mut Scene) -> Done,
    ) -> Done {
        let begin = self.ordered.take().unwrap_or_else(|| self.stage.clock());
        act(self)?;
        let took = self.stage.clock().saturating_sub(begin);
        self.within(what, took, at_least, at_most)
    }

    /// Compares a time, so that two runs that are right say the same.
    ///
    /// # Errors
    /// It is outside the bounds.
    pub fn within(&mut self, what: &str, took: Duration, at_least: u64, at_most: u64) -> Done {
        let expected = format!("{at_least} to {at_most} ms");
        // where time is the machine's own, a sleep of another thread may have begun some milliseconds before it was seen to
        let early = self.stage.slack().min(Duration::from_millis(20));
        let least = Duration::from_millis(at_least).saturating_sub(early);
        let bounds = least..=Duration::from_millis(at_most) + self.stage.slack();
        let seen = if bounds.contains(&took) { expected.clone() } else { format!("{} ms", took.as_millis()) };
        let check = Check { step: format!("{what} takes"), expected, seen };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check.clone());
        if check.expected == check.seen { Ok(()) } else { Err(Stop::Failed(check)) }
    }

    /// Calls at the same time.
    pub fn together(&mut self, calls: Vec<Call<'_>>) {
        self.step("calls at the same time");
        self.stage.together(calls);
    }

    /// The numbers of the frames that came out at the far end.
    ///
    /// # Errors
    /// Others.
    pub fn far_end(&mut self, count: usize, expected: impl Into<Per<&'static str>>) -> Done {
        self.step("looking at the far end");
        let frames = self.stage.far_end(count)?;
        let seen = text::list(frames.iter().map(|frame| super::frame::number(frame)));
        self.check("frames at the far end", expected, seen)
    }

    /// The frames that came out at the far end.
    ///
    /// # Errors
    /// There are not so many.
    pub fn far_frames(&mut self, count: usize) -> Result<Vec<Vec<u8>>, Stop> {
        self.step("looking at the far end");
        let frames = self.stage.far_end(count)?;
        if frames.len() == count {
            return Ok(frames);
        }
        let (expected, seen) = (count.to_string(), frames.len().to_string());
        Err(Stop::Failed(Check { step: "frames at the far end".into(), expected, seen }))
    }

    /// Whether the observed interface is promiscuous.
    ///
    /// # Errors
    /// It is otherwise.
    pub fn promiscuous(&mut self, expected: impl Into<Per<&'static str>>) -> Done {
        self.step("the interface's promiscuity");
        self.stage.closed();
        let seen = if self.stage.promiscuous()? { "promiscuous" } else { "not promiscuous" };
        self.check("the interface is", expected, seen)
    }

    /// BIOCGSTATS.
    ///
    /// # Errors
    /// Other counters.
    pub fn stats(&mut self, bpf: &Bpf, expected: impl Into<Per<&'static str>>) -> Done {
        self.request(bpf, Request::GStats, expected)
    }
}

impl Bpf {
    /// The file itself.
    pub fn file(&self) -> &SharedFile {
        &self.file
    }

    /// The length its reads must have: BIOCGBLEN, remembered, since asking ends a poll's timer.
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }
}

/// BIOCSETIF.
pub fn set_if(name: &str) -> Request {
    Request::SetIf(name.as_bytes().to_vec())
}

/// BIOCSETF with this program.
pub fn set_f(program: &[Insn]) -> Request {
    Request::SetF(FilterSource::new(program))
}

fn failed(step: impl Into<String>, expected: &str, seen: &str) -> Stop {
    Stop::Failed(Check { step: step.into(), expected: expected.to_owned(), seen: seen.to_owned() })
}
