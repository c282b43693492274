//! Programs and frames for the filter tests: random ones that crowd round the edges, and what tcpdump compiles.

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::rules::Opcodes;
use bpfdev_core::cbpf::{Insn, Program, Rules, text, validate};

/// Knuth's linear congruential generator: the same numbers in every run.
pub struct Lcg(pub u64);

impl Lcg {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) % u64::from(bound)) as u32
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of `values`.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    fn word(&mut self) -> u32 {
        self.below(1 << 16) << 16 | self.below(1 << 16)
    }
}

/// Offsets where one machine sees bytes and another something else, or nothing.
const FAR: [u32; 14] = [
    0x7ffe_ffff,
    0x7fff_0000,
    0x7fff_fff4,
    0x7fff_ffff,
    0x8000_0000,
    0xffe0_0000,
    0xffef_fffe,
    0xfff0_0000,
    0xfff0_0004,
    0xffff_f000,
    0xffff_f004,
    0xffff_f030,
    0xffff_fff0,
    0xffff_fffc,
];

fn offset(rng: &mut Lcg) -> u32 {
    match rng.below(24) {
        0 => rng.pick(&FAR),
        1..=5 => rng.below(80),
        6..=9 => rng.below(6),
        _ => 8 + rng.below(10),
    }
}

fn insn(rng: &mut Lcg, rules: &Rules, words: u32, rest: u32) -> Insn {
    let size = rng.pick(&[W, H, B]);
    match rng.below(48) {
        0..=10 => Insn::stmt(LD | size | ABS, offset(rng)),
        11..=18 => Insn::stmt(LD | size | IND, if rng.once_in(3) { offset(rng) } else { rng.below(18) }),
        19..=20 => Insn::stmt(LDX_B_MSH, offset(rng)),
        21 => Insn::stmt(LD_W_LEN, 0),
        22 => Insn::stmt(LDX_W_LEN, 0),
        23 => Insn::stmt(LD_IMM, rng.word()),
        24..=25 => Insn::stmt(LDX_IMM, if rng.once_in(6) { rng.pick(&FAR) } else { rng.below(20) }),
        26 => Insn::stmt(LD_MEM, rng.below(words)),
        27 => Insn::stmt(LDX_MEM, rng.below(words)),
        28..=29 => Insn::stmt(ST_MEM, rng.below(words)),
        30..=31 => Insn::stmt(STX_MEM, rng.below(words)),
        32..=35 => Insn::stmt(rng.pick(&[ADD_X, ADD_X, SUB_X, XOR_X, MUL_X, OR_X, LSH_X, RSH_X, DIV_X]), 0),
        36..=37 => {
            Insn::stmt(rng.pick(&[AND_K, AND_K, AND_K, ADD_K, SUB_K, DIV_K, MOD_K]), 1 + rng.below(31))
        }
        38 => Insn::stmt(rng.pick(&[LSH_K, RSH_K, RSH_K]), rng.below(34)),
        39 => Insn::stmt(rng.pick(&[NEG_A, MUL_K, XOR_K, OR_K]), rng.word()),
        40..=41 => Insn::stmt(MISC_TAX, 0),
        42 => Insn::stmt(MISC_TXA, 0),
        43..=45 if rest > 1 => {
            let code = rng.pick(&[JEQ_K, JGT_K, JGE_K, JSET_K, JEQ_X, JGT_X, JGE_X, JSET_X]);
            let (jt, jf) = (rng.below(rest.min(255)) as u8, rng.below(rest.min(255).min(4)) as u8);
            Insn::jump(code, rng.pick(&[0, 1, 14, 0x800, 0x8100, 0x86dd]), jt, jf)
        }
        46 if rest > 1 && rng.once_in(2) => Insn::stmt(JA_K, rng.below(rest.min(5))),
        47 if rng.once_in(3) => Insn::stmt(rng.pick(&[RET_A, RET_K]), rng.below(90)),
        47 if rules.opcodes == Opcodes::ByClass => {
            Insn::stmt(rng.pick(&[0x0e, 0x1e, 0x0a, 0x8c, 0x0d, 0xb0, 0x8000, 0x8006, 0x29, LD_RND]), 0)
        }
        _ => Insn::stmt(MISC_TAX, 0),
    }
}

