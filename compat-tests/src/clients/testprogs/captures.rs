//! Programs that count what they capture: each packet once, whichever way they wait for it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::masks::{Mask, NO_COUNTS, NO_STATISTICS, NO_WAKE_UPS, WAKE_UPS_ONCE, masked};
use super::scene::{Pair, Scene, lines, same};
use crate::clients::process::{Finished, PATIENCE, Running};
use crate::clients::traffic;

/// capturetest's ways to capture: at once or not, blocking or not, with and without a time-out.
/// `-n -t 0` is not among them: natively it gives nothing before a block of the ring is full.
const CAPTURETEST: &[&[&str]] = &[&[], &["-m"], &["-n"], &["-n", "-m"], &["-t", "10"], &["-m", "-t", "0"]];

/// Packets of each way.
const PACKETS: usize = 10;

/// Only these are counted.
const FILTER: &str = "udp and src host 192.0.2.1 and greater 100";

/// capturetest's ways; how many.
///
/// # Errors
/// A packet that is counted twice or not at all, or another output than natively.
pub fn capturetest(scene: &Scene<'_>) -> anyhow::Result<usize> {
    // without a time-out bpf(4) waits for a full buffer, unless it does not wait at all
    for options in CAPTURETEST {
        let what = || format!("capturetest {}", options.join(" "));
        let pair = scene.listening("capturetest", &arguments(options)).with_context(what)?;
        send(scene, PACKETS)?;
        for running in &pair.0 {
            // each count is followed by the statistics
            let done = |lines: &[String]| {
                counted(lines) >= PACKETS && lines.last().is_some_and(|line| line.contains(" ps_recv, "))
            };
            running.wait_for(done, PATIENCE).with_context(what)?;
        }
        let both = counted_and_ended(pair, PACKETS).with_context(what)?;
        for finished in &both {
            let (received, dropped) = statistics(finished).with_context(what)?;
            ensure!(
                received >= PACKETS && dropped == 0,
                "{}: {received} received, {dropped} dropped",
                what()
            );
        }
        compare(&both, &[NO_COUNTS, NO_STATISTICS]).with_context(what)?;
    }
    Ok(CAPTURETEST.len())
}

/// capturetest without a filter: as many of all kinds of packets, and the statistics count them.
///
/// # Errors
/// Another count than natively.
pub fn everything(scene: &Scene<'_>) -> anyhow::Result<usize> {
    let pair = scene.listening("capturetest", &["-i", scene.stage.here.interface])?;
    traffic::mixed(scene.stage)?;
    let all = counted_alike(&pair)?;
    let both = pair.stop(Signal::SIGTERM)?;
    for finished in &both {
        let (received, dropped) = statistics(finished)?;
        ensure!((received, dropped) == (all, 0), "{received} received, {dropped} dropped of {all}");
    }
    compare(&both, &[NO_COUNTS, NO_STATISTICS])?;
    Ok(all)
}

/// selpolltest's ways to wait, and what of its output depends on the moment.
const SELPOLLTEST: &[(&[&str], &[Mask])] = &[
    (&["-s"], &[NO_COUNTS, WAKE_UPS_ONCE]),
    (&["-p"], &[NO_COUNTS, WAKE_UPS_ONCE]),
    (&["-s", "-n"], &[NO_COUNTS, WAKE_UPS_ONCE]),
    (&["-p", "-n"], &[NO_COUNTS, WAKE_UPS_ONCE]),
    (&["-s", "-t", "-n"], &[NO_COUNTS, NO_WAKE_UPS]),
    (&["-p", "-t", "-n"], &[NO_COUNTS, NO_WAKE_UPS]),
    (&["-s", "-q"], &[NO_COUNTS]),
    (&["-p", "-q", "-n"], &[NO_COUNTS]),
    (&["-s", "-t", "-q", "-n"], &[NO_COUNTS]),
    (&[], &[NO_COUNTS]),
];

/// selpolltest's ways; how many.
///
/// # Errors
/// A packet that is counted twice or not at all, or another output than natively.
pub fn selpolltest(scene: &Scene<'_>) -> anyhow::Result<usize> {
    for (options, masks) in SELPOLLTEST {
        let what = || format!("selpolltest {}", options.join(" "));
        let pair = scene.listening("selpolltest", &arguments(options)).with_context(what)?;
        send(scene, PACKETS)?;
        let both = counted_and_ended(pair, PACKETS).with_context(what)?;
        compare(&both, masks).with_context(what)?;
    }
    Ok(SELPOLLTEST.len())
}

fn arguments<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [options, &["-i", "c0", FILTER]].concat()
}

/// Sends packets that are counted, and as many that are not.
///
/// # Errors
/// One does not arrive.
pub fn send(scene: &Scene<'_>, packets: usize) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    for _ in 0..packets {
        traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), 100)?;
        traffic::udp((there, there.ipv4.into()), (here, here.ipv4.into()), 100)?;
    }
    Ok(())
}

/// Waits until both have counted so many, and interrupts them.
fn counted_and_ended(pair: Pair, packets: usize) -> anyhow::Result<[Finished; 2]> {
    for (running, whose) in pair.0.iter().zip(["ours", "the native one"]) {
        wait_counted(running, packets).context(whose)?;
    }
    let both = pair.stop(Signal::SIGINT)?;
    for finished in &both {
        ensure!(counted(&finished.stdout) == packets, "{} packets counted", counted(&finished.stdout));
    }
    Ok(both)
}

/// Waits until it has counted so many packets.
///
/// # Errors
/// It has not in time.
pub fn wait_counted(running: &Running, packets: usize) -> anyhow::Result<()> {
    let done = running.wait_for(|lines| counted(lines) >= packets, PATIENCE);
    done.with_context(|| format!("{} packets counted of {packets}", counted(&running.stdout())))
}

/// The packets that the lines say were counted.
pub fn counted(lines: &[String]) -> usize {
    let number =
        |line: &String| line.split_once(" packets counted ")?.0.rsplit(' ').next()?.parse::<usize>().ok();
    lines.iter().filter_map(number).sum()
}

/// What the last line of pcap_stats(3) says was received and dropped.
fn statistics(finished: &Finished) -> anyhow::Result<(usize, usize)> {
    let last =
        finished.stdout.iter().rev().find(|line| line.contains(" ps_recv, ")).context("no statistics")?;
    let mut numbers = last.split(' ').filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("statistics: {last}"))
}

/// Both ended alike and said the same, and what is masked is true: each packet that was dispatched was counted.
fn compare(both: &[Finished; 2], masks: &[Mask]) -> anyhow::Result<()> {
    for line in both.iter().flat_map(|finished| &finished.stdout) {
        if let Some((seen, rest)) = line.split_once(" packets seen, ") {
            let seen = seen.rsplit(' ').next().unwrap_or_default();
            ensure!(rest.split(' ').next() == Some(seen), "{line}");
        }
    }
    let [ours, native] = both.each_ref().map(|finished| masked(lines(finished), masks));
    same(&ours, &native)
}

/// Waits until both have counted as many, for longer than the time-out; how many.
fn counted_alike(pair: &Pair) -> anyhow::Result<usize> {
    const LONGER: Duration = Duration::from_millis(1500);
    let end = Instant::now() + PATIENCE;
    let count = || pair.0.each_ref().map(|running| counted(&running.stdout()));
    loop {
        let before = count();
        thread::sleep(LONGER);
        let after = count();
        if after == before && after[0] == after[1] && after[0] > 0 {
            return Ok(after[0]);
        }
        ensure!(Instant::now() < end, "{} packets counted; natively {}", after[0], after[1]);
    }
}
