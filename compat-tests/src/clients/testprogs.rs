//! libpcap's own test programs on libpcap in BPF mode, unmodified, each beside the same program of the same sources on packet
//! sockets: in the same network, at the same time, with the same arguments. How they end and what they say must be the same.
//!
//! Where they cannot be, the difference is spelled out: what of the output is left out of the comparison ([`masks`]), or
//! what each of the two must say ([`plain`]), with the reason. valgrindtest tests valgrind, and is not built on Linux.

pub mod blocked;
pub mod captures;
pub mod long;
pub mod masks;
pub mod plain;
pub mod scene;
pub mod writes;

use super::host::Stage;
use super::tcpdump::LIBPCAP;
use super::{Checks, Client};
use long::Long;
use scene::Scene;

/// The client.
pub const CLIENT: Client = Client {
    name: "libpcap-testprogs",
    version: "libpcap 1.10.3",
    change: "none",
    builds: &[&LIBPCAP],
    check,
};

fn check(stage: &Stage, checks: &mut Checks) -> anyhow::Result<()> {
    let scene = &Scene::new(stage)?;
    // a minute each, beside the others
    let Long { signalled, not_signalled, findalldevs } = Long::start(scene)?;
    for program in plain::PROGRAMS {
        checks.measure(program.name, || Ok(format!("{} calls", plain::check(scene, program)?)));
    }
    checks.measure("capturetest, every packet once", || {
        Ok(format!("{} ways to capture", captures::capturetest(scene)?))
    });
    checks.measure("capturetest, no filter, all kinds of traffic", || {
        Ok(format!("{} packets", captures::everything(scene)?))
    });
    checks.measure("selpolltest, select(2), poll(2) and neither", || {
        Ok(format!("{} ways to wait", captures::selpolltest(scene)?))
    });
    checks.measure("capturetest, a signal in a blocked read", || {
        Ok(format!("{} ways to take it", blocked::signals(scene)?))
    });
    checks.check("capturetest, the interface goes in a blocked read", || blocked::removed(scene));
    checks.check("nonblocktest", || blocked::nonblocktest(scene));
    checks.measure("writecaptest", || Ok(format!("{} captures", writes::check(scene)?)));
    checks.check("threadsignaltest", || long::signalled(signalled));
    checks.check("threadsignaltest -n", || long::not_signalled(scene, not_signalled));
    checks.measure("findalldevstest-perf", || long::findalldevs(findalldevs));
    Ok(())
}
