//! Memory of the caller that ends, or cannot be written, within what a request names: no partial state, and nothing is
//! read or written outside.

use std::io::{self, IoSlice, IoSliceMut};

use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{Bpf, CountAndPointer, Ifreq, Insn, Pages, frames, number};

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

const EFAULT: Option<i32> = Some(libc::EFAULT);
const EINVAL: Option<i32> = Some(libc::EINVAL);

/// Requests of one encoding: BIOCSETF, BIOCSETIF with the size of its ifreq, BIOCGSTATS, BIOCGDLTLIST, BIOCSBLEN.
const ENCODINGS: [(u32, u32, usize, u32, u32, u32); 2] = [
    (number::SETF, number::SETIF, 40, number::GSTATS, number::GDLTLIST, number::SBLEN),
    (number::BSD_SETF, number::BSD_SETIF, 32, number::BSD_GSTATS, number::BSD_GDLTLIST, number::BSD_SBLEN),
];

/// A program that keeps `snap` bytes, after a jump over what it does not need.
fn keeps(snap: u32) -> [u8; 24] {
    let insns = [Insn(0, 0, 0, 0), Insn(5, 0, 0, 0), Insn(6, 0, 0, snap)];
    let words = insns.map(|Insn(code, jt, jf, k)| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[jt, jf]);
        bytes[4..].copy_from_slice(&k.to_ne_bytes());
        bytes
    });
    words.concat().try_into().unwrap()
}

/// What a frame of 60 bytes comes out as.
fn kept(bpf: &Bpf, wire: &Wire) -> usize {
    wire.send(&frame(60, 1));
    frames(&bpf.read().unwrap())[0].len()
}

#[test]
#[serial]
fn a_program_that_ends_where_nothing_is_mapped_is_einval_and_the_old_one_stays() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let pages = Pages::new();
    bpf.set_filter(&[Insn(6, 0, 0, 30)]).unwrap();
    for (set_filter, ..) in ENCODINGS {
        let set = |count, pointer| {
            bpf.ioctl(set_filter, CountAndPointer { count, pointer: pointer as u64 }).map(drop)
        };
        // a whole program up to the last mapped byte, and a length that says one instruction more
        let program = pages.before_the_end(&keeps(40));
        for count in [4, 512, 513, 0x2000_0003, u32::MAX] {
            assert_eq!(errno(set(count, program)), EINVAL, "{count} of 3 instructions");
        }
        // its last bytes are not there
        for missing in 1..24 {
            let program = pages.before_the_end(&keeps(40)[..24 - missing]);
            assert_eq!(errno(set(3, program)), EINVAL, "{missing} bytes short");
        }
        assert_eq!(kept(&bpf, &wire), 30, "the old program");
        set(3, pages.before_the_end(&keeps(40))).unwrap();
        assert_eq!(kept(&bpf, &wire), 40, "the whole one");
        // it is only read
        set(3, pages.read_only(&keeps(30))).unwrap();
        assert_eq!(kept(&bpf, &wire), 30);
    }
}

#[test]
#[serial]
fn an_argument_that_ends_where_nothing_is_mapped_is_efault_and_changes_nothing() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let pages = Pages::new();
    for (set_filter, set_if, ifreq, stats, list, set_len) in ENCODINGS {
        let bpf = device.open();
        let name = &Ifreq::<40>::named("veth0").0[..ifreq];
        for missing in [1, 8, ifreq - 16, ifreq - 6] {
            let at = pages.before_the_end(&name[..ifreq - missing]);
            assert_eq!(
                errno(wire.ns.enter(|| bpf.ioctl_at(set_if, at)).unwrap()),
                EFAULT,
                "{missing} bytes short"
            );
            assert_eq!(errno(bpf.ioctl(number::GETIF, Ifreq::<40>::named(""))), EINVAL, "not attached");
        }
        let at = pages.before_the_end(&1000_u32.to_ne_bytes()[..3]);
        assert_eq!(errno(bpf.ioctl_at(set_len, at)), EFAULT);
        assert_eq!(bpf.u32(number::GBLEN, 0), 4096, "the buffer's size");
        let at = pages.before_the_end(name);
        wire.ns.enter(|| bpf.ioctl_at(set_if, at)).unwrap().unwrap();
        assert_eq!(bpf.ioctl(number::GETIF, Ifreq::<40>::named("")).unwrap().name(), "veth0");
        for request in [set_filter, stats, list] {
            assert_eq!(errno(bpf.ioctl_at(request, pages.before_the_end(&[0; 7]))), EFAULT, "{request:#x}");
        }
        assert_eq!(pages.left_of_the_end(8)[1..], [0; 7], "nothing is written");
    }
}

