//! Programs that wait for a packet without a time-out, and what ends their wait.

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::captures::{counted, send, wait_counted};
use super::masks::{NO_COUNTS, NO_STATISTICS, masked};
use super::scene::{Scene, lines, same};
use crate::clients::traffic;

/// capturetest's ways to take SIGINT: not at all; in a handler that does nothing, or one that calls pcap_breakloop(3), both
/// with SA_RESTART and without.
const SIGNALS: &[&[&str]] = &[&[], &["-s"], &["-s", "-r"], &["-s", "-b"], &["-s", "-b", "-r"]];

/// A signal while capturetest waits: it ends, or goes on; how many ways.
///
/// # Errors
/// It does otherwise than natively.
pub fn signals(scene: &Scene<'_>) -> anyhow::Result<usize> {
    for options in SIGNALS {
        let what = || format!("capturetest {}", options.join(" "));
        let arguments = [options, &["-m", "-t", "0", "-i", "c0", "udp and src host 192.0.2.1"][..]].concat();
        let mut pair = scene.listening("capturetest", &arguments).with_context(what)?;
        pair.wait_asleep().with_context(what)?;
        let goes_on = options.contains(&"-s") && !options.contains(&"-b");
        if goes_on {
            for running in &mut pair.0 {
                running.signal(Signal::SIGINT)?;
            }
            send(scene, 3)?;
            for running in &pair.0 {
                wait_counted(running, 3).with_context(what)?;
            }
        }
        // what goes on is ended by another
        let last = if goes_on { Signal::SIGTERM } else { Signal::SIGINT };
        let both = pair.stop(last).with_context(what)?;
        let expected = if goes_on { 3 } else { 0 };
        for finished in &both {
            let count = counted(&finished.stdout);
            ensure!(count == expected, "{}: {count} packets counted", what());
        }
        let [ours, native] = both.map(|finished| masked(lines(&finished), &[NO_COUNTS, NO_STATISTICS]));
        same(&ours, &native).with_context(what)?;
    }
    Ok(SIGNALS.len())
}

/// The interface goes while capturetest waits.
///
/// # Errors
/// It says other than natively.
pub fn removed(scene: &Scene<'_>) -> anyhow::Result<()> {
    let mut rtnl = scene.stage.here.namespace.rtnl()?;
    for options in [&["-t", "0"][..], &["-m", "-t", "0"], &["-n"]] {
        let what = || format!("capturetest {}", options.join(" "));
        rtnl.create_veth("gone0", "gone1")?;
        rtnl.set_up("gone0")?;
        let arguments = [options, &["-i", "gone0", "udp port 1"]].concat();
        let pair = scene.listening("capturetest", &arguments).with_context(what)?;
        rtnl.delete("gone0")?;
        let [ours, native] = pair.finish().with_context(what)?.map(|finished| lines(&finished));
        same(&ours, &native).with_context(what)?;
    }
    Ok(())
}

/// nonblocktest changes between blocking and not, captures one packet, and then fills the table of descriptors.
///
/// # Errors
/// It says other than is expected.
pub fn nonblocktest(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    let pair = scene.start("nonblocktest", &["-i", here.interface])?;
    pair.wait_asleep()?;
    // it has no time-out: bpf(4) waits for a full buffer, which is 512 KiB
    traffic::tcp((here, here.ipv4.into()), (there, there.ipv4.into()), 2 << 20)?;
    let [ours, native] = pair.finish()?.map(|finished| lines(&finished));
    let breakloop = "stderr: nonblocktest: WARNING: using pcap_breakloop()";
    // what it tests last is pcap-linux.c's eventfd(2); pcap-bpf.c needs none
    let expected = ["exit status: 1", breakloop, NO_DESCRIPTOR_NEEDED];
    ensure!(ours == expected, "{}", ours.join(" | "));
    let fails = native.last().is_some_and(|line| line.contains("pcap_setnonblock failed as expected"));
    ensure!(
        native.get(1).map(String::as_str) == Some(breakloop) && fails,
        "natively: {}",
        native.join(" | ")
    );
    Ok(())
}

const NO_DESCRIPTOR_NEEDED: &str =
    "stderr: nonblocktest: pcap_setnonblock succeeded even though file table is full";
