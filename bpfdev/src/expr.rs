//! Filter expressions, as in pcap-filter(7), compiled by libpcap.
//!
//! ```
//! use bpfdev::cbpf::disasm;
//! use bpfdev::expr::{SNAPLEN, compile};
//! use bpfdev::linktype::Linktype;
//!
//! let insns = compile("ip", Linktype::EN10MB, SNAPLEN)?;
//! assert_eq!(insns.len(), 4);
//! assert!(disasm(&insns).starts_with("(000) ldh      [12]\n"));
//! assert!(compile("ip and", Linktype::EN10MB, SNAPLEN).is_err());
//! # Ok::<(), bpfdev::expr::ExprError>(())
//! ```

use bpfdev_core::cbpf::{Insn, code};
use bpfdev_core::linktype::Linktype;

/// What an accepting program keeps of a packet where nothing else is asked for, in bytes: tcpdump's default.
pub const SNAPLEN: u32 = 262_144;

/// Why an expression is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExprError {
    /// libpcap refuses it.
    #[error("{expression:?}: {message}")]
    Refused {
        /// The expression.
        expression: String,
        /// libpcap's words.
        message: String,
    },
    /// libpcap does not know the link type, or fails before it has seen the expression.
    #[error("libpcap: {0}")]
    Libpcap(String),
    /// No bytes are to be kept, so nothing could be accepted.
    #[error("a snap length of 0 rejects every packet")]
    NoSnaplen,
}

/// libpcap's handle keeps as much, and says so in every accepting return.
const DEAD_SNAPLEN: u32 = 65_535;

/// Compiles an expression for packets with this link header; the program keeps `snaplen` bytes of what it accepts. The
/// same program as `tcpdump -s snaplen -y linktype -ddd expression` prints.
///
/// # Errors
/// [`ExprError`], in libpcap's words.
pub fn compile(expression: &str, linktype: Linktype, snaplen: u32) -> Result<Vec<Insn>, ExprError> {
    let libpcap = |error: pcap::Error| ExprError::Libpcap(words(error));
    if snaplen == 0 {
        return Err(ExprError::NoSnaplen);
    }
    let number = i32::try_from(linktype.0).map_err(|_| libpcap(pcap::Error::InvalidLinktype))?;
    let dead = pcap::Capture::dead(pcap::Linktype(number)).map_err(libpcap)?;
    let program = dead
        .compile(expression, true)
        .map_err(|error| ExprError::Refused { expression: expression.to_owned(), message: words(error) })?;
    let mut insns = program.get_instructions().iter().map(instruction).collect::<Result<Vec<_>, _>>()?;
    for insn in &mut insns {
        if insn.code == code::RET_K && insn.k == DEAD_SNAPLEN {
            insn.k = snaplen;
        }
    }
    Ok(insns)
}

/// A link type by libpcap's name of it, without DLT_, in either case.
pub fn linktype(name: &str) -> Option<Linktype> {
    let found = pcap::Linktype::from_name(name).ok()?;
    u32::try_from(found.0).ok().map(Linktype)
}

/// The crate hides the fields and prints them, as -ddd does.
fn instruction(insn: &pcap::BpfInstruction) -> Result<Insn, ExprError> {
    let printed = insn.to_string();
    let numbers: Vec<u32> = printed.split(' ').filter_map(|number| number.parse().ok()).collect();
    let fields = match numbers.as_slice() {
        &[code, jt, jf, k] => {
            (|| Some(Insn::new(code.try_into().ok()?, jt.try_into().ok()?, jf.try_into().ok()?, k)))()
        }
        _ => None,
    };
    fields.ok_or_else(|| ExprError::Libpcap(format!("no instruction: {printed}")))
}

/// Without the crate's "libpcap error: " before it.
fn words(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_snap_length_is_in_every_accepting_return_and_nowhere_else() {
        let insns = compile("len = 65535 or ip", Linktype::EN10MB, 96).unwrap();
        let returns: Vec<u32> = insns.iter().filter(|i| i.code == code::RET_K).map(|i| i.k).collect();
        assert_eq!(returns, [96, 0]);
        assert!(insns.iter().any(|insn| insn.code == code::JEQ_K && insn.k == 65_535), "{insns:?}");
        assert_eq!(compile("", Linktype::RAW, SNAPLEN).unwrap(), [Insn::stmt(code::RET_K, SNAPLEN)]);
    }

    #[test]
    fn what_libpcap_refuses_is_said_in_its_words() {
        let says =
            |expression, linktype, snaplen| compile(expression, linktype, snaplen).unwrap_err().to_string();
        assert!(
            says("tcp and", Linktype::EN10MB, 1).contains("\"tcp and\": "),
            "{}",
            says("tcp and", Linktype::EN10MB, 1)
        );
        assert!(says("tcp port 99999", Linktype::EN10MB, 1).contains("99999"));
        assert_eq!(says("ip", Linktype::EN10MB, 0), "a snap length of 0 rejects every packet");
        assert!(compile("a\0b", Linktype::EN10MB, 1).is_err());
        assert!(compile("ip", Linktype(u32::MAX), 1).is_err());
        assert!(compile("ip", Linktype(4711), 1).is_err());
    }

    #[test]
    fn link_types_have_libpcaps_names() {
        for (name, number) in
            [("EN10MB", Some(1)), ("raw", Some(12)), ("NULL", Some(0)), ("ETHER", None), ("a\0", None)]
        {
            assert_eq!(linktype(name), number.map(Linktype), "{name}");
        }
    }
}
