//! Prints what opens TCP connections: a filter built by hand runs in the kernel. `filter eth0`.

use bpfdev::capture::Capture;
use bpfdev::cbpf::builder::{At, Target};
use bpfdev::cbpf::{Builder, disasm};
use bpfdev::native;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let interface = std::env::args().nth(1).ok_or("which interface?")?;

    // ip[6:2] & 0x1fff = 0 and ip proto tcp and tcp[tcpflags] & (syn|ack) = syn
    let mut filter = Builder::new();
    let reject = filter.label();
    filter.ldh(At::Abs(12)).jeq(0x0800, Target::Next, reject);
    filter.ldb(At::Abs(23)).jeq(6, Target::Next, reject);
    filter.ldh(At::Abs(20)).jset(0x1fff, reject, Target::Next);
    filter.ldx_msh(14).ldb(At::Ind(27)).and(0x12).jeq(0x02, Target::Next, reject);
    filter.ret(96);
    filter.put(reject).ret(0);
    let program = filter.program(native::ABI.filter)?;
    print!("{}", disasm(program.insns()));

    let mut capture = Capture::options().immediate(true).filter(program).open(&interface)?;
    println!("{interface}: the filter runs as {}", capture.plan().name());
    while let Some(mut batch) = capture.next_batch()? {
        while let Some(packet) = batch.next() {
            // Ethernet, then IPv4: addresses at 26 and 30, ports behind its header
            let ip = |at: usize| packet.data.get(at..at + 4).map_or([0; 4], |b| [b[0], b[1], b[2], b[3]]);
            let [from, to] = [ip(26), ip(30)].map(std::net::Ipv4Addr::from);
            println!("{from} -> {to}, {} bytes", packet.wirelen);
        }
    }
    Ok(())
}
