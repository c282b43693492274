//! What may happen to a descriptor, and random choices of it.

use bpfdev_core::abi::{self, Abi, CallerMemory};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::packet::Way;
use proptest::prelude::*;
use proptest::sample::Index;

/// A filter.
#[derive(Clone, Debug)]
pub enum Filter {
    /// bf_len 0.
    None,
    /// `ret #k`
    Ret(u32),
    /// `ldb [n]; jset #1, 0, 1; ret #k; ret #0`: by a bit of the packet.
    Bit(u8, u32),
    /// These instructions, valid or not.
    Any(Vec<(u16, u8, u8, u32)>),
}

impl Filter {
    pub fn insns(&self) -> Vec<Insn> {
        match self {
            Filter::None => Vec::new(),
            Filter::Ret(k) => vec![Insn::stmt(0x06, *k)],
            Filter::Bit(at, k) => vec![
                Insn::stmt(0x30, u32::from(*at)),
                Insn::jump(0x45, 1, 0, 1),
                Insn::stmt(0x06, *k),
                Insn::stmt(0x06, 0),
            ],
            Filter::Any(insns) => {
                let whole =
                    |(code, jt, jf, k): &(u16, u8, u8, u32)| Insn { code: *code, jt: *jt, jf: *jf, k: *k };
                insns.iter().map(whole).collect()
            }
        }
    }
}

/// What goes into a request's argument, whatever the request.
#[derive(Clone, Debug)]
pub struct Values {
    /// A request of one number.
    pub word: u32,
    pub interface: u8,
    pub time: (i64, i64),
    pub filter: Filter,
    /// bf_len, where it lies.
    pub lying_len: Option<u32>,
    /// Room in a list of link types; `None` is a null pointer.
    pub room: Option<u32>,
    /// The argument is these bytes instead.
    pub noise: Option<Vec<u8>>,
    /// The caller's memory cannot be reached.
    pub faults: bool,
}

/// The names the world of the test knows, and others.
pub const NAMES: [&[u8]; 7] = [b"em0", b"lo0", b"tun0", b"em9", b"", b"abc", b"\xff\xfe0"];

const ADDRESS: u32 = 0x1000;

impl Values {
    /// The argument of a request with this name and argument size (abi.json's layouts), `size` bytes.
    pub fn argument(&self, name: &str, size: usize) -> Vec<u8> {
        if let Some(noise) = &self.noise {
            return noise.iter().copied().cycle().take(size).collect();
        }
        let mut arg = Vec::new();
        let pointed = |arg: &mut Vec<u8>, len: u32, null: bool| {
            let address = if null { 0 } else { ADDRESS };
            arg.extend(len.to_ne_bytes());
            if size == 16 {
                arg.extend([0; 4]);
            }
            arg.extend(u64::from(address).to_ne_bytes());
        };
        if name.ends_with("TIMEOUT") || name.ends_with("TIMEOUT32") {
            if size == 8 {
                arg.extend((self.time.0 as i32).to_ne_bytes());
            } else {
                arg.extend(self.time.0.to_ne_bytes());
            }
            // little-endian: also the 32-bit field's
            arg.extend(self.time.1.to_ne_bytes());
        } else if name.contains("SETF") || name.contains("SETWF") {
            let len = u32::try_from(self.filter.insns().len()).expect("short");
            pointed(&mut arg, self.lying_len.unwrap_or(len), len == 0);
        } else if name.contains("DLTLIST") {
            pointed(&mut arg, self.room.unwrap_or(0), self.room.is_none());
        } else if name.contains("SETIF") {
            arg.extend(NAMES[usize::from(self.interface) % NAMES.len()]);
        } else {
            arg.extend(self.word.to_ne_bytes());
        }
        arg.resize(size, 0);
        arg
    }
}

