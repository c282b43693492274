//! Real packets: read, filtered, written, by one program or two, 64-bit or 32-bit.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;

use bpfdev::linktype::Linktype;
use serial_test::serial;

use crate::node::{Device, Wire, client_program, frame};
use crate::sys::{Bpf, Ifreq, Insn, frames, number};

fn a_c_program_captures(ilp32: bool) {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut command = Command::new(client_program(ilp32));
    let mut client = wire.client_by(&mut command, &device, &["capture", "3"]).ready();
    wire.send(&frame(60, 1));
    let mut other = frame(60, 2);
    other[13] = 0;
    wire.send(&other);
    wire.send(&frame(100, 3));
    wire.send(&frame(1514, 4));
    // 40 bytes are kept: the filter's accept value
    assert_eq!(client.line(), "frame 40 of 60, first 01");
    assert_eq!(client.line(), "frame 40 of 100, first 03");
    assert_eq!(client.line(), "frame 40 of 1514, first 04");
    let counters = client.line();
    assert!(counters.ends_with("drop 0"), "{counters}");
    assert!(client.end().success());
}

#[test]
#[serial]
fn a_program_in_c_opens_binds_filters_and_reads() {
    a_c_program_captures(false);
}

#[test]
#[serial]
fn so_does_a_32_bit_one() {
    a_c_program_captures(true);
}

#[test]
#[serial]
fn the_filter_is_the_same_wherever_it_runs() {
    for plan in ["ebpf", "cbpf", "process"] {
        let (device, wire) = (Device::start(&["--plan", plan]), Wire::new());
        let bpf = wire.bound(&device);
        let insns = [Insn(0x30, 0, 0, 14), Insn(0x15, 0, 1, 7), Insn(6, 0, 0, 20), Insn(6, 0, 0, 0)];
        bpf.set_filter(&insns).unwrap();
        for mark in 0..20 {
            wire.send(&frame(64, mark));
        }
        assert_eq!(frames(&bpf.read().unwrap()), [frame(20, 7)], "{plan}");
        let [received, dropped] = bpf.stats();
        assert_eq!((received, dropped), (if plan == "cbpf" { 1 } else { 20 }, 0), "{plan}");
    }
}

#[test]
#[serial]
fn packets_of_a_hidden_direction_are_not_counted() {
    for plan in ["ebpf", "process"] {
        let (device, wire) = (Device::start(&["--plan", plan]), Wire::new());
        let bpf = wire.bound(&device);
        let nothing = [Insn(6, 0, 0, 0)];
        for (direction, [received, _]) in [(0, [3, 0]), (1, [5, 0]), (2, [2, 0])] {
            bpf.set_filter(&nothing).unwrap();
            bpf.u32(number::SDIRECTION, direction);
            bpf.ioctl_at(number::FLUSH, 0).unwrap();
            (0..3).for_each(|mark| wire.send(&frame(60, mark)));
            (0..2).for_each(|mark| assert_eq!(bpf.write(&frame(60, mark)).unwrap(), 60));
            assert_eq!(bpf.stats(), [received, 0], "{plan}: direction {direction}, all rejected");
        }
    }
}

