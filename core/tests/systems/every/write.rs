//! semantics.md 6, what all agree on.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::BpfFile;

use crate::support::*;

#[test]
fn nothing_written_is_0() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        assert_eq!(fd.write(&[]), Ok(0), "{}", abi.name);
        assert_eq!(fd.stats(), (0, 0), "{}: nothing was sent", abi.name);
    }
}

#[test]
fn the_whole_length_is_returned_up_to_the_mtu() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        for len in [14, 15, 60, 1513, 1514] {
            assert_eq!(fd.write(&frame(len)), Ok(len), "{}: {len}", abi.name);
        }
    }
}

#[test]
fn a_write_never_waits() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        for nonblocking in [false, true] {
            fd.file.set_nonblocking(nonblocking).unwrap();
            for _ in 0..100 {
                assert_eq!(fd.write(&frame(60)), Ok(60), "{}", abi.name);
            }
        }
    }
}

#[test]
fn the_source_address_is_put_in_unless_the_header_is_complete() {
    for abi in EVERY {
        let world = World::new();
        let (fd, peer) = (world.on(abi, "em0"), world.on(&FREEBSD, "em1"));
        let mut frame = frame(60);
        frame[6..12].copy_from_slice(&OTHER);
        for (complete, source) in [(0, MAC), (1, OTHER), (0, MAC)] {
            fd.ok(Request::SHdrCmplt(complete));
            fd.write(&frame).unwrap();
            for (who, record) in [("writer", fd.read().unwrap()), ("peer", peer.read().unwrap())] {
                let seen = &record[record.len() - 60..];
                assert_eq!(seen[6..12], source, "{}: {who}: BIOCSHDRCMPLT {complete}", abi.name);
                assert_eq!((&seen[..6], &seen[14..]), (&frame[..6], &frame[14..]), "{}: {who}", abi.name);
            }
        }
    }
}

#[test]
fn every_descriptor_of_the_interface_sees_it_the_writer_too() {
    for abi in EVERY {
        let world = World::new();
        let (writer, other, peer) = (world.on(abi, "em0"), world.on(abi, "em0"), world.on(abi, "em1"));
        writer.write(&frame(60)).unwrap();
        for (who, fd) in [("writer", &writer), ("another", &other), ("at the other end", &peer)] {
            assert_eq!(fd.stats(), (1, 0), "{}: {who}: once", abi.name);
        }
    }
}

#[test]
fn one_packet_a_write() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.write(&frame(60)).unwrap();
        fd.write(&frame(61)).unwrap();
        assert_eq!(fd.stats(), (2, 0), "{}", abi.name);
    }
}

#[test]
fn what_the_output_routine_says_is_passed_on() {
    for abi in EVERY {
        for (number, errno) in [(105, Errno::NoBufs), (100, Errno::NetDown), (97, Errno::AfNoSupport)] {
            let world = World::new();
            world.inject_fails("em0", number);
            assert_eq!(world.on(abi, "em0").write(&frame(60)), Err(errno), "{}", abi.name);
        }
    }
}

#[test]
fn the_read_filter_decides_what_the_writer_sees() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::SetF(tagged(7)));
        for byte in [1, 7] {
            fd.write(&tagged_frame(byte)).unwrap();
        }
        let record = fd.read().unwrap();
        assert_eq!(record[record.len() - 60 + 14], 7, "{}", abi.name);
        assert!(!matches!(fd.read(), Ok(bytes) if !bytes.is_empty()), "{}: only that one", abi.name);
    }
}

#[test]
fn a_refused_frame_is_not_seen() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.write(&frame(13)).unwrap_err();
        fd.write(&frame(2000)).unwrap_err();
        assert_eq!(fd.stats(), (0, 0), "{}", abi.name);
    }
}

#[test]
fn a_smaller_mtu_holds() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.world.network.set_mtu("em0", 576);
        assert_eq!(fd.write(&frame(14 + 576)), Ok(590), "{}", abi.name);
        // macOS has 18 bytes of leeway: 14 + 576 + 19 is too long everywhere
        assert_eq!(fd.write(&frame(14 + 576 + 19)), Err(Errno::MsgSize), "{}", abi.name);
    }
}

#[test]
fn a_removed_interface_takes_no_more_frames() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.world.network.remove("em0");
        // 4, interface goes away: EIO on OpenBSD, which revokes the file; 6: ENXIO elsewhere
        let errno = if abi.name == "openbsd" { Errno::Io } else { Errno::NxIo };
        for len in [0, 60, 60] {
            assert_eq!(fd.write(&frame(len)), Err(errno), "{}: {len}", abi.name);
        }
    }
}