/// A random program that is valid under `rules`.
pub fn program(rng: &mut Lcg, rules: &'static Rules, max_len: u32) -> Program {
    loop {
        let mut insns = Vec::new();
        let words = rng.pick(&[3, 8, 16]);
        // In some programs every word of M[] is in use from the first instruction to the last.
        let crowded = rng.once_in(12);
        if crowded || !rules.memory_starts_zero {
            insns.push(Insn::stmt(LD_W_LEN, 0));
            insns.extend((0..words).map(|word| Insn::stmt(ST_MEM, word)));
        }
        let len = 3 + rng.below(max_len);
        for number in 0..len {
            insns.push(insn(rng, rules, words, len - number));
        }
        if crowded {
            insns.extend((0..words).flat_map(|word| [Insn::stmt(LDX_MEM, word), Insn::stmt(ADD_X, 0)]));
        }
        if rng.once_in(2) {
            insns.push(Insn::stmt(ADD_X, 0));
        }
        let snaplen = rng.pick(&[0, 1, 14, 20, 64, 0x7fff_ffff, u32::MAX]);
        insns.push(Insn::stmt(rng.pick(&[RET_A, RET_A, RET_K]), snaplen));
        // A random number has no right answer.
        let random = rules.random && insns.iter().any(|insn| insn.code == LD_RND);
        match validate(&insns, rules) {
            Ok(program) if !random => return program,
            _ => {}
        }
    }
}

/// A frame of `len` bytes as a BSD shows it: now and then with a tag, or two, or a priority tag.
pub fn frame(rng: &mut Lcg, len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|_| rng.word() as u8).collect();
    let mut at = 12;
    if rng.below(3) > 0 {
        let tags: &[u16] = rng.pick(&[&[0x8100][..], &[0x8100], &[0x88a8], &[0x88a8, 0x8100]]);
        for tpid in tags {
            if frame.len() >= at + 8 {
                frame[at..at + 2].copy_from_slice(&tpid.to_be_bytes());
                if rng.once_in(3) {
                    frame[at + 2..at + 4].fill(0);
                }
                at += 4;
            }
        }
    }
    if frame.len() >= at + 2 {
        let ethertype: u16 = rng.pick(&[0x0800, 0x0800, 0x86dd, 0x0806, 0x8033, 0x0040]);
        frame[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
    }
    if frame.len() >= at + 40 {
        if rng.below(4) > 0 {
            frame[at + 2] = rng.pick(&[0x45, 0x46, 0x60]);
            frame[at + 8..at + 10].fill(0);
            frame[at + 11] = rng.pick(&[6, 17]);
        }
        for port in [at + 22, at + 24, at + 26] {
            if rng.once_in(2) {
                frame[port..port + 2].copy_from_slice(&7070_u16.to_be_bytes());
            }
        }
    }
    frame
}

/// The tag the kernel strips when the frame is received; it is at offset 12.
pub fn stripped_tag(frame: &[u8]) -> Option<(u16, u16)> {
    let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    // skb_vlan_untag() wants two bytes behind the tag.
    if frame.len() < 20 {
        return None;
    }
    half(12).filter(|tpid| matches!(tpid, 0x8100 | 0x88a8)).zip(half(14))
}

/// Expressions, and what tcpdump -ddd gives for them on a BSD's Ethernet (libpcap without Linux's VLAN code).
/// All of them must run in the kernel.
pub fn must_list() -> Vec<(&'static str, Program)> {
    MUST.iter()
        .map(|(expression, listing)| {
            let insns = text::read(listing).unwrap_or_else(|e| panic!("{expression}: {e}"));
            let rules = &bpfdev_core::cbpf::LINUX_ABI;
            (*expression, validate(&insns, rules).unwrap_or_else(|e| panic!("{expression}: {e}")))
        })
        .collect()
}

