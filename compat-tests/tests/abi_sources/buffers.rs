//! What read(2) gives on our device in this process.

use std::sync::Arc;

use bpfdev_core::abi::{Abi, Request, Response};
use bpfdev_core::backend::Visible;
use bpfdev_core::file::{Access, BpfFile, EmulatedFile};
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::{Moment, SimulatedClock};
use std::time::Duration;

/// A buffer of records, and what is in it.
pub struct Buffer {
    pub bytes: Vec<u8>,
    /// The frames, and when they came (seconds since 1970 and nanoseconds).
    pub frames: Vec<(Vec<u8>, i64, u32)>,
}

/// Frames of every length modulo 8, and one that fills an Ethernet frame.
const LENGTHS: [usize; 10] = [60, 61, 62, 63, 64, 65, 66, 67, 1514, 60];

/// Fills a buffer with frames that come in by Ethernet, a second and a bit apart. `set_up` is asked after the interface
/// was set.
pub fn ethernet(abi: &'static Abi, set_up: &[Request]) -> Buffer {
    filled(abi, "en0", set_up, |network, length, seed| {
        let mut frame: Vec<u8> = (0..length).map(|i| (i * 7 + seed) as u8).collect();
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert!(network.receive("en0", &frame));
        frame
    })
}

/// The same with the packets of the loopback interface; the frames have that system's family word.
pub fn loopback(abi: &'static Abi, set_up: &[Request]) -> Buffer {
    let framing = abi.loopback;
    filled(abi, "lo0", set_up, |network, length, seed| {
        let mut frame = framing.header(2).to_vec();
        frame.push(0x45);
        frame.extend((5..length).map(|i| (i * 7 + seed) as u8));
        assert!(network.send("lo0", &frame, Visible::ToTaps));
        frame
    })
}

fn filled(
    abi: &'static Abi,
    interface: &str,
    set_up: &[Request],
    arrive: impl Fn(&LoopbackNetwork, usize, usize) -> Vec<u8>,
) -> Buffer {
    let clock = Arc::new(SimulatedClock::new());
    let network = LoopbackNetwork::new(clock.clone());
    network.add_ethernet("en0", [2, 0, 0, 0, 0, 1], 1);
    network.add_loopback("lo0");
    let file = EmulatedFile::open(abi, Access::ReadWrite, Arc::new(network.clone()), clock.clone());
    let ask =
        |request: Request| file.ioctl(&request).unwrap_or_else(|e| panic!("{}: {request:?}: {e}", abi.name));
    assert_eq!(ask(Request::SBlen(0x8000)), Response::U32(0x8000));
    ask(Request::SetIf(interface.as_bytes().to_vec()));
    ask(Request::Promisc);
    ask(Request::Immediate(1));
    set_up.iter().cloned().for_each(|request| drop(ask(request)));

    let mut frames = Vec::new();
    for (i, length) in LENGTHS.into_iter().enumerate() {
        let nanos = 1_000_123_456 * (i as u64 + 1);
        clock.advance_to(Moment::default() + Duration::from_nanos(nanos));
        let frame = arrive(&network, length, i);
        // SimulatedClock's day
        let (sec, nsec) = (1_700_000_000 + (nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as u32);
        frames.push((frame, sec, nsec));
    }
    let mut bytes = vec![0; 0x8000];
    let read = file.read(&mut bytes).unwrap();
    bytes.truncate(read);
    Buffer { bytes, frames }
}
