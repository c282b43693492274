//! smoltcp on the device, as it is on each system that its BPF phy knows: only cfg lines are changed. It is a third host,
//! with an address of its own behind the first one's Ethernet address.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::cache::Build;
use super::host::{Device, Stage};
use super::kernel::{self, PATIENCE};
use super::process::Running;
use super::{Checks, Client, traffic};

const BUILD: Build = Build { name: "smoltcp", headers: false, needs: &[] };

/// The client.
pub const CLIENT: Client =
    Client { name: "smoltcp", version: "0.14.0", change: "cfg lines", builds: &[&BUILD], check };

/// Those it is built as; the device speaks that system's dialect. Not NetBSD, whose header is longer than smoltcp takes it to
/// be, nor OpenBSD, where a read that finds nothing is 0 bytes and smoltcp panics. Each has an address of its own, of which the
/// other host does not yet know the Ethernet address: asked for it, smoltcp learns the other's. If it asked by itself, it would read
/// the answer behind its own request, and lose it (see [`answers`]).
const SYSTEMS: [(&str, u8); 2] = [("freebsd", 7), ("macos", 8)];

/// Its address, and the other.
fn addresses(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(192, 0, 2, number), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()))
}

/// Echo requests to answer, of each version of IP.
const PINGS: u16 = 5;

/// Octets that come back over TCP.
const ECHOED: usize = 1000;

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    for (system, number) in SYSTEMS {
        let device = stage.here.device(system, &[])?;
        checks.measure(&format!("as {system}: answers ping, and echoes over TCP"), || {
            let [v4, v6] = answers(stage, &device, system, number)?;
            Ok(format!(
                "{PINGS} echo requests answered of {v4} over IPv4, of {v6} over IPv6; {ECHOED} octets back over TCP; {} cfg lines changed",
                kernel::changed(stage.built(BUILD.name)?, system)?
            ))
        });
        checks.check(&format!("as {system}: a read that is not of BIOCGBLEN is EINVAL, as there"), || {
            let client = start(stage, &device, (system, number), "ethernet")?;
            let ended = client.finish(PATIENCE)?;
            ensure!(!ended.status.success(), "it ended without an error");
            let why = ended.stderr.join(" ");
            ensure!(why.contains("InvalidInput") || why.contains("Invalid argument"), "it ended with: {why}");
            Ok(())
        });
    }
    Ok(())
}

fn start(
    stage: &Stage,
    device: &Device,
    (system, number): (&str, u8),
    medium: &str,
) -> anyhow::Result<Running> {
    let here = &stage.here;
    let program = stage.built(BUILD.name)?.join(format!("smoltcp-client-{system}"));
    let mac: Vec<_> = here.mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let (ipv4, ipv6) = addresses(number);
    let (mac, ipv4, ipv6) = (mac.join(":"), ipv4.to_string(), ipv6.to_string());
    let client = Running::hold(device.command(program).args([here.interface, &mac, &ipv4, &ipv6, medium]))?;
    client.wait_for_line(|line| line == "open", PATIENCE)?;
    Ok(client)
}

/// Has the other host's kernel speak with it; gives how many echo requests that took. smoltcp takes only the first frame of
/// each read, on a BSD as here: what comes in together with its own answer to something is lost, and asked again.
fn answers(stage: &Stage, device: &Device, system: &str, number: u8) -> anyhow::Result<[u16; 2]> {
    let there = &stage.there;
    let (ipv4, ipv6) = addresses(number);
    let mut client = start(stage, device, (system, number), "ip")?;
    let before = kernel::snmp(there, "Icmp", "InEchoReps")?;
    let took = |address| traffic::ping_until(there, address, PINGS, 4 * PINGS);
    let pings = match took(ipv4.into()).and_then(|v4| Ok([v4, took(ipv6.into())?])) {
        Ok(pings) => pings,
        // it may have ended: with what it said
        Err(error) => return Err(error.context(client.interrupt(PATIENCE)?.stderr.join(" "))),
    };
    let replies = kernel::snmp(there, "Icmp", "InEchoReps")? - before;
    ensure!(
        replies >= u64::from(PINGS),
        "the other host's kernel counted {replies} echo replies, not {PINGS}"
    );

    let address = (ipv4, 7).into();
    let mut stream = there.namespace.enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    // segments, too, are sent again
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let sent: Vec<u8> = (0u8..251).cycle().take(ECHOED).collect();
    stream.write_all(&sent)?;
    let mut received = vec![0; ECHOED];
    stream.read_exact(&mut received).context("the echo over TCP")?;
    ensure!(received == sent, "other octets came back");
    client.close_input();
    client.finish(PATIENCE)?.success()?;
    Ok(pings)
}
