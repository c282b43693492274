//! ISC dhclient and dhcpd on the device, unmodified: a lease with both ends on /dev/bpf, and one from a server that has an
//! ordinary UDP socket, whose datagrams have the checksums that a kernel leaves to the hardware.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::cache::Build;
use super::host::{Device, Stage};
use super::process::{Running, run};
use super::{Checks, Client, kernel, traffic};

const BUILD: Build = Build { name: "isc-dhcp", headers: true, needs: &[] };

/// The client.
pub const CLIENT: Client =
    Client { name: "isc-dhcp", version: "4.4.3-P1", change: "none", builds: &[&BUILD], check };

/// The only address there is to lease.
const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// Seconds of a lease: half of it until it is renewed.
const LEASE: u32 = 10;

/// How long a message may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    let built = stage.built(BUILD.name)?;
    checks.check("a lease, renewed and released, both ends on /dev/bpf", || {
        let device = stage.there.device("linux", &[])?;
        let server = Server { stage, program: &built.join("sbin/dhcpd"), device: Some(&device), name: "bpf" };
        leases(stage, &server, &format!("Listening on BPF/{}/", stage.there.interface))
    });
    checks.check("a lease, renewed and released, from a server on a UDP socket", || {
        let server = Server { stage, program: &built.join("sockets/dhcpd"), device: None, name: "socket" };
        leases(stage, &server, &format!("Listening on Socket/{}", stage.there.interface))
    });
    Ok(())
}

/// A dhcpd on the other host.
struct Server<'a> {
    stage: &'a Stage,
    program: &'a Path,
    /// Without one it has the machine's own /dev.
    device: Option<&'a Device>,
    name: &'static str,
}

impl Server<'_> {
    fn start(&self, says: &str) -> anyhow::Result<Running> {
        let there = &self.stage.there;
        let file = |kind: &str| self.stage.scratch().join(format!("dhcpd-{}.{kind}", self.name));
        let (config, leases) = (file("conf"), file("leases"));
        let text = format!(
            "authoritative;\ndefault-lease-time {LEASE};\nmax-lease-time {LEASE};\nmin-lease-time {LEASE};\n\
             subnet 192.0.2.0 netmask 255.255.255.0 {{ range {LEASED} {LEASED}; option routers {}; }}\n",
            there.ipv4
        );
        fs::write(&config, text).with_context(|| config.display().to_string())?;
        fs::write(&leases, "").with_context(|| leases.display().to_string())?;
        let mut command = match self.device {
            Some(device) => device.command(self.program),
            None => there.command(self.program),
        };
        command
            .args(["-4", "-d", "-f", "--no-pid", "-cf"])
            .arg(config)
            .arg("-lf")
            .arg(leases)
            .arg(there.interface);
        let server = Running::start(&mut command)?;
        server.wait_for_line(|line| line.starts_with(says), PATIENCE)?;
        server.wait_for_line(|line| line == "Server starting service.", PATIENCE)?;
        Ok(server)
    }
}

/// A lease, from the first message to the last. The client's script gives the address to the interface.
fn leases(stage: &Stage, server: &Server<'_>, says: &str) -> anyhow::Result<()> {
    let (here, there) = (&stage.here, &stage.there);
    let server = server.start(says)?;
    let device = here.device("linux", &[])?;
    let client = Running::start(&mut dhclient(stage, &device, &["-d"])?)?;
    client
        .wait_for_line(|line| line.starts_with(&format!("Listening on BPF/{}/", here.interface)), PATIENCE)?;

    let mac: Vec<_> = here.mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let (mac, by) = (mac.join(":"), there.interface);
    let server_says = |line: String| {
        let said = server.wait_for_line(|said| said.starts_with(&line), PATIENCE);
        said.with_context(|| format!("the server: {line}"))
    };
    let script_says = |reason: &str, by: Ipv4Addr| {
        let line = format!("script {reason} {LEASED} of {by}");
        client.wait_for_line(|said| said == line, PATIENCE).context("the client")
    };
    server_says(format!("DHCPDISCOVER from {mac} "))?;
    server_says(format!("DHCPOFFER on {LEASED} to {mac} "))?;
    server_says(format!("DHCPREQUEST for {LEASED} ({}) from {mac} ", there.ipv4))?;
    server_says(format!("DHCPACK on {LEASED} to {mac} "))?;
    script_says("BOUND", there.ipv4)?;
    // the other host's kernel finds it there
    let before = kernel::snmp(there, "Icmp", "InEchoReps")?;
    traffic::ping(there, LEASED.into(), 3)?;
    let replies = kernel::snmp(there, "Icmp", "InEchoReps")? - before;
    ensure!(replies >= 3, "the other host's kernel counted {replies} echo replies");

    // unlike the first, without the server's address, and through the client's kernel
    server_says(format!("DHCPREQUEST for {LEASED} from {mac} "))?;
    script_says("RENEW", there.ipv4)?;

    // another process gives back what the first one's file says
    drop(client);
    run(&mut dhclient(stage, &device, &["-r", "-v"])?, PATIENCE)?.success()?;
    server_says(format!("DHCPRELEASE of {LEASED} from {mac} via {by} (found)"))?;
    Ok(())
}

/// dhclient with what it needs, all of it in the scratch directory.
fn dhclient(stage: &Stage, device: &Device, options: &[&str]) -> anyhow::Result<Command> {
    let built = stage.built(BUILD.name)?;
    let file = |kind: &str| stage.scratch().join(format!("dhclient.{kind}"));
    let config = file("conf");
    fs::write(&config, "initial-interval 1;\ntimeout 50;\n").with_context(|| config.display().to_string())?;
    let mut command = device.command(built.join("sbin/dhclient"));
    command.arg("-4").args(options).arg("-cf").arg(config).arg("-sf").arg(built.join("dhclient-script"));
    command.arg("-lf").arg(file("leases")).arg("--no-pid").arg(stage.here.interface);
    Ok(command)
}
