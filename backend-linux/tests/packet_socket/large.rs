use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_backend_linux::{PacketSocket, PacketSockets};
use bpfdev_core::backend::{FilterBackend, TapConfig, Visible};

use crate::support::*;

#[test]
fn tcp_aggregates_arrive_whole() {
    const TOTAL: usize = 4 << 20;
    for filter in [None, Some(only(0x0800, u32::MAX)), Some(only(0x0800, 128))] {
        let snaplen = filter.as_ref().map_or(u32::MAX, |filter| filter.insns()[2].k);
        let (here, there) = (pair(), Namespace::new().unwrap());
        let mut rtnl = here.rtnl().unwrap();
        rtnl.move_to_netns("v1", there.as_fd()).unwrap();
        rtnl.add_address("v0", "192.0.2.1".parse().unwrap(), 24).unwrap();
        let mut rtnl = there.rtnl().unwrap();
        rtnl.set_up("v1").unwrap();
        rtnl.add_address("v1", "192.0.2.2".parse().unwrap(), 24).unwrap();
        let config = TapConfig { bufsize: 1 << 19, filter, ..config() };
        let mut far = tap_with(&there, "v1", &config, PacketSockets::default()).unwrap();

        let listener = there.enter(|| TcpListener::bind("192.0.2.2:7070").unwrap()).unwrap();
        let server = thread::spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut client = here.enter(|| TcpStream::connect("192.0.2.2:7070").unwrap()).unwrap();
        let sender = thread::spawn(move || client.write_all(&vec![0x5a; TOTAL]).unwrap());

        // Which octets of the stream were seen: TCP may send some again.
        let (mut seen, mut missing, mut longest, mut first) = (vec![false; TOTAL], TOTAL, 0, None);
        eventually("the whole stream passes", || {
            for packet in drain(&mut far) {
                if packet.data[12..14] != [8, 0] || packet.data[36..38] != 7070_u16.to_be_bytes() {
                    continue; // an ARP, or the answer
                }
                assert_eq!(
                    packet.data.len(),
                    packet.wirelen.min(snaplen) as usize,
                    "not cut but by the filter"
                );
                let total = usize::from(u16::from_be_bytes([packet.data[16], packet.data[17]]));
                if total != 0 {
                    assert_eq!(packet.wirelen as usize, 14 + total);
                }
                let header = 14 + 20 + usize::from(packet.data[46] >> 4) * 4;
                assert!(packet.data[header.min(packet.data.len())..].iter().all(|b| *b == 0x5a));
                longest = longest.max(packet.wirelen);
                let sequence = u32::from_be_bytes(packet.data[38..42].try_into().unwrap());
                let syn = packet.data[47] & 2 != 0;
                let first = *first.get_or_insert_with(|| {
                    assert!(syn, "the first packet of the connection comes first");
                    sequence.wrapping_add(1)
                });
                if !syn {
                    let at = sequence.wrapping_sub(first) as usize;
                    for octet in seen.iter_mut().skip(at).take(packet.wirelen as usize - header) {
                        missing -= usize::from(!std::mem::replace(octet, true));
                    }
                }
            }
            missing == 0 || far.stats().unwrap().dropped > 0
        });
        sender.join().unwrap();
        assert_eq!(server.join().unwrap(), TOTAL);
        assert_eq!(far.stats().unwrap().dropped, 0);
        assert_eq!(missing, 0, "no part of the stream is missing");
        assert!(longest > 30_000, "offloads make large frames; the largest had {longest} octets");
    }
}

/// Sends frames that `to`, without a filter, counts; never so many at once that the kernel's own queue on the way, of a
/// thousand, could overflow: nobody would count those.
fn send_all<'a>(from: &PacketSocket, to: &mut PacketSocket, frames: impl Iterator<Item = &'a Vec<u8>>) {
    let mut injector = from.injector().unwrap();
    for (sent, frame) in (1..).zip(frames) {
        injector.inject(frame, Visible::ToTaps).unwrap();
        if sent % 100 == 0 {
            eventually("they pass the tap", || to.stats().unwrap().received == Some(sent));
        }
    }
}

