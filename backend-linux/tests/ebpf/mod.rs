//! Programs run by BPF_PROG_TEST_RUN, and what they must return.

use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_backend_linux::filter::ebpf::{self, Fields, Target, Translated, translate};
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::{Program, disasm};

/// A program in the kernel, which takes a packet's metadata from its control block.
pub struct Loaded {
    pub map: CounterMap,
    pub translated: Translated,
    pub filter: SocketFilter,
}

impl Loaded {
    pub fn new(program: &Program, link: LinkKind) -> Loaded {
        let target = Target { fields: Fields::CONTROL_BLOCK, ..Target::new(link) };
        Loaded::with_target(program, &target)
    }

    pub fn with_target(program: &Program, target: &Target) -> Loaded {
        let map = CounterMap::new().unwrap();
        let translated = translate(program, target).unwrap();
        let filter = SocketFilter::load(&translated, &map).unwrap_or_else(|e| {
            panic!("{e}\n{}became\n{}", disasm(program.insns()), ebpf::disasm(&translated.insns(0)))
        });
        Loaded { map, translated, filter }
    }

    /// What the program returns for a packet whose tag, TPID and TCI, was stripped.
    pub fn run(&self, packet: &[u8], ethertype: u16, pkt_type: u32, tag: Option<(u16, u16)>) -> u32 {
        let (tpid, tci) = tag.unwrap_or_default();
        let cb = [pkt_type, ethertype.to_be().into(), tag.is_some().into(), tci.into(), tpid.to_be().into()];
        self.filter.test_run(packet, cb, 1).unwrap().0
    }

    /// The kernel's answer for an Ethernet frame, its tag stripped or not, is the interpreter's.
    pub fn check_ethernet(&self, program: &Program, frame: &[u8], tag: Option<(u16, u16)>) -> u32 {
        let mut packet = frame.to_vec();
        if tag.is_some() {
            packet.drain(12..16);
        }
        let bsd = program.run(frame, frame.len() as u32);
        let expected = if tag.is_some() { self.kept_before_tag(bsd) } else { bsd };
        let answer = self.run(&packet, 0, 0, tag);
        assert_eq!(
            answer,
            expected,
            "BSD {bsd}, tag {tag:x?}, frame {frame:02x?}\n{}",
            self.listing(program)
        );
        let len = packet.len() as u32;
        if answer > 0 {
            match self.translated.verdict(answer.min(len), len, tag.is_some()) {
                Some(verdict) => {
                    assert_eq!(verdict.min(frame.len() as u32), bsd.min(frame.len() as u32), "verdict");
                }
                None => assert!(tag.is_some() && answer >= len, "what cannot be told is whole: {bsd}"),
            }
        }
        bsd
    }

    /// It returns more than one value that ends in the tag.
    fn ambiguous(&self) -> bool {
        let in_tag = self.translated.snaplens.iter().filter(|n| (12..=16).contains(*n));
        self.translated.computes_snaplen || in_tag.count() > 1
    }

    /// Bytes the kernel must keep of a packet without its tag, so that `n` are there with it.
    fn kept_before_tag(&self, n: u32) -> u32 {
        if !self.translated.computes_snaplen && self.translated.snaplens.len() <= 1 {
            return n;
        }
        match n {
            0..12 => n,
            12..=16 if self.ambiguous() => u32::MAX,
            12..=16 => 12,
            _ => n - 4,
        }
    }

    /// On loopback, `payload` behind a family word for the BSD and behind an Ethernet header here.
    pub fn check_loopback(
        &self,
        program: &Program,
        framing: LoopbackFraming,
        ethertype: u16,
        payload: &[u8],
    ) -> u32 {
        let packet = [&[0; 12][..], &ethertype.to_be_bytes(), payload].concat();
        let answer = self.run(&packet, ethertype, 0, None);
        let Some(family) = framing.family(ethertype) else {
            assert_eq!(answer, 0, "only IP is shown");
            return 0;
        };
        let frame = [&framing.header(family)[..], payload].concat();
        let bsd = program.run(&frame, frame.len() as u32);
        let expected = if bsd == 0 { 0 } else { bsd.saturating_add(10) };
        assert_eq!(answer, expected, "frame {frame:02x?}\n{}", self.listing(program));
        let len = packet.len() as u32;
        if answer > 0 {
            let verdict = self.translated.verdict(answer.min(len), len, false).unwrap();
            assert_eq!(verdict.min(frame.len() as u32), bsd.min(frame.len() as u32), "verdict");
        }
        bsd
    }

    pub fn listing(&self, program: &Program) -> String {
        let insns = self.translated.insns(0);
        format!("{}: {}became\n{}", program.rules().name, disasm(program.insns()), ebpf::disasm(&insns))
    }
}
