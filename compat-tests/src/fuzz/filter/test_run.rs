//! Translated programs, run by BPF_PROG_TEST_RUN with a control block that stands for the packet's metadata.

use anyhow::ensure;
use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_backend_linux::filter::ebpf::{Fields, Target, Translated, translate};
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::Program;
use bpfdev_core::linktype::Linktype;

use super::super::random::Lcg;
use super::super::random::filter::{frame, program, stripped_tag};
use super::{Difference, SYSTEMS, Tally};

/// Programs of one seed, and frames for each.
const PROGRAMS: usize = 8;
const FRAMES: usize = 256;

/// Runs the programs of one seed.
pub(super) fn round(seed: u64, tally: &mut Tally) -> anyhow::Result<()> {
    let mut rng = Lcg(seed);
    for number in 0..PROGRAMS {
        let system = SYSTEMS[(seed as usize).wrapping_mul(PROGRAMS).wrapping_add(number) % SYSTEMS.len()];
        let max_len = if rng.once_in(64) { 480 } else { 24 };
        let program = program(&mut rng, system, max_len);
        let link = match rng.below(8) {
            0 => LinkKind::Raw,
            1 => LinkKind::Loopback(LoopbackFraming {
                linktype: Linktype::NULL,
                network_order: rng.once_in(2),
                af_inet6: 28,
            }),
            _ => LinkKind::Ethernet,
        };
        let target = Target { fields: Fields::CONTROL_BLOCK, ..Target::new(link) };
        let translated = translate(&program, &target)?;
        let map = CounterMap::new()?;
        let filter = SocketFilter::load(&translated, &map)?;
        let subject = Subject { seed, program: &program, translated: &translated, filter: &filter };
        let (mut runs, mut accepted) = (0, 0);
        for _ in 0..FRAMES {
            let len = 14 + if rng.once_in(3) { rng.below(8) } else { rng.below(70) };
            let frame = frame(&mut rng, len as usize);
            match link {
                LinkKind::Ethernet => {
                    let tag = stripped_tag(&frame).filter(|_| !rng.once_in(4));
                    tally.tagged += u64::from(tag.is_some());
                    accepted += subject.on_ethernet(&frame, tag)?;
                }
                LinkKind::Loopback(framing) => {
                    let payload = frame.get(rng.below(14) as usize..).unwrap_or(&frame);
                    accepted += subject.on_loopback(framing, payload, rng.once_in(2))?;
                }
                LinkKind::Raw => accepted += subject.check(&frame, &frame, [0; 5], |n| n)?,
            }
            runs += 1;
        }
        let counted = map.read()?;
        ensure!(
            (counted.received, counted.accepted) == (runs, accepted),
            "seed {seed}: {runs} packets, {accepted} accepted, but {counted:?}"
        );
        tally.test_runs += runs;
        tally.accepted += accepted;
        tally.programs += 1;
    }
    Ok(())
}

struct Subject<'a> {
    seed: u64,
    program: &'a Program,
    translated: &'a Translated,
    filter: &'a SocketFilter,
}

impl Subject<'_> {
    /// Compares on one packet; `kept` is what the kernel is to return for what the BSD returns. Whether it accepts.
    fn check(
        &self,
        frame: &[u8],
        packet: &[u8],
        cb: [u32; 5],
        kept: impl FnOnce(u32) -> u32,
    ) -> anyhow::Result<u64> {
        let (answer, _) = self.filter.test_run(packet, cb, 1)?;
        let bsd = self.program.run(frame, frame.len() as u32);
        let expected = kept(bsd);
        if answer != expected {
            let tagged = packet.len() < frame.len();
            let both = [answer, expected];
            return Err(Difference::new(self.seed, "eBPF", self.program, frame, tagged, both).into());
        }
        Ok(u64::from(bsd != 0))
    }

    fn on_ethernet(&self, frame: &[u8], tag: Option<(u16, u16)>) -> anyhow::Result<u64> {
        let Some((tpid, tci)) = tag else { return self.check(frame, frame, [0; 5], |n| n) };
        let packet = without_tag(frame);
        let cb = [0, 0, 1, tci.into(), tpid.to_be().into()];
        self.check(frame, &packet, cb, |n| kept_before_tag(self.translated, n))
    }

    fn on_loopback(&self, framing: LoopbackFraming, payload: &[u8], ipv6: bool) -> anyhow::Result<u64> {
        let ethertype: u16 = if ipv6 { 0x86dd } else { 0x0800 };
        let family = framing.family(ethertype).unwrap_or(0);
        let frame = [&framing.header(family)[..], payload].concat();
        let packet = [&[0; 12][..], &ethertype.to_be_bytes(), payload].concat();
        let cb = [0, ethertype.to_be().into(), 0, 0, 0];
        self.check(&frame, &packet, cb, |n| if n == 0 { 0 } else { n.saturating_add(10) })
    }
}

/// The packet the kernel has when the tag of `frame` was stripped.
fn without_tag(frame: &[u8]) -> Vec<u8> {
    let (before, rest) = frame.split_at(12.min(frame.len()));
    [before, rest.get(4..).unwrap_or(&[])].concat()
}

/// What a translated program returns for a packet whose tag was stripped, where the BSD's returns `n`.
pub(super) fn kept_before_tag(translated: &Translated, n: u32) -> u32 {
    if !translated.computes_snaplen && translated.snaplens.len() <= 1 {
        return n;
    }
    let in_tag = translated.snaplens.iter().filter(|n| (12..=16).contains(*n)).count();
    match n {
        0..12 => n,
        // which of several it was can only be told from the whole packet
        12..=16 if translated.computes_snaplen || in_tag > 1 => u32::MAX,
        12..=16 => 12,
        _ => n - 4,
    }
}
