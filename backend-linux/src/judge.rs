//! Which filter speaks for which queued packet.
//!
//! A filter change has no place in the ring: packets judged by the old filter, by none, and by the new one lie behind
//! each other, and for some milliseconds another CPU may still run the old one. Frames are numbered as they are read,
//! and each number has one judge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfdev_core::cbpf::Program;

use crate::bpf::SocketFilter;
use crate::filter::Rewritten;
use crate::filter::ebpf::Translated;

/// A filter as the kernel runs it.
#[derive(Clone, Debug)]
pub(crate) enum InKernel {
    /// Rewritten for SO_ATTACH_FILTER.
    Cbpf(Rewritten),
    /// Translated for SO_ATTACH_BPF; the loaded program is kept for as long as it may run.
    Ebpf(Arc<Translated>, Arc<SocketFilter>),
}

impl InKernel {
    fn snaplens(&self) -> &[u32] {
        match self {
            InKernel::Cbpf(rewritten) => &rewritten.snaplens,
            InKernel::Ebpf(translated, _) => &translated.snaplens,
        }
    }

    fn computes_snaplen(&self) -> bool {
        match self {
            InKernel::Cbpf(rewritten) => rewritten.computes_snaplen,
            InKernel::Ebpf(translated, _) => translated.computes_snaplen,
        }
    }

    #[inline]
    fn verdict(&self, captured: u32, len: u32, tag_restored: bool) -> Option<u32> {
        match self {
            InKernel::Cbpf(rewritten) => rewritten.verdict(captured, len, tag_restored),
            InKernel::Ebpf(translated, _) => translated.verdict(captured, len, tag_restored),
        }
    }

    /// The one value the program can accept with.
    fn only_snaplen(&self) -> Option<u32> {
        match self.snaplens() {
            [only] if !self.computes_snaplen() => Some(*only),
            _ => None,
        }
    }
}

/// Who decides about a frame.
#[derive(Clone, Debug)]
pub(crate) enum Judge {
    /// There is no filter: every packet is accepted.
    All,
    /// The kernel did, by this program in a form of its own.
    Kernel(InKernel, Program),
    /// Nobody yet; the descriptor will, by this program.
    Descriptor(Program),
    /// This program, now: it is no longer, or may not yet be, what the kernel or the descriptor runs.
    Here(Program),
}

/// What a judge must know of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Captured {
    /// Octets the kernel captured, before anything was restored.
    pub captured: u32,
    /// Octets of the packet then.
    pub len: u32,
    /// A tag was put back.
    pub tag_restored: bool,
    /// It came whole on another way than the ring, so nothing shows what the filter returned.
    pub copied: bool,
}

impl Captured {
    /// The kernel's filter cut it, so it has judged it.
    fn cut(&self) -> bool {
        !self.copied && self.captured < self.len
    }
}

/// A packet's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is accepted, up to so many octets.
    Accept(u32),
    /// The descriptor's filter decides.
    Undecided,
    /// It is rejected.
    Reject,
}

impl Judge {
    /// Whether the kernel has no filter under this judge.
    pub fn kernel_accepts_all(&self) -> bool {
        !matches!(self, Judge::Kernel(..))
    }

    /// Whether every packet is counted somewhere: in the ring, or by the program that rejects it.
    pub fn counts_all(&self) -> bool {
        !matches!(self, Judge::Kernel(InKernel::Cbpf(_), _))
    }

    /// Decides about a packet: `frame` is what a client would see of it, `wirelen` its whole length.
    #[inline]
    pub fn verdict(&self, packet: Captured, frame: &[u8], wirelen: u32) -> Verdict {
        // frame.len() came from u32s.
        let kept = frame.len() as u32;
        match self {
            Judge::Kernel(filter, program) => {
                let (captured, tag) = (packet.captured, packet.tag_restored);
                let known = if packet.copied {
                    filter.only_snaplen()
                } else {
                    filter.verdict(captured, packet.len, tag)
                };
                Verdict::Accept(known.unwrap_or_else(|| match program.run(frame, wirelen) {
                    // The kernel did accept it.
                    0 => u32::MAX,
                    n => n,
                }))
            }
            // With the tag put back it is 4 octets longer than the filter said.
            _ if packet.cut() => Verdict::Accept(kept.min(packet.captured)),
            Judge::All => Verdict::Accept(u32::MAX),
            Judge::Descriptor(_) => Verdict::Undecided,
            Judge::Here(program) => match program.run(frame, wirelen) {
                0 => Verdict::Reject,
                n => Verdict::Accept(n),
            },
        }
    }

    /// Whether the filter may have returned `n` for a packet cut to `n` octets as a client sees it, rather than the
    /// frame having had no more room.
    pub fn may_have_cut_to(&self, frame: &[u8], n: u32, wirelen: u32) -> bool {
        match self {
            Judge::Kernel(filter, program) => {
                (filter.computes_snaplen() || filter.snaplens().contains(&n))
                    && program.run(frame, wirelen) == n
            }
            Judge::All | Judge::Descriptor(_) => false,
            Judge::Here(program) => program.run(frame, wirelen) == n,
        }
    }
}

/// The judges of all frames.
#[derive(Debug)]
pub(crate) struct Judges {
    present: Judge,
    /// Judges of earlier frames: each of those below a number, in rising order.
    earlier: VecDeque<(u64, Judge)>,
    /// Until the flag is set, a CPU may still pass packets by the filter before `present`, and this judge decides.
    doubt: Option<(Arc<AtomicBool>, Judge)>,
    /// Frames below this number are dropped.
    discard: u64,
}

