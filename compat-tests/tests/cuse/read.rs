//! read(2): the kernel takes at most 128 KiB at once, and a longer one in pieces.

use std::io;
use std::time::Duration;

use crate::node::{Device, Wire, frame};
use crate::sys::{Bpf, frames, number};
use crate::{cuse, errno};

/// What the kernel asks for at once.
const PIECE: usize = 128 << 10;
const LARGEST: u32 = 512 << 10;
const PAGE: usize = 4096;

/// Bound, with such a buffer.
fn bound(device: &Device, wire: &Wire, bufsize: u32) -> Bpf {
    let bpf = device.open();
    assert_eq!(bpf.u32(number::SBLEN, bufsize), bufsize);
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.set_nonblocking(true);
    bpf
}

/// A frame with a number in it.
fn numbered(len: usize, number: usize) -> Vec<u8> {
    let mut frame = frame(len, number as u8);
    frame[14..18].copy_from_slice(&(number as u32).to_be_bytes());
    frame
}

/// read(2) into memory that begins so many bytes behind a page's beginning.
fn read_behind(bpf: &Bpf, offset: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut memory = vec![0u8; len + 2 * PAGE];
    let start = memory.as_ptr().align_offset(PAGE) + offset;
    let n = nix::unistd::read(bpf, &mut memory[start..start + len])?;
    Ok(memory[start..start + n].to_vec())
}

pub fn of_512_kib_is_one_hold_buffer() {
    const LEN: usize = 1500;
    const RECORD: usize = 1528; // 26 + 1500, aligned
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = bound(&device, &wire, LARGEST);
    let fit = LARGEST as usize / RECORD;
    let mut sent = 0;
    for offset in [0, 1, 16, PAGE - 1, 2000] {
        assert_eq!(errno(bpf.read_len(LARGEST as usize)), Some(libc::EAGAIN), "no buffer is full");
        let first = sent;
        // one buffer full, and the packet that turns it over
        for number in first..=first + fit {
            wire.send(&numbered(LEN, number));
            if number % 50 == 0 {
                bpf.readable_bytes(); // moved out of the ring
            }
        }
        sent += fit;
        let read = read_behind(&bpf, offset, LARGEST as usize).unwrap();
        assert_eq!(read.len(), (fit - 1) * RECORD + 26 + LEN, "all of the hold buffer, in one read(2)");
        let expected: Vec<_> = (first..first + fit).map(|number| numbered(LEN, number)).collect();
        assert!(frames(&read) == expected, "whole records in order, {offset} bytes behind a page");
        // the last one begins the next buffer
        bpf.ioctl_at(number::FLUSH, 0).unwrap();
    }
    assert_eq!(bpf.stats()[1], 0, "none was dropped");
}

pub fn that_fills_the_first_piece_exactly_ends_there() {
    const LEN: usize = 998;
    const RECORD: usize = 1024; // 26 + 998
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = bound(&device, &wire, LARGEST);
    bpf.u32(number::IMMEDIATE, 1);
    bpf.set_nonblocking(false);
    // in front of, at and behind the pieces' ends
    for pieces in [1, 2, 3] {
        for more in [-1isize, 0, 1] {
            let count = (pieces * PIECE / RECORD).checked_add_signed(more).unwrap();
            for number in 0..count {
                wire.send(&numbered(LEN, number));
            }
            assert_eq!(bpf.readable_bytes() as usize, count * RECORD);
            // a piece that follows would sleep for ever, if it slept
            let read = read_behind(&bpf, if more == 0 { 0 } else { 8 }, LARGEST as usize).unwrap();
            assert_eq!(read.len(), count * RECORD, "{pieces} pieces, {more} records more");
            let expected: Vec<_> = (0..count).map(|number| numbered(LEN, number)).collect();
            assert!(frames(&read) == expected, "{pieces} pieces, {more} records more");
        }
    }
}

pub fn of_a_wrong_length_is_einval_where_that_can_be_told() {
    let (device, wire) = (cuse(&[]), Wire::new());
    for bufsize in [32, 4096, 32768, PIECE - PAGE] {
        let bpf = bound(&device, &wire, bufsize as u32);
        bpf.u32(number::IMMEDIATE, 1);
        for len in [1, bufsize - 1, bufsize + 1, PIECE, LARGEST as usize] {
            assert_eq!(errno(bpf.read_len(len)), Some(libc::EINVAL), "{len} for {bufsize}");
            assert_eq!(errno(read_behind(&bpf, 9, len)), Some(libc::EINVAL), "{len} for {bufsize}");
        }
        assert_eq!(errno(read_behind(&bpf, 9, bufsize)), Some(libc::EAGAIN), "the right one");
    }
    // A longer buffer comes in pieces: all that can be told is that the first is not one that the kernel cut.
    let bpf = bound(&device, &wire, LARGEST);
    bpf.u32(number::IMMEDIATE, 1);
    for len in [1, 4096, 32768, PIECE - PAGE] {
        assert_eq!(errno(read_behind(&bpf, 0, len)), Some(libc::EINVAL), "{len} for {LARGEST}");
    }
    for len in [PIECE - PAGE + 1, PIECE, 2 * PIECE, LARGEST as usize + 1] {
        assert_eq!(errno(read_behind(&bpf, 0, len)), Some(libc::EAGAIN), "{len} for {LARGEST} is not told");
    }
    // Then what fits is read, and the rest of that buffer is lost: the next read is a new one.
    (0..300).for_each(|number| wire.send(&numbered(998, number)));
    assert_eq!(read_behind(&bpf, 0, PIECE).unwrap().len(), PIECE);
    assert_eq!(errno(bpf.read_len(LARGEST as usize)), Some(libc::EAGAIN));
}

pub fn by_two_threads_at_once_mixes_nothing() {
    const LEN: usize = 1500;
    const COUNT: usize = 2000;
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = bound(&device, &wire, LARGEST);
    bpf.set_nonblocking(false);
    bpf.ioctl(number::SRTIMEOUT, [1i64, 0]).unwrap();
    std::thread::scope(|s| {
        let readers = [0, 24].map(|offset| {
            let bpf = &bpf;
            s.spawn(move || {
                let mut all = Vec::new();
                loop {
                    let read = read_behind(bpf, offset, LARGEST as usize).unwrap();
                    let found = frames(&read);
                    if found.is_empty() {
                        return all;
                    }
                    let numbers =
                        found.iter().map(|frame| u32::from_be_bytes(frame[14..18].try_into().unwrap()));
                    let numbers: Vec<_> = numbers.collect();
                    assert!(numbers.is_sorted(), "in order within one read(2)");
                    all.extend(numbers);
                }
            })
        });
        for number in 0..COUNT {
            wire.send(&numbered(LEN, number));
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let mut all: Vec<_> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..COUNT as u32), "{} of {COUNT}, each once", all.len());
    });
}
