//! Classic BPF: the filter machine of McCanne and Jacobson.
//!
//! A filter is a list of [`Insn`]. It sees one packet: `packet`, the bytes captured, and `wirelen`, the bytes there
//! were on the wire. It works on an accumulator A, an index register X and sixteen words M\[\], jumps only forward, and
//! returns the *snap length*: how many bytes of the packet to keep, 0 to reject it. A load outside the captured bytes
//! rejects the packet.
//!
//! The BSDs and Linux agree on this much and differ at the edges; each system's edges are one [`Rules`] table.
//! [`validate()`] checks instructions by a table and makes a [`Program`], which nothing else can make; a `Program`
//! remembers its rules and runs by them.
//!
//! ```
//! use bpfdev_core::cbpf::{self, text};
//!
//! // What `tcpdump -ddd ip` prints.
//! let insns = text::read("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n")?;
//! let ip = cbpf::validate(&insns, &cbpf::NETBSD)?;
//!
//! let frame = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00, 0x45];
//! assert_eq!(ip.run(&frame, 60), 262144);
//! assert_eq!(ip.run(&frame[..13], 60), 0, "the Ethernet type was not captured");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod builder;
pub mod code;
mod disasm;
pub mod graph;
mod insn;
mod interpret;
mod program;
pub mod rules;
pub mod skb;
pub mod text;
pub mod trace;
mod validate;

pub use builder::Builder;
pub use disasm::{Image, disasm};
pub use insn::Insn;
pub use interpret::{interpret, interpret_contiguous, interpret_skb};
pub use program::Program;
pub use rules::{DRAGONFLY, FREEBSD, LINUX, LINUX_ABI, MACOS, NETBSD, OPENBSD, Rules};
pub use skb::{Skb, VlanTag};
pub use validate::{Reason, Reject, validate};
