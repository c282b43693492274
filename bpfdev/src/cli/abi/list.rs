//! The list of the systems.

use std::process::ExitCode;

use bpfdev_core::abi::{Abi, TABLES};
use serde::Serialize;

use super::text::{columns, print, print_json};
use super::{notes, sheet, words};

#[derive(Serialize)]
struct System {
    system: &'static str,
    about: &'static str,
    served: bool,
    /// Of a fresh descriptor, bytes.
    buffer: u32,
    /// `bh_hdrlen` on Ethernet of a 64-bit caller, bytes.
    hdrlen: usize,
    /// Requests; a form for 32-bit callers is not another one.
    requests: usize,
    nodes: String,
}

impl System {
    fn of(abi: &Abi) -> System {
        System {
            system: abi.name,
            about: notes::of(abi.name).about,
            served: sheet::served(abi),
            buffer: abi.rules.bufsize,
            hdrlen: abi.header.hdrlen(14),
            requests: abi.requests.iter().filter(|row| sheet::lp64_of(abi, row).is_none()).count(),
            nodes: words::nodes(abi.rules.nodes),
        }
    }
}

/// Prints the list.
///
/// # Errors
/// A stdout that cannot be written.
pub(super) fn run(json: bool) -> anyhow::Result<ExitCode> {
    let systems: Vec<_> = TABLES.iter().map(|abi| System::of(abi)).collect();
    if json {
        return print_json(&systems);
    }
    let title = ["SYSTEM", "SERVED", "BUFFER", "HEADER", "REQUESTS", "TABLE OF"];
    let mut rows = vec![title.map(String::from).to_vec()];
    rows.extend(systems.iter().map(|system| {
        vec![
            system.system.into(),
            sheet::yes(Some(system.served)).into(),
            system.buffer.to_string(),
            system.hdrlen.to_string(),
            system.requests.to_string(),
            system.about.into(),
        ]
    }));
    let mut text = columns(&rows, &[2, 3, 4]);
    text.push_str("\nNodes\n");
    let nodes: Vec<_> =
        systems.iter().map(|system| vec![format!("  {}", system.system), system.nodes.clone()]).collect();
    text.push_str(&columns(&nodes, &[]));
    text.push_str(
        "\nBUFFER: bytes, at first. HEADER: bh_hdrlen on Ethernet, bytes. Next: bpfdev abi freebsd; \
         bpfdev abi freebsd openbsd; bpfdev abi --number 0x8020426c\n",
    );
    print(&text)
}
