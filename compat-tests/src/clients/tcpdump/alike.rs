//! Whether two captures hold the same packets.
//!
//! They may differ in one thing: the checksum of a TCP segment or UDP datagram that Linux left to the network card. A packet
//! socket shows it unfinished, the device finished. Where they do, ours must be right, and all other octets equal. Aggregates
//! of TCP segments, which no network carries, are unfinished on the device, too.

use anyhow::{Context, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::savefile::Packet;

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// Packets.
    pub packets: usize,
    /// Checksums in ours that were calculated, and are right.
    pub right: usize,
    /// Of those, the ones that are unfinished in the other.
    pub finished: usize,
    /// Checksums of aggregates that are unfinished in both.
    pub aggregates: usize,
}

/// Octets that a frame of one TCP segment has at most: on Ethernet with a tag; on lo, whose MTU is 64 KiB, that of half a
/// window.
#[derive(Clone, Copy, Debug)]
struct Longest(usize);

const ON_ETHERNET: Longest = Longest(ETHERNET + 4 + 1500);
const ON_LOOPBACK: Longest = Longest(ETHERNET + (1 << 15));

/// The frame has a VLAN tag.
pub fn is_tagged(frame: &[u8]) -> bool {
    frame.get(12..ETHERNET) == Some(&[0x81, 0])
}

/// Those without one.
pub fn untagged(packets: &[Packet]) -> impl Iterator<Item = &Packet> {
    packets.iter().filter(|packet| !is_tagged(&packet.data))
}

/// Compares whole frames of Ethernet, in order.
///
/// # Errors
/// The first difference.
pub fn frames<'a>(
    ours: impl IntoIterator<Item = &'a Packet>,
    native: impl IntoIterator<Item = &'a Packet>,
) -> anyhow::Result<Alike> {
    compare(ours, native, ON_ETHERNET)
}

fn compare<'a>(
    ours: impl IntoIterator<Item = &'a Packet>,
    native: impl IntoIterator<Item = &'a Packet>,
    longest: Longest,
) -> anyhow::Result<Alike> {
    let (ours, native): (Vec<_>, Vec<_>) = (ours.into_iter().collect(), native.into_iter().collect());
    let mut alike = Alike::default();
    for (number, (ours, native)) in ours.iter().zip(&native).enumerate() {
        let what = || format!("packet {} of {} and {}", number + 1, beginning(&native.data), ours.len);
        ensure!(ours.len == native.len, "{}: len {} and {}", what(), ours.len, native.len);
        frame(&ours.data, &native.data, longest, &mut alike).with_context(what)?;
    }
    counts(&ours, &native)?;
    Ok(alike)
}

fn beginning(frame: &[u8]) -> String {
    let head: Vec<_> = frame.iter().take(64).map(|octet| format!("{octet:02x}")).collect();
    head.concat()
}

fn counts(ours: &[&Packet], native: &[&Packet]) -> anyhow::Result<()> {
    if let Some(more) = ours.get(native.len()).or_else(|| native.get(ours.len())) {
        bail!(
            "{} packets, and {}; the first without another: {}",
            ours.len(),
            native.len(),
            beginning(&more.data)
        );
    }
    Ok(())
}

/// Compares one frame.
fn frame(ours: &[u8], native: &[u8], longest: Longest, alike: &mut Alike) -> anyhow::Result<()> {
    ensure!(ours.len() == native.len(), "caplen {} and {}", ours.len(), native.len());
    alike.packets += 1;
    let checksum = checksum(ours)?;
    if let Some(Checksum { is_tcp, stored, right, .. }) = checksum {
        if stored == right {
            alike.right += 1;
        } else {
            let aggregate = is_tcp && ours.len() > longest.0;
            ensure!(aggregate, "its checksum is {stored:#06x}, {right:#06x} would be right");
            alike.aggregates += 1;
            ensure!(ours == native, "an aggregate with other octets");
        }
    }
    if ours == native {
        return Ok(());
    }
    let field = checksum.context("other octets, and it has no checksum of TCP or UDP")?.field;
    let mut mended = native.to_vec();
    let (into, from) = (mended.get_mut(field..field + 2), ours.get(field..field + 2));
    let (into, from) = into.zip(from).context("a checksum outside the frame")?;
    into.copy_from_slice(from);
    ensure!(mended == ours, "octets other than the checksum differ");
    alike.finished += 1;
    Ok(())
}

/// A frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug)]
struct Checksum {
    is_tcp: bool,
    /// Where it is.
    field: usize,
    stored: u16,
    right: u16,
}

/// The frame's TCP or UDP checksum. Fragments and other protocols have none.
///
/// # Errors
/// The frame is malformed.
fn checksum(frame: &[u8]) -> anyhow::Result<Option<Checksum>> {
    let sliced = SlicedPacket::from_ethernet(frame)?;
    let (Some(net), Some(transport)) = (&sliced.net, &sliced.transport) else { return Ok(None) };
    let (segment, field, stored) = match transport {
        TransportSlice::Tcp(tcp) => (tcp.slice(), 16, tcp.checksum()),
        TransportSlice::Udp(udp) => (udp.slice(), 6, udp.checksum()),
        _ => return Ok(None),
    };
    let right = match (net, transport) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())?
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            udp.to_header().calc_checksum_ipv4_raw(source, destination, udp.payload())?
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())?
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            udp.to_header().calc_checksum_ipv6_raw(source, destination, udp.payload())?
        }
        _ => return Ok(None),
    };
    let is_tcp = matches!(transport, TransportSlice::Tcp(_));
    // both are of the same memory
    let field = segment.as_ptr() as usize - frame.as_ptr() as usize + field;
    Ok(Some(Checksum { is_tcp, field, stored, right }))
}

/// Compares a capture cut at `snaplen` octets with a whole one: each packet with one of two that differ in the checksum, as
/// one that is cut cannot be finished.
///
/// # Errors
/// The first difference.
pub fn cut(short: &[&Packet], whole: &[[&Packet; 2]], snaplen: usize) -> anyhow::Result<()> {
    for (number, (short, whole)) in short.iter().zip(whole).enumerate() {
        let what = || format!("packet {}: {}", number + 1, beginning(&whole[0].data));
        ensure!(short.len == whole[0].len, "{}: len {} and {}", what(), short.len, whole[0].len);
        let expected = |whole: &&Packet| short.data == whole.data.get(..snaplen).unwrap_or(&whole.data);
        ensure!(whole.iter().any(expected), "{}: cut to {}", what(), beginning(&short.data));
    }
    counts(short, &whole.iter().map(|[whole, _]| *whole).collect::<Vec<_>>())
}

/// Compares a capture of loopback in BSD's form, a word with the address family before the IP packet, with Linux's, an
/// Ethernet header.
///
/// # Errors
/// The first difference.
pub fn loopback(ours: &[Packet], native: &[Packet]) -> anyhow::Result<Alike> {
    let as_ethernet = |packet: &Packet| -> anyhow::Result<Packet> {
        let (family, rest) = packet.data.split_first_chunk::<4>().context("no address family")?;
        // those of the dialect linux
        let ethertype: [u8; 2] = match u32::from_ne_bytes(*family) {
            2 => [0x08, 0x00],
            10 => [0x86, 0xdd],
            other => bail!("address family {other}"),
        };
        let data = [&[0; 12][..], &ethertype, rest].concat();
        Ok(Packet { micros: packet.micros, len: packet.len + 10, data })
    };
    let ours: anyhow::Result<Vec<_>> = ours.iter().map(as_ethernet).collect();
    compare(&ours?, native, ON_LOOPBACK)
}
