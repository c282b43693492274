//! The frames that are sent about: each carries its number, so that a reader's order and gaps can be told.

/// Ethernet's broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// Who frames come from, unless said.
pub const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// A station that is on no wire.
pub const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
/// The frames' ethertype: for local experiments (IEEE 802).
pub const ETHERTYPE: u16 = 0x88b5;

/// A broadcast frame of `len` bytes (at least 16) with this number in bytes 14 and 15.
pub fn frame(len: usize, number: u16) -> Vec<u8> {
    frame_to(BROADCAST, len, number)
}

/// The same, to somebody.
pub fn frame_to(to: [u8; 6], len: usize, number: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(SOMEBODY);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(number.to_be_bytes());
    // no two bytes next to each other are alike, and none is zero: what is lost or shifted is seen
    frame.extend((16..len).map(|at| u8::try_from(at % 251 + 1).unwrap_or(1)));
    frame.truncate(len.max(16));
    frame
}

/// The number a frame carries.
pub fn number(frame: &[u8]) -> Option<u16> {
    frame.get(14..16).map(|two| u16::from_be_bytes([two[0], two[1]]))
}
