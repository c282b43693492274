//! The receiving half: a bound packet socket with its ring, and how a frame of it becomes a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bpfdev_core::backend::{Direction, PacketSource};
use bpfdev_core::packet::{Packet, Way};
use bpfdev_core::time::{Moment, Timestamp};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};

use crate::checksum::{self, Checksum};
use crate::clock;
use crate::filter::LinkKind;
use crate::frame::{Header, SKIPPED, STATUS_GSO_TCP, restore_tag};
use crate::judge::{Captured, Judge, Judges, Verdict};
use crate::layout::Layout;
use crate::ring::RingMap;
use crate::sys::{self, SlowClose};
use crate::waiter::Lookout;

/// Room before a packet in the scratch buffer to put a tag back, in octets.
const HEADROOM: usize = 4;
/// Octets of the receive queue for packets larger than a frame; each is lent some 70 KiB of it.
const QUEUE: usize = 16 * 1024 * 1024;
/// No packet is larger, in octets: GSO_MAX_SIZE is half of it.
const LARGEST: u32 = 1 << 20;
/// Octets by which Linux's loopback header is longer than a BSD's.
const LOOPBACK_EXCESS: u32 = 10;
/// Frames in a row that are the kernel's, behind which no frame of ours is looked for: more than there can be CPUs
/// writing at once.
const GAP: u32 = 1024;

/// What makes a frame one for [`Receiver::take`]: it came another way, or lacks something.
const SPECIAL: u32 = libc::TP_STATUS_COPY | libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_CSUMNOTREADY;

/// Where the packet that is lent now lies.
#[derive(Clone, Copy, Debug)]
struct Found {
    copied: bool,
    start: usize,
    end: usize,
    wirelen: u32,
    verdict: Option<u32>,
    header: Header,
}

/// A bound packet socket and its ring.
#[derive(Debug)]
pub(crate) struct Receiver {
    // Before the socket: the ring is unmapped first.
    ring: RingMap,
    socket: Arc<SlowClose>,
    kind: LinkKind,
    checksum: Checksum,
    pub judges: Judges,
    /// Number of the ring's present frame, counted since the socket was made.
    number: u64,
    /// The present frame is lent, or was looked at and is of no use.
    taken: bool,
    /// Frames this batch may still take.
    budget: u32,
    /// A packet larger than a frame; grows to the largest seen.
    scratch: Vec<u8>,
    /// CLOCK_REALTIME − CLOCK_MONOTONIC when the batch began, in nanoseconds.
    offset: i64,
    /// CLOCK_MONOTONIC no earlier than any packet handed on in this batch.
    now: i64,
    /// Packets lost because the kernel had room only for their first part.
    pub cut: u64,
    /// Packets that are not packets to a BSD: no tap there would have counted them.
    pub uncounted: u64,
    /// Only packets that went these ways are handed on, each with its verdict; `None`: that is the descriptor's business.
    pub directions: Option<Direction>,
    /// The way a loopback interface's packets count as.
    pub loopback_way: Way,
    /// Packets rejected here, while the kernel's filter changed.
    pub rejected: u64,
    pub lookout: Arc<Lookout>,
}

