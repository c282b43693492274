//! A recorded answer beside ours: the first difference, in words.

use std::time::Duration;

use bpfdev_core::abi::{Abi, Arg, Header, Op};
use serde_json::{Map, Value, json};

use super::call::Answer;
use super::{hex, mask};

/// One record of what read(2) gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset of its header.
    pub off: usize,
    /// bh_hdrlen.
    pub hdrlen: usize,
    /// bh_caplen.
    pub caplen: u32,
    /// bh_datalen.
    pub datalen: u32,
    /// The captured bytes, as many as are there.
    pub data: Vec<u8>,
}

impl Record {
    /// Bytes 14 and 15 of the frame, where they were captured.
    pub fn seq(&self) -> Option<u16> {
        self.data.get(14..16).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }
}

/// The records of a buffer with headers of this layout. Stops where no header is left.
pub fn records(buffer: &[u8], header: &Header) -> Vec<Record> {
    let mut records = Vec::new();
    let mut off = 0;
    while let Some((_, caplen, datalen, hdrlen)) = buffer.get(off..).and_then(|rest| header.read(rest)) {
        let start = off.saturating_add(hdrlen).min(buffer.len());
        let end = start.saturating_add(caplen as usize).min(buffer.len());
        records.push(Record { off, hdrlen, caplen, datalen, data: buffer[start..end].to_vec() });
        let next = header.align(end);
        if next <= off {
            break;
        }
        off = next;
    }
    records
}

/// The buffer with its time stamps zeroed; padding and gaps are zero already, or differ.
pub fn masked(buffer: &[u8], header: &Header) -> Vec<u8> {
    let mut bytes = buffer.to_vec();
    for record in records(buffer, header) {
        let stamp = record.off..(record.off + header.stamp.size()).min(buffer.len());
        bytes[stamp].fill(0);
    }
    bytes
}

/// Fields of a recorded answer in the order they are compared.
const FIELDS: [&str; 12] = [
    "ret",
    "errno",
    "value",
    "bfl_len",
    "list_words",
    "revents",
    "readable",
    "writable",
    "flags",
    "packets",
    "bytes_masked",
    "elapsed_ms",
];

/// Fields of a recorded packet in the order they are compared; the last three never are.
const PACKET_FIELDS: [&str; 10] =
    ["off", "hdrlen", "caplen", "datalen", "seq", "src", "data", "hdr_pad", "gap_to_next", "tstamp_sane"];

fn no_other_fields(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("the recorded field `{key}` is not known to this program")),
        None => Ok(()),
    }
}

fn differ(what: &str, recorded: &Value, here: &Value) -> Result<(), String> {
    if recorded == here { Ok(()) } else { Err(format!("{what}: recorded {recorded}, here {here}")) }
}

/// Compares an answer of a device of dialect `abi` with the recorded one; `cmd` is the request's number where it was an
/// ioctl.
///
/// # Errors
/// The first difference.
pub fn compare(
    recorded: &Value,
    cmd: Option<u32>,
    answer: &Answer,
    tolerance: Duration,
    abi: &Abi,
) -> Result<(), String> {
    let Value::Object(object) = recorded else {
        return Err(format!("recorded {recorded}, here it ended with {}", answer.ret));
    };
    no_other_fields(object, &FIELDS)?;
    for field in FIELDS {
        let Some(recorded) = object.get(field) else { continue };
        let here = match field {
            "ret" if answer.fd => json!("fd"),
            "ret" => match &answer.errno {
                Some(errno) if *recorded != json!(-1) => json!(format!("-1 {errno}")),
                _ => json!(answer.ret),
            },
            "errno" => json!(answer.errno),
            "value" => value(abi, cmd, answer),
            "bfl_len" => json!(answer.arg.as_ref().and_then(|arg| number(&arg.bytes, 0, 4))),
            "list_words" => list_words(answer),
            "revents" => json!(answer.revents),
            "readable" => json!(answer.selected.map(|sets| u8::from(sets.read))),
            "writable" => json!(answer.selected.map(|sets| u8::from(sets.write))),
            "flags" => match answer.flags {
                Some(flags) => json!(format!("{flags:#x}")),
                None => continue,
            },
            "packets" => {
                packets(recorded, &records(&answer.data, &abi.header))?;
                continue;
            }
            "bytes_masked" => {
                let bytes = masked(&answer.data, &abi.header);
                if !recorded.as_str().is_some_and(|text| hex::matches(text, &bytes)) {
                    return differ(field, recorded, &json!(hex::encode(&bytes)));
                }
                continue;
            }
            "elapsed_ms" => {
                elapsed(recorded, answer.elapsed, tolerance)?;
                continue;
            }
            _ => continue,
        };
        differ(field, recorded, &here)?;
    }
    Ok(())
}

fn elapsed(recorded: &Value, here: Duration, tolerance: Duration) -> Result<(), String> {
    let wanted = recorded.as_u64().ok_or_else(|| format!("elapsed_ms: {recorded} is no time"))?;
    if here.abs_diff(Duration::from_millis(wanted)) <= tolerance {
        return Ok(());
    }
    Err(format!("elapsed_ms: recorded {wanted}, here {}", here.as_millis()))
}

/// A little-endian number of `size` bytes at `at`.
pub fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    let mut wide = [0; 8];
    wide.get_mut(..size)?.copy_from_slice(field);
    Some(u64::from_le_bytes(wide))
}

