//! Every system's device as its clients know it.

use crate::node::{Device, Wire, frame};
use crate::sys::{Bpf, CountAndPointer, Ifreq, Insn, number};

/// One system as its clients know it: numbers of abi.json, layouts of its struct bpf_hdr on LP64.
pub struct System {
    pub name: &'static str,
    pub node: &'static str,
    pub set_if: u32,
    /// BIOCGBLEN of a fresh descriptor.
    pub bufsize: u32,
    /// Offsets of bh_caplen and bh_hdrlen.
    pub caplen_at: usize,
    pub hdrlen_at: usize,
    /// bh_hdrlen for Ethernet.
    pub hdrlen: usize,
    /// BPF_ALIGNMENT.
    pub align: usize,
    /// What `_IOR('B', 118, int)` answers on a fresh, attached descriptor, and `_IOW('B', 119, int)` with 3.
    pub nr118: Result<u32, i32>,
    pub nr119: Result<(), i32>,
}

pub const IFREQ32: u32 = 0x8020_426c;
pub const IFREQ144: u32 = 0x8090_426c;

/// semantics.md 2 (buffer sizes), 4 ("Header written before each packet"), 11 (direction requests).
pub const SYSTEMS: [System; 5] = [
    System {
        name: "freebsd",
        node: "freebsd/bpf",
        set_if: IFREQ32,
        bufsize: 4096,
        caplen_at: 16,
        hdrlen_at: 24,
        hdrlen: 26,
        align: 8,
        nr118: Ok(1),             // BIOCGDIRECTION: both
        nr119: Err(libc::EINVAL), // BIOCSDIRECTION: 0, 1 or 2
    },
    System {
        name: "netbsd",
        node: "netbsd/bpf",
        set_if: IFREQ144,
        bufsize: 32768,
        caplen_at: 16,
        hdrlen_at: 24,
        hdrlen: 34,
        align: 8,
        nr118: Err(libc::EINVAL),
        nr119: Err(libc::EINVAL),
    },
    System {
        name: "openbsd",
        node: "openbsd/bpf",
        set_if: IFREQ32,
        bufsize: 32768,
        caplen_at: 8,
        hdrlen_at: 16,
        hdrlen: 26,
        align: 4,
        nr118: Err(libc::EINVAL),
        nr119: Err(libc::EINVAL),
    },
    System {
        name: "dragonfly",
        node: "dragonfly/bpf",
        set_if: IFREQ32,
        bufsize: 4096,
        caplen_at: 16,
        hdrlen_at: 24,
        hdrlen: 34,
        align: 8,
        nr118: Ok(1),  // BIOCGSEESENT
        nr119: Ok(()), // BIOCSSEESENT: anything
    },
    System {
        name: "macos",
        node: "macos/bpf0",
        set_if: IFREQ32,
        bufsize: 4096,
        caplen_at: 8,
        hdrlen_at: 16,
        hdrlen: 18,
        align: 4,
        nr118: Ok(1),
        nr119: Ok(()),
    },
];

impl System {
    /// Opens its node and binds it to veth0.
    pub fn bound(&self, device: &Device, wire: &Wire) -> Bpf {
        let bpf = Bpf::open(&device.dir.join(self.node));
        let ifreq = Ifreq::<144>::named("veth0");
        wire.ns.enter(|| bpf.ioctl(self.set_if, ifreq).unwrap()).unwrap();
        bpf
    }

    /// Frames of one read(2), by this system's records.
    pub fn frames(&self, buffer: &[u8]) -> Vec<Vec<u8>> {
        let (mut at, mut found) = (0, Vec::new());
        while at < buffer.len() {
            let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap()) as usize;
            let half = |at: usize| u16::from_ne_bytes(buffer[at..at + 2].try_into().unwrap());
            let (caplen, datalen) = (word(at + self.caplen_at), word(at + self.caplen_at + 4));
            assert_eq!(usize::from(half(at + self.hdrlen_at)), self.hdrlen, "{}: bh_hdrlen", self.name);
            assert_eq!(caplen, datalen, "{}", self.name);
            found.push(buffer[at + self.hdrlen..at + self.hdrlen + caplen].to_vec());
            at += (self.hdrlen + caplen).next_multiple_of(self.align);
        }
        found
    }
}

pub fn system(name: &str) -> &'static System {
    SYSTEMS.iter().find(|system| system.name == name).unwrap()
}