impl CallerMemory for Values {
    fn read(&mut self, _: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.faults {
            return Err(Errno::Fault);
        }
        let program: Vec<u8> = self
            .filter
            .insns()
            .iter()
            .flat_map(|insn| {
                let [c0, c1] = insn.code.to_ne_bytes();
                let [k0, k1, k2, k3] = insn.k.to_ne_bytes();
                [c0, c1, insn.jt, insn.jf, k0, k1, k2, k3]
            })
            .collect();
        for (to, from) in buf.iter_mut().zip(program.iter().chain(std::iter::repeat(&0))) {
            *to = *from;
        }
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> {
        if self.faults { Err(Errno::Fault) } else { Ok(()) }
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// A packet on the tap: its way, bytes kept, and what the tap's own filter returned.
    Packet { way: Way, len: usize, fill: u8, verdict: Option<u32> },
    /// The tap lost packets.
    Lost(u8),
    /// The tap's filter rejected packets.
    Rejected(u8),
    /// Time goes on, nanoseconds.
    Advance(u64),
    /// ioctl(2) with a number of the dialect's table, or (`foreign`) the same request as another dialect decodes it.
    Ioctl { row: Index, foreign: Option<Index>, values: Values, ilp32: bool, root: bool, tap_fails: bool },
    /// BIOCSETIF of this one of the world's interfaces, without detours.
    Attach(u8),
    /// read(2), of the right size where there is none.
    Read { size: Option<usize>, nonblocking: bool },
    /// poll(2); then a read that must not wait if that is what it said.
    Poll { read: bool, write: bool, then_read: bool },
    /// write(2).
    Write { len: usize, fill: u8, up: bool, mtu: u32 },
    /// A signal for a sleeping reader.
    Signal,
    /// The interface is removed.
    Gone,
}

impl Action {
    /// In one line, its request by name.
    pub fn describe(&self, abi: &'static Abi) -> String {
        match self {
            Action::Ioctl { row, foreign, .. } => {
                let of = foreign.map_or(abi, |foreign| abi::ALL[foreign.index(abi::ALL.len())]);
                let name = of.requests[row.index(of.requests.len())].name;
                format!("{name} of {}: {self:?}", of.name)
            }
            _ => format!("{self:?}"),
        }
    }
}

fn small_or_any() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..5,
        1 => prop::sample::select(vec![12u32, 14, 16, 28, 65, 108, 0x80, 0x100, 0x101, 0x200, 0x202, 0xffff_ffff]),
        // buffer sizes: small ones fill quickly
        3 => prop::sample::select(vec![32u32, 33, 64, 96, 100, 128, 200, 256, 333, 512]),
        1 => any::<u32>(),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let k = prop_oneof![Just(0u32), 1u32..40, Just(u32::MAX), any::<u32>()];
    let code =
        prop::sample::select(vec![0x00u16, 0x06, 0x16, 0x20, 0x28, 0x30, 0x15, 0x45, 0x54, 0x80, 0xb1, 0x0e]);
    prop_oneof![
        2 => Just(Filter::None),
        2 => k.clone().prop_map(Filter::Ret),
        3 => (0u8..40, k).prop_map(|(at, k)| Filter::Bit(at, k)),
        1 => prop::collection::vec((code, 0u8..4, 0u8..4, 0u32..64), 1..6).prop_map(|mut insns| {
            insns.push((0x16, 0, 0, 0));
            Filter::Any(insns)
        }),
    ]
}

fn values() -> impl Strategy<Value = Values> {
    let time = prop_oneof![
        3 => (0i64..3, prop::sample::select(vec![0i64, 1, 999, 1000, 10_000, 500_000, 999_999])),
        1 => (any::<i64>(), any::<i64>()),
        1 => (-2i64..2, -2i64..1_000_002),
    ];
    let rarely_len =
        prop_oneof![9 => Just(None), 1 => any::<u32>().prop_map(Some), 1 => (0u32..600).prop_map(Some)];
    let room = prop_oneof![Just(None), (0u32..4).prop_map(Some), Just(Some(u32::MAX))];
    let noise = prop_oneof![15 => Just(None), 1 => prop::collection::vec(any::<u8>(), 1..24).prop_map(Some)];
    let faults = prop::bool::weighted(0.1);
    (small_or_any(), 0u8..7, time, filter(), rarely_len, room, noise, faults).prop_map(
        |(word, interface, time, filter, lying_len, room, noise, faults)| Values {
            word,
            interface,
            time,
            filter,
            lying_len,
            room,
            noise,
            faults,
        },
    )
}

/// One random thing.
pub fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![6 => 0usize..80, 2 => 80usize..300, 1 => 300usize..3000];
    let way = prop_oneof![2 => Just(Way::In), 1 => Just(Way::Out)];
    let verdict = prop_oneof![5 => Just(None), 1 => (1u32..50).prop_map(Some), 1 => Just(Some(u32::MAX))];
    let step = prop_oneof![
        2 => 0u64..5000,
        2 => prop::sample::select(vec![1_000_000u64, 10_000_000, 999_999_999, 3_000_000_000]),
        1 => 0u64..10_000_000_000,
        1 => Just(3_600_000_000_000),
    ];
    let size = prop_oneof![9 => Just(None), 1 => (0usize..600).prop_map(Some)];
    let foreign = prop_oneof![7 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let often = prop::bool::weighted(0.7);
    prop_oneof![
        40 => (way, len, any::<u8>(), verdict)
            .prop_map(|(way, len, fill, verdict)| Action::Packet { way, len, fill, verdict }),
        1 => any::<u8>().prop_map(Action::Lost),
        1 => any::<u8>().prop_map(Action::Rejected),
        8 => step.prop_map(Action::Advance),
        30 => (any::<Index>(), foreign, values(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(row, foreign, values, ilp32, root, tap_fails)| Action::Ioctl {
                row, foreign, values, ilp32, root, tap_fails
            }),
        3 => (0u8..3).prop_map(Action::Attach),
        16 => (size, often).prop_map(|(size, nonblocking)| Action::Read { size, nonblocking }),
        8 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(read, write, then_read)| Action::Poll { read, write, then_read }),
        4 => (0usize..1700, any::<u8>(), prop::bool::weighted(0.9), 0u32..1600)
            .prop_map(|(len, fill, up, mtu)| Action::Write { len, fill, up, mtu }),
        2 => Just(Action::Signal),
        1 => Just(Action::Gone),
    ]
}