impl Receiver {
    /// Gives `socket` its ring and queue; it is not bound yet.
    pub fn new(
        socket: OwnedFd,
        layout: Layout,
        bufsize: usize,
        kind: LinkKind,
        checksum: Checksum,
        judge: Judge,
    ) -> io::Result<Receiver> {
        let fd = socket.as_fd();
        sys::set_int(fd, libc::SOL_PACKET, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as i32)?;
        sys::set_int(fd, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, 1)?;
        // The kernel doubles what it is asked for, and caps SO_RCVBUF at net.core.rmem_max without a word.
        let queue = i32::try_from(bufsize.saturating_mul(2).max(QUEUE)).unwrap_or(i32::MAX / 2);
        sys::set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, queue)
            .or_else(|_| sys::set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, queue))?;
        let layout = make_ring(fd, layout)?;
        let ring = RingMap::new(fd, layout)?;
        Ok(Receiver::over(ring, socket, kind, checksum, judge))
    }

    /// Over the ring of `socket`, which larger packets come through.
    fn over(ring: RingMap, socket: OwnedFd, kind: LinkKind, checksum: Checksum, judge: Judge) -> Receiver {
        Receiver {
            ring,
            socket: Arc::new(socket.into()),
            kind,
            checksum,
            judges: Judges::new(judge),
            number: 0,
            taken: false,
            budget: 0,
            scratch: Vec::new(),
            offset: 0,
            now: 0,
            cut: 0,
            uncounted: 0,
            directions: None,
            loopback_way: Way::In,
            rejected: 0,
            lookout: Arc::default(),
        }
    }

    /// The socket, to be shared with what waits on it.
    pub fn socket(&self) -> &Arc<SlowClose> {
        &self.socket
    }

    /// Octets of the ring.
    pub fn ring_len(&self) -> usize {
        self.ring.len()
    }

    /// The socket's fd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether a frame is there.
    pub fn is_ready(&self) -> bool {
        self.ring.status().is_some()
    }

    /// Reads and clears the socket's pending error.
    pub fn pending_error(&self) -> i32 {
        getsockopt(&self.fd(), sockopt::SocketError).unwrap_or(0)
    }

    /// Begins a batch of the frames that are there now, at most a ring full: under a flood it ends all the same.
    pub fn begin(&mut self) {
        if !self.is_ready() {
            self.budget = 0;
            return;
        }
        self.budget = self.ring.frames();
        let (monotonic, realtime) = clock::both();
        (self.now, self.offset) = (monotonic, realtime.saturating_sub(monotonic));
        if self.judges.doubt_is_over() {
            self.judges.end_doubt(self.visible_end());
        }
    }

    /// The number behind that of the last frame that is ours now.
    pub fn visible_end(&self) -> u64 {
        let (mut end, mut gap) = (0, 0);
        for ahead in 0..self.ring.frames() {
            if self.ring.is_ours(ahead) {
                (end, gap) = (ahead + 1, 0);
            } else {
                gap += 1;
                if gap > GAP {
                    break;
                }
            }
        }
        self.number + u64::from(end)
    }

    /// Drops all that is queued.
    pub fn discard(&mut self) {
        self.judges.discard_below(self.visible_end());
        self.budget = self.ring.frames();
        while self.judges.discards(self.number) && self.budget > 0 {
            let Some(status) = self.ring.status() else { break };
            self.budget -= 1;
            self.taken = true;
            self.take(status);
            self.give_back();
        }
    }

    #[inline]
    fn give_back(&mut self) {
        if self.taken {
            self.taken = false;
            self.number += 1;
            self.ring.give_back();
        }
    }

    /// What [`Receiver::take`] would find in the present frame, in the fewest steps: most packets are whole, lie in the
    /// ring as they are to be, and have the judge that all have. `None`: it must look itself.
    #[inline]
    fn plain(&self, status: u32) -> Option<Found> {
        if status & SPECIAL != 0 || matches!(self.kind, LinkKind::Loopback(_)) {
            return None;
        }
        let judge = self.judges.settled(self.number)?;
        let octets = self.ring.octets()?;
        let header = Header::read(status, octets)?;
        let (captured, len) = (header.snaplen, header.len);
        let start = usize::from(header.mac).checked_sub(SKIPPED)?;
        let end = start + captured as usize;
        let frame = octets.get(start..end).filter(|_| captured == len)?;
        let packet = Captured { captured, len, tag_restored: false, copied: false };
        let (verdict, kept) = match judge.verdict(packet, frame, len) {
            Verdict::Accept(n) => (Some(n), frame.len().min(n as usize)),
            Verdict::Undecided => (None, frame.len()),
            Verdict::Reject => return None,
        };
        Some(Found { copied: false, start, end: start + kept, wirelen: len, verdict, header })
    }

    /// Makes a packet of the present frame, whose status this is; `None` when there is none in it for a client.
    #[inline(never)]
    fn take(&mut self, status: u32) -> Option<Found> {
        let header = Header::read(status, self.ring.frame()?)?;
        let copied = header.has(libc::TP_STATUS_COPY);
        let copied_len = if copied { self.receive_copy(&header)? } else { 0 };
        if self.judges.discards(self.number) {
            return None;
        }
        if matches!(self.kind, LinkKind::Loopback(_)) && header.pkttype == libc::PACKET_OUTGOING {
            // The same packet comes once more as a received one (PACKET_IGNORE_OUTGOING, from Linux 4.20 on).
            self.uncounted += 1;
            return None;
        }

        let (octets, start, captured) = if copied {
            (self.scratch.as_mut_slice(), HEADROOM, copied_len)
        } else {
            (self.ring.frame()?, usize::from(header.mac).checked_sub(SKIPPED)?, header.snaplen)
        };
        let (end, room) = (start + captured as usize, octets.len());
        // The frame had no more room, and there was none in the queue for a copy; or the filter said just that.
        let out_of_room = captured < header.len && (copied || end == room);

        if self.checksum == Checksum::Complete
            && header.has(libc::TP_STATUS_CSUMNOTREADY)
            && !header.has(STATUS_GSO_TCP)
            && captured == header.len
        {
            complete(octets.get_mut(start..end)?, self.kind);
        }
        let (mut start, mut wirelen, mut excess) = (start, header.len, 0);
        let tag = header.tag().filter(|_| self.kind == LinkKind::Ethernet);
        match (self.kind, tag) {
            (LinkKind::Loopback(framing), _) => {
                let Some(family) = framing.family(header.protocol) else {
                    self.uncounted += 1;
                    return None;
                };
                octets.get_mut(start + 10..start + 14)?.copy_from_slice(&framing.header(family));
                start += LOOPBACK_EXCESS as usize;
                wirelen = wirelen.checked_sub(LOOPBACK_EXCESS)?;
                excess = LOOPBACK_EXCESS;
            }
            (_, Some(tag)) => {
                start = restore_tag(octets, start, captured as usize, tag)?;
                wirelen = wirelen.saturating_add(4);
            }
            _ => {}
        }
        let frame = octets.get(start..end)?;

        let judge = self.judges.of(self.number);
        if out_of_room && !judge.may_have_cut_to(frame, captured.saturating_sub(excess), wirelen) {
            self.cut += 1;
            return None;
        }
        let packet = Captured { captured, len: header.len, tag_restored: tag.is_some(), copied };
        let verdict = match judge.verdict(packet, frame, wirelen) {
            Verdict::Accept(n) => Some(n),
            Verdict::Undecided => None,
            Verdict::Reject => {
                self.rejected += 1;
                return None;
            }
        };
        let kept = verdict.map_or(frame.len(), |n| frame.len().min(n as usize));
        Some(Found { copied, start, end: start + kept, wirelen, verdict, header })
    }

    /// Receives the packet that had no room in its frame; its length.
    #[cold]
    fn receive_copy(&mut self, header: &Header) -> Option<u32> {
        use std::os::fd::AsRawFd;
        // Some room for loopback's family word in a packet that is shorter than it should be.
        let needed = HEADROOM + header.len.min(LARGEST) as usize + 16;
        if self.scratch.len() < needed {
            self.scratch.resize(needed, 0);
        }
        loop {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(self.socket.as_fd().as_raw_fd(), self.scratch.get_mut(HEADROOM..)?, flags) {
                // A longer one cannot be: tp_len is what it was copied from.
                Ok(len) => return Some(u32::try_from(len).ok()?.min(header.len)),
                Err(Errno::EINTR) => {}
                // The socket's pending error is told first, once, and is taken back by that.
                Err(Errno::ENETDOWN) => self.lookout.down(),
                Err(_) => {
                    self.cut += 1;
                    return None;
                }
            }
        }
    }

    fn way(&self, header: &Header) -> Way {
        if matches!(self.kind, LinkKind::Loopback(_)) {
            self.loopback_way
        } else if header.pkttype == libc::PACKET_OUTGOING {
            Way::Out
        } else {
            Way::In
        }
    }

    fn arrival(&mut self, stamp: i64) -> Moment {
        let mut arrival = stamp.saturating_sub(self.offset);
        if arrival > self.now {
            // It came after the batch began; or the time of day was set back since it came.
            self.now = clock::monotonic();
            arrival = arrival.min(self.now);
        }
        Moment::from_nanos(u64::try_from(arrival).unwrap_or(0))
    }
}

