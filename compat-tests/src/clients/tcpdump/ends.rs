//! How captures end, and what they go on through: Ctrl-C, other users' rights, an interface that goes; two at once, loopback.

use std::fs;
use std::net::UdpSocket;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;

use super::alike::{self, Alike};
use super::scene::{Scene, Statistics, Tcpdump};
use crate::clients::process::{AT_ONCE, PATIENCE, Running};
use crate::clients::traffic;

/// Ctrl-C, while it waits for a packet: statistics, and status 0. SIGTERM the same.
///
/// # Errors
/// It does not end at once.
pub fn interrupted(scene: &Scene<'_>) -> anyhow::Result<()> {
    for options in [&[][..], &["--immediate-mode"], &["-w", "-"], &["tcp port 1"]] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut command = scene.ours();
            let mut running = Running::start(command.args(["-n", "-i", "lo"]).args(options))?;
            running.wait_for_line(|line| line.contains("listening on lo"), PATIENCE)?;
            running.signal(signal)?;
            let finished =
                running.finish(AT_ONCE).with_context(|| format!("{signal} {options:?}"))?.success()?;
            let said = Statistics::of(&finished)?;
            ensure!(
                said == Statistics { captured: 0, received: 0, dropped: 0 },
                "{signal} {options:?}: {said:?}"
            );
        }
    }
    Ok(())
}

/// Without `-w`: lines, as Debian's tcpdump prints them; `-l` gives them while it runs.
///
/// # Errors
/// Other lines, or none.
pub fn printed(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    // without the times
    let arguments = ["-n", "-t", "-l", "-vv", "-e", "-i", here.interface, "icmp or arp or udp"];
    let start = |mut command: std::process::Command| -> anyhow::Result<Running> {
        let running = Running::start(command.args(arguments))?;
        running.wait_for_line(|line| line.contains("listening on"), PATIENCE)?;
        Ok(running)
    };
    let (ours, native) = (start(scene.ours())?, start(scene.native())?);
    traffic::arp(here, there)?;
    traffic::ping(here, there.ipv4.into(), 2)?;
    traffic::udp((there, there.ipv4.into()), (here, here.ipv4.into()), 123)?;
    let end = |running: Running| -> anyhow::Result<Vec<String>> {
        running.wait_for_line(|line| line.contains("UDP, length 123"), PATIENCE)?;
        Ok(running.interrupt(AT_ONCE)?.success()?.stdout)
    };
    let (ours, native) = (end(ours)?, end(native)?);
    ensure!(ours.iter().any(|line| line.contains(SUM_OK)), "no checksum is right: {}", ours.join(" | "));
    let native: Vec<_> = native.iter().map(|line| without_bad_sum(line)).collect();
    ensure!(ours == native, "{}; Debian's: {}", ours.join(" | "), native.join(" | "));
    Ok(())
}

const SUM_OK: &str = "[udp sum ok]";

/// The line as it is where the checksum is finished: "[bad udp cksum 0x8432 -> 0x1f0c!]" is what a packet socket sees.
fn without_bad_sum(line: &str) -> String {
    match line
        .split_once("[bad udp cksum ")
        .and_then(|(before, rest)| Some((before, rest.split_once(']')?.1)))
    {
        Some((before, after)) => format!("{before}{SUM_OK}{after}"),
        None => line.to_owned(),
    }
}

/// Two at once, on the same interface.
///
/// # Errors
/// One lacks a packet.
pub fn two(scene: &Scene<'_>) -> anyhow::Result<()> {
    let interface = scene.stage.here.interface;
    let one = Tcpdump::start(scene.ours(), scene.file("two-1"), &["-i", interface])?;
    let other = Tcpdump::start(scene.ours(), scene.file("two-2"), &["-i", interface])?;
    scene.traffic(1)?;
    one.wait(|packets| scene.is_over(packets))?;
    other.wait(|packets| scene.is_over(packets))?;
    let (one, other) = (one.end()?, other.end()?);
    ensure!(
        one.packets
            .iter()
            .map(|packet| (packet.len, &packet.data))
            .eq(other.packets.iter().map(|packet| (packet.len, &packet.data))),
        "they differ"
    );
    ensure!(one.packets.len() > 50, "{} packets", one.packets.len());
    Ok(())
}

