//! What a descriptor gave, against what was sent: order, wholeness, and counters that add up.

use std::collections::BTreeMap;

use bpfdev::records;
use bpfdev_core::abi::{Header, Response};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::cbpf::builder::{At, BuildError, Builder, Target};
use serde::{Deserialize, Serialize};

use super::frame::{self, MARK, MARK_AT, NUMBER_AT, Name, SENDER_AT};

/// Which frames a read filter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// There is none.
    Everyone,
    /// Frames of the soak, whoever sent them.
    Soak,
    /// Those of one sender.
    Only(u32),
}

/// A read filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sieve {
    /// Whose frames.
    pub who: Who,
    /// Of these the ones whose number is `value` under `mask`, one less than a power of two.
    pub mask: u32,
    /// See `mask`.
    pub value: u32,
    /// Bytes kept.
    pub snap: u32,
}

impl Sieve {
    /// The number of the first frame from `from` on that it lets through.
    fn next(self, from: u64) -> u64 {
        let (mask, value) = (u64::from(self.mask), u64::from(self.value));
        from + (value.wrapping_sub(from) & mask)
    }

    /// How many numbers below `end` it lets through, from `from` on.
    fn count(self, from: u64, end: u64) -> u64 {
        let first = self.next(from);
        if first >= end { 0 } else { (end - 1 - first) / (u64::from(self.mask) + 1) + 1 }
    }

    /// The program; `None` where there is none.
    ///
    /// # Errors
    /// None that is known.
    pub fn program(self) -> Result<Option<Vec<Insn>>, BuildError> {
        let mut b = Builder::new();
        let reject = b.label();
        match self.who {
            Who::Everyone => return Ok(None),
            Who::Soak => {}
            Who::Only(sender) => {
                b.ld(At::Abs(SENDER_AT)).jeq(sender, Target::Next, reject);
            }
        }
        b.ld(At::Abs(MARK_AT)).jeq(MARK, Target::Next, reject);
        b.ld(At::Abs(NUMBER_AT)).and(self.mask);
        b.jeq(self.value, Target::Next, reject);
        b.ret(self.snap).put(reject).ret(0);
        b.insns().map(Some)
    }
}

/// The last number of each sender that was read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    last: BTreeMap<u32, u64>,
}

/// What a buffer held.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Frames of the soak, in order.
    pub names: Vec<Name>,
    /// Packets that are none.
    pub foreign: u64,
}

impl Order {
    /// Takes what one read(2) gave.
    ///
    /// # Errors
    /// A record is not whole, a frame is not as it was sent, or not later than those before it.
    pub fn read(&mut self, buf: &[u8], header: &Header) -> Result<Read, String> {
        let mut read = Read::default();
        let mut walk = records(buf, *header);
        for record in walk.by_ref() {
            let name = match frame::check(record.data, record.wirelen) {
                Ok(name) => name,
                Err(None) => {
                    read.foreign += 1;
                    continue;
                }
                Err(Some(what)) => return Err(what),
            };
            match self.last.insert(name.sender, name.number) {
                Some(last) if last == name.number => return Err(format!("{name:?} came twice")),
                Some(last) if last > name.number => return Err(format!("{name:?} came after {last}")),
                _ => {}
            }
            read.names.push(name);
        }
        match walk.malformed() {
            Some(malformed) => Err(format!("a buffer of {} bytes: {malformed}", buf.len())),
            None => Ok(read),
        }
    }
}

/// What was sent on a wire when its senders rest.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// By its own sender, numbers from 0 on.
    pub frames: u64,
    /// Of these, those that did not get through the wire, at most.
    pub lost: u64,
    /// By clients, at most; it cannot be told how many.
    pub written: u64,
}

/// The account of one descriptor, from when it was attached, or flushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The number of the wire's own sender.
    own: u32,
    sieve: Sieve,
    /// No earlier frame was counted: what had been sent when the request began, in flight not.
    after: u64,
    /// Every frame from this on was: what was to be sent when the request had ended.
    from: u64,
    /// Frames that clients had written then, at least.
    written: u64,
    first: Option<u64>,
    of_own: u64,
    of_others: u64,
}

/// When counting begins: before and after the request that begins it.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Frames sent, at least, before.
    pub after: u64,
    /// Frames sent, at most, when it was answered.
    pub from: u64,
    /// Frames written by clients, at least, before.
    pub written: u64,
}

