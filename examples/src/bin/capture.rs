//! Prints the length of each packet of an interface, on Linux and the BSDs alike: `capture eth0 [COUNT]`.

use bpfdev::capture::Capture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().ok_or("which interface?")?;
    let mut left = arguments.next().map_or(Ok(u64::MAX), |count| count.parse())?;

    let mut capture = Capture::options().immediate(true).open(&interface)?;
    println!("{interface}: link type {}, by {}", capture.linktype().0, capture.backend());
    while let Some(mut batch) = capture.next_batch()? {
        while let Some(packet) = batch.next() {
            println!("{} bytes on the wire, {} kept", packet.wirelen, packet.data.len());
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}