/// What an ioctl gave back, in the layout of its argument.
pub fn value(abi: &Abi, cmd: Option<u32>, answer: &Answer) -> Value {
    let (Some(cmd), Some(arg)) = (cmd, &answer.arg) else { return Value::Null };
    let bytes = &arg.bytes;
    let row = abi.decode(cmd).map(|call| (call.row.op, call.row.arg));
    match row {
        Some((Op::GetIf, _)) => {
            let name: Vec<u8> = bytes.iter().take(16).copied().take_while(|&byte| byte != 0).collect();
            json!(String::from_utf8_lossy(&name))
        }
        Some((_, Arg::Stats32)) => json!({"recv": number(bytes, 0, 4), "drop": number(bytes, 4, 4)}),
        Some((_, Arg::Stats64)) => {
            json!({"recv": number(bytes, 0, 8), "drop": number(bytes, 8, 8), "capt": number(bytes, 16, 8)})
        }
        Some((_, Arg::Version)) => json!([number(bytes, 0, 2), number(bytes, 2, 2)]),
        // the microseconds have 32 bits in some layouts, 64 in others
        Some((_, Arg::TimevalUsec32)) => json!([number(bytes, 0, 8), number(bytes, 8, 4)]),
        Some((_, Arg::Timeval64)) => json!([number(bytes, 0, 8), number(bytes, 8, 8)]),
        _ => json!(number(bytes, 0, bytes.len().min(8))),
    }
}

/// The words of a list of link types.
pub fn list_words(answer: &Answer) -> Value {
    let list = answer.arg.as_ref().and_then(|arg| arg.pointee.as_ref());
    list.map_or(Value::Null, |list| {
        list.chunks_exact(4).map(|word| json!(format!("{:#x}", number(word, 0, 4).unwrap_or(0)))).collect()
    })
}

fn packets(recorded: &Value, here: &[Record]) -> Result<(), String> {
    let Some(recorded) = recorded.as_array() else { return Err(format!("packets: {recorded} is no list")) };
    for (i, (wanted, record)) in recorded.iter().zip(here).enumerate() {
        packet(wanted, record).map_err(|what| format!("packet {i}: {what}"))?;
    }
    differ("number of packets", &json!(recorded.len()), &json!(here.len()))
}

fn packet(recorded: &Value, here: &Record) -> Result<(), String> {
    let Some(object) = recorded.as_object() else { return Err(format!("{recorded} is no packet")) };
    no_other_fields(object, &PACKET_FIELDS)?;
    let data = object.get("data").and_then(Value::as_str);
    for field in PACKET_FIELDS {
        let Some(recorded) = object.get(field) else { continue };
        let value = match field {
            "off" => json!(here.off),
            "hdrlen" => json!(here.hdrlen),
            "caplen" => json!(here.caplen),
            "datalen" => json!(here.datalen),
            // bytes of `data`, which may be among those that no other host can repeat
            "seq" if data.is_some_and(|text| mask::same_packet(text, here)) => continue,
            "seq" => json!(here.seq()),
            "src" => source(here),
            "data" => {
                let text = data.ok_or("`data` is no text")?;
                if !hex::matches(text, &here.data) && !mask::same_packet(text, here) {
                    return differ(field, recorded, &json!(hex::encode(&here.data)));
                }
                continue;
            }
            _ => continue,
        };
        differ(field, recorded, &value)?;
    }
    Ok(())
}

/// The Ethernet source: `IFMAC` is the interface's own address.
pub fn source(here: &Record) -> Value {
    match here.data.get(6..12) {
        Some(source) if source == mask::OWN_ADDRESS => json!("IFMAC"),
        Some(source) => json!(hex::encode(source)),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::netbsd::NETBSD;

    #[test]
    fn records_end_where_the_buffer_does() {
        let mut buffer = vec![0; 34 + 60 + 2 + 34 + 14];
        for (off, caplen, datalen) in [(0, 60u32, 60u32), (96, 14, 1514)] {
            buffer[off + 16..off + 20].copy_from_slice(&caplen.to_le_bytes());
            buffer[off + 20..off + 24].copy_from_slice(&datalen.to_le_bytes());
            buffer[off + 24..off + 26].copy_from_slice(&34u16.to_le_bytes());
        }
        let found: Vec<_> =
            records(&buffer, &NETBSD.header).iter().map(|r| (r.off, r.caplen, r.datalen, r.seq())).collect();
        assert_eq!(found, [(0, 60, 60, Some(0)), (96, 14, 1514, None)]);
        assert_eq!(records(&buffer[..32], &NETBSD.header).len(), 1, "a header without its packet");
        assert_eq!(records(&[0; 40], &NETBSD.header).len(), 1, "a header that leads nowhere ends it");
        assert!(records(&[0; 10], &NETBSD.header).is_empty());
    }

    #[test]
    fn the_first_difference_is_named() {
        let tolerance = Duration::from_millis(60);
        let answer = Answer { elapsed: Duration::from_millis(290), ..Answer::ok(0) };
        let says = |recorded: Value| compare(&recorded, None, &answer, tolerance, &NETBSD).err();
        assert_eq!(says(json!({"ret": 0, "elapsed_ms": 300})), None);
        assert_eq!(says(json!({"ret": 1})).as_deref(), Some("ret: recorded 1, here 0"));
        assert!(says(json!({"ret": 0, "elapsed_ms": 400})).is_some_and(|text| text.contains("290")));
        assert!(says(json!({"ret": 0, "colour": 1})).is_some_and(|text| text.contains("`colour`")));
        assert!(says(json!("still blocked")).is_some());
        let failed = Answer::error("EINVAL");
        let text = compare(&json!({"ret": 0}), None, &failed, tolerance, &NETBSD).expect_err("differs");
        assert_eq!(text, "ret: recorded 0, here \"-1 EINVAL\"");
    }
}