#[test]
#[serial]
fn a_write_is_one_frame_and_is_seen_by_the_writer() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.u32(number::SHDRCMPLT, 1);
    let whole = frame(90, 5);
    assert_eq!(bpf.write(&whole).unwrap(), 90);
    assert_eq!(wire.receive(), whole);
    assert_eq!(frames(&bpf.read().unwrap())[0], whole, "a descriptor sees what it sends");
    let parts = [&whole[..14], &whole[14..20], &whole[20..]].map(std::io::IoSlice::new);
    assert_eq!(nix::sys::uio::writev(&bpf, &parts).unwrap(), 90);
    assert_eq!(wire.receive(), whole, "writev of three pieces is one frame");
    bpf.u32(number::SHDRCMPLT, 0);
    bpf.write(&whole).unwrap();
    let sent = wire.receive();
    assert_ne!(sent[6..12], whole[6..12], "the interface's own source address");
    assert_eq!(bpf.write(&vec![0; 1515]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(bpf.write(&vec![0; 3 << 20]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(bpf.write(&[0; 13]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
#[serial]
fn a_blocked_read_does_not_block_a_write_on_the_same_descriptor() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.u32(number::SHDRCMPLT, 1);
    bpf.u32(number::SDIRECTION, 0); // in: the reader does not see what the writer sends
    std::thread::scope(|s| {
        let reader = s.spawn(|| bpf.read().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        bpf.write(&frame(60, 6)).unwrap();
        assert_eq!(wire.receive(), frame(60, 6));
        assert!(!reader.is_finished(), "the reader still waits");
        wire.send(&frame(60, 7));
        assert_eq!(frames(&reader.join().unwrap()), [frame(60, 7)]);
    });
}

#[test]
#[serial]
fn nonblocking_is_taken_from_each_request() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.set_nonblocking(true);
    assert_eq!(bpf.read().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)], "what passed before the read is seen by it");
    bpf.set_nonblocking(false);
    std::thread::scope(|s| {
        let reader = s.spawn(|| bpf.read().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!reader.is_finished(), "it blocks again");
        wire.send(&frame(60, 2));
        assert_eq!(frames(&reader.join().unwrap()), [frame(60, 2)]);
    });
    // BSD-encoded FIONBIO is not the file layer's here, but the device's
    bpf.ioctl(0x8004_667e, 1i32).unwrap();
    assert_eq!(bpf.read().unwrap_err().raw_os_error(), Some(libc::EAGAIN));
}

#[test]
#[serial]
fn counts_and_bytes_are_those_of_every_packet_before_the_request() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    for n in 1..=20 {
        wire.send(&frame(60, n));
        assert_eq!(bpf.stats(), [n.into(), 0]);
        assert_eq!(bpf.readable_bytes(), u32::from(n - 1) * 88 + 86);
    }
    bpf.ioctl_at(number::FLUSH, 0).unwrap();
    assert_eq!((bpf.stats(), bpf.readable_bytes()), ([0, 0], 0));
}

#[test]
#[serial]
fn a_read_asks_for_the_whole_buffer() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    for len in [1, 4095, 4097, 1 << 20] {
        assert_eq!(bpf.read_len(len).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{len}");
    }
    let big = device.open();
    assert_eq!(big.u32(number::SBLEN, 1 << 30), 524_288, "clipped, and the result is written back");
    wire.ns.enter(|| big.set_if("veth0").unwrap()).unwrap();
    big.u32(number::IMMEDIATE, 1);
    wire.send(&frame(1514, 3));
    // an odd place in memory: the kernel cuts at pages, but not below this size
    assert_eq!(frames(&big.read_len(524_288).unwrap()), [frame(1514, 3)]);
}

#[test]
#[serial]
fn a_buffer_larger_than_the_kernels_pieces_is_read_whole() {
    const SIZE: u32 = 1 << 20;
    let (device, wire) = (Device::start(&["--abi", "netbsd"]), Wire::new());
    let bpf = device.open();
    assert_eq!(bpf.u32(number::BSD_SBLEN, SIZE), SIZE);
    wire.ns.enter(|| bpf.ioctl(number::BSD_SETIF_NETBSD, Ifreq::<144>::named("veth0")).unwrap()).unwrap();
    for n in 0..SIZE / 1536 + 10 {
        wire.send(&frame(1500, n as u8));
    }
    // malloc's memory begins within a page, so the kernel asks for the megabyte in two pieces
    let read = bpf.read_len(SIZE as usize).unwrap();
    assert!(read.len() > SIZE as usize - 1600, "{} bytes: the whole hold in one read(2)", read.len());
    let last = frame(1500, (SIZE / 1536 - 1) as u8); // NetBSD's records of 1534 bytes, aligned
    assert!(read.ends_with(&last), "ends with the last frame that fits");
}

#[test]
#[serial]
fn a_full_buffer_wakes_a_reader_and_so_does_its_time_out() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    for size in [4096u32, 32768, 524_288] {
        let bpf = device.open();
        bpf.u32(number::SBLEN, size);
        wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
        bpf.ioctl(number::SRTIMEOUT, [5i64, 0]).unwrap();
        let fit = size / 1528; // a record of 1526 bytes, aligned
        let begin = std::time::Instant::now();
        std::thread::scope(|s| {
            let reader = s.spawn(|| bpf.read_len(size as usize).unwrap());
            for n in 0..fit + 1 {
                wire.send(&frame(1500, n as u8));
            }
            let read = frames(&reader.join().unwrap());
            assert_eq!(read.len(), fit as usize, "{size}: as many as fit");
            assert!(begin.elapsed() < crate::node::SOON, "{size}: not the time-out");
            assert!(read.iter().enumerate().all(|(n, f)| *f == frame(1500, n as u8)), "{size}: in order");
        });
        bpf.ioctl_at(number::FLUSH, 0).unwrap();
        bpf.ioctl(number::SRTIMEOUT, [0i64, 50_000]).unwrap();
        assert!(bpf.read_len(size as usize).unwrap().is_empty(), "{size}: time-out with nothing");
        wire.send(&frame(60, 9));
        assert_eq!(frames(&bpf.read_len(size as usize).unwrap()), [frame(60, 9)], "{size}: time-out");
    }
}

#[test]
#[serial]
fn a_flood_is_read_in_order_and_accounted_for() {
    const COUNT: u32 = 100_000;
    for plan in ["ebpf", "cbpf", "process"] {
        let (device, wire) = (Device::start(&["--plan", plan]), Wire::new());
        let bpf = device.open();
        bpf.u32(number::SBLEN, 524_288);
        wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
        let accept = Insn(6, 0, 0, u32::MAX);
        bpf.set_filter(&[Insn(0x28, 0, 0, 12), Insn(0x15, 0, 1, 0x88b5), accept, Insn(6, 0, 0, 0)]).unwrap();
        bpf.ioctl(number::SRTIMEOUT, [0i64, 100_000]).unwrap();
        let mut read = 0;
        std::thread::scope(|s| {
            let sender = s.spawn(|| {
                for n in 0..COUNT {
                    let mut frame = frame(64, 0);
                    frame[14..18].copy_from_slice(&n.to_be_bytes());
                    wire.send(&frame);
                }
            });
            let mut next = 0;
            loop {
                let sent = sender.is_finished();
                let records = frames(&bpf.read_len(524_288).unwrap());
                if sent && records.is_empty() {
                    break; // a time-out with nothing
                }
                read += records.len();
                for frame in records {
                    let n = u32::from_be_bytes(frame[14..18].try_into().unwrap());
                    assert!(n >= next, "{plan}: {n} after {next}");
                    next = n + 1;
                }
            }
        });
        let [received, dropped] = bpf.stats();
        println!("{plan}: {read} read, {dropped} dropped, {} ticks of CPU", device.cpu_ticks());
        assert_eq!(received, COUNT, "{plan}: each counts once");
        assert_eq!(read + dropped as usize, COUNT as usize, "{plan}: read or dropped");
        assert!(read > 0);
    }
}

#[test]
#[serial]
fn an_ifreq_has_32_or_40_bytes() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = device.open();
    wire.ns.enter(|| bpf.ioctl(number::SETIF32, Ifreq::<32>::named("veth0")).unwrap()).unwrap();
    assert_eq!(bpf.ioctl(number::GETIF, Ifreq::<40>::named("")).unwrap().name(), "veth0");
    wire.ns.enter(|| bpf.ioctl(number::SETIF, Ifreq::<40>::named("veth1")).unwrap()).unwrap();
    assert_eq!(bpf.ioctl(number::BSD_GETIF, Ifreq::<32>::named("")).unwrap().name(), "veth1");
}

