//! What of a host's own packets no other host can repeat: ephemeral ports, identifications, and checksums over them.

use super::answer::Record;
use super::hex;

/// The observed interface's Ethernet address, as the recordings write it.
pub const OWN_ADDRESS: [u8; 6] = [0xb2, 0xa0, 0xdd, 0xdd, 0xdd, 0xdd];

/// Whether the packets are the same but for what another host cannot repeat. Only whole packets of a host's own stack
/// are looked at: ARP over Ethernet, and IPv4 behind a 4-byte family word.
pub fn same_packet(recorded: &str, here: &Record) -> bool {
    let Ok(mut wanted) = hex::decode(recorded) else { return false };
    let mut is = here.data.clone();
    for packet in [&mut wanted, &mut is] {
        if packet.get(12..14) == Some(&[8, 6]) && packet.len() >= 42 {
            // the sender's address was recorded before own addresses were written alike
            zero(packet, 22, 6);
        } else if packet.get(..4) == Some(&[2, 0, 0, 0]) {
            mask_ip(&mut packet[4..]);
        }
    }
    wanted == is
}

fn zero(packet: &mut [u8], at: usize, len: usize) {
    if let Some(field) = packet.get_mut(at..at + len) {
        field.fill(0);
    }
}

/// Identification, checksums and the source port of an IPv4 packet, and of the one an ICMP error quotes.
fn mask_ip(packet: &mut [u8]) {
    let Some(&[version_ihl]) = packet.get(..1) else { return };
    let header = usize::from(version_ihl & 15) * 4;
    if version_ihl >> 4 != 4 || header < 20 || packet.len() < header {
        return;
    }
    zero(packet, 4, 2);
    zero(packet, 10, 2);
    let protocol = packet[9];
    let payload = &mut packet[header..];
    match protocol {
        17 => {
            zero(payload, 0, 2);
            zero(payload, 6, 2);
        }
        1 => {
            zero(payload, 2, 2);
            // destination unreachable, time exceeded: the packet they are about follows
            if matches!(payload.first(), Some(3 | 11)) && payload.len() > 8 {
                mask_ip(&mut payload[8..]);
            }
        }
        _ => {}
    }
}
