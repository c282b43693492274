//! Reads a capture file as if it were an interface, no privilege needed: `replay FILE.pcap`.

use bpfdev::capture::Capture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which capture file?")?;
    let mut capture = Capture::replay(path)?;
    while let Some(mut batch) = capture.next_batch()? {
        while let Some(packet) = batch.next() {
            let at = packet.timestamp;
            println!("{}.{:06} {} bytes", at.sec, at.nsec / 1000, packet.wirelen);
        }
    }
    Ok(())
}
