//! tcpdump's options, each beside Debian's tcpdump with the same ones.

use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::alike::{self, Alike};
use super::savefile::{self, Packet};
use super::scene::{Capture, Scene, Statistics, Tcpdump};
use crate::clients::process::{AT_ONCE, Finished, PATIENCE, Running, run};
use crate::clients::traffic;

/// `-w`, without a filter: every packet, in order.
///
/// # Errors
/// Another packet.
pub fn everything(scene: &Scene<'_>) -> anyhow::Result<Alike> {
    let pair = scene.pair("all", &["-i", scene.stage.here.interface])?;
    let begin = savefile::now()?;
    scene.traffic(4)?;
    let end = savefile::now()?;
    for tcpdump in [&pair.ours, &pair.native] {
        tcpdump.wait(|packets| scene.is_over(packets))?;
    }
    let (ours, native) = (pair.ours.end()?, pair.native.end()?);
    ensure!(ours.link_type == native.link_type, "link type {}, and {}", ours.link_type, native.link_type);
    let all = ours.packets.len();
    let said = ours.statistics;
    ensure!((said.received, said.dropped) == (all, 0), "{said:?} of {all} packets");
    let times: Vec<_> = ours.packets.iter().map(|packet| packet.micros).collect();
    ensure!(times.is_sorted(), "times of arrival go back: {times:?}");
    let stray = times.iter().find(|time| !(begin..=end).contains(time));
    ensure!(stray.is_none(), "{stray:?} is no time between {begin} and {end}");
    ensure!(ours.packets.iter().any(|packet| alike::is_tagged(&packet.data)), "no frame with a tag");
    ensure!(ours.packets.iter().any(|packet| packet.len > 10_000), "no large segment: offloads are off");
    alike::frames(&ours.packets, &native.packets)
}

/// `-Q`: packets of one direction, which the Ethernet addresses prove.
///
/// # Errors
/// Another packet.
pub fn direction(scene: &Scene<'_>) -> anyhow::Result<[usize; 3]> {
    type Wanted = fn(bool) -> bool;
    const DIRECTIONS: [(&str, Wanted); 3] = [("in", |out| !out), ("out", |out| out), ("inout", |_| true)];
    let interface = scene.stage.here.interface;
    let witness = scene.witness("direction")?;
    let mut pairs = Vec::new();
    for (word, wants) in DIRECTIONS {
        let pair = scene.pair(&format!("direction-{word}"), &["-i", interface, "-Q", word]).context(word)?;
        pairs.push((word, wants, pair));
    }
    scene.traffic(1)?;
    witness.wait(|packets| scene.is_over(packets))?;
    let all = witness.end()?.packets;
    let mut counts = [0; 3];
    for (count, (word, wants, pair)) in counts.iter_mut().zip(pairs) {
        let wanted: Vec<&Packet> = all.iter().filter(|packet| wants(scene.is_out(packet))).collect();
        let [ours, native] = pair.end_after(wanted.len())?;
        alike::frames(&ours.packets, &native.packets).context(word)?;
        *count = alike::frames(&ours.packets, wanted).context(word)?.packets;
    }
    Ok(counts)
}

/// `-c`: it ends by itself, after as many packets as Debian's.
///
/// # Errors
/// Another packet, or no end.
pub fn count(scene: &Scene<'_>) -> anyhow::Result<()> {
    let pair = scene.pair("count", &["-i", scene.stage.here.interface, "-c", "12"])?;
    scene.traffic(1)?;
    let (ours, native) = (pair.ours.finish()?, pair.native.finish()?);
    ensure!(ours.packets.len() == 12, "{} packets", ours.packets.len());
    ensure!(ours.statistics.received >= 12, "{:?}", ours.statistics);
    alike::frames(&ours.packets, &native.packets).map(drop)
}

