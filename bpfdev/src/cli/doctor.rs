//! `bpfdev doctor`: tries what the product needs, one by one, and names the first refusal and its cure.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

use super::probe::{Probe, fuse_device};
use super::refusal::{Host, Kind, Need, Refusal, sysctl};

/// Try what this machine allows, and say what mends the first thing it refuses
///
/// Every line is `ok`, `no` or `info`, what was tried, what was seen, and the cure. Nothing on the machine is
/// changed. Exit status 0 when the device can be served, 1 when not.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Write one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    No,
    Info,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    state: State,
    what: String,
    seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
    /// Whether the device cannot be served without it.
    needed: bool,
}

impl Finding {
    fn tried(what: &str, needed: bool, result: Result<String, Refusal>) -> Finding {
        let what = what.to_owned();
        match result {
            Ok(seen) => Finding { state: State::Ok, what, seen, cure: None, needed },
            // A probe may stop at an earlier need than its own: that one is named.
            Err(r) if r.what != what => {
                let seen = format!("{}: {}", r.what, r.why);
                Finding { state: State::No, what, seen, cure: Some(r.cure), needed }
            }
            Err(r) => Finding { state: State::No, what, seen: r.why, cure: Some(r.cure), needed },
        }
    }

    fn info(what: &str, seen: impl Into<String>, cure: Option<&str>) -> Finding {
        let cure = cure.map(str::to_owned);
        Finding { state: State::Info, what: what.to_owned(), seen: seen.into(), cure, needed: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::No => "no",
            State::Info => "info",
        };
        write!(f, "{state:<4}  {}: {}", self.what, self.seen)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, " -> {cure}"))
    }
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The device can be served here.
    served: bool,
    system: &'a str,
    first_refusal: Option<&'a Finding>,
    findings: &'a [Finding],
}

/// Runs the subcommand.
///
/// # Errors
/// When the JSON cannot be written.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let host = Host::look();
    let mut findings = vec![Finding::info("system", describe(&host), None)];
    findings.extend(probes(&host));
    findings.extend(SYSCTLS.iter().map(Sysctl::look));
    let first = first_refusal(&findings);
    let served = !first.is_some_and(|finding| finding.needed);
    if args.json {
        let report = Report { served, system: &host.system, first_refusal: first, findings: &findings };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for finding in &findings {
            println!("{finding}");
        }
        println!("{}", verdict(first));
    }
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(host: &Host) -> String {
    let kind = match host.kind {
        Kind::Machine => "no container",
        Kind::Container => "in a container",
        Kind::Wsl1 => "WSL 1",
        Kind::Wsl2 => "WSL 2",
    };
    let user = match (host.privileged(), host.root) {
        (true, _) => "root",
        (false, true) => "root without CAP_SYS_ADMIN",
        (false, false) => "not root",
    };
    format!("{}, {kind}, {user}", host.system)
}

/// Everything that is tried, in the order in which the product needs it.
fn probes(host: &Host) -> Vec<Finding> {
    let user = !host.privileged();
    let tried = |probe: Probe, need: Need, needed| Finding::tried(need.what(), needed, probe.in_child());
    let cuse = std::fs::exists("/dev/cuse").unwrap_or(false);
    vec![
        Finding::tried(Need::FuseDevice.what(), true, fuse_device()),
        Finding::info("/dev/cuse", if cuse { "present" } else { "absent; not needed" }, None),
        tried(Probe::UserNamespace, Need::UserNamespace, user),
        tried(Probe::Mount, Need::Mount, true),
        tried(Probe::FuseMount, Need::FuseMount, true),
        tried(Probe::PacketSocket, Need::PacketSocket, true),
        // Root serves the host's interfaces; only the demo and the tests make a pair.
        tried(Probe::Veth, Need::Veth, user),
        tried(Probe::CallerMemory, Need::CallerMemory, true),
        tried(Probe::Bpf, Need::Bpf, false),
    ]
}

/// The refusal to mend first: one that keeps the device from being served before one that does not.
fn first_refusal(findings: &[Finding]) -> Option<&Finding> {
    let mut refused = findings.iter().filter(|finding| finding.state == State::No);
    refused.clone().find(|finding| finding.needed).or_else(|| refused.next())
}

fn verdict(first: Option<&Finding>) -> String {
    match first {
        None => "everything is there: the device can be served".into(),
        Some(finding) => {
            let Finding { what, seen, cure, .. } = finding;
            let cure = cure.as_deref().unwrap_or("no cure is known");
            let can = if finding.needed { "cannot be served" } else { "can be served, with less" };
            format!("the device {can}. First refusal: {what}: {seen}. Cure: {cure}")
        }
    }
}

