//! Hexadecimal text, and the frames and programs the recordings abbreviate.

use bpfdev_core::cbpf::Insn;

/// The bytes of a hexadecimal text.
///
/// # Errors
/// Says which text is not hexadecimal.
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{text:?} is not hexadecimal");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(bad());
    }
    text.as_bytes()
        .chunks(2)
        .map(|two| std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(bad)
}

/// Lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The frame of `len` bytes the recordings use: to everyone, from 02:00:00:00:00:01, type 0x88b5, the sequence number,
/// and bytes that go up by seven.
pub fn frame(len: usize, seq: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend(seq.to_be_bytes());
    let mut next = seq.to_be_bytes()[1];
    while frame.len() < len {
        frame.push(next);
        next = next.wrapping_add(7);
    }
    frame.truncate(len);
    frame
}

/// A frame written out, or as its beginning and `...`: then it goes on as [`frame`] does.
///
/// # Errors
/// When the text is not hexadecimal, its length is not `len`, or an abbreviated frame does not begin as [`frame`] does.
pub fn whole_frame(text: &str, len: usize) -> Result<Vec<u8>, String> {
    let Some((shown, _)) = text.split_once("...") else {
        let bytes = decode(text)?;
        let right = bytes.len() == len;
        return if right {
            Ok(bytes)
        } else {
            Err(format!("`data` has {} bytes, `len` is {len}", bytes.len()))
        };
    };
    let shown = decode(shown)?;
    let seq = match shown.get(14..16) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => return Err(format!("the abbreviated frame {text:?} does not reach its sequence number")),
    };
    let mut bytes = frame(len, seq);
    match bytes.get_mut(..14) {
        Some(header) => header.copy_from_slice(&shown[..14]),
        None => return Err(format!("a frame of {len} bytes is abbreviated to more")),
    }
    if bytes.starts_with(&shown) {
        Ok(bytes)
    } else {
        Err(format!("{text:?} does not go on in steps of seven"))
    }
}

/// `ret #5`: how every abbreviated program ends.
const END: [u8; 8] = [6, 0, 0, 0, 5, 0, 0, 0];

/// Filter instructions as their bytes, little-endian; `FIRST...` repeats the first instruction up to `len`, with
/// `ret #5` as the last.
///
/// # Errors
/// When the text is not a whole number of instructions in hexadecimal.
pub fn program(text: &str, len: u32) -> Result<Vec<u8>, String> {
    let (shown, abbreviated) = text.split_once("...").map_or((text, false), |(shown, _)| (shown, true));
    let shown = decode(shown)?;
    if !shown.len().is_multiple_of(Insn::SIZE) {
        return Err(format!("{text:?} is not a whole number of instructions"));
    }
    if !abbreviated {
        return Ok(shown);
    }
    let first = shown.get(..Insn::SIZE).ok_or_else(|| format!("{text:?} shows no instruction"))?;
    // no system takes as many as that: what is beyond is never read
    let count = len.min(1 << 16) as usize;
    let mut bytes = first.repeat(count.saturating_sub(1));
    bytes.extend(END);
    Ok(bytes)
}

/// The instructions of a program's little-endian bytes.
pub fn insns(bytes: &[u8]) -> Vec<Insn> {
    let insn = |b: &[u8]| {
        let code = u16::from_le_bytes([b[0], b[1]]);
        Insn::new(code, b[2], b[3], u32::from_le_bytes([b[4], b[5], b[6], b[7]]))
    };
    bytes.chunks_exact(Insn::SIZE).map(insn).collect()
}

/// Whether `bytes` are what `text` records: each `S` stands for any digit, `...` for any rest.
pub fn matches(text: &str, bytes: &[u8]) -> bool {
    let (shown, abbreviated) = text.split_once("...").map_or((text, false), |(shown, _)| (shown, true));
    let actual = encode(bytes);
    let long_enough = if abbreviated { actual.len() >= shown.len() } else { actual.len() == shown.len() };
    long_enough && shown.bytes().zip(actual.bytes()).all(|(wanted, is)| wanted == b'S' || wanted == is)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_recorded_ones() {
        let short = "ffffffffffff02000000000188b5002a2a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9";
        assert_eq!(encode(&frame(42, 42)), short);
        assert_eq!(encode(&frame(14, 7)), "ffffffffffff02000000000188b5");
        let long = whole_frame("ffffffffffff02000000000188b505e9e9f0f7fe050c131a21282f363d444b52...", 1513);
        assert_eq!(long.unwrap(), frame(1513, 0x05e9));
        assert!(whole_frame("ffffffffffff02000000000188b505e9e9f0f8...", 1513).is_err());
        assert!(whole_frame("ffff", 3).is_err() && whole_frame("fff", 1).is_err());
    }

    #[test]
    fn an_abbreviated_program_has_its_length() {
        let bytes = program("00000000010000000000000001000000... (513 insns)", 513).unwrap();
        assert_eq!((bytes.len(), &bytes[512 * 8..]), (513 * 8, &END[..]));
        assert!(program("0000", 1).is_err());
    }

    #[test]
    fn wildcards_match() {
        assert!(matches("ffSS", &[0xff, 0x12]) && matches("ff...(3)", &[0xff, 1, 2]));
        assert!(!matches("ff", &[0xff, 1]) && !matches("ffff...", &[0xff]));
    }
}
