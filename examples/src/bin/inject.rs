//! Answers ARP requests for an address with the interface's own: `inject eth0 192.0.2.7`.

use std::net::Ipv4Addr;

use bpfdev::backend::Direction;
use bpfdev::capture::Capture;
use bpfdev::cbpf::text;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().ok_or("which interface?")?;
    let address: Ipv4Addr = arguments.next().ok_or("which address?")?.parse()?;

    // what `tcpdump -ddd 'arp[6:2] = 1'` prints
    let requests = text::read("6\n40 0 0 12\n21 0 3 2054\n40 0 0 20\n21 0 1 1\n6 0 0 262144\n6 0 0 0\n")?;
    let options = Capture::options().immediate(true).direction(Direction::In).filter(requests);
    let mut capture = options.open(&interface)?;
    let mac = capture.interface().address.clone();
    let mut sender = capture.sender()?;
    println!("{interface} answers for {address}");
    while let Some(mut batch) = capture.next_batch()? {
        while let Some(packet) = batch.next() {
            let Some(arp) = packet.data.get(14..42).filter(|arp| arp[24..] == address.octets()) else {
                continue;
            };
            let (asker, asked_by) = (&arp[8..14], &arp[14..18]);
            let reply = [
                &[asker, &mac, &[0x08, 0x06]].concat()[..], // Ethernet
                &[0, 1, 0x08, 0, 6, 4, 0, 2],               // ARP for IPv4 over Ethernet: a reply
                &[&mac, &address.octets()[..], asker, asked_by].concat()[..], // here is who you asked for
            ];
            sender.send(&reply.concat())?;
            println!("told {}", Ipv4Addr::new(asked_by[0], asked_by[1], asked_by[2], asked_by[3]));
        }
    }
    Ok(())
}
