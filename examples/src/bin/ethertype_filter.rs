//! Four instructions written by hand, `ether proto 0x8033`, attached to a packet socket with SO_ATTACH_FILTER.
//!
//! Run it as root: `ethertype_filter eth0`. To the four instructions the library adds what Linux needs to see a VLAN tag
//! where a BSD sees it: the card or the kernel has taken it out of the frame.

use std::process::ExitCode;

use bpfdev::abi::linux::LINUX;
use bpfdev::backend::{FilterBackend, TapConfig};
use bpfdev::cbpf::builder::{At, Builder, Target};
use bpfdev::cbpf::disasm;
use bpfdev::native::{PacketSocket, PacketSockets, PlanChoice};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let Some(interface) = std::env::args().nth(1) else {
        eprintln!("usage: ethertype_filter INTERFACE");
        return Ok(ExitCode::from(2));
    };

    let mut filter = Builder::new();
    let reject = filter.label();
    filter.ldh(At::Abs(12)).jeq(0x8033, Target::Next, reject);
    filter.ret(u32::MAX);
    filter.put(reject).ret(0);
    let program = filter.program(LINUX.filter)?;
    print!("{}", disasm(program.insns()));

    let config = TapConfig { filter: Some(program), ..LINUX.tap_config(1 << 20) };
    // Cbpf: SO_ATTACH_FILTER, or an error.
    let options = PacketSockets { plan: PlanChoice::Cbpf, ..PacketSockets::default() };
    let mut tap = PacketSocket::attach(&interface, &config, options)?;
    println!("{interface}: the filter runs in the kernel ({})", tap.plan().name());

    let waiter = tap.waiter()?;
    loop {
        waiter.wait(None);
        let mut batch = tap.try_batch()?;
        while let Some(packet) = batch.next() {
            let from: Vec<String> =
                packet.data.iter().skip(6).take(6).map(|byte| format!("{byte:02x}")).collect();
            println!("{} bytes from {}", packet.wirelen, from.join(":"));
        }
    }
}
