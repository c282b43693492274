//! Packets, as they come out of a device and go in.

use std::time::Duration;

use bpfdev_backend_bsd::{Delivery, MonotonicClock};
use bpfdev_core::backend::{
    Arrivals, Direction, FilterBackend, Network, Plan, Queued, TapConfig, TapError, Visible,
};
use bpfdev_core::packet::Way;
use bpfdev_core::time::Clock;

use crate::device::{Served, batch, data, packets, returns};
use crate::node::frame;
use crate::on_every_system;

on_every_system! {
    packets_come_byte_for_byte
    a_burst_comes_whole_and_in_order
    what_a_batch_leaves_is_in_the_next
    the_filter_is_there_before_the_first_packet
    a_changed_filter_drops_what_is_queued
    a_filter_change_that_keeps_the_queue
    only_the_wanted_directions_come
    a_descriptor_gets_what_it_has_to_count
    injected_frames_arrive_at_the_far_end
    counters_are_running_totals
    a_device_in_no_hurry_hands_on_in_time
    a_loopback_interface_has_its_framing
    packets_are_those_a_packet_socket_sees
}

fn packets_come_byte_for_byte(served: &Served) {
    let mut tap = served.tap();
    assert!(batch(&mut tap).is_empty(), "nothing there is no error");
    assert_eq!(tap.arrivals().unwrap(), Arrivals::NotYet);
    let frames: Vec<_> = [60, 61, 62, 63, 64, 999, 1514].map(|len| frame(len, len as u8)).into();
    let before = (MonotonicClock.now(), MonotonicClock.time_of_day());
    for frame in &frames {
        served.wire.send(frame);
    }
    let kept = packets(&mut tap, frames.len());
    assert_eq!(data(&kept), frames);
    let mut last = i128::MIN;
    for (packet, frame) in kept.iter().zip(&frames) {
        assert_eq!(packet.wirelen as usize, frame.len());
        assert_eq!(packet.verdict, Some(packet.wirelen), "the device has judged it");
        assert_eq!(packet.way, Way::In);
        // a microsecond may be cut off
        let since = packet.stamp - before.1.as_nanos();
        assert!((-1_000..5_000_000_000).contains(&since) && packet.stamp >= last, "{since} ns");
        last = packet.stamp;
        let arrived = i128::from(packet.arrival) - i128::from(before.0.as_nanos());
        assert!((-5_000_000..5_000_000_000).contains(&arrived), "{arrived} ns");
    }
    let capabilities = tap.capabilities();
    assert_eq!(capabilities.nanoseconds, served.facts.nanoseconds);
    if !capabilities.nanoseconds {
        assert!(kept.iter().all(|packet| packet.stamp % 1000 == 0), "microseconds");
    }
}

fn a_burst_comes_whole_and_in_order(served: &Served) {
    const COUNT: u32 = 2_000;
    let config = TapConfig { bufsize: 262_144, ..served.config() };
    let mut tap = served.attach(&config).unwrap();
    assert_eq!(tap.bufsize(), 262_144);
    let numbered = |n: u32| {
        let mut frame = frame(60 + n as usize % 50, 0);
        frame[16..20].copy_from_slice(&n.to_be_bytes());
        frame
    };
    for n in 0..COUNT {
        served.wire.send(&numbered(n));
    }
    let kept = packets(&mut tap, COUNT as usize);
    for (n, packet) in (0..).zip(&kept) {
        assert_eq!(packet.data, numbered(n), "packet {n}");
    }
    assert_eq!(kept.len(), COUNT as usize);
    let stats = tap.stats().unwrap();
    assert_eq!((stats.received, stats.dropped), (Some(COUNT.into()), 0));
}

fn what_a_batch_leaves_is_in_the_next(served: &Served) {
    let mut tap = served.tap();
    for mark in 1..=3 {
        served.wire.send(&frame(60, mark));
    }
    // so that all three are in the device
    crate::node::until("three were counted", || tap.stats().unwrap().received == Some(3));
    {
        let mut first = tap.try_batch().unwrap();
        assert_eq!(first.next().unwrap().data, frame(60, 1));
    }
    assert_eq!(tap.arrivals().unwrap(), Arrivals::Ready, "though nothing is left to read");
    assert_eq!(data(&packets(&mut tap, 2)), [frame(60, 2), frame(60, 3)]);
    assert_eq!(tap.arrivals().unwrap(), Arrivals::NotYet);
}