#[rustfmt::skip]
static MUST: [(&str, &str); 33] = [
    ("",
     "1\n6 0 0 262144\n"),
    ("ip",
     "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n"),
    ("arp",
     "4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n"),
    ("tcp and dst port 7070",
     "16\n40 0 0 12\n21 0 7 2048\n48 0 0 23\n21 0 11 6\n40 0 0 20\n69 9 0 8191\n177 0 0 14\n\
      72 0 0 16\n21 5 6 7070\n21 0 5 34525\n48 0 0 20\n21 0 3 6\n40 0 0 56\n21 0 1 7070\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("ether proto 0x8033",
     "4\n40 0 0 12\n21 0 1 32819\n6 0 0 262144\n6 0 0 0\n"),
    ("vlan",
     "6\n40 0 0 12\n21 2 0 33024\n21 1 0 34984\n21 0 1 37120\n6 0 0 262144\n6 0 0 0\n"),
    ("vlan 5 and ip",
     "11\n40 0 0 12\n21 2 0 33024\n21 1 0 34984\n21 0 6 37120\n40 0 0 14\n84 0 0 4095\n21 0 3 5\n\
      40 0 0 16\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n"),
    ("vlan and tcp port 7070",
     "24\n40 0 0 12\n21 2 0 33024\n21 1 0 34984\n21 0 19 37120\n40 0 0 16\n21 0 6 34525\n48 0 0 24\n\
      21 0 15 6\n40 0 0 58\n21 12 0 7070\n40 0 0 60\n21 10 11 7070\n21 0 10 2048\n48 0 0 27\n\
      21 0 8 6\n40 0 0 24\n69 6 0 8191\n177 0 0 18\n72 0 0 18\n21 2 0 7070\n72 0 0 20\n21 0 1 7070\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("ip6",
     "4\n40 0 0 12\n21 0 1 34525\n6 0 0 262144\n6 0 0 0\n"),
    ("tcp",
     "12\n40 0 0 12\n21 0 2 2048\n48 0 0 23\n21 6 7 6\n21 0 6 34525\n48 0 0 20\n21 3 0 6\n21 0 3 44\n\
      48 0 0 54\n21 0 1 6\n6 0 0 262144\n6 0 0 0\n"),
    ("udp port 53",
     "20\n40 0 0 12\n21 0 6 34525\n48 0 0 20\n21 0 15 17\n40 0 0 54\n21 12 0 53\n40 0 0 56\n\
      21 10 11 53\n21 0 10 2048\n48 0 0 23\n21 0 8 17\n40 0 0 20\n69 6 0 8191\n177 0 0 14\n\
      72 0 0 14\n21 2 0 53\n72 0 0 16\n21 0 1 53\n6 0 0 262144\n6 0 0 0\n"),
    ("tcp portrange 7000-7100",
     "23\n40 0 0 12\n21 0 7 34525\n48 0 0 20\n21 0 18 6\n40 0 0 54\n53 0 1 7000\n37 0 14 7100\n\
      40 0 0 56\n53 11 13 7000\n21 0 12 2048\n48 0 0 23\n21 0 10 6\n40 0 0 20\n69 8 0 8191\n\
      177 0 0 14\n72 0 0 14\n53 0 1 7000\n37 0 3 7100\n72 0 0 16\n53 0 2 7000\n37 1 0 7100\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("host 10.0.0.1",
     "14\n40 0 0 12\n21 0 4 2048\n32 0 0 26\n21 8 0 167772161\n32 0 0 30\n21 6 7 167772161\n\
      21 1 0 2054\n21 0 5 32821\n32 0 0 28\n21 2 0 167772161\n32 0 0 38\n21 0 1 167772161\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("net 192.168.0.0/16",
     "18\n40 0 0 12\n21 0 6 2048\n32 0 0 26\n84 0 0 4294901760\n21 11 0 3232235520\n32 0 0 30\n\
      84 0 0 4294901760\n21 8 9 3232235520\n21 1 0 2054\n21 0 7 32821\n32 0 0 28\n84 0 0 4294901760\n\
      21 3 0 3232235520\n32 0 0 38\n84 0 0 4294901760\n21 0 1 3232235520\n6 0 0 262144\n6 0 0 0\n"),
    ("len > 60",
     "4\n128 0 0 0\n37 0 1 60\n6 0 0 262144\n6 0 0 0\n"),
    ("greater 100",
     "4\n128 0 0 0\n53 0 1 100\n6 0 0 262144\n6 0 0 0\n"),
    ("less 64",
     "4\n128 0 0 0\n37 0 1 64\n6 0 0 0\n6 0 0 262144\n"),
    ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
     "11\n40 0 0 12\n21 0 8 2048\n48 0 0 23\n21 0 6 6\n40 0 0 20\n69 4 0 8191\n177 0 0 14\n\
      80 0 0 27\n69 0 1 3\n6 0 0 262144\n6 0 0 0\n"),
    ("ip[6:2] & 0x1fff = 0",
     "6\n40 0 0 12\n21 0 3 2048\n40 0 0 20\n69 1 0 8191\n6 0 0 262144\n6 0 0 0\n"),
    ("ether host 02:00:00:00:00:01",
     "10\n32 0 0 8\n21 0 2 1\n40 0 0 6\n21 4 0 512\n32 0 0 2\n21 0 3 1\n40 0 0 0\n21 0 1 512\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("ether multicast",
     "4\n48 0 0 0\n69 0 1 1\n6 0 0 262144\n6 0 0 0\n"),
    ("ip broadcast or multicast",
     "9\n40 0 0 12\n21 0 3 2048\n32 0 0 30\n21 3 0 0\n21 2 0 4294967295\n48 0 0 0\n69 0 1 1\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("icmp or icmp6",
     "12\n40 0 0 12\n21 0 2 2048\n48 0 0 23\n21 6 7 1\n21 0 6 34525\n48 0 0 20\n21 3 0 58\n\
      21 0 3 44\n48 0 0 54\n21 0 1 58\n6 0 0 262144\n6 0 0 0\n"),
    ("not port 22",
     "24\n40 0 0 12\n21 0 8 34525\n48 0 0 20\n21 2 0 132\n21 1 0 6\n21 0 17 17\n40 0 0 54\n\
      21 14 0 22\n40 0 0 56\n21 12 13 22\n21 0 12 2048\n48 0 0 23\n21 2 0 132\n21 1 0 6\n21 0 8 17\n\
      40 0 0 20\n69 6 0 8191\n177 0 0 14\n72 0 0 14\n21 2 0 22\n72 0 0 16\n21 0 1 22\n6 0 0 0\n\
      6 0 0 262144\n"),
    ("port 67 or port 68",
     "27\n40 0 0 12\n21 0 9 34525\n48 0 0 20\n21 2 0 132\n21 1 0 6\n21 0 20 17\n40 0 0 54\n\
      21 17 0 67\n21 16 0 68\n40 0 0 56\n21 14 13 67\n21 0 14 2048\n48 0 0 23\n21 2 0 132\n21 1 0 6\n\
      21 0 10 17\n40 0 0 20\n69 8 0 8191\n177 0 0 14\n72 0 0 14\n21 4 0 67\n21 3 0 68\n72 0 0 16\n\
      21 1 0 67\n21 0 1 68\n6 0 0 262144\n6 0 0 0\n"),
    ("tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420",
     "16\n40 0 0 12\n21 0 13 2048\n48 0 0 23\n21 0 11 6\n40 0 0 20\n69 9 0 8191\n177 0 0 14\n\
      80 0 0 26\n84 0 0 240\n116 0 0 2\n12 0 0 0\n7 0 0 0\n64 0 0 14\n21 0 1 1195725856\n\
      6 0 0 262144\n6 0 0 0\n"),
    ("ip6 and tcp and dst port 7070",
     "8\n40 0 0 12\n21 0 5 34525\n48 0 0 20\n21 0 3 6\n40 0 0 56\n21 0 1 7070\n6 0 0 262144\n\
      6 0 0 0\n"),
    ("ether[11:2] = 0",
     "4\n40 0 0 11\n21 0 1 0\n6 0 0 262144\n6 0 0 0\n"),
    ("ether[10:4] != 0",
     "4\n32 0 0 10\n21 0 1 0\n6 0 0 0\n6 0 0 262144\n"),
    ("vlan and vlan",
     "10\n40 0 0 12\n21 2 0 33024\n21 1 0 34984\n21 0 5 37120\n40 0 0 16\n21 2 0 33024\n\
      21 1 0 34984\n21 0 1 37120\n6 0 0 262144\n6 0 0 0\n"),
    ("pppoes and ip",
     "6\n40 0 0 12\n21 0 3 34916\n40 0 0 20\n21 0 1 33\n6 0 0 262144\n6 0 0 0\n"),
    ("mpls",
     "4\n40 0 0 12\n21 0 1 34887\n6 0 0 262144\n6 0 0 0\n"),
    ("ether[12:2] == 0x8100",
     "4\n40 0 0 12\n21 0 1 33024\n6 0 0 262144\n6 0 0 0\n"),
];
