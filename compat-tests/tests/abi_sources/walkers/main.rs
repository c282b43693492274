//! Prints the constants of pnet_datalink and smoltcp, and walks the buffer on stdin as they do.
//!
//! pnet_bpf.rs, bindings_bpf.rs and smoltcp_bpf.rs are their files, copied here by the test with `target_os` made a
//! feature; what they use of their own crates stands below.
#![allow(warnings)]

use std::io;
use std::time::Duration;

/// What pnet_datalink's bpf.rs uses of its crate.
pub trait DataLinkSender: Send {
    fn build_and_send(
        &mut self,
        num_packets: usize,
        packet_size: usize,
        func: &mut dyn FnMut(&mut [u8]),
    ) -> Option<io::Result<()>>;
    fn send_to(&mut self, packet: &[u8], dst: Option<NetworkInterface>) -> Option<io::Result<()>>;
}
pub trait DataLinkReceiver: Send {
    fn next(&mut self) -> io::Result<&[u8]>;
}
pub enum Channel {
    Ethernet(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>),
}
pub struct NetworkInterface {
    pub name: String,
}
pub struct Config {
    pub write_buffer_size: usize,
    pub read_buffer_size: usize,
    pub read_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
    pub bpf_fd_attempts: usize,
}
#[path = "."]
mod bindings {
    #[path = "bindings_bpf.rs"]
    pub mod bpf;
}
#[path = "pnet_bpf.rs"]
mod pnet;

/// What smoltcp's bpf.rs uses of its crate.
#[cfg(not(feature = "illumos"))]
#[path = "."]
mod sys {
    #[derive(Debug)]
    pub(crate) struct ifreq;
    pub(crate) fn ifreq_for(_: &str) -> ifreq {
        ifreq
    }
    #[path = "smoltcp_bpf.rs"]
    pub mod bpf;
}
mod phy {
    pub enum Medium {}
}
mod wire {
    pub const ETHERNET_HEADER_LEN: usize = 14;
}

fn show(name: &str, value: u64) {
    println!("{name} {value:#x}");
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("pnet-constants") => {
            use bindings::bpf::*;
            for (name, value) in [
                ("BIOCSETIF", BIOCSETIF),
                ("BIOCIMMEDIATE", BIOCIMMEDIATE),
                ("BIOCGBLEN", BIOCGBLEN),
                ("BIOCGDLT", BIOCGDLT),
                ("BIOCSBLEN", BIOCSBLEN),
                ("BIOCSHDRCMPLT", BIOCSHDRCMPLT),
                ("BIOCSRTIMEOUT", BIOCSRTIMEOUT),
                #[cfg(any(feature = "freebsd", feature = "netbsd", feature = "illumos"))]
                ("BIOCFEEDBACK", BIOCFEEDBACK),
            ] {
                show(name, value);
            }
            show("DLT_NULL", DLT_NULL.into());
            show("BPF_ALIGNMENT", BPF_WORDALIGN(1) as u64);
            show("bh_caplen", std::mem::offset_of!(bpf_hdr, bh_caplen) as u64);
            show("bh_datalen", std::mem::offset_of!(bpf_hdr, bh_datalen) as u64);
            show("bh_hdrlen", std::mem::offset_of!(bpf_hdr, bh_hdrlen) as u64);
            show("sizeof", std::mem::size_of::<bpf_hdr>() as u64);
        }
        Some("pnet-walk") => pnet::walk(),
        #[cfg(not(feature = "illumos"))]
        Some("smoltcp-constants") => sys::bpf::constants(),
        #[cfg(not(feature = "illumos"))]
        Some("smoltcp-first") => sys::bpf::first(),
        _ => panic!("what?"),
    }
}