fn the_filter_is_there_before_the_first_packet(served: &Served) {
    let config = TapConfig { filter: Some(served.marked(7, 20)), ..served.config() };
    let mut tap = served.attach(&config).unwrap();
    assert_eq!(tap.plan(), Plan::Device);
    for mark in [5, 7, 6, 7] {
        served.wire.send(&frame(60 + usize::from(mark), mark));
    }
    let kept = packets(&mut tap, 2);
    assert_eq!(data(&kept), [frame(20, 7), frame(20, 7)]);
    assert!(kept.iter().all(|packet| (packet.wirelen, packet.verdict) == (67, Some(20))));
    let stats = tap.stats().unwrap();
    assert_eq!(stats.received, Some(4), "before the filter (semantics.md 7)");
    assert_eq!(stats.rejected, if served.facts.counts_captured { 2 } else { 0 });
}

fn a_changed_filter_drops_what_is_queued(served: &Served) {
    let mut tap = served.tap();
    assert_eq!(tap.plan(), Plan::AcceptAll);
    for mark in [1, 2, 3] {
        served.wire.send(&frame(60, mark));
    }
    crate::node::until("three were counted", || tap.stats().unwrap().received == Some(3));
    {
        // one is out, one is in the tap's buffer
        let mut first = tap.try_batch().unwrap();
        assert_eq!(first.next().unwrap().data, frame(60, 1));
    }
    served.wire.send(&frame(60, 4));
    crate::node::until("a fourth was counted", || tap.stats().unwrap().received == Some(4));
    let marked = served.marked(9, u32::MAX);
    assert_eq!(tap.set_filter(Some(&marked), Queued::Flush).unwrap(), Plan::Device);
    served.wire.send(&frame(60, 5));
    served.wire.send(&frame(60, 9));
    assert_eq!(data(&packets(&mut tap, 1)), [frame(60, 9)]);
    assert_eq!(tap.stats().unwrap().received, Some(6), "though BIOCSETF has zeroed the device's counters");
    assert_eq!(tap.set_filter(None, Queued::Flush).unwrap(), Plan::AcceptAll);
    served.wire.send(&frame(60, 5));
    assert_eq!(data(&packets(&mut tap, 1)), [frame(60, 5)]);
}

fn a_filter_change_that_keeps_the_queue(served: &Served) {
    let mut tap = served.tap();
    assert_eq!(tap.capabilities().keep_queued, served.facts.keeps_queued);
    let one = served.marked(1, 30);
    if !served.facts.keeps_queued {
        let error = tap.set_filter(Some(&one), Queued::Keep).unwrap_err();
        assert!(
            matches!(error, TapError::Unsupported(_)) && error.to_string().contains("BIOCSETFNR"),
            "{error}"
        );
        assert_eq!(tap.plan(), Plan::AcceptAll, "nothing has changed");
        return;
    }
    served.wire.send(&frame(60, 5));
    crate::node::until("it was counted", || tap.stats().unwrap().received == Some(1));
    assert_eq!(tap.set_filter(Some(&one), Queued::Keep).unwrap(), Plan::Device);
    served.wire.send(&frame(60, 6));
    served.wire.send(&frame(60, 1));
    assert_eq!(
        data(&packets(&mut tap, 2)),
        [frame(60, 5), frame(30, 1)],
        "the first as the old filter judged it"
    );
    // removing it must not flush (macOS flushes for an empty program)
    served.wire.send(&frame(60, 1));
    crate::node::until("it was counted", || tap.stats().unwrap().received == Some(4));
    assert_eq!(tap.set_filter(None, Queued::Keep).unwrap(), Plan::AcceptAll);
    served.wire.send(&frame(60, 6));
    assert_eq!(data(&packets(&mut tap, 2)), [frame(30, 1), frame(60, 6)]);
    assert_eq!(tap.stats().unwrap().received, Some(5), "BIOCSETFNR zeroes nothing");
}