impl PacketSource for Receiver {
    fn next_packet(&mut self) -> Option<Packet<'_>> {
        let (found, way) = loop {
            self.give_back();
            let status = self.ring.status()?;
            self.budget = self.budget.checked_sub(1)?;
            self.taken = true;
            let Some(found) = self.plain(status).or_else(|| self.take(status)) else { continue };
            let way = self.way(&found.header);
            if self.directions.is_none_or(|directions| directions.wants(way)) {
                break (found, way);
            }
        };
        let header = found.header;
        let stamp = i64::from(header.sec) * 1_000_000_000 + i64::from(header.nsec);
        let arrival = self.arrival(stamp);
        let octets = if found.copied { self.scratch.as_slice() } else { self.ring.octets()? };
        Some(Packet {
            timestamp: Timestamp { sec: header.sec.into(), nsec: header.nsec },
            arrival,
            way,
            wirelen: found.wirelen,
            data: octets.get(found.start..found.end)?,
            verdict: found.verdict,
        })
    }

    fn finish(&mut self) {
        self.give_back();
    }
}

/// Makes the ring; where there is no memory for it, one half as large, down to one block.
fn make_ring(fd: BorrowedFd<'_>, wanted: Layout) -> io::Result<Layout> {
    let mut layout = wanted;
    loop {
        match sys::make_ring(fd, &layout) {
            Ok(()) => break,
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                layout = layout.halved().ok_or(error)?;
            }
            Err(error) => return Err(error),
        }
    }
    if layout != wanted {
        tracing::warn!(
            wanted = wanted.len(),
            got = layout.len(),
            "no memory for the whole receive ring (octets)"
        );
    }
    Ok(layout)
}

#[cold]
fn complete(frame: &mut [u8], kind: LinkKind) {
    // `None`: it was not to be completed.
    let _ = match kind {
        LinkKind::Ethernet | LinkKind::Loopback(_) => checksum::complete_ethernet(frame),
        LinkKind::Raw => checksum::complete_ip(frame),
    };
}

#[cfg(test)]
mod tests;
