//! scapy on the device in its BPF mode, as it is on each BSD. scapy itself is not changed; a preamble of some lines has it
//! take Linux for that system.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use etherparse::SlicedPacket;

use super::cache::Build;
use super::host::{Device, Stage};
use super::kernel;
use super::process::{Running, run};
use super::{Checks, Client, traffic};

const BUILD: Build = Build { name: "scapy", headers: false, needs: &[] };

/// The client.
pub const CLIENT: Client =
    Client { name: "scapy", version: "2.8.0", change: "a preamble of 9 lines", builds: &[&BUILD], check };

/// What scapy calls a system, and the dialect of its device.
const SYSTEMS: [(&str, &str); 4] =
    [("FREEBSD", "freebsd"), ("OPENBSD", "openbsd"), ("NETBSD", "netbsd"), ("DARWIN", "macos")];

/// It takes a while to be imported.
const START: Duration = Duration::from_secs(60);

/// Nobody's address, of the network of both hosts.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    for (system, dialect) in SYSTEMS {
        // rejected packets are counted under this plan wherever the test runs
        let device = stage.here.device(dialect, &["--plan", "process"])?;
        let on = On { stage, device: &device, system };
        checks.measure(&format!("as {dialect}: sniff with a filter, and statistics"), || {
            on.sniffs_with_filter()
        });
        checks.measure(&format!("as {dialect}: sniff without one"), || on.sniffs_everything());
        checks.check(&format!("as {dialect}: send, and receive answers"), || on.asks());
        checks.check(&format!("as {dialect}: answers ARP and ping"), || on.answers());
    }
    Ok(())
}

/// scapy as one system's, on a device of its dialect.
struct On<'a> {
    stage: &'a Stage,
    device: &'a Device,
    system: &'static str,
}

/// A packet that was sniffed.
struct Sniffed {
    time: f64,
    frame: String,
}

