//! write(2): the checks in their order, and what is changed of the frame.

use super::{Descriptor, Place};
use crate::abi::rules::{FeedbackRule, LoopbackWrite};
use crate::backend::{Direction, LinkState, Visible};
use crate::errno::Errno;
use crate::linktype::Linktype;

/// A frame that passed the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sees it go.
    pub visible: Visible,
    /// Put the interface's address in as Ethernet source.
    pub set_source: bool,
    /// Put the payload's length in as Ethernet type.
    pub set_length: bool,
    /// Taps see it behind one more family word, this one, and the writer gets EAFNOSUPPORT.
    pub refused_after_tap: Option<u32>,
}

/// NetBSD's `pseudo_AF_HDRCMPLT`: the family of a frame whose header is complete.
const PSEUDO_AF_HDRCMPLT: u32 = 30;

impl Descriptor {
    /// The interface a write goes to must be there before anything else.
    ///
    /// # Errors
    /// ENXIO without one, EIO when the file was revoked.
    pub fn check_attached(&self) -> Result<(), Errno> {
        match self.place {
            Place::On(_) => Ok(()),
            Place::Nowhere => Err(Errno::NxIo),
            Place::Revoked => Err(Errno::Io),
        }
    }

    /// Checks a frame in the dialect's order; `Ok(None)`: nothing is sent and the write returns 0.
    ///
    /// # Errors
    /// ENXIO, ENETDOWN, EIO (link type cannot be written), the dialect's for frames too short or too long, EPERM (write
    /// filter).
    pub fn check_write(&self, frame: &[u8], link: LinkState) -> Result<Option<Frame>, Errno> {
        self.check_attached()?;
        let Some(attachment) = self.attachment() else { return Err(Errno::NxIo) };
        let rules = &self.abi.rules.write;
        if rules.up_first && !link.up {
            return Err(Errno::NetDown);
        }
        if frame.is_empty() {
            return Ok(None);
        }
        let linktype = attachment.interface.linktype;
        let known = rules.linktypes.iter().find(|(known, _)| *known == linktype);
        let (_, header) = known.ok_or(Errno::Io)?;
        self.check_length(frame.len(), *header, link.mtu)?;
        if let Some(filter) = &self.write_filter {
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            let passed = filter.run_contiguous(frame, len);
            if passed == 0 || (rules.filter_passes_whole && passed < len) {
                return Err(Errno::Perm);
            }
        }
        let loopback = attachment.interface.loopback;
        // the family a frame is put out with there is AF_UNSPEC, unless the header is complete
        let family = if self.hdrcmplt { PSEUDO_AF_HDRCMPLT } else { 0 };
        let refused_after_tap = (loopback && rules.loopback == LoopbackWrite::Refused).then_some(family);
        if !link.up && refused_after_tap.is_none() {
            return Err(Errno::NetDown);
        }
        if loopback && refused_after_tap.is_none() {
            // the output routine's: it knows IP and IPv6 by that system's numbers
            let family = frame.first_chunk().and_then(|word| self.abi.loopback.ethertype(*word));
            family.ok_or(Errno::AfNoSupport)?;
        }
        let ethernet = linktype == Linktype::EN10MB && frame.len() >= linktype.header_len();
        let visible = match (self.feedback != 0, self.abi.rules.feedback) {
            (false, _) => Visible::ToTaps,
            (true, FeedbackRule::Hidden) => Visible::ToNobody,
            (true, FeedbackRule::Once) if self.direction() == Direction::InOut => Visible::AsReceived,
            (true, FeedbackRule::Once) => Visible::SentAndReceived,
        };
        Ok(Some(Frame {
            visible,
            set_source: ethernet && !self.hdrcmplt,
            set_length: ethernet && rules.ethertype_zero_is_length && frame[12..14] == [0, 0],
            refused_after_tap,
        }))
    }

    /// The frame's length against its link header, the MTU and the longest there can be.
    fn check_length(&self, len: usize, header: usize, mtu: u32) -> Result<(), Errno> {
        let rules = &self.abi.rules.write;
        let header = if rules.complete_has_no_header && self.hdrcmplt { 0 } else { header };
        let check_largest = |before_mtu: bool| match rules.largest {
            Some(largest) if largest.before_mtu == before_mtu && len > largest.bytes => Err(largest.errno),
            _ => Ok(()),
        };
        check_largest(true)?;
        if len < header {
            return Err(rules.short);
        }
        // BIOCSWRITEMAX: a longer frame is logged there, and put out
        if self.write_max == 0 && len - header > mtu as usize + rules.leeway as usize {
            return Err(Errno::MsgSize);
        }
        check_largest(false)
    }
}