impl Account {
    /// One that begins.
    pub fn new(own: u32, sieve: Sieve, begun: Begun) -> Account {
        let Begun { after, from, written } = begun;
        Account { own, sieve, after, from, written, first: None, of_own: 0, of_others: 0 }
    }

    /// It begins anew.
    pub fn restart(&mut self, begun: Begun) {
        *self = Account::new(self.own, self.sieve, begun);
    }

    /// Takes what a read gave.
    pub fn take(&mut self, read: &Read) {
        for name in &read.names {
            if name.sender == self.own {
                self.first.get_or_insert(name.number);
                self.of_own += 1;
            } else {
                self.of_others += 1;
            }
        }
        self.of_others += read.foreign;
    }

    /// Frames of clients pass the sieve, and are on the wire.
    fn mixed(&self, sent: Sent) -> bool {
        !matches!(self.sieve.who, Who::Only(_)) && sent.written > self.written
    }

    /// Everything was read, and BIOCGSTATS says `stats`. `rejected_count`: packets the filter rejected are counted.
    ///
    /// # Errors
    /// What does not add up.
    pub fn settle(&self, sent: Sent, stats: &Response, rejected_count: bool) -> Result<(), String> {
        let Response::Stats { recv, drop, capt } = *stats else { return Err(format!("{stats:?}")) };
        let given = self.of_own + self.of_others;
        let fail = |what: &str| {
            Err(format!(
                "{what}: received {recv}, dropped {drop}, captured {capt}; {given} read; {sent:?}, {self:?}"
            ))
        };
        // the buffers were empty: the first that passes is stored, whatever comes after it
        let surely_first = self.sieve.next(self.from);
        match self.first {
            Some(first) if first < self.after => return fail("a frame from before"),
            // unless what clients wrote has filled the buffers before it
            Some(first) if sent.lost == 0 && first > surely_first && !self.mixed(sent) => {
                return fail("the first frames are missing");
            }
            None if self.sieve.count(self.from, sent.frames) > sent.lost && !self.mixed(sent) => {
                return fail("nothing came");
            }
            _ => {}
        }
        let first = self.first.unwrap_or(sent.frames);
        let missing = self.sieve.count(first, sent.frames).checked_sub(self.of_own);
        let Some(missing) = missing else { return fail("more than was sent") };
        if missing > drop + sent.lost {
            return fail("some were neither read nor dropped");
        }
        if drop > missing && !self.mixed(sent) {
            return fail("what was read counts as dropped");
        }
        if capt > 0 && capt != given + drop {
            return fail("captured is not what was read and what was dropped");
        }
        if !rejected_count {
            return if recv == given + drop { Ok(()) } else { fail("received is not read and dropped") };
        }
        // between the request and the first that passed, frames were counted that the sieve keeps; and where others had filled
        // the buffers, or some were lost, the first that was read is not the first that passed
        let earliest =
            if self.mixed(sent) || sent.lost > 0 { 0 } else { first.saturating_sub(self.sieve.mask.into()) };
        let most = sent.frames - earliest.max(self.after);
        let least = (sent.frames - first).saturating_sub(sent.lost);
        if self.first.is_none() || (least..=most + (sent.written - self.written)).contains(&recv) {
            Ok(())
        } else {
            fail("received is not what was sent")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bpfdev_core::abi::hdr;
    use bpfdev_core::abi::linux::LINUX;
    use bpfdev_core::packet::Way;
    use bpfdev_core::time::Timestamp;

    const OWN: Sieve = Sieve { who: Who::Only(0), mask: 3, value: 2, snap: u32::MAX };

    fn stats(recv: u64, drop: u64) -> Response {
        Response::Stats { recv, drop, capt: 0 }
    }

    fn names(numbers: impl IntoIterator<Item = u64>) -> Read {
        Read { names: numbers.into_iter().map(|number| Name { sender: 0, number }).collect(), foreign: 0 }
    }

    fn account(sieve: Sieve, numbers: impl IntoIterator<Item = u64>) -> Account {
        let mut account = Account::new(0, sieve, Begun { after: 95, from: 101, written: 0 });
        account.take(&names(numbers));
        account
    }

    const SENT: Sent = Sent { frames: 140, lost: 0, written: 0 };

    #[test]
    fn a_sieve_counts_as_its_program_does() {
        let insns = OWN.program().unwrap().unwrap();
        let program = bpfdev_core::cbpf::validate(&insns, LINUX.filter).unwrap();
        let passes = |number| {
            let frame = Name { sender: 0, number }.frame();
            program.run(&frame, u32::try_from(frame.len()).unwrap()) != 0
        };
        for from in 0..9 {
            for end in from..20 {
                let right = (from..end).filter(|number| passes(*number)).count() as u64;
                assert_eq!(OWN.count(from, end), right, "{from} to {end}");
            }
        }
        let other = Name { sender: 1, number: 2 }.frame();
        assert_eq!(program.run(&other, 60), 0);
    }

    #[test]
    fn what_adds_up_is_accepted_and_what_does_not_is_not() {
        let all = || (102..140).step_by(4);
        let settle = |account: Account, recv, drop| account.settle(SENT, &stats(recv, drop), true);
        for recv in 38..=41 {
            settle(account(OWN, all()), recv, 0).unwrap();
        }
        assert!(settle(account(OWN, all()), 37, 0).unwrap_err().contains("received"));
        assert!(settle(account(OWN, all()), 42, 0).unwrap_err().contains("received"));
        settle(account(OWN, all().take(8)), 38, 2).unwrap();
        assert!(settle(account(OWN, all().take(8)), 38, 1).unwrap_err().contains("neither"));
        assert!(settle(account(OWN, all()), 38, 1).unwrap_err().contains("counts as dropped"));
        assert!(settle(account(OWN, all().skip(1)), 38, 1).unwrap_err().contains("first"));
        assert!(settle(account(OWN, [94, 98]), 38, 9).unwrap_err().contains("before"));
        assert!(settle(account(OWN, []), 38, 10).unwrap_err().contains("nothing came"));
        account(OWN, all()).settle(SENT, &stats(10, 0), false).unwrap();
        assert!(account(OWN, all()).settle(SENT, &stats(11, 0), false).is_err());
        let captured = Response::Stats { recv: 38, drop: 0, capt: 9 };
        assert!(account(OWN, all()).settle(SENT, &captured, true).unwrap_err().contains("captured"));
    }

    #[test]
    fn frames_of_the_sender_that_found_buffers_full_of_others_count_as_received() {
        let everyone = Sieve { who: Who::Everyone, mask: 0, value: 0, snap: u32::MAX };
        // all from 95 on came, and 30 of others, 20 of them before 110, which left no room
        let others = Read { foreign: 20, ..Read::default() };
        let settle = |recv, written| {
            let mut account = account(everyone, 110..140);
            account.take(&others);
            account.settle(Sent { written, ..SENT }, &stats(recv, recv - 50), true)
        };
        settle(30 + 30 + 14, 30).unwrap();
        settle(30 + 30 + 15, 30).unwrap();
        assert!(settle(30 + 30 + 16, 30).unwrap_err().contains("not what was sent"));
    }

    #[test]
    fn a_buffer_is_checked_record_by_record() {
        let header = *LINUX.header_for(false);
        let buffer = |numbers: &[u64]| {
            let mut buf = Vec::new();
            for &number in numbers {
                let frame = Name { sender: 5, number }.frame();
                let len = u32::try_from(frame.len()).unwrap();
                let at = header.align(buf.len());
                let hdrlen = header.hdrlen(14);
                buf.resize(at + hdrlen, 0);
                let timestamp = Timestamp::default();
                let record = hdr::Record { timestamp, caplen: len, datalen: len, way: Way::In, ifindex: 1 };
                header.write(&mut buf[at..], &record);
                buf.extend(frame);
            }
            buf
        };
        let mut order = Order::default();
        assert_eq!(order.read(&buffer(&[1, 2, 9]), &header).unwrap().names.len(), 3);
        assert!(order.clone().read(&buffer(&[9]), &header).unwrap_err().contains("twice"));
        assert!(order.clone().read(&buffer(&[10, 4]), &header).unwrap_err().contains("after 10"));
        let cut = buffer(&[11]);
        assert!(order.read(&cut[..cut.len() - 1], &header).unwrap_err().contains("malformed"));
    }
}
