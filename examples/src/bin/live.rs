//! Prints the length of each packet of an interface, on Linux and the BSDs alike: `live eth0`.

use bpfdev::abi::{Request, Response};
use bpfdev::file::{Access, BpfFile};
use bpfdev::{native, records};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let interface = std::env::args().nth(1).ok_or("which interface?")?;
    let file = native::open(Access::Read)?;
    file.ioctl(&Request::SetIf(interface.into_bytes()))?;
    file.ioctl(&Request::Immediate(1))?;
    let Response::U32(size) = file.ioctl(&Request::GBlen)? else { return Err("BIOCGBLEN: no number".into()) };
    let mut buf = vec![0; size as usize];
    loop {
        let n = file.read(&mut buf)?;
        for record in records(&buf[..n], &native::ABI.header) {
            println!("{} bytes on the wire, {} kept", record.wirelen, record.data.len());
        }
    }
}
