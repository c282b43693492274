//! tcpdump on libpcap in BPF mode, unmodified: it writes what Debian's tcpdump, on packet sockets, writes at the same time.

pub mod alike;
pub mod ends;
pub mod expressions;
pub mod options;
pub mod savefile;
pub mod scene;

use std::thread;
use std::time::Duration;

use super::cache::Build;
use super::host::Stage;
use super::{Checks, Client};
use alike::Alike;
use expressions::Seen;
use scene::Scene;

/// libpcap in BPF mode, its headers and test programs; the native ones besides.
pub const LIBPCAP: Build = Build { name: "libpcap", headers: true, needs: &[] };

/// tcpdump with it inside.
pub const TCPDUMP: Build = Build { name: "tcpdump", headers: false, needs: &[&LIBPCAP] };

/// The client.
pub const CLIENT: Client =
    Client { name: "tcpdump", version: "4.99.3, libpcap 1.10.3", change: "none", builds: &[&TCPDUMP], check };

/// Where the device runs filters: each must capture the same.
const PLANS: [&str; 3] = ["auto", "cbpf", "process"];

/// After this time new hosts no longer say by themselves (MLD) which groups their addresses are in.
const QUIET: Duration = Duration::from_secs(3);

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    thread::sleep(QUIET);
    for plan in PLANS {
        checks.measure(&format!("filter expressions, --plan {plan}"), || {
            let planned = Scene::new(stage, &["--plan", plan])?;
            let Seen { expressions, packets, chosen, tagged, counted } = expressions::check(&planned, plan)?;
            Ok(format!(
                "{expressions} expressions on {packets} packets: {chosen} chosen alike, {tagged} of them tagged; {counted} \
                 count what they rejected as received"
            ))
        });
    }
    // there may be one device at a time
    let scene = &Scene::new(stage, &[])?;
    checks.measure("-i -w: every packet, as Debian's writes it", || {
        let Alike { packets, right, finished, aggregates } = options::everything(scene)?;
        Ok(format!(
            "{packets} packets equal in count, order, caplen, len and octets; {right} checksums right, {finished} of them \
             unfinished natively; {aggregates} aggregates of TCP"
        ))
    });
    checks.measure("-Q in, out, inout", || {
        let [incoming, outgoing, both] = options::direction(scene)?;
        Ok(format!("-Q: {incoming} in, {outgoing} out, {both} inout"))
    });
    checks.check("-c", || options::count(scene));
    checks.check("-s", || options::snaplen(scene));
    checks.check("--immediate-mode", || options::immediate(scene));
    checks.measure("-B, and statistics of what was dropped", || options::buffer(scene));
    checks.check("-L, -y", || options::link_types(scene));
    checks.check("-D", || options::interfaces(scene));
    checks.check("-i any, and an interface that is not there", || options::no_interface(scene));
    checks.check("Ctrl-C ends it at once, with statistics", || ends::interrupted(scene));
    checks.check("lines on the terminal", || ends::printed(scene));
    checks.check("two at once", || ends::two(scene));
    checks.check("-Z: as another user", || ends::other_user(scene));
    checks.check("the interface goes", || ends::removed(scene));
    checks.measure("lo, read with Debian's", || {
        let Alike { packets, finished, aggregates, .. } = ends::loopback(scene)?;
        Ok(format!(
            "lo: {packets} packets equal behind their link headers; {finished} checksums unfinished natively; {aggregates} \
             aggregates of TCP"
        ))
    });
    Ok(())
}