/// Every system's node of one daemon, bound to one wire: numbers, sizes and records are its own, the frames the same.
pub fn see_the_same_frames_at_once(device: &Device, wire: &Wire) {
    let files: Vec<_> = SYSTEMS.iter().map(|system| system.bound(device, wire)).collect();
    for (system, bpf) in SYSTEMS.iter().zip(&files) {
        assert_eq!(bpf.u32(number::BSD_GBLEN, 0), system.bufsize, "{}", system.name);
        bpf.u32(number::BSD_IMMEDIATE, 1);
        let nr118 = bpf.ioctl(0x4004_4276, 9u32).map_err(|e| e.raw_os_error().unwrap());
        assert_eq!(nr118, system.nr118, "{}: _IOR('B', 118, int)", system.name);
        let nr119 = bpf.ioctl(0x8004_4277, 3u32).map(drop).map_err(|e| e.raw_os_error().unwrap());
        assert_eq!(nr119, system.nr119, "{}: _IOW('B', 119, int) of 3", system.name);
    }
    let sent = [frame(60, 1), frame(101, 2), frame(1514, 3), frame(333, 4)];
    sent.iter().for_each(|frame| wire.send(frame));
    for (system, bpf) in SYSTEMS.iter().zip(&files) {
        let mut seen = Vec::new();
        while seen.len() < sent.len() {
            seen.extend(system.frames(&bpf.read_len(system.bufsize as usize).unwrap()));
        }
        assert_eq!(seen, sent, "{}", system.name);
    }
}

/// A dialect, and the BSD's numbers of BIOCSETIF, BIOCGSTATS and BIOCGDLTLIST in it.
pub struct Numbers {
    pub abi: &'static str,
    set_if: u32,
    stats: u32,
    list: u32,
}

const FREEBSD: Numbers = Numbers {
    abi: "freebsd",
    set_if: number::BSD_SETIF,
    stats: number::BSD_GSTATS,
    list: number::BSD_GDLTLIST,
};
const NETBSD: Numbers = Numbers {
    abi: "netbsd",
    set_if: number::BSD_SETIF_NETBSD,
    stats: number::BSD_GSTATS_NETBSD,
    list: number::BSD_GDLTLIST_NETBSD,
};

/// Every dialect's.
pub const NUMBERS: [Numbers; 7] = [
    Numbers { abi: "linux", ..FREEBSD },
    FREEBSD,
    NETBSD,
    Numbers { abi: "netbsd7", ..NETBSD },
    Numbers { abi: "openbsd", list: 0xc010_427b, ..FREEBSD },
    Numbers { abi: "dragonfly", ..FREEBSD },
    Numbers { abi: "macos", list: 0xc00c_4279, ..FREEBSD },
];

impl Numbers {
    /// The top-level node of `device` takes a BSD's numbers: in, out, both, void, with pointers in and out.
    pub fn are_spoken(&self, device: &Device, wire: &Wire) {
        let Numbers { abi, set_if, stats, list } = *self;
        let node = device.dir.join(if abi == "macos" { "bpf0" } else { "bpf" });
        let bpf = Bpf::open(&node);
        assert_eq!(bpf.u32(number::BSD_SBLEN, 8192), 8192, "{abi}: in and out");
        assert_eq!(bpf.u32(number::BSD_GBLEN, 0), 8192, "{abi}: out");
        assert_eq!(bpf.u32(number::BSD_VERSION, 0), 1 << 16 | 1, "{abi}");
        let ifreq = wire.ns.enter(|| bpf.ioctl(set_if, Ifreq::<144>::named("veth0"))).unwrap();
        assert_eq!(ifreq.unwrap().name(), "veth0", "{abi}: in; the argument stays as it is");
        assert_eq!(bpf.u32(number::BSD_IMMEDIATE, 1), 1, "{abi}");
        assert_eq!(bpf.u32(number::BSD_GDLT, 0), 1, "{abi}");
        bpf.ioctl_at(number::BSD_FLUSH, 0).unwrap();
        let insns = [Insn(6, 0, 0, 20)];
        let pointer = insns.as_ptr().expose_provenance() as u64;
        bpf.ioctl(number::BSD_SETF, CountAndPointer { count: 1, pointer }).unwrap();
        let mut room = [0u32; 4];
        let pointer = room.as_mut_ptr().expose_provenance() as u64;
        let found = if abi == "macos" {
            // packed
            let [low, high] = [pointer as u32, (pointer >> 32) as u32];
            bpf.ioctl(list, [4, low, high]).unwrap()[0]
        } else {
            bpf.ioctl(list, CountAndPointer { count: 4, pointer }).unwrap().count
        };
        assert!(found >= 1 && std::hint::black_box(&room)[0] == 1, "{abi}: the list is written");
        wire.send(&frame(60, 1));
        let read = bpf.read_len(8192).unwrap();
        assert_eq!(read[read.len() - 20..], frame(20, 1), "{abi}");
        assert_eq!(bpf.ioctl(stats, [0u32; 32]).unwrap()[0], 1, "{abi}");
    }
}
