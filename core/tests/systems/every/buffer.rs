//! semantics.md 4, the double buffer, with each system's header length and alignment.

use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::file::{BpfFile, ReadStep};

use crate::support::*;

/// bh_hdrlen on Ethernet and BPF_ALIGNMENT: 4, "Header written before each packet", and abi.json.
const ETHERNET: [(&Abi, usize, usize); 7] = [
    (&FREEBSD, 26, 8),
    (&NETBSD, 34, 8),
    (&OPENBSD, 26, 4),
    (&DRAGONFLY, 34, 8),
    (&MACOS, 18, 4),
    (&LINUX, 26, 8),
    (&NETBSD7, 34, 8),
];

/// caplen, datalen and hdrlen of a record of a 64-bit caller.
fn lengths(abi: &Abi, record: &[u8]) -> (u32, u32, u16) {
    let stamp = if matches!(abi.name, "openbsd" | "macos") { 8 } else { 16 };
    let word = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
    let hdrlen = u16::from_ne_bytes(record[stamp + 8..stamp + 10].try_into().unwrap());
    (word(stamp), word(stamp + 4), hdrlen)
}

#[test]
fn a_record_is_header_and_packet_with_no_padding_behind_the_last() {
    for (abi, hdrlen, align) in ETHERNET {
        for len in [14, 15, 59, 60, 61, 62, 63, 1514] {
            let fd = Fd::sized(abi, 8192);
            fd.rx(len);
            assert_eq!(fd.fionread() as usize, hdrlen + len, "{}: {len}", abi.name);
            fd.rx(len);
            let second = (hdrlen + len).next_multiple_of(align);
            let bytes = fd.read().unwrap();
            assert_eq!(bytes.len(), second + hdrlen + len, "{}: {len}", abi.name);
            let len32 = u32::try_from(len).unwrap();
            let expected = (len32, len32, u16::try_from(hdrlen).unwrap());
            assert_eq!(lengths(abi, &bytes), expected, "{}: {len}", abi.name);
            assert_eq!(lengths(abi, &bytes[second..]), expected, "{}: {len}, the second", abi.name);
            assert_eq!(bytes[second + hdrlen..], frame(len), "{}: {len}", abi.name);
        }
    }
}

#[test]
fn the_filters_snap_length_cuts_and_datalen_stays() {
    for (abi, hdrlen, _) in ETHERNET {
        for (snap, kept) in [(1, 1), (14, 14), (59, 59), (60, 60), (61, 60), (u32::MAX, 60)] {
            let fd = Fd::on_em0(abi);
            fd.ok(Request::SetF(ret(snap)));
            fd.rx(60);
            let bytes = fd.read().unwrap();
            assert_eq!(bytes.len(), hdrlen + kept as usize, "{}: ret #{snap}", abi.name);
            let hdrlen = u16::try_from(hdrlen).unwrap();
            assert_eq!(lengths(abi, &bytes), (kept, 60, hdrlen), "{}: ret #{snap}", abi.name);
        }
    }
}

#[test]
fn a_packet_longer_than_a_buffer_is_cut_to_it() {
    for (abi, hdrlen, _) in ETHERNET {
        let fd = Fd::sized(abi, 100);
        fd.rx(1514);
        let bytes = fd.read().unwrap();
        assert_eq!(bytes.len(), 100, "{}: bufsize", abi.name);
        let kept = u32::try_from(100 - hdrlen).unwrap();
        assert_eq!(lengths(abi, &bytes), (kept, 1514, u16::try_from(hdrlen).unwrap()), "{}", abi.name);
        fd.rx(1514);
        fd.rx(60);
        assert_eq!(fd.read_len(), Ok(100), "{}: a record of its own", abi.name);
        assert_eq!(fd.read_len(), Ok(hdrlen + 60), "{}", abi.name);
    }
}

#[test]
fn a_full_buffer_is_noticed_with_the_next_packet() {
    for (abi, hdrlen, align) in ETHERNET {
        let second = (hdrlen + 60).next_multiple_of(align);
        let exact = second + hdrlen + 60;
        let fd = Fd::sized(abi, u32::try_from(exact).unwrap());
        fd.rx(60);
        fd.rx(60);
        assert!(!fd.readable(), "{}: full to the last byte, and nobody is woken", abi.name);
        assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Wait { deadline: None }, "{}", abi.name);
        let before = fd.wakeups();
        fd.rx(60);
        assert_eq!(fd.wakeups(), before + 1, "{}: turned round", abi.name);
        assert!(fd.readable(), "{}", abi.name);
        assert_eq!(fd.read_len(), Ok(exact), "{}", abi.name);
        assert_eq!(fd.read_len(), Ok(hdrlen + 60), "{}: packet at offset 0 of the other", abi.name);
    }
}

