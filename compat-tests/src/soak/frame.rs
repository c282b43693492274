//! Frames that say who sent them and as his how manieth, and whose every byte follows from that.

/// IEEE 802's ethertype for local experiments: no protocol of the kernel takes such frames.
const ETHERTYPE: u16 = 0x88b5;
/// Where the word that marks the frames of a soak is.
pub const MARK_AT: u32 = 14;
/// That word.
pub const MARK: u32 = 0x50ab_b10c;
/// Where the sender's number is.
pub const SENDER_AT: u32 = 18;
/// Where the low word of the frame's number is.
pub const NUMBER_AT: u32 = 26;
/// Where what only fills begins.
const FILLED_FROM: usize = 30;
/// Lengths differ by less than this.
const LENGTHS: u64 = 1400;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Who sent it: a wire's own sender has the wire's number, a client one above that.
    pub sender: u32,
    /// As his how manieth, from 0 on.
    pub number: u64,
}

impl Name {
    fn mixed(self) -> u64 {
        let word = (u64::from(self.sender) << 40 ^ self.number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word ^ word >> 29
    }

    /// Length of the frame, bytes.
    fn len(self) -> usize {
        60 + (self.mixed() % LENGTHS) as usize
    }

    /// The frame.
    pub fn frame(self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(self.len());
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        frame.extend(ETHERTYPE.to_be_bytes());
        frame.extend(MARK.to_be_bytes());
        frame.extend(self.sender.to_be_bytes());
        frame.extend(self.number.to_be_bytes());
        let first = self.mixed() as usize;
        frame.extend((FILLED_FROM..self.len()).map(|at| first.wrapping_add(at) as u8));
        frame
    }
}

/// What a captured packet says of itself; `data` is what was kept of `wirelen` bytes.
///
/// # Errors
/// It is no frame of a soak (`None`), or not the one it says it is.
pub fn check(data: &[u8], wirelen: u32) -> Result<Name, Option<String>> {
    let word = |at: u32| Some(u32::from_be_bytes(*data.get(at as usize..)?.first_chunk()?));
    if data.get(12..14) != Some(&ETHERTYPE.to_be_bytes()[..]) || word(MARK_AT) != Some(MARK) {
        return Err(None);
    }
    let (Some(sender), Some(high), Some(low)) = (word(SENDER_AT), word(NUMBER_AT - 4), word(NUMBER_AT))
    else {
        return Err(Some(format!("{} bytes were kept, too few for its number", data.len())));
    };
    let name = Name { sender, number: u64::from(high) << 32 | u64::from(low) };
    let frame = name.frame();
    if wirelen as usize != frame.len() {
        return Err(Some(format!("{name:?} has {} bytes, and came as {wirelen}", frame.len())));
    }
    // the addresses may be those of the interface that wrote it
    let from = MARK_AT as usize;
    if frame.get(from..data.len()) != data.get(from..) {
        return Err(Some(format!("{name:?}: other bytes than were sent, {} kept", data.len())));
    }
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_what_is_kept_of_it_and_a_changed_one_is_not() {
        let name = Name { sender: 107, number: 0x1_0000_0002 };
        let frame = name.frame();
        let wirelen = u32::try_from(frame.len()).unwrap();
        assert_eq!(check(&frame, wirelen), Ok(name));
        assert_eq!(check(&frame[..40], wirelen), Ok(name));
        assert!(check(&frame[..40], wirelen + 1).unwrap_err().is_some());
        assert!(check(&frame[..20], wirelen).unwrap_err().is_some());
        for at in [33, 59] {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert!(check(&other, wirelen).unwrap_err().is_some(), "byte {at}");
        }
        assert_eq!(check(&[0; 60], 60), Err(None));
    }
}