impl On<'_> {
    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let dir = self.stage.built(BUILD.name)?.join("python");
        let mut command = self.device.command("python3");
        command.arg(dir.join("client.py")).args(words);
        // it keeps a cache in the home directory
        command.env("PYTHONPATH", dir).env("HOME", self.stage.scratch()).env("SCAPY_BPF", self.system);
        Ok(command)
    }

    fn start(&self, words: &[&str]) -> anyhow::Result<Running> {
        let running = Running::hold(&mut self.command(words)?)?;
        running.wait_for_line(|line| line == "open", START)?;
        Ok(running)
    }

    fn sniffs_with_filter(&self) -> anyhow::Result<String> {
        let (here, there) = (&self.stage.here, &self.stage.there);
        let (socket, port) = kernel::listen(here, here.ipv4.into())?;
        let (other, other_port) = kernel::listen(there, there.ipv4.into())?;
        let filter = format!("udp and dst port {port}");
        let begin = now()?;
        let (mut sniffer, before) =
            kernel::in_a_quiet_moment(here, || self.start(&["sniff", here.interface, &filter]))?;
        traffic::mixed(self.stage)?;
        let mut wanted = Vec::new();
        for number in 0u8..50 {
            let octets = vec![number; usize::from(number)];
            other.send_to(&octets, (here.ipv4, port))?;
            kernel::receives(&socket, 1, &octets)?;
            wanted.push(octets);
            // the other way: not wanted
            socket.send_to(b"rejected", (there.ipv4, other_port))?;
            kernel::receives(&other, 1, b"rejected")?;
        }
        let seen = || sniffed(&sniffer.stdout());
        let all = kernel::until(|| Ok(seen().len() >= wanted.len()))?;
        let seen = seen();
        for (packet, octets) in seen.iter().zip(&wanted) {
            whole(&packet.frame, octets)?;
            ensure!((begin..=now()?).contains(&packet.time), "a packet of the time {}", packet.time);
        }
        let more = seen.get(wanted.len()).map_or("", |packet| &packet.frame);
        ensure!(all && more.is_empty(), "{} of {} packets were sniffed {more}", seen.len(), wanted.len());
        let passed = kernel::packets(here)? - before;
        sniffer.close_input();
        let ended = sniffer.finish(START)?.success()?;
        let last = ended.stdout.last().map(String::as_str).unwrap_or_default();
        let said = format!("received {passed} dropped 0 buffer 65535");
        ensure!(last == said, "the statistics are `{last}`, and the kernel's `{said}`");
        Ok(format!("{} of {passed} packets passed `udp and dst port`; statistics: {last}", wanted.len()))
    }

    /// Its buffers hold two segments of TCP's traffic: what it has no room for is counted.
    fn sniffs_everything(&self) -> anyhow::Result<String> {
        let here = &self.stage.here;
        let (mut sniffer, before) =
            kernel::in_a_quiet_moment(here, || self.start(&["sniff", here.interface]))?;
        traffic::mixed(self.stage)?;
        let (mut passed, mut seen) = (0, 0);
        // when it ends, it has read all it could
        kernel::until(|| {
            passed = kernel::packets(here)? - before;
            let now = sniffed(&sniffer.stdout()).len() as u64;
            let still = now == seen;
            seen = now;
            Ok(still && seen > 0)
        })?;
        sniffer.close_input();
        let ended = sniffer.finish(START)?.success()?;
        let seen = sniffed(&ended.stdout).len() as u64;
        let last = ended.stdout.last().map(String::as_str).unwrap_or_default();
        let said = format!("received {passed} dropped {} buffer 65535", passed.saturating_sub(seen));
        ensure!(last == said, "{passed} packets passed and {seen} were seen; the statistics are `{last}`");
        Ok(format!("{seen} of {passed} packets seen; statistics: {last}"))
    }

    fn asks(&self) -> anyhow::Result<()> {
        let (here, there) = (&self.stage.here, &self.stage.there);
        let listener = there.namespace.enter(|| TcpListener::bind((there.ipv4, 0)))??;
        let tcp = listener.local_addr()?.port();
        let (socket, udp) = kernel::listen(there, there.ipv4.into())?;
        let octets = b"asked by scapy";
        let hex = kernel::hex(octets);
        let pings = kernel::snmp(there, "Icmp", "InEchos")?;
        let (ipv4, ipv6, closed) = (there.ipv4.to_string(), there.ipv6.to_string(), "1");
        let words = ["ask", here.interface, &ipv4, &ipv6, &tcp.to_string(), &udp.to_string(), closed, &hex];
        let said = run(&mut self.command(&words)?, START * 2)?.success()?.stdout;
        let mac: Vec<_> = there.mac.iter().map(|octet| format!("{octet:02x}")).collect();
        let wanted = [
            &format!("arp {}", mac.join(":")),
            &format!("ping 0 {hex}"),
            &format!("ping6 129 {hex}"),
            "open SA 2",
            "closed RA 2",
            "unreachable 3 3",
            "fifty 50 0",
            "sent",
        ];
        ensure!(said == wanted, "it said {said:?}, and {wanted:?} was wanted");
        kernel::receives(&socket, 20, octets)?;
        let pings = kernel::snmp(there, "Icmp", "InEchos")? - pings;
        ensure!(pings == 51, "the other host's kernel counted {pings} echo requests, not 51");
        Ok(())
    }

    fn answers(&self) -> anyhow::Result<()> {
        let (here, there) = (&self.stage.here, &self.stage.there);
        let mut client = self.start(&["answer", here.interface, &NOBODY.to_string()])?;
        let replies = kernel::snmp(there, "Icmp", "InEchoReps")?;
        // until both machines run, it answers nothing
        traffic::ping_until(there, NOBODY.into(), 5, 20)?;
        let replies = kernel::snmp(there, "Icmp", "InEchoReps")? - replies;
        ensure!(replies >= 5, "the other host's kernel counted {replies} echo replies, not 5");
        client.close_input();
        client.finish(START)?.success()?;
        Ok(())
    }
}

fn now() -> anyhow::Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

fn sniffed(lines: &[String]) -> Vec<Sniffed> {
    let packet = |line: &String| {
        let (time, frame) = line.split_once(' ')?;
        Some(Sniffed { time: time.parse().ok()?, frame: frame.to_owned() })
    };
    lines.iter().filter_map(packet).collect()
}

/// A whole datagram with these octets, and checksums that are right, though the kernel left them to the hardware.
fn whole(frame: &str, octets: &[u8]) -> anyhow::Result<()> {
    let digits = frame
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).map_err(anyhow::Error::from));
    let frame = digits.collect::<anyhow::Result<Vec<u8>>>().context("hexadecimal digits")?;
    let packet = SlicedPacket::from_ethernet(&frame)?;
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
        (packet.net, packet.transport)
    else {
        anyhow::bail!("not a UDP datagram: {}", kernel::hex(&frame));
    };
    ensure!(udp.payload() == octets, "another datagram: {}", kernel::hex(&frame));
    let right = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), octets)?;
    ensure!(udp.checksum() == right, "a UDP checksum {:#06x}, and {right:#06x} is right", udp.checksum());
    Ok(())
}
