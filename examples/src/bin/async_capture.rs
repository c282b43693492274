//! Counts the packets of two interfaces at once, in one thread, for some seconds: `async_capture eth0 lo 5`.

use std::time::Duration;

use bpfdev::capture::{AsyncCapture, Capture, Error};

async fn count(interface: &str) -> Result<(), Error> {
    let mut capture = AsyncCapture::new(Capture::open(interface)?)?;
    let (mut packets, mut bytes) = (0u64, 0u64);
    while let Some(mut batch) = capture.next_batch().await? {
        while let Some(packet) = batch.next() {
            packets += 1;
            bytes += u64::from(packet.wirelen);
        }
        println!("{interface}: {packets} packets, {bytes} bytes");
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [one, other, seconds] = &arguments[..] else {
        return Err("two interfaces, and how many seconds?".into());
    };
    tokio::select! {
        ended = count(one) => ended?,
        ended = count(other) => ended?,
        () = tokio::time::sleep(Duration::from_secs(seconds.parse()?)) => {}
    }
    Ok(())
}
