//! pnet_datalink on the device, as it is on each system that its BPF backend knows: only cfg lines are changed.

use std::time::Duration;

use anyhow::ensure;

use super::cache::Build;
use super::host::Stage;
use super::kernel::{self, PATIENCE};
use super::process::Running;
use super::{Checks, Client, traffic};

const BUILD: Build = Build { name: "pnet_datalink", headers: false, needs: &[] };

/// The client.
pub const CLIENT: Client =
    Client { name: "pnet_datalink", version: "0.35.0", change: "cfg lines", builds: &[&BUILD], check };

/// Those it is built as, where the device speaks that system's dialect; and how many frames it sends. It waits in pselect(2)
/// until it may write, which is never on OpenBSD, where only reading can be waited for.
const SYSTEMS: [(&str, usize); 4] = [("freebsd", 200), ("netbsd", 200), ("macos", 200), ("openbsd", 0)];

/// As much as every system has: so nothing is dropped, however slowly it reads.
const BUFFER: &str = "524288";

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    for (system, count) in SYSTEMS {
        let what = if count > 0 { "two threads receive and send on one descriptor" } else { "receives" };
        checks.measure(&format!("as {system}: {what}"), || {
            let seen = both(stage, system, count)?;
            let changed = kernel::changed(stage.built(BUILD.name)?, system)?;
            Ok(format!("{count} datagrams sent and taken, {seen} packets passed, each seen once; {changed} cfg lines changed"))
        });
    }
    Ok(())
}

/// Sends while it receives; gives the number of packets it saw.
fn both(stage: &Stage, system: &str, count: usize) -> anyhow::Result<u64> {
    let (here, there) = (&stage.here, &stage.there);
    let device = here.device(system, &[])?;
    let program = stage.built(BUILD.name)?.join(format!("pnet-client-{system}"));
    let (socket, port) = kernel::listen(there, there.ipv4.into())?;
    let octets = format!("sent by pnet_datalink as {system}").into_bytes();
    let frame = kernel::hex(&kernel::datagram(here, there, port, &octets)?);
    let (client, before) = kernel::in_a_quiet_moment(here, || {
        let mut command = device.command(&program);
        command.args([here.interface, BUFFER, &count.to_string()]);
        if count > 0 {
            command.arg(&frame);
        }
        let client = Running::hold(&mut command)?;
        client.wait_for_line(|line| line == "open", PATIENCE)?;
        Ok(client)
    })?;
    traffic::mixed(stage)?;
    client.wait_for_line(|line| line == "sent", Duration::from_secs(30))?;
    kernel::receives(&socket, count, &octets)?;
    let frames = || client.stdout().into_iter().filter(|line| line != "open" && line != "sent");
    let seen = kernel::all_seen(here, before, || Ok(frames().count() as u64))?;
    let own = frames().filter(|line| *line == frame).count();
    ensure!(own == count, "its own frame was seen {own} times, and sent {count} times");
    Ok(seen)
}
