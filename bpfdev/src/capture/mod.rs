//! Packet capture: the same program on Linux and on the BSDs.
//!
//! A [`Capture`] is one interface's packets, by whatever this system has: packet sockets on Linux, `/dev/bpf` on a BSD, or a
//! backend that needs no privilege, for tests: a capture file ([`Capture::replay`]) or a network in this process
//! ([`loopback`](crate::loopback)). Packets come in batches, lent from the kernel's ring or the device's buffer until the
//! batch is dropped: none is copied, and nothing is allocated for one.
//!
//! ```
//! use std::sync::Arc;
//! use bpfdev::capture::Capture;
//! use bpfdev::cbpf::text;
//! use bpfdev::loopback::LoopbackNetwork;
//! use bpfdev::time::SystemClock;
//!
//! let network = LoopbackNetwork::new(Arc::new(SystemClock::new()));
//! network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
//! // On a machine's own interfaces: .open("eth0")
//! let mut capture = Capture::options().immediate(true).open_on(&network, "em0")?;
//! // What `tcpdump -ddd arp` prints.
//! capture.set_filter(text::read("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n")?)?;
//!
//! let frame = |kind: [u8; 2]| [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &kind, &[0; 46]].concat();
//! network.receive("em0", &frame([0x08, 0x00]));
//! network.receive("em0", &frame([0x08, 0x06]));
//! let mut lengths = Vec::new();
//! if let Some(mut batch) = capture.next_batch()? {
//!     while let Some(packet) = batch.next() {
//!         lengths.push(packet.wirelen);
//!     }
//! }
//! assert_eq!(lengths, [60], "the ARP frame");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "tokio")]
mod asynchronous;
mod batch;
mod error;
mod options;
#[cfg(feature = "tokio")]
mod sys;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bpfdev_core::backend::{
    Arrivals, Capabilities, Direction, FilterBackend, Inject, Interface, Plan, Queued, Stats, Visible, Waiter,
};
use bpfdev_core::linktype::Linktype;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncCapture;
pub use batch::Batch;
pub use error::{Error, ErrorKind};
pub use options::{Filter, Options, Precision};

/// Packets of one interface.
pub struct Capture {
    tap: Box<dyn FilterBackend>,
    waiter: Arc<dyn Waiter>,
    woken: Arc<AtomicBool>,
    options: Options,
    /// How many packets of the last batch were taken: where there are several, more are on their way.
    taken: u64,
}

impl Capture {
    /// Options for a capture.
    pub fn options() -> Options {
        Options::default()
    }

