//! The messages of /dev/fuse and /dev/cuse that the character plane reads and writes (`include/uapi/linux/fuse.h`).

/// Bytes of `struct fuse_in_header`, which begins every message from the kernel.
pub const IN_HEADER: usize = 40;
/// Bytes of `struct fuse_out_header`, which begins every message to the kernel.
pub const OUT_HEADER: usize = 16;

/// Message numbers (`enum fuse_opcode`).
pub mod opcode {
    #![allow(missing_docs)] // the names of the enum
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const POLL: u32 = 40;
    /// /dev/cuse's first.
    pub const CUSE_INIT: u32 = 4096;
}

/// `FUSE_IOCTL_DIR`: the ioctl is on a directory.
pub const IOCTL_DIR: u32 = 1 << 4;
/// `FUSE_IOCTL_UNRESTRICTED`: the kernel copies what it is asked for, whatever the number.
pub const IOCTL_UNRESTRICTED: u32 = 1 << 1;
/// `FUSE_IOCTL_32BIT`: the caller is a 32-bit program.
pub const IOCTL_32BIT: u32 = 1 << 3;
/// `FUSE_POLL_SCHEDULE_NOTIFY`: somebody sleeps on the file and wants a notification.
pub const POLL_SCHEDULE_NOTIFY: u32 = 1;
/// `FUSE_NOTIFY_POLL`, sent in the error field of a message with unique 0.
pub const NOTIFY_POLL: i32 = 1;

/// Fields of a message, read in order and in host byte order.
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

/// `struct fuse_in_header`: which request, from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length in bytes of the whole message.
    pub len: u32,
    /// One of [`opcode`], or another's.
    pub opcode: u32,
    /// Names the request until it is answered.
    pub unique: u64,
    /// The inode.
    pub nodeid: u64,
    /// The caller's fsuid, in the user namespace of the mount.
    pub uid: u32,
    /// The caller's fsgid.
    pub gid: u32,
    /// The calling **thread**, in the pid namespace of the mount; 0 when it is outside of that.
    pub pid: u32,
}

impl Header {
    /// Splits a message into its header and body. `None` when its own length says it is not whole.
    pub fn split(message: &[u8]) -> Option<(Header, &[u8])> {
        let mut f = Fields(message);
        let header = Header {
            len: f.u32()?,
            opcode: f.u32()?,
            unique: f.u64()?,
            nodeid: f.u64()?,
            uid: f.u32()?,
            gid: f.u32()?,
            pid: f.u32()?,
        };
        let body = message.get(IN_HEADER..)?;
        (header.len as usize == message.len()).then_some((header, body))
    }
}

/// `struct fuse_read_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIn {
    /// The open file.
    pub fh: u64,
    /// 0, or on a stream the bytes this read(2) has had already.
    pub offset: u64,
    /// Bytes asked for.
    pub size: u32,
    /// `f_flags` of the file now: O_NONBLOCK.
    pub flags: u32,
}

impl ReadIn {
    /// Reads the body of a READ.
    pub fn parse(body: &[u8]) -> Option<ReadIn> {
        let mut f = Fields(body);
        let (fh, offset, size, _read_flags, _lock_owner) = (f.u64()?, f.u64()?, f.u32()?, f.u32()?, f.u64()?);
        Some(ReadIn { fh, offset, size, flags: f.u32()? })
    }
}

/// `struct fuse_write_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteIn {
    /// The open file.
    pub fh: u64,
    /// 0, or on a stream the bytes this write(2) has written already.
    pub offset: u64,
}

impl WriteIn {
    /// Reads the body of a WRITE; the second part is what is written.
    pub fn parse(body: &[u8]) -> Option<(WriteIn, &[u8])> {
        let mut f = Fields(body);
        let (fh, offset, size) = (f.u64()?, f.u64()?, f.u32()?);
        let data = body.get(40..)?.get(..size as usize)?;
        Some((WriteIn { fh, offset }, data))
    }
}

/// `struct fuse_ioctl_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlIn {
    /// The open file.
    pub fh: u64,
    /// [`IOCTL_DIR`], [`IOCTL_32BIT`], [`IOCTL_UNRESTRICTED`].
    pub flags: u32,
    /// The request's number.
    pub cmd: u32,
    /// The caller's third argument as it is.
    pub arg: u64,
    /// Room for reply bytes: what the kernel will copy out, which reads `cmd` as a Linux number or was asked to.
    pub out_size: u32,
}

impl IoctlIn {
    /// Reads the body of an IOCTL; the second part is what the kernel copied in.
    pub fn parse(body: &[u8]) -> Option<(IoctlIn, &[u8])> {
        let mut f = Fields(body);
        let (fh, flags, cmd, arg, in_size) = (f.u64()?, f.u32()?, f.u32()?, f.u64()?, f.u32()?);
        let out_size = f.u32()?;
        Some((IoctlIn { fh, flags, cmd, arg, out_size }, f.0.get(..in_size as usize)?))
    }
}

/// `struct fuse_poll_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollIn {
    /// The open file.
    pub fh: u64,
    /// What a notification must name.
    pub kh: u64,
    /// [`POLL_SCHEDULE_NOTIFY`].
    pub flags: u32,
    /// The events asked for, as poll(2) names them.
    pub events: u32,
}

impl PollIn {
    /// Reads the body of a POLL.
    pub fn parse(body: &[u8]) -> Option<PollIn> {
        let mut f = Fields(body);
        Some(PollIn { fh: f.u64()?, kh: f.u64()?, flags: f.u32()?, events: f.u32()? })
    }
}

