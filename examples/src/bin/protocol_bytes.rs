//! Bytes by IP protocol on an interface, each second: the kernel's sample sockex1, with no C compiler.
//!
//! Run it as root: `protocol_bytes eth0 [SECONDS]`. An eBPF socket filter adds the length of every IPv4 packet to the sum of
//! its protocol in an array map, and accepts none: nothing is copied to this process but the sums.

use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use bpfdev::abi::linux::LINUX;
use bpfdev::backend::FilterBackend;
use bpfdev::native::bpf::{SocketFilter, Sums};
use bpfdev::native::filter::ebpf::{Insn, Reg};
use bpfdev::native::{PacketSocket, PacketSockets};

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
const R2: Reg = Reg(2);
/// The packet: LD_ABS wants it here.
const R6: Reg = Reg(6);
const FRAME: Reg = Reg(10);

/// The program; `sums` is the map's number.
fn program(sums: i32) -> Vec<Insn> {
    const LD_ABS_H: u8 = 0x28;
    const LD_ABS_B: u8 = 0x30;
    const LD_MAP: u8 = 0x18;
    const LDX_W: u8 = 0x61;
    const STX_W: u8 = 0x63;
    const ATOMIC_ADD_DW: u8 = 0xdb;
    const JEQ: u8 = 0x15;
    const JNE: u8 = 0x55;
    const MOV64: u8 = 0xbf;
    const MOV64_IMM: u8 = 0xb7;
    const ADD64_IMM: u8 = 0x07;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const MAP_LOOKUP_ELEM: i32 = 1;
    /// Offset of `len` in `struct __sk_buff`.
    const SKB_LEN: i16 = 0;
    vec![
        Insn::new(MOV64, R6, R1, 0, 0),
        Insn::new(LD_ABS_H, R0, R0, 0, 12),
        Insn::new(JNE, R0, R0, 10, 0x0800), // not IPv4: to the end
        Insn::new(LD_ABS_B, R0, R0, 0, 14 + 9),
        Insn::new(STX_W, FRAME, R0, -4, 0), // the index: the protocol
        Insn::new(MOV64, R2, FRAME, 0, 0),
        Insn::new(ADD64_IMM, R2, R0, 0, -4),
        Insn::new(LD_MAP, R1, Reg(1), 0, sums), // BPF_PSEUDO_MAP_FD
        Insn::new(0, R0, R0, 0, 0),
        Insn::new(CALL, R0, R0, 0, MAP_LOOKUP_ELEM),
        Insn::new(JEQ, R0, R0, 2, 0),
        Insn::new(LDX_W, R1, R6, SKB_LEN, 0),
        Insn::new(ATOMIC_ADD_DW, R0, R1, 0, 0),
        Insn::new(MOV64_IMM, R0, R0, 0, 0), // accept nothing
        Insn::new(EXIT, R0, R0, 0, 0),
    ]
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(interface) = arguments.next() else {
        eprintln!("usage: protocol_bytes INTERFACE [SECONDS]");
        return Ok(ExitCode::from(2));
    };
    let seconds = arguments.next().map_or(Ok(u64::MAX), |word| word.parse())?;

    let config = LINUX.tap_config(4096);
    let tap = PacketSocket::attach(&interface, &config, PacketSockets::default())?;
    let socket = tap.as_fd().ok_or("a packet socket has a descriptor")?;
    let sums = Sums::new(256)?;
    let mut filter = SocketFilter::load_insns(&program(sums.as_raw_fd()))?;
    filter.attach(socket)?;

    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        let mut line = Vec::new();
        for protocol in 0..256 {
            let bytes = sums.read(protocol)?;
            if bytes > 0 {
                let name = match protocol {
                    1 => "icmp".to_owned(),
                    6 => "tcp".to_owned(),
                    17 => "udp".to_owned(),
                    other => format!("protocol {other}"),
                };
                line.push(format!("{name} {bytes}"));
            }
        }
        println!("{} bytes", if line.is_empty() { "no".to_owned() } else { line.join(", ") });
    }
    Ok(ExitCode::SUCCESS)
}