#[test]
#[serial]
fn an_answer_into_memory_that_cannot_be_written_is_efault() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let pages = Pages::new();
    for (.., stats, list, _) in ENCODINGS {
        assert_eq!(errno(bpf.ioctl_at(stats, pages.read_only(&[7; 8]))), EFAULT);
        let room = pages.read_only(&[7; 8]) as u64;
        assert_eq!(errno(bpf.ioctl(list, CountAndPointer { count: 2, pointer: room })), EFAULT, "the list");
        assert_eq!(pages.read_only_bytes(8), [7; 8]);
    }
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "it still works");
}

#[test]
#[serial]
fn a_list_has_as_many_link_types_as_there_are_whatever_its_length_says() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let pages = Pages::new();
    for (.., list, _) in ENCODINGS {
        for count in [1, 2, 1 << 30, u32::MAX] {
            // room for the one that there is, and no byte more
            let room = pages.before_the_end(&[0xee; 4]);
            let given = bpf.ioctl(list, CountAndPointer { count, pointer: room as u64 }).unwrap();
            assert_eq!((given.count, pages.left_of_the_end(4)), (1, 1_u32.to_ne_bytes().to_vec()), "{count}");
        }
        let room = pages.before_the_end(&[0xee; 16]);
        bpf.ioctl(list, CountAndPointer { count: 4, pointer: room as u64 }).unwrap();
        assert_eq!(pages.left_of_the_end(16)[4..], [0xee; 12], "what is behind the one stays as it is");
        let room = pages.before_the_end(&[0xee; 3]);
        assert_eq!(errno(bpf.ioctl(list, CountAndPointer { count: 1, pointer: room as u64 })), EFAULT);
    }
}

/// semantics.md 4: "readv/several iovecs: total counts".
#[test]
#[serial]
fn several_pieces_of_a_read_are_one_buffer() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.set_nonblocking(true);
    for lengths in [[26, 10, 4060], [1, 4000, 95], [2048, 1024, 1024]] {
        wire.send(&frame(60, 1));
        wire.send(&frame(1000, 2));
        crate::node::until("both are there", || bpf.readable_bytes() == 88 + 1026);
        let mut whole = vec![0; 4096];
        let (first, rest) = whole.split_at_mut(lengths[0]);
        let (second, third) = rest.split_at_mut(lengths[1]);
        let mut pieces = [first, second, third].map(IoSliceMut::new);
        let n = nix::sys::uio::readv(&bpf, &mut pieces).unwrap();
        assert_eq!(frames(&whole[..n]), [frame(60, 1), frame(1000, 2)], "{lengths:?}");
    }
    let (mut one, mut two) = ([0; 4000], [0; 97]);
    let mut pieces = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!(nix::sys::uio::readv(&bpf, &mut pieces), Err(nix::errno::Errno::EINVAL), "4097 together");
}

#[test]
#[serial]
fn a_read_or_write_of_memory_that_is_not_there_is_efault() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.u32(number::SHDRCMPLT, 1);
    let pages = Pages::new();
    wire.send(&frame(60, 1));
    crate::node::until("it is there", || bpf.readable_bytes() == 86);
    for at in [8, pages.read_only(&[7; 8])] {
        assert_eq!(errno(bpf.read_at(at, 4096)), EFAULT);
    }
    assert_eq!(pages.read_only_bytes(8), [7; 8]);
    assert_eq!(errno(bpf.write_at(8, 60)), EFAULT);
    let nowhere = pages.before_the_end(&[]);
    assert_eq!(errno(bpf.write_at(nowhere, 60)), EFAULT);
    let whole = frame(60, 9);
    assert_eq!(nix::sys::uio::writev(&bpf, &[IoSlice::new(&whole)]).unwrap(), 60);
    assert_eq!(wire.receive(), whole, "nothing went out before it");
    // what the reads did not get is still there
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1), whole]);
}
