//! Programs that take a minute: they run beside the others.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::masks::{NO_COUNTS, NO_SECONDS, masked};
use super::scene::{Pair, Scene, lines, same};
use crate::clients::traffic;

/// How long threadsignaltest sleeps, and as much again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Those that were started.
#[derive(Debug)]
pub struct Long {
    /// threadsignaltest.
    pub signalled: Pair,
    /// threadsignaltest -n.
    pub not_signalled: Pair,
    /// findalldevstest-perf.
    pub findalldevs: Pair,
}

impl Long {
    /// Starts them.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(scene: &Scene<'_>) -> anyhow::Result<Long> {
        let interface = scene.stage.here.interface;
        Ok(Long {
            // nothing comes
            signalled: scene.listening("threadsignaltest", &["-i", interface, "udp port 1"])?,
            not_signalled: scene
                .listening("threadsignaltest", &["-n", "-i", interface, "udp[4:2] == 1308"])?,
            findalldevs: scene.start("findalldevstest-perf", &[])?,
        })
    }
}

/// threadsignaltest: pcap_breakloop(3) and a signal for another thread, which waits in a read.
///
/// # Errors
/// It does not end as natively.
pub fn signalled(pair: Pair) -> anyhow::Result<()> {
    let [ours, native] = pair.finish_within(PATIENCE)?.map(|finished| lines(&finished));
    let expected = [
        "exit status: 0",
        "Listening on c0",
        "Doing pcap_breakloop()",
        "Sending SIGUSR1",
        SIGNALLED,
        "",
        "Loop got broken",
    ];
    ensure!(ours == expected, "{}", ours.join(" | "));
    same(&whenever_signalled(ours), &whenever_signalled(native))
}

/// Natively pcap_breakloop(3) wakes the thread by itself: it may end before the signal is sent, and the signal may come at any
/// time or too late.
fn whenever_signalled(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| line != SIGNALLED);
    lines.sort();
    lines
}

/// threadsignaltest -n: pcap_breakloop(3) alone does not end a read, on any bpf(4); the next packets do.
///
/// # Errors
/// It ends before, or does not then.
pub fn not_signalled(scene: &Scene<'_>, pair: Pair) -> anyhow::Result<()> {
    let Pair([ours, native]) = pair;
    let native = native.finish(PATIENCE).context("the native one")?;
    ours.wait_for_line(|line| line == "Doing pcap_breakloop()", PATIENCE)?;
    ours.wait_asleep(PATIENCE).context("it ended without a packet")?;
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    // more than its buffer, which has a time-out of five minutes
    for _ in 0..500 {
        traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), 1300)?;
    }
    let ours = ours.finish(crate::clients::process::PATIENCE).context("ours")?;
    let [ours, native] = [ours, native].map(|finished| masked(lines(&finished), &[NO_COUNTS]));
    same(&ours, &native)
}

/// findalldevstest-perf: 500 lists of all interfaces; what they cost.
///
/// # Errors
/// It does not end as natively.
pub fn findalldevs(pair: Pair) -> anyhow::Result<String> {
    let both = pair.finish_within(PATIENCE)?;
    let cost = both.each_ref().map(|finished| finished.stdout.join(" "));
    let [ours, native] = both.map(|finished| masked(lines(&finished), &[NO_SECONDS]));
    same(&ours, &native)?;
    Ok(format!("500 lists of interfaces: {}; natively: {}", cost[0], cost[1]))
}

const SIGNALLED: &str = "Got SIGUSR1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_end_before_it_is_signalled() {
        let lines = |text: &str| whenever_signalled(text.lines().map(str::to_owned).collect());
        let ours = lines("Doing pcap_breakloop()\nSending SIGUSR1\nGot SIGUSR1\n\nLoop got broken");
        assert_eq!(ours, lines("Doing pcap_breakloop()\n\nLoop got broken\nSending SIGUSR1"));
        assert_ne!(ours, lines("Doing pcap_breakloop()\nSending SIGUSR1"));
    }
}
