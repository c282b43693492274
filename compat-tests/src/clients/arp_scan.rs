//! arp-scan on libpcap in BPF mode, unmodified: it finds the other host, whose kernel answers.

use std::time::Duration;

use anyhow::ensure;

use super::cache::Build;
use super::host::Stage;
use super::kernel;
use super::process::{Finished, run};
use super::tcpdump::LIBPCAP;
use super::{Checks, Client};

const BUILD: Build = Build { name: "arp-scan", headers: false, needs: &[&LIBPCAP] };

/// The client.
pub const CLIENT: Client =
    Client { name: "arp-scan", version: "1.10.0, libpcap 1.10.3", change: "none", builds: &[&BUILD], check };

const PATIENCE: Duration = Duration::from_secs(60);

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    let device = stage.here.device("linux", &[])?;
    let scan = |words: &[&str]| -> anyhow::Result<Finished> {
        let mut command = device.command(stage.built(BUILD.name)?.join("bin/arp-scan"));
        run(command.arg("--plain").args(["--interface", stage.here.interface]).args(words), PATIENCE)?
            .success()
    };
    let there = stage.there.ipv4.to_string();
    let mac: Vec<_> = stage.there.mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let found = format!("{there}\t{}\t", mac.join(":"));

    checks.check("finds the other host of the whole network, and no other", || {
        let before = kernel::packets(&stage.there)?;
        let hosts = scan(&["--localnet"])?.stdout;
        ensure!(hosts.len() == 1 && hosts[0].starts_with(&found), "it found {hosts:?}, not {found:?}");
        // each of 256 addresses is asked for, and those that do not answer once more
        let passed = kernel::packets(&stage.there)? - before;
        ensure!(passed > 2 * 254, "{passed} packets passed the other host's interface");
        Ok(())
    });
    checks.check("an interface that is not there", || {
        let mut command = device.command(stage.built(BUILD.name)?.join("bin/arp-scan"));
        let ended = run(command.args(["--interface", "none0", "--localnet"]), PATIENCE)?;
        ensure!(!ended.status.success(), "it did not fail");
        let why = ended.stderr.join(" ");
        ensure!(why.contains("none0") || why.contains("No such device"), "it failed with: {why}");
        Ok(())
    });
    Ok(())
}