/// The number of a message from the kernel, also of one that is not whole.
pub fn unique_of(message: &[u8]) -> Option<u64> {
    Fields(message.get(8..)?).u64()
}

/// The first word of a body: the request an INTERRUPT is about, the file a RELEASE or the reply to an OPEN names.
pub fn first_u64(body: &[u8]) -> Option<u64> {
    Fields(body).u64()
}

/// Unique and error of a message to the kernel.
pub fn reply_of(message: &[u8]) -> Option<(u64, i32)> {
    let mut f = Fields(message.get(4..)?);
    let error = f.take().map(i32::from_ne_bytes)?;
    Some((f.u64()?, error))
}

/// `max_write` in the reply to INIT, bytes; `None` when the kernel's version has no such field.
pub fn init_max_write(message: &[u8]) -> Option<u32> {
    // fuse_init_out: major, minor, max_readahead, flags, max_background + congestion_threshold, max_write
    Fields(message.get(OUT_HEADER + 20..)?).u32()
}

/// A DESTROY for the namespace plane: on umount the kernel sends none.
pub fn destroy() -> [u8; IN_HEADER] {
    let mut message = [0; IN_HEADER];
    message[..4].copy_from_slice(&(IN_HEADER as u32).to_ne_bytes());
    message[4..8].copy_from_slice(&opcode::DESTROY.to_ne_bytes());
    message[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
    message
}

/// The header of a message to the kernel with so many bytes behind it.
pub fn out_header(len: usize, error: i32, unique: u64) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    let len = u32::try_from(len + OUT_HEADER).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&len.to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// `struct fuse_ioctl_out`: what the ioctl returns, if it is negative an error; the bytes that go out follow it.
pub fn ioctl_out(result: i32) -> [u8; 16] {
    let mut body = [0; 16];
    body[..4].copy_from_slice(&result.to_ne_bytes());
    body
}

/// A part of the caller's memory (`struct fuse_ioctl_iovec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub address: u64,
    /// Bytes.
    pub len: usize,
}

/// The reply to an IOCTL that has the kernel copy these parts in, make room for those out, and ask again.
pub fn ioctl_retry(input: &[Part], output: &[Part]) -> Vec<u8> {
    const RETRY: u32 = 1 << 2;
    let count = |parts: &[Part]| u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let head = [0, RETRY, count(input), count(output)].map(u32::to_ne_bytes);
    let parts = input.iter().chain(output).flat_map(|part| [part.address, part.len as u64]);
    head.into_iter().flatten().chain(parts.flat_map(u64::to_ne_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut m = vec![0; IN_HEADER];
        m[..4].copy_from_slice(&((IN_HEADER + body.len()) as u32).to_ne_bytes());
        m[4..8].copy_from_slice(&opcode.to_ne_bytes());
        m[8..16].copy_from_slice(&7u64.to_ne_bytes());
        m[32..36].copy_from_slice(&4321u32.to_ne_bytes());
        m.extend_from_slice(body);
        m
    }

    #[test]
    fn a_header_is_split_off_and_its_length_checked() {
        let m = message(opcode::READ, &[1; 40]);
        let (header, body) = Header::split(&m).expect("whole message");
        assert_eq!((header.opcode, header.unique, header.pid, body.len()), (opcode::READ, 7, 4321, 40));
        assert_eq!(Header::split(&m[..m.len() - 1]), None, "a cut message is refused");
        assert_eq!(Header::split(&m[..20]), None, "so is one without a header");
    }

    #[test]
    fn bodies_have_the_kernels_layout() {
        let mut read = Vec::new();
        for word in [5u64, 4096, 32 << 32 | 512, 99, 0x8802] {
            read.extend_from_slice(&word.to_le_bytes());
        }
        if cfg!(target_endian = "little") {
            let parsed = ReadIn::parse(&read).expect("40 bytes");
            assert_eq!(parsed, ReadIn { fh: 5, offset: 4096, size: 512, flags: 0x8802 });
        }
        assert_eq!(ReadIn::parse(&read[..30]), None);
        let mut write = vec![0; 40];
        write[16..20].copy_from_slice(&3u32.to_ne_bytes());
        write.extend_from_slice(b"abc");
        assert_eq!(WriteIn::parse(&write).map(|(_, data)| data), Some(&b"abc"[..]));
        write.truncate(42);
        assert_eq!(WriteIn::parse(&write), None, "shorter than it says");
    }

    #[test]
    fn a_retry_counts_its_parts_and_lists_them_in_order() {
        let part = |address, len| Part { address, len };
        let reply = ioctl_retry(&[part(0x1000, 16), part(0x2000, 40)], &[part(0x1000, 16)]);
        assert_eq!(reply.len(), 16 + 3 * 16);
        let words: Vec<u32> =
            reply.chunks(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes)).collect();
        assert_eq!(words[..4], [0, 4, 2, 1], "result, FUSE_IOCTL_RETRY, in_iovs, out_iovs");
        let mut parts = Fields(&reply[16..]);
        let found: Vec<_> = std::iter::from_fn(|| parts.u64()).collect();
        assert_eq!(found, [0x1000, 16, 0x2000, 40, 0x1000, 16]);
        assert_eq!(unique_of(&message(opcode::READ, &[])), Some(7));
        assert_eq!(unique_of(&[0; 15]), None);
    }
}