impl Judges {
    /// One judge for all frames.
    pub fn new(present: Judge) -> Judges {
        Judges { present, earlier: VecDeque::new(), doubt: None, discard: 0 }
    }

    /// The judge of the newest frames.
    pub fn present(&self) -> &Judge {
        &self.present
    }

    /// The judge of frame `number`; numbers never fall.
    #[inline]
    pub fn of(&mut self, number: u64) -> &Judge {
        while self.earlier.front().is_some_and(|(end, _)| number >= *end) {
            self.earlier.pop_front();
        }
        match (self.earlier.front(), &self.doubt) {
            (Some((_, judge)), _) | (None, Some((_, judge))) => judge,
            (None, None) => &self.present,
        }
    }

    /// The judge of frame `number` where that needs no thought: nothing has changed for a while.
    #[inline]
    pub fn settled(&self, number: u64) -> Option<&Judge> {
        (self.earlier.is_empty() && self.doubt.is_none() && !self.discards(number)).then_some(&self.present)
    }

    /// Whether frame `number` is to be dropped.
    #[inline]
    pub fn discards(&self, number: u64) -> bool {
        number < self.discard
    }

    /// Drops every frame below `end`.
    pub fn discard_below(&mut self, end: u64) {
        self.discard = self.discard.max(end);
    }

    /// From frame `from` on there is a new judge. With `doubt`, other CPUs may pass packets by the old one until the
    /// flag is set: until then that judge decides.
    pub fn change(&mut self, from: u64, judge: Judge, doubt: Option<(Arc<AtomicBool>, Judge)>) {
        let old = match std::mem::replace(&mut self.present, judge) {
            // The descriptor would judge them by its new filter.
            Judge::Descriptor(program) => Judge::Here(program),
            old => old,
        };
        self.earlier.push_back((from, old));
        self.doubt = doubt;
    }

    /// Whether an older change is still under way on other CPUs.
    pub fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether doubt can end: every CPU runs the present filter.
    #[inline]
    pub fn doubt_is_over(&self) -> bool {
        self.doubt.as_ref().is_some_and(|(flag, _)| flag.load(Ordering::Acquire))
    }

    /// Ends doubt: frames from `from` on are the present judge's alone.
    pub fn end_doubt(&mut self, from: u64) {
        if let Some((_, judge)) = self.doubt.take() {
            self.earlier.push_back((from, judge));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::filter::{LinkKind, rewrite};
    use bpfdev_core::cbpf::{self, Insn, code};

    fn accepting(n: u32) -> Program {
        cbpf::validate(&[Insn::stmt(code::RET_K, n)], &cbpf::FREEBSD).unwrap()
    }

    fn kernel(program: Program) -> Judge {
        Judge::Kernel(InKernel::Cbpf(rewrite(&program, LinkKind::Ethernet).unwrap()), program)
    }

    const WHOLE: Captured = Captured { captured: 60, len: 60, tag_restored: false, copied: false };

    fn verdict(judges: &mut Judges, number: u64, packet: Captured) -> Verdict {
        let frame = [0; 60];
        judges.of(number).verdict(packet, &frame[..packet.captured as usize], 60)
    }

    #[test]
    fn each_frame_has_the_judge_of_its_time() {
        let mut judges = Judges::new(Judge::Descriptor(accepting(1)));
        judges.change(10, Judge::All, None);
        judges.change(20, Judge::Descriptor(accepting(0)), None);
        judges.change(30, Judge::Descriptor(accepting(3)), None);
        let expected = [
            (9, Verdict::Accept(1)),
            (10, Verdict::Accept(u32::MAX)),
            (19, Verdict::Accept(u32::MAX)),
            (29, Verdict::Reject),
            (30, Verdict::Undecided),
        ];
        for (number, expected) in expected {
            assert_eq!(verdict(&mut judges, number, WHOLE), expected, "frame {number}");
        }
    }

    #[test]
    fn in_doubt_a_whole_packet_is_judged_again_and_a_cut_one_was_judged() {
        let flag = Arc::new(AtomicBool::new(false));
        let mut judges = Judges::new(Judge::All);
        let doubt = (flag.clone(), Judge::Here(accepting(0)));
        judges.change(5, kernel(accepting(40)), Some(doubt));
        let cut = Captured { captured: 40, ..WHOLE };
        assert_eq!(
            verdict(&mut judges, 4, WHOLE),
            Verdict::Accept(u32::MAX),
            "before it there was no filter"
        );
        assert_eq!(verdict(&mut judges, 5, WHOLE), Verdict::Reject);
        assert_eq!(verdict(&mut judges, 6, cut), Verdict::Accept(40));
        assert!(judges.in_doubt() && !judges.doubt_is_over());
        flag.store(true, Ordering::Release);
        assert!(judges.doubt_is_over());
        judges.end_doubt(8);
        assert_eq!(verdict(&mut judges, 7, WHOLE), Verdict::Reject, "it may have come in doubt");
        assert_eq!(verdict(&mut judges, 8, WHOLE), Verdict::Accept(40));
        assert!(!judges.in_doubt());
    }

    #[test]
    fn a_restored_tag_does_not_lengthen_what_the_filter_cut() {
        let packet = Captured { captured: 20, len: 60, tag_restored: true, copied: false };
        for judge in [Judge::All, Judge::Descriptor(accepting(9)), kernel(accepting(20))] {
            assert_eq!(judge.verdict(packet, &[0; 24], 64), Verdict::Accept(20), "{judge:?}");
        }
    }

    #[test]
    fn discarding_never_goes_back() {
        let mut judges = Judges::new(Judge::All);
        judges.discard_below(5);
        judges.discard_below(3);
        assert!(judges.discards(4) && !judges.discards(5));
    }
}
