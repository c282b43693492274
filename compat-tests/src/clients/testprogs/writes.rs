//! writecaptest: it writes what it captures to a file.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::masks::{NO_COUNTS, NO_STATISTICS, masked};
use super::scene::{BOTH, Pair, Scene, lines, same};
use crate::clients::process::{PATIENCE, Running};
use crate::clients::tcpdump::savefile::{self, Packet};
use crate::clients::tcpdump::{alike, scene};
use crate::clients::traffic;

/// What it is called with; whether packets are cut by it.
const CALLS: &[(&str, &[&str], Option<usize>)] = &[
    ("all", &[], None),
    ("link-type", &["-y", "EN10MB"], None),
    ("filter", &["not", "tcp"], None),
    ("cut", &["-s", "70"], Some(70)),
    ("cut-filter", &["-s", "70", "udp"], Some(70)),
];

/// Both write the same; how many calls.
///
/// # Errors
/// Another file, end or output.
pub fn check(scene: &Scene<'_>) -> anyhow::Result<usize> {
    let mut pairs = Vec::new();
    for (name, options, cut) in CALLS {
        let files = BOTH.map(|build| format!("{name}-{build:?}.pcap"));
        let [ours, native] = [0, 1].map(|whose: usize| {
            let arguments = [&["-i", "c0", "-w", files[whose].as_str()], *options].concat();
            Running::start(&mut scene.command(BOTH[whose], "writecaptest", &arguments)?)
        });
        let pair = Pair([ours?, native?]);
        for running in &pair.0 {
            running.wait_for_line(|line| line.starts_with("Listening on "), PATIENCE).context(*name)?;
        }
        pairs.push((*name, pair, files, *cut));
    }
    scene::on_one_cpu(|| traffic::mixed(scene.stage))?;
    for (name, pair, files, cut) in pairs {
        one(scene, pair, &files, cut).context(name)?;
    }
    Ok(CALLS.len())
}

fn one(scene: &Scene<'_>, pair: Pair, files: &[String; 2], cut: Option<usize>) -> anyhow::Result<()> {
    // what is seen is written by the end
    quiet(&pair)?;
    let both = pair.stop(Signal::SIGINT)?;
    let outputs = both.map(|finished| masked(lines(&finished), &[NO_COUNTS, NO_STATISTICS]));
    same(&outputs[0], &outputs[1])?;
    let whole = "Broken out of loop from SIGINT handler";
    ensure!(outputs[0].iter().any(|line| line == whole), "{}", outputs[0].join(" | "));
    let [ours, native] = files.each_ref().map(|name| savefile::read(&scene.stage.scratch().join(name)));
    let (ours, native) = (ours?, native?);
    ensure!(ours.link_type == native.link_type, "link types {} and {}", ours.link_type, native.link_type);
    ensure!(
        ours.rest == 0 && !ours.packets.is_empty(),
        "{} packets and {} octets",
        ours.packets.len(),
        ours.rest
    );
    match cut {
        None => alike::frames(wanted(&ours.packets), wanted(&native.packets)).map(drop),
        Some(snaplen) => lengths(&ours.packets, &native.packets, snaplen),
    }
}

/// Tagged frames are judged otherwise by a filter natively.
fn wanted(packets: &[Packet]) -> impl Iterator<Item = &Packet> {
    alike::untagged(packets)
}

/// Cut packets, whose checksum may be finished or not.
fn lengths(ours: &[Packet], native: &[Packet], snaplen: usize) -> anyhow::Result<()> {
    let of = |packets: &[Packet]| -> Vec<_> {
        let untagged = alike::untagged(packets);
        untagged
            .map(|packet| (packet.len, packet.data.len(), packet.data.get(..34).map(<[u8]>::to_vec)))
            .collect()
    };
    ensure!(of(ours) == of(native), "other packets than natively");
    ensure!(ours.iter().all(|packet| packet.data.len() <= snaplen), "longer than {snaplen}");
    Ok(())
}

/// Waits until neither has seen another packet for longer than its time-out, which is 0.1 s.
fn quiet(pair: &Pair) -> anyhow::Result<()> {
    const LONGER: Duration = Duration::from_millis(500);
    let end = Instant::now() + PATIENCE;
    let said = || pair.0.each_ref().map(|running| running.stdout().len());
    let mut before = said();
    loop {
        thread::sleep(LONGER);
        let after = said();
        // each says at least that it listens, and what it saw
        if after == before && after.iter().all(|lines| *lines > 1) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "they still capture");
        before = after;
    }
}
