//! The same program on this system's own tap and through a bpf device:
//! `two_platforms eth0 native COUNT`, or `two_platforms eth0 openbsd /dev/bpfdev/openbsd COUNT`.

use bpfdev::Devices;
use bpfdev::abi::Abi;
use bpfdev::capture::{Capture, Error, Options};
use bpfdev::cbpf::text;

/// All that knows where packets come from.
fn open(options: Options, interface: &str, place: &[String]) -> Result<Capture, Box<dyn std::error::Error>> {
    Ok(match place {
        [native] if native == "native" => options.open(interface)?,
        [dialect, dir] => {
            let abi = Abi::by_name(dialect).ok_or("no such dialect")?;
            options.open_on(&Devices::new(abi).in_dir(dir), interface)?
        }
        _ => return Err("native, or a dialect and the directory of its nodes?".into()),
    })
}

fn print(capture: &mut Capture, mut left: u64) -> Result<(), Error> {
    while let Some(mut batch) = capture.next_batch()? {
        while let Some(packet) = batch.next() {
            let hex: String = packet.data.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{} {hex}", packet.wirelen);
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, place @ .., count] = &arguments[..] else { return Err("which interface?".into()) };
    // what `tcpdump -ddd 'ether proto 0x88b5'` prints
    let filter = text::read("4\n40 0 0 12\n21 0 1 34997\n6 0 0 262144\n6 0 0 0\n")?;
    let mut capture = open(Capture::options().immediate(true).filter(filter), interface, place)?;
    println!("ready: {}", capture.backend());
    Ok(print(&mut capture, count.parse()?)?)
}