/// A setting that changes how the product works, and for which values.
struct Sysctl {
    name: &'static str,
    /// Whether the value is a good one.
    good: fn(i64) -> bool,
    /// What another value means, and what to do.
    cure: &'static str,
}

const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        name: "fs.fuse.default_request_timeout",
        good: |seconds| seconds == 0,
        cure: "a read that waits longer breaks the device: sudo sysctl fs.fuse.default_request_timeout=0",
    },
    Sysctl {
        name: "fs.fuse.max_request_timeout",
        good: |seconds| seconds == 0,
        cure: "a read that waits longer breaks the device: sudo sysctl fs.fuse.max_request_timeout=0",
    },
    Sysctl {
        name: "fs.fuse.max_pages_limit",
        good: |pages| pages >= 256,
        cure: "reads above this many pages are split: sudo sysctl fs.fuse.max_pages_limit=256",
    },
    Sysctl { name: "kernel.unprivileged_bpf_disabled", good: |_| true, cure: "" },
    Sysctl {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        good: |restricted| restricted == 0,
        cure: "user namespaces get no capabilities: \
               sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root (sudo)",
    },
    Sysctl {
        name: "kernel.yama.ptrace_scope",
        good: |scope| scope < 3,
        cure: "no process may read another's memory: remove the setting and reboot",
    },
    Sysctl {
        name: "net.core.bpf_jit_enable",
        good: |state| state == 1,
        cure: "filters are interpreted by the kernel, or (2) their code is logged: \
               sudo sysctl net.core.bpf_jit_enable=1",
    },
    Sysctl {
        name: "net.core.optmem_max",
        // A socket filter of 512 instructions, rewritten for tagged and untagged frames: two copies of 8 octets
        // each, and what the kernel makes of them.
        good: |octets| octets >= 20 * 1024,
        cure: "long filters cannot be attached: sudo sysctl net.core.optmem_max=131072",
    },
];

impl Sysctl {
    fn look(&self) -> Finding {
        let Some(value) = sysctl(self.name) else {
            return Finding::info(self.name, "not in this kernel, or not readable", None);
        };
        let good = value.parse().map_or(true, self.good);
        Finding::info(self.name, value, (!good).then_some(self.cure))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn no(what: &str, needed: bool) -> Finding {
        let refusal = Refusal { what: what.into(), why: "EPERM".into(), cure: "sudo".into() };
        Finding::tried(what, needed, Err(refusal))
    }

    #[test]
    fn a_line_says_what_was_seen_and_the_cure() {
        assert_eq!(no("mount", true).to_string(), "no    mount: EPERM -> sudo");
        assert_eq!(Finding::tried("veth", true, Ok("a pair".into())).to_string(), "ok    veth: a pair");
        assert_eq!(Finding::info("x", "1", None).to_string(), "info  x: 1");
        let earlier = Refusal { what: "user namespace".into(), why: "EPERM".into(), cure: "sudo".into() };
        let line = Finding::tried("mount", true, Err(earlier)).to_string();
        assert_eq!(line, "no    mount: user namespace: EPERM -> sudo");
    }

    #[test]
    fn the_first_refusal_is_one_that_matters() {
        let findings =
            [Finding::info("a", "", None), no("bpf(2)", false), no("mount", true), no("veth", true)];
        assert_eq!(first_refusal(&findings).unwrap().what, "mount");
        assert_eq!(first_refusal(&findings[..2]).unwrap().what, "bpf(2)");
        assert!(first_refusal(&findings[..1]).is_none());
        assert!(
            verdict(first_refusal(&findings))
                .starts_with("the device cannot be served. First refusal: mount")
        );
        assert!(verdict(first_refusal(&findings[..2])).starts_with("the device can be served, with less"));
    }

    #[test]
    fn a_setting_is_judged_by_its_table() {
        for (name, value, good) in [
            ("fs.fuse.default_request_timeout", 0, true),
            ("fs.fuse.default_request_timeout", 60, false),
            ("fs.fuse.max_pages_limit", 32, false),
            ("kernel.yama.ptrace_scope", 3, false),
            ("kernel.yama.ptrace_scope", 1, true),
            ("kernel.unprivileged_bpf_disabled", 2, true),
        ] {
            let row = SYSCTLS.iter().find(|row| row.name == name).unwrap();
            assert_eq!((row.good)(value), good, "{name}={value}");
            assert!(good || !row.cure.is_empty(), "{name} has a cure");
        }
    }
}
