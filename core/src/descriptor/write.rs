//! write(2): the checks in their order, and what is changed of the frame.

use super::Descriptor;
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
    /// ENXIO without one.
    pub fn check_attached(&self) -> Result<(), Errno> {
        if self.attachment.is_none() { Err(Errno::NxIo) } else { Ok(()) }
    }

    /// Checks a frame in the dialect's order; `Ok(None)`: nothing is sent and the write returns 0.
    ///
    /// # Errors
    /// ENXIO, ENETDOWN, EIO (link type cannot be written), EMSGSIZE, EPERM (write filter).
    pub fn check_write(&self, frame: &[u8], link: LinkState) -> Result<Option<Frame>, Errno> {
        let Some(attachment) = &self.attachment else { return Err(Errno::NxIo) };
        let rules = &self.abi.rules;
        if rules.down_checked_first && !link.up {
            return Err(Errno::NetDown);
        }
        if frame.is_empty() {
            return Ok(None);
        }
        let linktype = attachment.interface.linktype;
        if !is_writable(linktype) {
            return Err(Errno::Io);
        }
        let header = linktype.header_len();
        if frame.len() < header || frame.len() - header > link.mtu as usize {
            return Err(Errno::MsgSize);
        }
        if let Some(filter) = &self.write_filter {
            let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            if filter.run_contiguous(frame, len) == 0 {
                return Err(Errno::Perm);
            }
        }
        let loopback = attachment.interface.loopback;
        // the family a frame is put out with there is AF_UNSPEC, unless the header is complete
        let family = if self.hdrcmplt { PSEUDO_AF_HDRCMPLT } else { 0 };
        let refused_after_tap =
            (loopback && rules.loopback_write == LoopbackWrite::Refused).then_some(family);
        if !link.up && refused_after_tap.is_none() {
            return Err(Errno::NetDown);
        }
        let ethernet = linktype == Linktype::EN10MB;
        let visible = match (self.feedback != 0, rules.feedback) {
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
}

/// Link types a write is understood for (semantics.md section 6), of those a backend here can have.
fn is_writable(linktype: Linktype) -> bool {
    [Linktype::EN10MB, Linktype::NULL, Linktype::LOOP, Linktype::RAW, Linktype::PPP, Linktype::SLIP]
        .contains(&linktype)
}
