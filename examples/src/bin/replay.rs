//! Reads a capture file through an open bpf file, no privilege needed: `replay FILE.pcap`.

use std::path::Path;
use std::sync::Arc;

use bpfdev::abi::{Request, linux::LINUX};
use bpfdev::errno::Errno;
use bpfdev::file::{Access, BpfFile, EmulatedFile};
use bpfdev::records;
use bpfdev::replay::{INTERFACE, Pace, Replay};
use bpfdev::time::SystemClock;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which capture file?")?;
    let clock = Arc::new(SystemClock::new());
    let network = Replay::new(Path::new(&path), Pace::AsRead, clock.clone());
    let file = EmulatedFile::open(&LINUX, Access::Read, Arc::new(network), clock);
    file.ioctl(&Request::Immediate(1))?;
    file.ioctl(&Request::SetIf(INTERFACE.into()))?;
    file.set_nonblocking(true)?;
    let mut buf = vec![0; LINUX.rules.bufsize as usize];
    loop {
        let n = match file.read(&mut buf) {
            Ok(n) => n,
            Err(Errno::Again) => return Ok(()), // the file has ended
            Err(errno) => return Err(errno.into()),
        };
        for record in records(&buf[..n], &LINUX.header) {
            let at = record.timestamp;
            println!("{}.{:06} {} bytes", at.sec, at.nsec / 1000, record.wirelen);
        }
    }
}