fn only_the_wanted_directions_come(served: &Served) {
    let facts = &served.facts;
    for (direction, possible) in [
        (Direction::In, true),
        (Direction::InOut, true),
        (Direction::Out, facts.sent_only),
        (Direction::None, facts.none),
    ] {
        let config = TapConfig { direction, ..served.config() };
        let mut tap = match served.attach(&config) {
            Ok(tap) => tap,
            Err(error) => {
                assert!(!possible && matches!(error, TapError::Unsupported(_)), "{direction:?}: {error}");
                // nor later, and the old direction stays
                let mut tap = served.tap();
                assert!(matches!(tap.set_direction(direction), Err(TapError::Unsupported(_))));
                served.wire.send(&frame(60, 1));
                assert_eq!(data(&packets(&mut tap, 1)), [frame(60, 1)]);
                continue;
            }
        };
        assert!(possible, "{direction:?}");
        assert_eq!(tap.capabilities().direction, facts.shows_way);
        let mut later = served.tap();
        later.set_direction(direction).unwrap();
        let mut witness = served.tap();
        served.wire.send(&frame(60, 1));
        packets(&mut witness, 1);
        witness.injector().unwrap().inject(&frame(61, 2), Visible::ToTaps).unwrap();
        packets(&mut witness, 1);
        let in_ = (frame(60, 1), Way::In);
        // where it is not told, it counts as received, or as sent where only that is wanted
        let out =
            (frame(61, 2), if facts.shows_way || direction == Direction::Out { Way::Out } else { Way::In });
        let expected = match direction {
            Direction::In => vec![in_],
            Direction::Out => vec![out],
            Direction::InOut => vec![in_, out],
            Direction::None => vec![],
        };
        for tap in [&mut tap, &mut later] {
            let kept = packets(tap, expected.len());
            let seen: Vec<_> = kept.into_iter().map(|packet| (packet.data, packet.way)).collect();
            assert_eq!(seen, expected, "{direction:?}");
            let counted = if facts.counts_hidden { 2 } else { expected.len() as u64 };
            assert_eq!(tap.stats().unwrap().received, Some(counted), "{direction:?}");
        }
    }
}

/// OpenBSD counts packets of directions that are not wanted, and so must a descriptor over its device (semantics.md 7).
fn a_descriptor_gets_what_it_has_to_count(served: &Served) {
    let config = TapConfig { judged: false, direction: Direction::Out, ..served.config() };
    let seen = if served.facts.counts_hidden { Way::In } else { Way::Out };
    let mut tap = match served.attach(&config) {
        Ok(tap) => tap,
        Err(error) => return assert!(!served.facts.sent_only, "{error}"),
    };
    served.wire.send(&frame(60, 1));
    tap.injector().unwrap().inject(&frame(61, 2), Visible::ToTaps).unwrap();
    let kept = packets(&mut tap, if seen == Way::In { 2 } else { 1 });
    assert_eq!(kept[0].way, seen);
    assert_eq!(kept.last().unwrap().data, frame(61, 2));
}