/// `-s`: whole records, cut packets.
///
/// # Errors
/// Another packet, or length.
pub fn snaplen(scene: &Scene<'_>) -> anyhow::Result<()> {
    const SNAPLENS: [usize; 4] = [1, 64, 96, 1000];
    let interface = scene.stage.here.interface;
    let whole = scene.pair("whole", &["-i", interface])?;
    let mut pairs = Vec::new();
    for snaplen in SNAPLENS {
        let word = snaplen.to_string();
        pairs.push((snaplen, scene.pair(&format!("snaplen-{snaplen}"), &["-i", interface, "-s", &word])?));
    }
    scene.traffic(1)?;
    whole.native.wait(|packets| scene.is_over(packets))?;
    let all = whole.native.end()?.packets;
    whole.ours.wait(|packets| packets.len() >= all.len())?;
    let [ours, native] = [whole.ours.end()?.packets, all];
    alike::frames(&ours, &native)?;
    for (snaplen, pair) in pairs {
        let what = || format!("-s {snaplen}");
        let [short, short_native] = pair.end_after(ours.len()).with_context(what)?;
        let wholes: Vec<_> = ours.iter().zip(&native).map(|(ours, native)| [ours, native]).collect();
        alike::cut(&short.packets.iter().collect::<Vec<_>>(), &wholes, snaplen).with_context(what)?;
        // natively a tag that does not fit is left out, and a cut frame does not say that it had one
        let untagged =
            short_native.packets.iter().zip(&native).filter(|(_, whole)| !alike::is_tagged(&whole.data));
        let (short, wholes): (Vec<_>, Vec<_>) =
            untagged.map(|(short, whole)| (short, [whole, whole])).unzip();
        alike::cut(&short, &wholes, snaplen).with_context(what).context("Debian's")?;
    }
    Ok(())
}

/// `--immediate-mode`: a packet is shown before there is another.
///
/// # Errors
/// Another packet, or none.
pub fn immediate(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    let pair = scene.pair("immediate", &["-i", here.interface, "--immediate-mode", "udp"])?;
    for count in 1..=20 {
        let (from, to) = if count % 2 == 0 { (here, there) } else { (there, here) };
        traffic::udp((from, from.ipv4.into()), (to, to.ipv4.into()), count)?;
        pair.ours.wait(|packets| packets.len() == count).context("ours")?;
        pair.native.wait(|packets| packets.len() == count).context("Debian's")?;
    }
    let [ours, native] = pair.end_after(20)?;
    alike::frames(&ours.packets, &native.packets).map(drop)
}

/// `-B`: the buffers have that size, and by default libpcap's 512 KiB. Stopped meanwhile, tcpdump finds in them what came.
///
/// # Errors
/// Packets are missing, or too many are there; the statistics do not count them.
pub fn buffer(scene: &Scene<'_>) -> anyhow::Result<String> {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    const PACKETS: usize = 600;
    const LEN: usize = 1400;
    // in whole records of 8 octets, with a header of 26
    const RECORD: usize = (26 + 42 + LEN).next_multiple_of(8);
    // the small one's two buffers
    const ROOM: usize = 2 * ((64 << 10) / RECORD);
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    let start = |name, options: &[&str]| {
        let arguments = [&["-i", here.interface], options, &["udp"]].concat();
        Tcpdump::start(scene.ours(), scene.file(name), &arguments)
    };
    let mut small = start("small", &["-B", "64"])?;
    let mut usual = start("usual", &[])?;
    let mut large = start("large", &["-B", "512"])?;
    for tcpdump in [&mut small, &mut usual, &mut large] {
        tcpdump.running().signal(SIGSTOP)?;
    }
    for _ in 0..PACKETS {
        traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), LEN)?;
    }
    let mut captures: Vec<Capture> = Vec::new();
    for (mut tcpdump, at_least) in [(small, ROOM), (usual, PACKETS), (large, PACKETS)] {
        tcpdump.running().signal(SIGCONT)?;
        tcpdump.wait(|packets| packets.len() >= at_least)?;
        captures.push(tcpdump.end()?);
    }
    let [small, usual, large] = &captures[..] else { bail!("three were started") };
    alike::frames(&usual.packets, &large.packets)?;
    for capture in [usual, large] {
        let said = capture.statistics;
        ensure!((said.captured, said.dropped) == (PACKETS, 0), "{said:?} of {PACKETS} packets");
    }
    let said = small.statistics;
    let expected = Statistics { captured: ROOM, received: PACKETS, dropped: PACKETS - ROOM };
    ensure!(said == expected, "{said:?} with 64 KiB, where {ROOM} packets have room");
    alike::frames(&small.packets, usual.packets.iter().take(ROOM))?;
    Ok(format!(
        "{PACKETS} packets while stopped: 512 KiB keeps all, 64 KiB {} and says {} dropped",
        said.captured, said.dropped
    ))
}

