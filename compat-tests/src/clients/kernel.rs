//! What a host's kernel knows of its network: the judge of what a client sent and saw.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use etherparse::PacketBuilder;

use super::host::Host;

/// How long what was sent may take to arrive.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Packets that its interface received and sent.
///
/// # Errors
/// The kernel does not say.
pub fn packets(host: &Host) -> anyhow::Result<u64> {
    let table = read(host, "dev")?;
    let of = format!("{}:", host.interface);
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&of));
    let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    let packets = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (received, sent) = packets(1).zip(packets(9)).context("packets of the interface in /proc/net/dev")?;
    Ok(received + sent)
}

/// One of the counters of RFC 4293 and its kin: `snmp(host, "Icmp", "InEchos")`.
///
/// # Errors
/// The kernel has no such counter.
pub fn snmp(host: &Host, group: &str, name: &str) -> anyhow::Result<u64> {
    let table = read(host, "snmp")?;
    let of = format!("{group}:");
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(&of));
    let (names, values) =
        lines.next().zip(lines.next()).with_context(|| format!("no counters of {group}"))?;
    let mut counters = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) =
        counters.find(|(each, _)| *each == name).with_context(|| format!("no counter {name}"))?;
    Ok(value.parse()?)
}

fn read(host: &Host, table: &str) -> anyhow::Result<String> {
    Ok(host.namespace.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{table}")))??)
}

/// Starts a client at a moment when nothing passes the interface: gives also the count of [`packets`] before its first.
///
/// # Errors
/// It cannot be started; the interface is not quiet.
pub fn in_a_quiet_moment<T>(
    host: &Host,
    mut start: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    for _ in 0..10 {
        let before = packets(host)?;
        let started = start()?;
        if packets(host)? == before {
            return Ok((started, before));
        }
    }
    anyhow::bail!("{} is not quiet: neighbours are asked for again and again", host.interface)
}

/// Waits until the client has seen as many packets as passed the interface since `before`, and gives their number.
///
/// # Errors
/// It sees fewer, or more.
pub fn all_seen(host: &Host, before: u64, seen: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let (mut passed, mut counted) = (0, 0);
    let equal = until(|| {
        passed = packets(host)? - before;
        counted = seen()?;
        Ok(passed == counted)
    })?;
    ensure!(equal, "{passed} packets passed {}, and {counted} were seen", host.interface);
    Ok(passed)
}

/// Waits for something to be so, and says whether it became so.
///
/// # Errors
/// It cannot be told.
pub fn until(mut so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let end = Instant::now() + PATIENCE;
    while !so()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// A UDP socket of the host, at a port that the kernel chooses.
///
/// # Errors
/// The kernel has none.
pub fn listen(host: &Host, address: IpAddr) -> anyhow::Result<(UdpSocket, u16)> {
    let socket = host.namespace.enter(|| UdpSocket::bind((address, 0)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Takes so many datagrams from a socket, each of which must have these octets.
///
/// # Errors
/// They do not come, or others do.
pub fn receives(socket: &UdpSocket, count: usize, octets: &[u8]) -> anyhow::Result<()> {
    let mut buffer = vec![0; octets.len() + 1];
    for number in 1..=count {
        let (len, from) =
            socket.recv_from(&mut buffer).with_context(|| format!("datagram {number} of {count}"))?;
        ensure!(
            buffer.get(..len) == Some(octets),
            "datagram {number} of {count}, from {from}, has other octets"
        );
    }
    Ok(())
}

/// A whole frame: a UDP datagram from one host to a port of the other.
///
/// # Errors
/// It would be too long.
pub fn datagram(from: &Host, to: &Host, port: u16, octets: &[u8]) -> anyhow::Result<Vec<u8>> {
    let packet = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv4(from.ipv4.octets(), to.ipv4.octets(), 64)
        .udp(50_009, port);
    let mut frame = Vec::new();
    packet.write(&mut frame, octets).context("a frame with a datagram")?;
    Ok(frame)
}

/// How many lines a build changed, which it wrote down for each system it built for.
///
/// # Errors
/// It did not.
pub fn changed(built: &Path, system: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(built.join("changed"))?;
    let count = text.lines().find_map(|line| line.strip_prefix(system)?.strip_prefix(' '));
    Ok(count.with_context(|| format!("lines changed for {system}"))?.to_owned())
}

/// Octets in hexadecimal, as the clients print and take them.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cache::Built;
    use super::super::host::Stage;
    use super::super::traffic;
    use super::*;

    #[test]
    fn what_passes_is_counted() {
        let stage = Stage::new(Built::default(), crate::place::Front::Fuse).unwrap();
        let (packets_before, echos_before) =
            (packets(&stage.here).unwrap(), snmp(&stage.there, "Icmp", "InEchos").unwrap());
        traffic::ping(&stage.here, stage.there.ipv4.into(), 3).unwrap();
        assert_eq!(snmp(&stage.there, "Icmp", "InEchos").unwrap(), echos_before + 3);
        assert!(packets(&stage.here).unwrap() >= packets_before + 6);
        assert!(snmp(&stage.there, "Icmp", "InNothing").is_err());
    }
}