#[test]
fn the_gap_before_a_record_counts_for_whether_it_fits() {
    for (abi, hdrlen, align) in ETHERNET {
        let second = (hdrlen + 61).next_multiple_of(align);
        let fd = Fd::sized(abi, u32::try_from(second + hdrlen + 61 - 1).unwrap());
        fd.rx(61);
        fd.rx(61);
        assert_eq!(fd.read_len(), Ok(hdrlen + 61), "{}: the second is one byte too long", abi.name);
        assert_eq!(fd.read_len(), Ok(hdrlen + 61), "{}", abi.name);
    }
}

#[test]
fn with_both_buffers_full_new_packets_are_dropped() {
    for (abi, hdrlen, _) in ETHERNET {
        let fd = Fd::sized(abi, 128);
        for byte in 1..=5 {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        // 7: bs_drop counts what was accepted and had no room
        assert_eq!(fd.stats(), (5, 3), "{}", abi.name);
        for byte in 1..=2 {
            let record = fd.read().unwrap();
            assert_eq!((record.len(), record[hdrlen + 14]), (hdrlen + 60, byte), "{}: the oldest", abi.name);
        }
        fd.world.rx_frame(&tagged_frame(6));
        assert_eq!(fd.stats(), (6, 3), "{}: room again", abi.name);
        assert_eq!(fd.read().unwrap()[hdrlen + 14], 6, "{}", abi.name);
    }
}

#[test]
fn a_rejected_packet_is_no_drop() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        fd.ok(Request::SetF(tagged(7)));
        for byte in [7, 7, 1, 1, 7] {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        assert_eq!(fd.stats(), (5, 1), "{}", abi.name);
    }
}

#[test]
fn a_short_packet_goes_where_a_long_one_had_no_room() {
    for (abi, hdrlen, _) in ETHERNET {
        let fd = Fd::sized(abi, 200);
        fd.rx(20);
        fd.rx(160);
        // the hold has 20, the store 160; 160 more do not fit, and neither does anything behind that
        fd.rx(160);
        assert_eq!(fd.stats(), (3, 1), "{}", abi.name);
        assert_eq!(fd.read_len(), Ok(hdrlen + 20), "{}", abi.name);
        assert_eq!(fd.read_len(), Ok(hdrlen + 160), "{}", abi.name);
    }
}

#[test]
fn the_gap_between_records_is_zero() {
    for (abi, hdrlen, align) in ETHERNET {
        let fd = Fd::sized(abi, 512);
        // bytes of ones, then shorter records over the same memory
        for _ in 0..2 {
            fd.world.rx_frame(&[0xff; 400]);
        }
        fd.read().unwrap();
        fd.read().unwrap();
        for _ in 0..3 {
            fd.world.rx_frame(&[0xff; 61]);
        }
        let bytes = fd.read().unwrap();
        let end = hdrlen + 61;
        let gap = &bytes[end..end.next_multiple_of(align)];
        // 4: zero on FreeBSD since 14, stale memory elsewhere; nobody's memory leaks here
        assert!(!gap.is_empty() && gap.iter().all(|&byte| byte == 0), "{}: {gap:?}", abi.name);
    }
}

#[test]
fn packets_come_out_in_order_and_once() {
    for (abi, hdrlen, align) in ETHERNET {
        let fd = Fd::sized(abi, 400);
        let mut seen = Vec::new();
        let mut sent = 0_u8;
        for burst in [1, 3, 2, 5, 1, 4] {
            for _ in 0..burst {
                sent += 1;
                fd.world.rx_frame(&tagged_frame(sent));
            }
            while let Ok(bytes) = fd.read() {
                if bytes.is_empty() {
                    break;
                }
                let stride = (hdrlen + 60).next_multiple_of(align);
                seen.extend(bytes.chunks(stride).map(|record| record[hdrlen + 14]));
            }
        }
        assert_eq!(seen, (1..=16).collect::<Vec<u8>>(), "{}", abi.name);
    }
}

#[test]
fn a_buffer_of_32_bytes_works() {
    // hdrlen 26 leaves 6 bytes, 18 leaves 14; NetBSD and DragonFly have their own rows
    for (abi, kept) in [(&FREEBSD, 6), (&LINUX, 6), (&OPENBSD, 6), (&MACOS, 14)] {
        let fd = Fd::sized(abi, 32);
        fd.rx(60);
        let mut buf = [0; 32];
        fd.file.set_nonblocking(true).unwrap();
        assert_eq!(fd.file.read(&mut buf), Ok(32), "{}", abi.name);
        assert_eq!((lengths(abi, &buf).0, lengths(abi, &buf).1), (kept, 60), "{}", abi.name);
    }
}