/// The family word on lo is the AF_INET6 of the programs and the libpcap that are compiled here.
#[test]
#[serial]
fn a_filter_for_ipv6_that_libpcap_compiles_works_on_lo() {
    let (device, ns) = (Device::start(&[]), bpfdev_backend_linux::netns::Namespace::new().unwrap());
    ns.rtnl().unwrap().set_up("lo").unwrap();
    let bpf = ns.enter(|| Bpf::immediate(&device.node(), "lo")).unwrap();
    let cases = [("ip6 and udp port 6868", 6), ("udp port 6868", 6), ("ip and udp port 6868", 4)];
    for (expression, version) in cases {
        let program = bpfdev::expr::compile(expression, Linktype::NULL, 1000).unwrap();
        let program: Vec<_> = program.iter().map(|i| Insn(i.code, i.jt, i.jf, i.k)).collect();
        bpf.set_filter(&program).unwrap();
        let send = |address: &str| {
            let socket = std::net::UdpSocket::bind((address, 0)).unwrap();
            socket.send_to(b"here", (address, 6868)).unwrap();
        };
        ns.enter(|| ["::1", "127.0.0.1"].map(send)).unwrap();
        let frame = frames(&bpf.read().unwrap()).remove(0);
        let family: u32 = if version == 6 { 10 } else { 2 };
        assert_eq!((&frame[..4], frame[4] >> 4), (&family.to_ne_bytes()[..], version), "{expression}");
    }
}

/// Sum of 16-bit words, as TCP and UDP check it.
fn sum(data: &[u8]) -> u32 {
    data.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u32::from(b))).sum()
}

#[test]
#[serial]
fn a_datagram_of_an_ordinary_socket_has_its_checksum() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let far = bpfdev_backend_linux::netns::Namespace::new().unwrap();
    let mut rtnl = wire.ns.rtnl().unwrap();
    rtnl.move_to_netns("veth1", far.as_fd()).unwrap();
    far.rtnl().unwrap().set_up("veth1").unwrap();
    rtnl.add_address("veth0", "10.9.0.1".parse().unwrap(), 24).unwrap();
    far.rtnl().unwrap().add_address("veth1", "10.9.0.2".parse().unwrap(), 24).unwrap();
    let bpf = wire.bound(&device);
    // udp
    bpf.set_filter(&[
        Insn(0x28, 0, 0, 12),
        Insn(0x15, 0, 3, 0x800),
        Insn(0x30, 0, 0, 23),
        Insn(0x15, 0, 1, 17),
        Insn(6, 0, 0, u32::MAX),
        Insn(6, 0, 0, 0),
    ])
    .unwrap();
    let socket = far.enter(|| std::net::UdpSocket::bind("10.9.0.2:6868").unwrap()).unwrap();
    let to: SocketAddr = "10.9.0.1:6767".parse().unwrap();
    socket.send_to(b"an odd number of bytes.", to).unwrap();
    let frame = frames(&bpf.read().unwrap()).remove(0);
    let udp = &frame[34..];
    let mut total = sum(&frame[26..34]) + 17 + udp.len() as u32 + sum(udp);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    assert_ne!(udp[6..8], [0, 0]);
    assert_eq!(total, 0xffff, "the sum over pseudo-header and datagram, checksum included");
}