fn lines(command: &mut Command, arguments: &[&str]) -> anyhow::Result<Finished> {
    run(command.args(arguments), PATIENCE)
}

/// `-L` and `-y`: link types.
///
/// # Errors
/// Another list than Debian's, or a link type that cannot be captured with.
pub fn link_types(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (here, there) = (&scene.stage.here, &scene.stage.there);
    let list = ["-i", here.interface, "-L"];
    let ours = lines(&mut scene.ours(), &list)?.success()?;
    let native = lines(&mut scene.native(), &list)?.success()?;
    let said = [&ours.stdout[..], &ours.stderr].concat();
    ensure!(said == [&native.stdout[..], &native.stderr].concat(), "the list: {}", said.join(" | "));
    ensure!(said.iter().any(|line| line.contains("EN10MB (Ethernet)")), "the list: {}", said.join(" | "));
    let lo = lines(&mut scene.ours(), &["-i", "lo", "-L"])?.success()?;
    let said = [&lo.stdout[..], &lo.stderr].concat();
    ensure!(
        said.iter().any(|line| line.contains("NULL (BSD loopback)")),
        "the list of lo: {}",
        said.join(" | ")
    );

    let pair = scene.pair("ethernet", &["-i", here.interface, "-y", "EN10MB", "udp"])?;
    traffic::udp((here, here.ipv4.into()), (there, there.ipv4.into()), 100)?;
    let [ours, native] = pair.end_after(1)?;
    ensure!((ours.link_type, native.link_type) == (1, 1), "link type {}", ours.link_type);
    alike::frames(&ours.packets, &native.packets)?;

    let wrong = lines(&mut scene.ours(), &["-i", here.interface, "-y", "NULL", "-c", "1"])?;
    ensure!(
        wrong.status.code() == Some(1),
        "-y NULL on Ethernet: {}, {}",
        wrong.status,
        wrong.stderr.join(" | ")
    );
    let text = wrong.stderr.join(" | ");
    ensure!(
        text.contains("NULL is not one of the DLTs supported by this device"),
        "-y NULL on Ethernet: {text}"
    );
    Ok(())
}

/// `-D`: the interfaces that Debian's lists, with the same state; not the ones that only Linux' libpcap makes up.
///
/// # Errors
/// One is missing, or is another.
pub fn interfaces(scene: &Scene<'_>) -> anyhow::Result<()> {
    // "1.c0 [Up, Running, Connected]": without the number
    let list = |command: &mut Command| -> anyhow::Result<Vec<String>> {
        let listed = lines(command, &["-D"])?.success()?.stdout;
        Ok(listed.iter().filter_map(|line| line.split_once('.')).map(|(_, rest)| rest.to_owned()).collect())
    };
    let (ours, native) = (list(&mut scene.ours())?, list(&mut scene.native())?);
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    for interface in [scene.stage.here.interface, "lo"] {
        let of = |list: &[String]| list.iter().find(|line| name(line) == interface).cloned();
        let (mine, other) = (of(&ours), of(&native));
        ensure!(mine.is_some() && other.is_some(), "{interface}: {ours:?}, and {native:?}");
        // what Linux' libpcap asks ethtool for, BSD's asks SIOCGIFMEDIA for, which is not there
        let state = |line: Option<String>| {
            let line = line.unwrap_or_default();
            let known = line.replace(", Connection status unknown", "").replace(", Connected", "");
            known.replace(", Disconnected", "")
        };
        ensure!(state(mine.clone()) == state(other.clone()), "{mine:?}, and {other:?}");
    }
    ensure!(!ours.iter().any(|line| name(line) == "any"), "{ours:?}");
    Ok(())
}

/// What cannot be captured on is said at once and clearly: an interface that is not there, and `any`.
///
/// # Errors
/// It is not.
pub fn no_interface(scene: &Scene<'_>) -> anyhow::Result<()> {
    for name in ["any", "nosuch0"] {
        let ended = Running::start(scene.ours().args(["-i", name, "-c", "1"]))?.finish(AT_ONCE)?;
        let said = ended.stderr.join(" | ");
        ensure!(ended.status.code() == Some(1), "-i {name}: {}: {said}", ended.status);
        ensure!(said.contains(&format!("{name}: No such device exists")), "-i {name}: {said}");
    }
    Ok(())
}