#[test]
fn a_packet_is_whole_or_counted_as_dropped() {
    const SENT: usize = 1500;
    let ns = pair();
    let mut rtnl = ns.rtnl().unwrap();
    let config = TapConfig { bufsize: 1 << 18, ..config() };
    let mut v0 = tap_with(&ns, "v0", &config, PacketSockets::default()).unwrap();
    // Frames of 1514 octets were laid out; then longer ones come, more than the queue for them holds.
    rtnl.set_mtu("v0", 60_000).unwrap();
    rtnl.set_mtu("v1", 60_000).unwrap();
    let v1 = tap(&ns, "v1");
    let sent: Vec<_> = (0..SENT).map(|i| frame(ETHERTYPE, i as u16, 60_014)).collect();
    send_all(&v1, &mut v0, sent.iter());
    let mut kept = Vec::new();
    eventually("every packet is accounted for", || {
        kept.extend(drain(&mut v0));
        kept.len() as u64 + v0.stats().unwrap().dropped >= SENT as u64
    });
    let stats = v0.stats().unwrap();
    assert_eq!(kept.len() as u64 + stats.dropped, SENT as u64);
    assert!(stats.dropped > 0 && kept.len() > 100, "{stats:?}, {} kept", kept.len());
    for packet in kept {
        let mark = usize::from(u16::from_be_bytes([packet.data[14], packet.data[15]]));
        assert!(packet.data == sent[mark] && packet.wirelen == 60_014, "packet {mark} is whole");
    }
    // There is room again.
    send(&v1, &sent[0]).unwrap();
    assert_eq!(collect(&mut v0, 1)[0].data, sent[0]);
}

#[test]
fn a_filter_with_two_snap_lengths_is_exact_on_large_packets() {
    let ns = pair();
    let mut rtnl = ns.rtnl().unwrap();
    rtnl.set_mtu("v0", 20_000).unwrap();
    rtnl.set_mtu("v1", 20_000).unwrap();
    use bpfdev_core::cbpf::{Insn, code};
    // 0x88b5: 9000 octets, else all.
    let two = program(&[
        Insn::stmt(code::LD_H_ABS, 12),
        Insn::jump(code::JEQ_K, ETHERTYPE.into(), 0, 1),
        Insn::stmt(code::RET_K, 9000),
        Insn::stmt(code::RET_K, 262_144),
    ]);
    let config = TapConfig { filter: Some(two), ..config() };
    let mut v0 = tap_with(&ns, "v0", &config, with_plan(PlanChoice::Cbpf)).unwrap();
    let v1 = tap(&ns, "v1");
    send(&v1, &frame(ETHERTYPE, 1, 20_014)).unwrap();
    send(&v1, &frame(0x88b6, 2, 20_014)).unwrap();
    let kept = collect(&mut v0, 2);
    assert_eq!((kept[0].data.len(), kept[0].wirelen), (9000, 20_014));
    assert_eq!(kept[1].data, frame(0x88b6, 2, 20_014));
    // With a tag the type at offset 12 is another.
    let sent = tagged(5, ETHERTYPE, 3, 20_018);
    send(&v1, &sent).unwrap();
    let kept = collect(&mut v0, 1).remove(0);
    assert!(kept.data == sent && kept.wirelen == 20_018, "{} octets", kept.data.len());
}

#[test]
fn losses_of_the_ring_are_counted() {
    let ns = pair();
    let (mut v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    let sent = frame(ETHERTYPE, 0, 60);
    send_all(&v1, &mut v0, std::iter::repeat_n(&sent, 3000));
    let mut kept = 0;
    eventually("every packet is accounted for", || {
        kept += drain(&mut v0).len() as u64;
        let stats = v0.stats().unwrap();
        stats.received == Some(3000) && kept + stats.dropped == 3000
    });
    assert!((256..3000).contains(&kept), "at least 256 fit: {kept}");
}
