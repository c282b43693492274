//! Filter expressions: what each captures, beside what Debian's tcpdump does with the same one.
//!
//! Frames with a VLAN tag are judged by a BSD's rule: a filter sees the tag, as part of the frame. Linux' own libpcap sees
//! the frame without it (`ip` takes tagged IP, too), so that live comparison is of the untagged frames; what a BSD does
//! with the tagged ones is what the same expression chooses from a file, where every libpcap has the tag in the frame.

use anyhow::{Context, ensure};

use super::alike::{self, Alike};
use super::savefile::{self, Packet};
use super::scene::{Pair, Scene};

/// An expression, and whether it chooses some of the traffic.
type Expression = (&'static str, bool);

/// Each of the compiler's kinds: link, network and transport layer, addresses, parts of packets, arithmetic, tags, loops.
pub const EXPRESSIONS: &[Expression] = &[
    ("ip", true),
    ("ip6", true),
    ("arp", true),
    ("tcp", true),
    ("udp", true),
    ("icmp", true),
    ("icmp6", true),
    ("not (tcp or udp)", true),
    ("decnet", false),
    ("vlan", true),
    ("not vlan", true),
    ("vlan 7 and udp dst port 60007", true),
    ("vlan 8", false),
    ("vlan and host 192.0.2.1 and greater 200", true),
    ("host 192.0.2.1", true),
    ("src host 192.0.2.2 and dst host 192.0.2.1", true),
    ("net 192.0.2.0/24 and not tcp", true),
    ("ip6 net 2001:db8::/64 and udp", true),
    ("ip6 dst host 2001:db8::2", true),
    ("ether src 02:00:00:00:00:01", true),
    ("ether broadcast", true),
    ("ether[0] & 1 = 0 and ether proto 0x86dd", true),
    ("portrange 1024-65535", true),
    ("udp port 53", false),
    ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", true),
    ("tcp[tcpflags] & tcp-push != 0 and greater 1500", true),
    ("ip[6:2] & 0x3fff != 0", true),
    ("ip[2:2] - ((ip[0] & 0xf) << 2) > 1000", true),
    ("icmp[icmptype] = icmp-echo", true),
    ("ip6[6] = 58 and ip6[40] = 129", true),
    ("less 60", true),
    ("len > 2000", true),
    ("len = 14 + 20 + 8 + 18", true),
    ("udp[8:4] = 0x00010203", true),
    ("tcp[((tcp[12] & 0xf0) >> 2):2] = 0x0001", true),
    ("ip proto 17 or ip6 proto 6", true),
    ("ip protochain 17", true),
    ("ip6 protochain 6", true),
];

/// What was seen with all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Expressions.
    pub expressions: usize,
    /// Packets of the traffic.
    pub packets: usize,
    /// Packets that all expressions chose together.
    pub chosen: usize,
    /// Those with a tag among them.
    pub tagged: usize,
    /// Expressions whose statistics count every packet as received, as a BSD does.
    pub counted: usize,
}

/// Captures the same traffic with all expressions at once, each on the device and natively.
///
/// # Errors
/// The first expression with another packet.
pub fn check(scene: &Scene<'_>, name: &str) -> anyhow::Result<Seen> {
    let interface = scene.stage.here.interface;
    let witness = scene.witness(name)?;
    let pairs: Vec<Pair> = EXPRESSIONS
        .iter()
        .enumerate()
        .map(|(number, (expression, _))| {
            scene.pair(&format!("{name}-{number}"), &["-i", interface, expression]).context(*expression)
        })
        .collect::<Result<_, _>>()?;
    // what came before all of them listened, or comes while they end one after the other, is not compared
    let from = savefile::now()?;
    scene.traffic(1)?;
    witness.wait(|packets| scene.is_over(packets))?;
    let compared = from..=savefile::now()?;
    let within = |packet: &Packet| compared.contains(&packet.micros);
    let all = witness.end()?;
    let mut seen = Seen { packets: all.packets.len(), ..Seen::default() };
    for (number, (pair, (expression, some))) in pairs.into_iter().zip(EXPRESSIONS).enumerate() {
        let one = || -> anyhow::Result<()> {
            let mut chosen = scene.choose(&all.path, &format!("{name}-{number}"), expression)?;
            chosen.retain(within);
            ensure!(chosen.is_empty() != *some, "it chooses {} packets of the traffic", chosen.len());
            let untagged = |packets: &[_]| alike::untagged(packets).filter(|packet| within(packet)).count();
            let wanted = untagged(&chosen);
            let count = |packets: &[Packet]| packets.iter().filter(|packet| within(packet)).count();
            pair.ours.wait(|packets| count(packets) >= chosen.len()).context("ours")?;
            pair.native.wait(|packets| untagged(packets) >= wanted).context("Debian's")?;
            let (mut ours, mut native) = (pair.ours.end()?, pair.native.end()?);
            ours.packets.retain(within);
            native.packets.retain(within);
            let Alike { packets, .. } =
                alike::frames(&ours.packets, &chosen).context("ours, and from the file")?;
            alike::frames(alike::untagged(&ours.packets), alike::untagged(&native.packets))
                .context("ours, and Debian's at the same time")?;
            let said = ours.statistics;
            ensure!(said.dropped == 0 && said.received >= packets, "{said:?} of {packets} packets");
            seen.expressions += 1;
            seen.chosen += packets;
            seen.tagged += packets - wanted;
            seen.counted += usize::from(said.received == all.packets.len());
            Ok(())
        };
        one().context(*expression)?;
    }
    Ok(seen)
}