    /// Captures from this machine's interface `name`, with the defaults.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open(name: &str) -> Result<Capture, Error> {
        Capture::options().open(name)
    }

    /// Plays a capture file, pcap or pcapng, as fast as it is read.
    ///
    /// # Errors
    /// The file cannot be read, or is no capture file.
    pub fn replay(path: impl AsRef<Path>) -> Result<Capture, Error> {
        Capture::options().replay(path)
    }

    /// The next packets: those that are there; else waits for one, at most for the read time-out. `None`: there will be no
    /// more, a file has come to its end.
    ///
    /// The batch is empty when the time-out passed, when the capture is non-blocking, when a [`Waker`] or a signal ended the
    /// wait, and may be when a filter runs in this process and rejected what was there.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] once the interface was removed and every packet before that was handed on; the system's.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, Error> {
        let name = self.tap.name();
        let failed = |error| Error::of(name, error);
        if self.taken > 1
            && let Some(nap) = self.options.nap()
        {
            std::thread::sleep(nap);
        }
        self.taken = 0;
        let mut arrivals = self.tap.arrivals().map_err(failed)?;
        if arrivals == Arrivals::NotYet && !self.options.nonblocking {
            self.wait();
            arrivals = self.tap.arrivals().map_err(failed)?;
        }
        let source = match arrivals {
            Arrivals::Ready => Some(self.tap.try_batch().map_err(failed)?),
            Arrivals::NotYet => None,
            Arrivals::Ended => return Ok(None),
        };
        Ok(Some(Batch::new(source, &self.options, &mut self.taken)))
    }

    /// Packets are there, or there is nothing to wait for.
    #[cfg(feature = "tokio")]
    fn has_arrivals(&mut self) -> Result<bool, Error> {
        let name = self.tap.name();
        let arrivals = self.tap.arrivals().map_err(|error| Error::of(name, error))?;
        Ok(arrivals != Arrivals::NotYet || self.woken.swap(false, Ordering::Acquire))
    }

    /// How soon to look though the descriptor is silent.
    #[cfg(feature = "tokio")]
    fn look_again(&self) -> Option<Duration> {
        self.tap.look_again()
    }

    /// Waits until packets may be there.
    fn wait(&mut self) {
        let end = self.options.read_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.woken.swap(false, Ordering::Acquire) {
                return;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            self.waiter.wait(left);
            // Without a descriptor nothing wakes a wait but time: it is one of many short ones.
            let short = self.tap.as_fd().is_none();
            let over = left.is_some_and(|left| left.is_zero());
            if !short || over || !matches!(self.tap.arrivals(), Ok(Arrivals::NotYet)) {
                return;
            }
        }
    }

    /// Replaces the filter; what was queued before is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Filter`] for one that is not valid, and the old one stays; the system's.
    pub fn set_filter(&mut self, filter: impl Into<Filter>) -> Result<Plan, Error> {
        self.change_filter(&filter.into(), Queued::Flush)
    }

    /// Replaces the filter for packets that come from now on; those that are queued stay as the old one judged them.
    ///
    /// # Errors
    /// As [`Capture::set_filter`]; [`ErrorKind::Unsupported`] where the system has no such request (BIOCSETFNR).
    pub fn set_filter_keeping(&mut self, filter: impl Into<Filter>) -> Result<Plan, Error> {
        self.change_filter(&filter.into(), Queued::Keep)
    }

    /// Takes the filter away: every packet is accepted.
    ///
    /// # Errors
    /// The system's.
    pub fn clear_filter(&mut self) -> Result<(), Error> {
        let name = self.tap.name();
        self.tap.set_filter(None, Queued::Flush).map_err(|error| Error::of(name, error))?;
        Ok(())
    }

    fn change_filter(&mut self, filter: &Filter, queued: Queued) -> Result<Plan, Error> {
        let name = self.tap.name();
        let program = filter.program(self.tap.interface().linktype, self.options.snaplen)?;
        self.tap.set_filter(Some(&program), queued).map_err(|error| Error::of(name, error))
    }

    /// Makes every later filter change fail, irrevocably.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where there is no such lock.
    pub fn lock_filter(&mut self) -> Result<(), Error> {
        let name = self.tap.name();
        self.tap.lock_filter().map_err(|error| Error::of(name, error))
    }

    /// Captures packets that went this way only.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the system cannot tell; the system's.
    pub fn set_direction(&mut self, direction: Direction) -> Result<(), Error> {
        let name = self.tap.name();
        self.tap.set_direction(direction).map_err(|error| Error::of(name, error))
    }

    /// Whether [`Capture::next_batch`] returns at once when nothing is there.
    pub fn set_nonblocking(&mut self, on: bool) {
        self.options.nonblocking = on;
    }

    /// How long [`Capture::next_batch`] waits; `None` waits for ever.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.options.read_timeout = timeout;
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        self.tap.interface()
    }

    /// What packets begin with.
    pub fn linktype(&self) -> Linktype {
        self.tap.interface().linktype
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.tap.capabilities()
    }

    /// What kind of backend it is, for messages.
    pub fn backend(&self) -> &'static str {
        self.tap.name()
    }

    /// Where the filter runs.
    pub fn plan(&self) -> Plan {
        self.tap.plan()
    }

    /// Packet counters since the capture was opened.
    ///
    /// # Errors
    /// The system's.
    pub fn stats(&mut self) -> Result<Stats, Error> {
        let name = self.tap.name();
        self.tap.stats().map_err(|error| Error::of(name, error))
    }

    /// A sending half, for this thread or another.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where nothing can be sent.
    pub fn sender(&self) -> Result<Sender, Error> {
        let backend = self.tap.name();
        let inject = self.tap.injector().map_err(|error| Error::of(backend, error))?;
        Ok(Sender { inject, backend })
    }

    /// Ends [`Capture::next_batch`]'s waits from another thread.
    pub fn waker(&self) -> Waker {
        Waker { waiter: Arc::clone(&self.waiter), woken: Arc::clone(&self.woken) }
    }

    /// Polls readable when packets are there; `None` for a replay and the loopback network.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_fd()
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("backend", &self.tap.name())
            .field("interface", &self.tap.interface().name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The sending half of a capture.
pub struct Sender {
    inject: Box<dyn Inject>,
    backend: &'static str,
}

impl Sender {
    /// Sends one whole frame, link header first. It does not wait: [`ErrorKind::NoBuffers`] when it would have to.
    ///
    /// # Errors
    /// [`ErrorKind::Frame`] for a frame the interface does not take, [`ErrorKind::Down`], [`ErrorKind::Gone`]; the system's.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.inject.inject(frame, Visible::ToTaps).map_err(|error| Error::of(self.backend, error))
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Ends the waits of a [`Capture`]; clones do the same.
#[derive(Clone)]
pub struct Waker {
    waiter: Arc<dyn Waiter>,
    woken: Arc<AtomicBool>,
}

impl Waker {
    /// The wait under way, or else the next one, ends.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waiter.wake();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
