//! semantics.md 9 and 10 as the device has them: which programs BIOCSETF takes, what they do to packets on the tap's way
//! and, as write filters, on a contiguous frame. The whole tables are in `cbpf_rules.rs` and `cbpf_interpret.rs`.

use bpfdev_core::abi::{Abi, FilterSource, Request};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;

use crate::support::*;

/// The columns' letters.
const SYSTEMS: [(char, &Abi); 5] =
    [('F', &FREEBSD), ('N', &NETBSD), ('O', &OPENBSD), ('D', &DRAGONFLY), ('M', &MACOS)];

const fn s(code: u16, k: u32) -> Insn {
    Insn::stmt(code, k)
}

const RET: Insn = s(6, u32::MAX);
const RET_A: Insn = s(0x16, 0);
const RETURN_9: [Insn; 2] = [s(0, 9), RET_A];

/// Systems whose BIOCSETF takes this program; all others say EINVAL.
fn takers(insns: &[Insn]) -> String {
    let takes = |abi| match Fd::on_em0(abi).file_setf(insns) {
        Ok(()) => true,
        Err(errno) => {
            assert_eq!(errno, Errno::Inval);
            false
        }
    };
    SYSTEMS.iter().filter(|(_, abi)| takes(abi)).map(|(letter, _)| *letter).collect()
}

/// Systems that take this program as read filter, and on which it then accepts a received frame of 60 bytes.
fn tap_accepts(insns: &[Insn]) -> String {
    let accepts = |abi| {
        let fd = Fd::on_em0(abi);
        fd.file_setf(insns).is_ok() && {
            fd.rx(60);
            fd.fionread() > 0
        }
    };
    SYSTEMS.iter().filter(|(_, abi)| accepts(abi)).map(|(letter, _)| *letter).collect()
}

/// The same for write filters and a written frame; macOS has none. They return 60 or more.
fn write_accepts(insns: &[Insn]) -> String {
    let accepts = |abi| {
        let fd = Fd::on_em0(abi);
        let set = bpfdev_core::file::BpfFile::ioctl(&fd.file, &Request::SetWf(FilterSource::new(insns)));
        set.is_ok()
            && match fd.write(&frame(60)) {
                Ok(60) => true,
                other => {
                    assert_eq!(other, Err(Errno::Perm), "{}", abi.name);
                    false
                }
            }
    };
    SYSTEMS.iter().filter(|(_, abi)| accepts(abi)).map(|(letter, _)| *letter).collect()
}

impl Fd {
    fn file_setf(&self, insns: &[Insn]) -> Result<(), Errno> {
        bpfdev_core::file::BpfFile::ioctl(&self.file, &Request::SetF(FilterSource::new(insns))).map(drop)
    }
}

#[test]
fn what_biocsetf_takes() {
    #[rustfmt::skip]
    let table: [(&str, Vec<Insn>, &str); 24] = [
        ("512 instructions",              vec![RET; 512],                     "FNODM"),
        ("513 instructions",              vec![RET; 513],                     ""),
        ("last: ret a",                   vec![RET_A],                        "FNODM"),
        ("last: ret x",                   vec![s(0x0e, 0)],                   "ODM"),
        ("last: 0x8006",                  vec![s(0x8006, 0)],                 "ODM"),
        ("ret x before the last",         vec![s(0x0e, 0), RET],              "NODM"),
        ("last: a load",                  vec![s(0, 0)],                      ""),
        ("MOD",                           vec![s(0x94, 3), RET],              "FN"),
        ("XOR",                           vec![s(0xa4, 3), RET],              "FN"),
        ("RND",                           vec![s(0xc0, 0), RET],              "O"),
        ("COP",                           vec![s(0x27, 0), RET],              "ODM"),
        ("NEG with X",                    vec![s(0x8c, 0), RET],              "NODM"),
        ("ja past the last",              vec![s(5, 1), RET],                 ""),
        ("ja, 32-bit overflow",           vec![RET, s(5, u32::MAX), RET],     ""),
        ("a conditional out",             vec![Insn::jump(0x15, 0, 0, 2), RET, RET], ""),
        ("M[16]",                         vec![s(2, 16), RET],                ""),
        ("M[] never stored",              vec![s(0x60, 3), RET],              "FODM"),
        ("division by 0",                 vec![s(0x34, 0), RET],              ""),
        ("shift by 32",                   vec![s(0x64, 32), RET],             "FNODM"),
        ("ld [524287]",                   vec![s(0x20, 524_287), RET],        "FNODM"),
        ("ld [524288]",                   vec![s(0x20, 524_288), RET],        "FNO"),
        ("ldb [x + 2 MiB - 1]",           vec![s(0x50, (2 << 20) - 1), RET],  "FNO"),
        ("ldxb msh at 2 MiB",             vec![s(0xb1, 2 << 20), RET],        "FN"),
        ("unreachable code",              vec![RET, s(0, 1), RET],            "FNODM"),
    ];
    for (rule, insns, expected) in table {
        assert_eq!(takers(&insns), expected, "{rule}");
    }
}