fn injected_frames_arrive_at_the_far_end(served: &Served) {
    let mut tap = served.tap();
    assert!(tap.capabilities().inject);
    let mut injector = tap.injector().unwrap();
    let mut sent = frame(77, 3);
    // its source is the caller's business (BIOCSHDRCMPLT)
    sent[6..12].copy_from_slice(&[2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
    let one = sent.clone();
    let returned = std::thread::spawn(move || injector.inject(&one, Visible::ToTaps).map(|()| injector));
    let mut injector = returned.join().unwrap().unwrap();
    assert_eq!(served.wire.receive(), sent);
    assert_eq!(data(&packets(&mut tap, 1)), [sent.clone()], "the writer sees it too");
    injector.inject(&frame(1514, 4), Visible::AsReceived).unwrap();
    assert_eq!(served.wire.receive(), frame(1514, 4));

    let refused = |error: TapError, kind: &str| assert!(format!("{error:?}").starts_with(kind), "{error:?}");
    refused(injector.inject(&sent, Visible::ToNobody).unwrap_err(), "Unsupported");
    refused(injector.inject(&[], Visible::ToTaps).unwrap_err(), "BadFrame { len: 0 }");
    refused(injector.inject(&frame(1600, 1), Visible::ToTaps).unwrap_err(), "TooLong { len: 1600");
    if served.abi.name != "macos" {
        // with the header complete macOS has no least length (semantics.md 6)
        refused(injector.inject(&sent[..9], Visible::ToTaps).unwrap_err(), "BadFrame { len: 9 }");
    }
    served.wire.ns.rtnl().unwrap().set_down("veth0").unwrap();
    let error = injector.inject(&sent, Visible::ToTaps).unwrap_err();
    assert!(matches!(&error, TapError::Down(name) if name == "veth0"), "{error:?}");
}

fn counters_are_running_totals(served: &Served) {
    // two buffers of 300 bytes: two packets each, then none is taken
    let config = TapConfig { bufsize: 300, ..served.config() };
    let mut tap = served.attach(&config).unwrap();
    for mark in 0..10 {
        served.wire.send(&frame(100, mark));
    }
    crate::node::until("ten were counted", || tap.stats().unwrap().received == Some(10));
    let dropped = tap.stats().unwrap().dropped;
    assert!((4..=8).contains(&dropped), "{dropped} of 10 had no room");
    tap.set_filter(Some(&returns(served.abi, u32::MAX)), Queued::Flush).unwrap();
    served.wire.send(&frame(100, 11));
    packets(&mut tap, 1);
    let stats = tap.stats().unwrap();
    assert_eq!((stats.received, stats.dropped), (Some(11), dropped), "those before the filter too");
}

fn a_device_in_no_hurry_hands_on_in_time(served: &Served) {
    let devices = served.devices().delivery(Delivery::Within(Duration::from_millis(50)));
    let mut tap = served.attach_by(&devices, "veth0", &served.config()).unwrap();
    assert!(tap.look_again().is_some_and(|after| after <= Duration::from_millis(50)));
    for mark in 1..=3 {
        served.wire.send(&frame(60, mark));
        assert_eq!(data(&packets(&mut tap, 1)), [frame(60, mark)], "its buffer is not full");
    }
}

fn a_loopback_interface_has_its_framing(served: &Served) {
    let config = TapConfig { direction: Direction::InOut, ..served.config() };
    if served.abi.name == "netbsd" {
        // NetBSD finds no name without a digit (semantics.md 3, BIOCSETIF)
        let error = served.attach_by(&served.devices(), "lo", &config).unwrap_err();
        assert!(matches!(&error, TapError::NoSuchInterface(name) if name == "lo"), "{error:?}");
        return;
    }
    served.wire.ns.rtnl().unwrap().set_up("lo").unwrap();
    let mut tap = served.attach_by(&served.devices(), "lo", &config).unwrap();
    let interface = tap.interface().clone();
    // semantics.md 17
    let (linktype, family) = match served.abi.name {
        "openbsd" => (108, 2u32.to_be_bytes()),
        _ => (0, 2u32.to_ne_bytes()),
    };
    assert_eq!((interface.linktype.0, interface.loopback, interface.address.len()), (linktype, true, 0));
    served
        .wire
        .ns
        .enter(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = socket.local_addr().unwrap();
            socket.send_to(b"hello", to).unwrap();
        })
        .unwrap();
    let kept = packets(&mut tap, 1);
    assert_eq!(kept[0].data[..4], family);
    assert!(kept[0].data.ends_with(b"hello"));
    // semantics.md 11, packets on lo0 count as
    let way = if matches!(served.abi.name, "freebsd" | "dragonfly") { Way::In } else { Way::Out };
    assert_eq!(kept[0].way, way);
    assert!(!tap.capabilities().direction, "a packet passes once");
}

fn packets_are_those_a_packet_socket_sees(served: &Served) {
    let config = TapConfig { filter: Some(served.marked(1, 40)), ..served.config() };
    let mut device = served.attach(&config).unwrap();
    let mut native = served
        .wire
        .ns
        .enter(|| bpfdev_backend_linux::PacketSockets::default().attach("veth0", &config).unwrap())
        .unwrap();
    for (n, mark) in [1, 2, 1, 1, 3].into_iter().enumerate() {
        served.wire.send(&frame(60 + n, mark));
    }
    let seen: Vec<_> =
        packets(&mut device, 3).into_iter().map(|packet| (packet.data, packet.wirelen)).collect();
    let waiter = native.waiter().unwrap();
    let mut same = Vec::new();
    crate::node::until("three came", || {
        waiter.wait(Some(Duration::from_millis(10)));
        let mut batch = native.try_batch().unwrap();
        while let Some(packet) = batch.next() {
            let snaplen = packet.verdict.map_or(usize::MAX, |verdict| verdict as usize);
            same.push((packet.data[..packet.data.len().min(snaplen)].to_vec(), packet.wirelen));
        }
        same.len() >= 3
    });
    assert_eq!(seen, same);
}
