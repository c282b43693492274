use std::time::Duration;

use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::{Checksum, MonotonicClock, PacketSockets};
use bpfdev_core::backend::{Direction, FilterBackend, Inject, TapConfig, TapError, Visible};
use bpfdev_core::cbpf::{Insn, code};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::Way;
use bpfdev_core::time::{Clock, Moment};
use std::net::{IpAddr, UdpSocket};

use crate::support::*;

#[test]
fn packets_come_in_order_whole_and_stamped() {
    let ns = pair();
    let (mut v0, v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    let clock = MonotonicClock;
    let (began, began_at) = (clock.now(), clock.time_of_day());
    let sent: Vec<_> = (0..200).map(|i| frame(ETHERTYPE, i, 60 + usize::from(i) * 7)).collect();
    for frame in &sent {
        send(&v1, frame).unwrap();
    }
    let (mut last, mut got) = (Moment::default(), 0);
    eventually("all arrive", || {
        let mut batch = v0.try_batch().unwrap();
        while let Some(packet) = batch.next() {
            assert_eq!(packet.data, sent[got], "packet {got}");
            assert_eq!(packet.wirelen as usize, sent[got].len());
            assert_eq!((packet.way, packet.verdict), (Way::In, Some(u32::MAX)));
            assert!(packet.timestamp >= began_at && packet.timestamp <= clock.time_of_day());
            // The offset between the clocks is read a moment before the packet came or after.
            let slack = Duration::from_millis(1);
            assert!(packet.arrival + slack >= began && packet.arrival <= clock.now());
            assert!(packet.arrival + slack >= last, "arrivals do not go back");
            last = packet.arrival;
            got += 1;
        }
        got == sent.len()
    });
    assert_eq!(v0.stats().unwrap().received, Some(200));
    assert_eq!(v0.stats().unwrap().dropped, 0);
}

#[test]
fn a_tag_is_in_the_frame_whichever_way_it_went() {
    let ns = pair();
    let (mut v0, mut v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    // A priority tag, an ordinary one, two of them, a service tag.
    let mut frames = vec![tagged(0, ETHERTYPE, 1, 64), tagged(0x2123, ETHERTYPE, 2, 1518)];
    let mut double = tagged(5, ETHERTYPE, 3, 100);
    double.splice(12..12, [0x81, 0, 0, 7]);
    frames.push(double);
    let mut service = tagged(9, ETHERTYPE, 4, 70);
    service[12..14].copy_from_slice(&[0x88, 0xa8]);
    frames.push(service);
    for sent in &frames {
        send(&v1, sent).unwrap();
        for (tap, way) in [(&mut v0, Way::In), (&mut v1, Way::Out)] {
            let kept = collect(tap, 1).remove(0);
            assert_eq!(kept.data, *sent, "{way:?}");
            assert_eq!((kept.wirelen as usize, kept.way), (sent.len(), way));
        }
    }
}

#[test]
fn loopback_packets_come_once_behind_a_family_word() {
    let ns = pair();
    let mut rtnl = ns.rtnl().unwrap();
    drop(rtnl.add_address("lo", IpAddr::from([127, 0, 0, 1]), 8));
    let mut lo = tap(&ns, "lo");
    assert_eq!(lo.interface().linktype, Linktype::NULL);
    assert!(lo.interface().loopback);
    let v6 = ns.enter(|| {
        // Where disable_ipv6 was set for the whole namespace, lo has no ::1.
        drop(std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0"));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7; 11], "127.0.0.1:9").unwrap();
        UdpSocket::bind("[::1]:0").and_then(|socket| socket.send_to(&[8; 12], "[::1]:9"))
    });
    v6.unwrap().unwrap();
    // Each datagram is answered by an ICMP "port unreachable".
    let mut kept = Vec::new();
    eventually("four packets", || {
        kept.extend(drain(&mut lo));
        kept.len() >= 4
    });
    let udp = |p: &&Kept| match p.data[4] >> 4 {
        4 => p.data[4 + 9] == 17,
        _ => p.data[4 + 6] == 17,
    };
    let udp: Vec<_> = kept.iter().filter(udp).collect();
    assert_eq!(udp.len(), 2, "each once: {kept:x?}");
    assert_eq!(udp[0].data[..5], [&2_u32.to_ne_bytes()[..], &[0x45]].concat());
    assert_eq!((udp[0].data.len(), udp[0].wirelen), (4 + 20 + 8 + 11, 43));
    assert_eq!(udp[1].data[..4], 28_u32.to_ne_bytes());
    assert_eq!((udp[1].data.len(), udp[1].wirelen), (4 + 40 + 8 + 12, 64));
    assert!(kept.iter().all(|p| p.way == Way::In));
    let stats = lo.stats().unwrap();
    assert_eq!(stats.received, Some(kept.len() as u64));
}

#[test]
fn a_loopback_frame_is_written_with_its_family_word() {
    let ns = pair();
    let mut lo = tap(&ns, "lo");
    // An IPv4 header to nobody: it is seen, then dropped.
    let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 1, 253, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
    packet.splice(0..0, FREEBSD_LO.header(2));
    send(&lo, &packet).unwrap();
    let kept = collect(&mut lo, 1).remove(0);
    assert_eq!(kept.data, packet);
    packet[..4].copy_from_slice(&FREEBSD_LO.header(99));
    assert!(matches!(send(&lo, &packet), Err(TapError::Family)));
    assert!(matches!(send(&lo, &[2, 0]), Err(TapError::BadFrame { len: 2 })));
}

#[test]
fn the_writer_sees_its_frame_once_as_sent() {
    let ns = pair();
    let (mut v0, mut v1) = (tap(&ns, "v0"), tap(&ns, "v1"));
    let mut injector = v1.injector().unwrap();
    let sent = frame(ETHERTYPE, 1, 100);
    injector.inject(&sent, Visible::ToTaps).unwrap();
    assert_eq!(collect(&mut v0, 1)[0].data, sent);
    let own = collect(&mut v1, 1).remove(0);
    assert_eq!((own.data, own.way), (sent.clone(), Way::Out));

    // Only the far end sees what is for nobody; then it is as before.
    injector.inject(&frame(ETHERTYPE, 2, 100), Visible::ToNobody).unwrap();
    injector.inject(&frame(ETHERTYPE, 3, 100), Visible::AsReceived).unwrap();
    let marks = |kept: Vec<Kept>| kept.iter().map(|p| p.data[15]).collect::<Vec<_>>();
    assert_eq!(marks(collect(&mut v0, 2)), [2, 3]);
    assert_eq!(marks(collect(&mut v1, 1)), [3]);
}

#[test]
fn frames_that_cannot_be_sent_say_why() {
    let ns = pair();
    let v1 = tap(&ns, "v1");
    let mut injector: Box<dyn Inject> = v1.injector().unwrap();
    let mut inject = |frame: &[u8]| injector.inject(frame, Visible::ToTaps);
    assert!(matches!(inject(&frame(ETHERTYPE, 0, 60)[..13]), Err(TapError::BadFrame { len: 13 })));
    assert!(matches!(inject(&[]), Err(TapError::BadFrame { len: 0 })));
    inject(&frame(ETHERTYPE, 0, 1514)).unwrap();
    assert!(matches!(inject(&frame(ETHERTYPE, 0, 1515)), Err(TapError::TooLong { len: 1515, .. })));
    ns.rtnl().unwrap().set_down("v1").unwrap();
    assert!(matches!(inject(&frame(ETHERTYPE, 0, 60)), Err(TapError::Down(_))));
    ns.rtnl().unwrap().delete("v1").unwrap();
    assert!(matches!(inject(&frame(ETHERTYPE, 0, 60)), Err(TapError::Gone(_))));
}

#[test]
fn only_received_packets_with_direction_in() {
    let ns = pair();
    let wanted = TapConfig { direction: Direction::In, ..config() };
    let mut v0 = tap_with(&ns, "v0", &wanted, PacketSockets::default()).unwrap();
    let v1 = tap(&ns, "v1");
    let ways = |kept: Vec<Kept>| kept.iter().map(|p| p.way).collect::<Vec<_>>();
    let both = |v0: &bpfdev_backend_linux::PacketSocket| {
        send(v0, &frame(ETHERTYPE, 1, 60)).unwrap();
        send(&v1, &frame(ETHERTYPE, 2, 60)).unwrap();
    };
    both(&v0);
    assert_eq!(ways(collect(&mut v0, 1)), [Way::In]);
    assert_eq!(v0.stats().unwrap().received, Some(1), "a packet that is not wanted is not counted");
    v0.set_direction(Direction::InOut).unwrap();
    both(&v0);
    assert_eq!(ways(collect(&mut v0, 2)), [Way::Out, Way::In]);
}

/// UDP by an ordinary socket from v0 to its far end in another namespace.
fn udp_datagram(checksum: Checksum, plan: PlanChoice) -> Vec<u8> {
    let (here, there) = (pair(), bpfdev_backend_linux::netns::Namespace::new().unwrap());
    let mut rtnl = here.rtnl().unwrap();
    rtnl.move_to_netns("v1", std::os::fd::AsFd::as_fd(&there)).unwrap();
    rtnl.add_address("v0", "192.0.2.1".parse().unwrap(), 24).unwrap();
    let mut rtnl = there.rtnl().unwrap();
    rtnl.set_up("v1").unwrap();
    rtnl.add_address("v1", "192.0.2.2".parse().unwrap(), 24).unwrap();
    let filter = Some(only(0x0800, 1500));
    let config = TapConfig { filter, ..config() };
    let mut far =
        tap_with(&there, "v1", &config, PacketSockets { plan, checksum, ..PacketSockets::default() })
            .unwrap();
    here.enter(|| {
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(b"DHCPDISCOVER, nearly", "192.0.2.2:67").unwrap();
    })
    .unwrap();
    let mut found = None;
    eventually("the datagram arrives", || {
        found = found.take().or(drain(&mut far).into_iter().find(|p| p.data[12..14] == [8, 0]));
        found.is_some()
    });
    found.unwrap().data
}

/// The ones'-complement sum of the datagram and its pseudo-header.
fn udp_sum(frame: &[u8]) -> u16 {
    let udp = &frame[34..];
    let pseudo = [&frame[26..34], &[0, 17], &(udp.len() as u16).to_be_bytes()].concat();
    let words = pseudo.chunks(2).chain(udp.chunks(2));
    let sum: u32 = words.map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b))).sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_checksum_left_to_the_card_is_completed() {
    for plan in [PlanChoice::Cbpf, PlanChoice::Process] {
        assert_eq!(udp_sum(&udp_datagram(Checksum::Complete, plan)), 0xffff);
    }
    assert_ne!(udp_sum(&udp_datagram(Checksum::Raw, PlanChoice::Auto)), 0xffff, "veth leaves it open");
}

#[test]
fn a_tunnel_has_the_bare_network_packet() {
    use std::io::{Read, Write};
    let ns = bpfdev_backend_linux::netns::Namespace::new().unwrap();
    let mut file = match ns.enter(|| crate::sys::tun("tun0")).unwrap() {
        Ok(file) => file,
        Err(error) => {
            eprintln!("NOT TESTED: this machine gives no tun interface: {error}");
            return;
        }
    };
    // Nothing by itself.
    ns.disable_ipv6("tun0").or_else(|_| ns.rtnl().unwrap().set_no_link_local("tun0")).unwrap();
    ns.rtnl().unwrap().set_up("tun0").unwrap();
    let filter = program(&[
        Insn::stmt(code::LD_B_ABS, 0),
        Insn::jump(code::JSET_K, 0x40, 0, 1),
        Insn::stmt(code::RET_K, 19),
        Insn::stmt(code::RET_K, 0),
    ]);
    let config = TapConfig { filter: Some(filter), ..config() };
    let mut tap = tap_with(&ns, "tun0", &config, with_plan(PlanChoice::Cbpf)).unwrap();
    assert_eq!(tap.interface().linktype, Linktype::RAW);
    assert!(tap.interface().address.is_empty());
    let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 1, 253, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    file.write_all(&packet).unwrap();
    let kept = collect(&mut tap, 1).remove(0);
    assert_eq!((kept.data.as_slice(), kept.wirelen, kept.way), (&packet[..19], 20, Way::In));
    send(&tap, &packet).unwrap();
    let mut sent = [0; 64];
    assert_eq!(file.read(&mut sent).unwrap(), 20);
    assert_eq!(sent[..20], packet);
    assert_eq!(collect(&mut tap, 1)[0].way, Way::Out);
}