#[test]
fn what_a_read_filter_accepts_and_a_write_filter() {
    let after = |insns: &[Insn]| [insns, &[RET]].concat();
    let x = |k| s(1, k);
    #[rustfmt::skip]
    let table: [(&str, Vec<Insn>, &str, &str); 16] = [
        ("the last byte",                 after(&[s(0x30, 59)]),              "FNODM", "FNOD"),
        ("a byte past the end",           after(&[s(0x30, 60)]),              "",      ""),
        ("a word past the end",           after(&[s(0x20, 57)]),              "",      ""),
        ("a half past the end: F and D load 0 on the mbuf path", after(&[s(0x28, 60)]), "FD", ""),
        ("a half that is half past it",   after(&[s(0x28, 59)]),              "FD",    ""),
        ("an indirect half past the end", after(&[x(1), s(0x48, 59)]),        "",      ""),
        ("msh past the end",              after(&[s(0xb1, 60)]),              "",      ""),
        ("X + k wraps into the packet",   after(&[x(u32::MAX), s(0x50, 4)]),  "FODM",  "O"),
        ("X + k wraps past the end",      after(&[x(u32::MAX), s(0x50, 61)]), "",      ""),
        ("X at 0x80000000",               after(&[x(0x8000_0000), s(0x50, 0)]), "",    ""),
        ("ld [0x80000000]",               after(&[s(0x20, 0x8000_0000)]),     "",      ""),
        ("msh at 0x80000000",             after(&[s(0xb1, 0x8000_0000)]),     "",      ""),
        ("ld [0xfffff02c]: no ancillary data", after(&[s(0x20, 0xffff_f02c)]), "",     ""),
        ("division by X = 0",             after(&[s(0, 6), s(0x3c, 0)]),      "",      ""),
        ("an unknown code, reached",      after(&[s(0x0e, 0)]),               "",      ""),
        ("the same, jumped over",         vec![s(5, 1), s(0x0e, 0), RET],     "NODM",  "NOD"),
    ];
    for (rule, insns, tap, write) in table {
        assert_eq!(tap_accepts(&insns), tap, "{rule}: received");
        assert_eq!(write_accepts(&insns), write, "{rule}: written");
    }
}

#[test]
fn what_a_filter_computes() {
    let nine = |insns: &[Insn]| [&RETURN_9[..1], insns, &RETURN_9[1..]].concat();
    // A is 9 at first; the value returned is the snap length
    #[rustfmt::skip]
    let table: [(&str, Vec<Insn>, u32); 12] = [
        ("A and X start at 0, and 1",     vec![s(0x0c, 0), s(4, 1), RET_A],   1),
        ("length on the wire",            vec![s(0x80, 0), RET_A],            60),
        ("u32 wraps",                     nine(&[s(4, u32::MAX)]),            8),
        ("shift by X 33 is shift by 1",   nine(&[s(1, 33), s(0x6c, 0)]),      18),
        ("shift by 35 is shift by 3",     nine(&[s(0x64, 32)]),               9),
        ("neg",                           nine(&[s(0x84, 0), s(4, 30)]),      21),
        ("msh keeps A",                   nine(&[s(0xb1, 14)]),               9),
        ("network order",                 vec![s(0x28, 14), RET_A],           7),
        ("ld [x + k]",                    vec![s(1, 10), s(0x48, 4), RET_A],  7),
        ("more than the packet is all",   nine(&[s(4, 1000)]),                60),
        ("st, ld M[15]",                  nine(&[s(2, 15), s(0, 0), s(0x60, 15)]), 9),
        ("jgt is unsigned",               vec![s(0, 0x8000_0000), Insn::jump(0x25, 1, 0, 1), s(6, 5), s(6, 3)], 5),
    ];
    for (rule, insns, snap) in table {
        for (letter, abi) in SYSTEMS {
            let fd = Fd::on_em0(abi);
            fd.file_setf(&insns).unwrap();
            let mut packet = frame(60);
            packet[14..16].copy_from_slice(&[0, 7]);
            fd.world.rx_frame(&packet);
            let header = match letter {
                'F' | 'O' => 26,
                'M' => 18,
                _ => 34,
            };
            assert_eq!(fd.fionread(), header + snap, "{rule}: {letter}");
        }
    }
}

#[test]
fn memory_starts_at_zero_where_it_may_be_read() {
    let insns = [s(0x60, 3), s(4, 11), RET_A];
    for (letter, abi) in SYSTEMS.into_iter().filter(|(letter, _)| *letter != 'N') {
        let fd = Fd::on_em0(abi);
        fd.file_setf(&insns).unwrap();
        fd.rx(60);
        let header = [('F', 26), ('O', 26), ('D', 34), ('M', 18)].into_iter().find(|(l, _)| *l == letter);
        assert_eq!(fd.fionread(), header.unwrap().1 + 11, "{letter}");
    }
}

#[test]
fn random_is_openbsds() {
    let fd = Fd::on_em0(&OPENBSD);
    // (random & 15) + 1 is a snap length that is not always the same
    fd.file_setf(&[s(0xc0, 0), s(0x54, 15), s(4, 1), RET_A]).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        fd.rx(60);
        seen.insert(fd.read_len().unwrap());
    }
    assert!(seen.len() > 1, "64 equal draws: {seen:?}");
    assert!(seen.iter().all(|len| (27..=42).contains(len)), "{seen:?}");
}