/// `-Z`: it goes on capturing, and ends, as a user who could not open the device.
///
/// # Errors
/// It does not, or is another user.
pub fn other_user(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    let mut tcpdump =
        Tcpdump::start(scene.ours(), scene.file("nobody"), &["-i", here.interface, "-Z", "nobody", "udp"])?;
    let nobody = User::from_name("nobody")?.context("no user nobody")?.uid;
    let status = format!("/proc/{}/status", tcpdump.running().pid());
    for count in 1..=3 {
        traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), count)?;
        tcpdump.wait(|packets| packets.len() == count)?;
        let status = fs::read_to_string(&status).with_context(|| status.clone())?;
        let uids: Vec<_> = status
            .lines()
            .filter_map(|line| line.strip_prefix("Uid:"))
            .flat_map(str::split_whitespace)
            .collect();
        let nobody = nobody.to_string();
        ensure!(uids == [nobody.as_str(); 4], "user {uids:?}");
    }
    tcpdump.end().map(drop)
}

/// The interface goes while it captures: it says so and ends, with what it has.
///
/// # Errors
/// It does not.
pub fn removed(scene: &Scene<'_>) -> anyhow::Result<()> {
    let namespace = &scene.stage.here.namespace;
    let mut rtnl = namespace.rtnl()?;
    for options in [&[][..], &["--immediate-mode"]] {
        rtnl.create_veth("gone0", "gone1")?;
        rtnl.set_up("gone0")?;
        let mut command = scene.ours();
        let running = Running::start(command.args(["-n", "-i", "gone0"]).args(options))?;
        running.wait_for_line(|line| line.contains("listening on gone0"), PATIENCE)?;
        rtnl.delete("gone0")?;
        let ended = running.finish(AT_ONCE).with_context(|| format!("{options:?}"))?;
        let said = ended.stderr.join(" | ");
        ensure!(said.contains("tcpdump: pcap_loop: The interface disappeared"), "{options:?}: {said}");
        ensure!(ended.status.code() == Some(1), "{options:?}: {}: {said}", ended.status);
        Statistics::of(&ended)?;
    }
    Ok(())
}

/// `lo`: BSD's link type, and Debian's tcpdump can read the file.
///
/// # Errors
/// Another packet than Linux's, or a file that cannot be read.
pub fn loopback(scene: &Scene<'_>) -> anyhow::Result<Alike> {
    let here = &scene.stage.here;
    let pair = scene.pair("loopback", &["-i", "lo"])?;
    let own = |address| traffic::udp((here, address), (here, address), 100);
    for _ in 0..5 {
        own(here.ipv4.into())?;
        own(here.ipv6.into())?;
        traffic::ping(here, here.ipv4.into(), 1)?;
    }
    traffic::tcp((here, here.ipv4.into()), (here, here.ipv4.into()), 200_000)?;
    // the last
    let socket = here.namespace.enter(|| UdpSocket::bind((here.ipv4, 0)))??;
    socket.send_to(&[0; LAST], socket.local_addr()?)?;
    for tcpdump in [&pair.ours, &pair.native] {
        tcpdump.wait(|packets| packets.iter().any(|packet| packet.data.ends_with(&[0; LAST])))?;
    }
    let (ours, native) = (pair.ours.end()?, pair.native.end()?);
    ensure!(
        (ours.link_type, native.link_type) == (0, 1),
        "link types {} and {}",
        ours.link_type,
        native.link_type
    );
    let mut reader = scene.native();
    let read = Running::start(reader.args(["-n", "-r"]).arg(&ours.path))?.finish(PATIENCE)?.success()?;
    // The octets of what it does not print come below, by a tab.
    let lines: Vec<_> = read.stdout.iter().filter(|line| !line.starts_with('\t')).collect();
    ensure!(lines.len() == ours.packets.len(), "{} lines of {} packets", lines.len(), ours.packets.len());
    for (line, packet) in lines.iter().zip(&ours.packets) {
        // It knows the numbers that AF_INET6 has on the BSDs (DIFFERENCES.md): libpcap's filters here mean Linux's.
        let word = if packet.data.starts_with(&LINUX_INET6) { " AF Unknown (10), length " } else { " IP " };
        ensure!(line.contains(word), "{line}");
    }
    alike::loopback(&ours.packets, &native.packets)
}

/// Octets of the last packet's payload, all 0.
const LAST: usize = 77;

/// The family word of an IPv6 packet on lo, in the dialect linux.
const LINUX_INET6: [u8; 4] = 10u32.to_ne_bytes();
