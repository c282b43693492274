//! The system calls of a bpf client that the standard library does not have, and what differs from host to host.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use bpfdev_core::linktype::Linktype;

use crate::encode::{Encoded, Pointee};

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// ioctl(2) with an argument that [`crate::encode`] made. What the device answers is in it afterwards.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, call: &mut Encoded) -> io::Result<()> {
    if let Some(field) = call.pointer_field() {
        let address = match call.pointee_mut() {
            Pointee::Null => std::ptr::null_mut(),
            // The first page is mapped nowhere.
            Pointee::Unreadable => std::ptr::without_provenance_mut(8),
            Pointee::Words(words) => words.as_mut_ptr(),
        };
        call.put(field, &address.expose_provenance().to_ne_bytes());
    }
    let (number, arg) = call.parts();
    // SAFETY: the device reads and writes at most the bytes of `arg` that the number's size field says, and `Encoded`
    // holds that many, aligned for every field. Its pointer, put there just now, leads to words that live in
    // `call` too: as many as the count beside it says for a list of link types, the only one that is written to;
    // for a program, as many as any system reads before it refuses a longer one. No other reference to either is in
    // use during the call: `call` is borrowed mutably.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, arg.as_mut_ptr()) };
    checked(result).map(drop)
}

/// poll(2) on some descriptors, each with the events it is asked for: those that are there, all 0 when `timeout` ran
/// out; `None` waits for ever.
pub(crate) fn poll<const N: usize>(
    fds: [(BorrowedFd<'_>, i16); N],
    timeout: Option<Duration>,
) -> io::Result<[i16; N]> {
    let milliseconds = match timeout {
        None => -1,
        // Rounded up: a wait never ends early.
        Some(timeout) => {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        }
    };
    let mut entries = fds.map(|(fd, events)| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
    // SAFETY: N entries, which are written to only during the call.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    checked(result)?;
    Ok(entries.map(|entry| entry.revents))
}

/// fcntl(2): sets or clears O_NONBLOCK.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: F_SETFL takes an int and touches no memory.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// clock_gettime(2): seconds, and nanoseconds below a second; zeros for a clock that the system has not.
pub(crate) fn clock(id: libc::clockid_t) -> (i64, u32) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written to only during the call.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    if result != 0 {
        return (0, 0);
    }
    #[allow(clippy::useless_conversion)] // both are 64 bits wide only on some hosts
    (i64::from(time.tv_sec), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The process is root's.
pub(crate) fn is_root() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A socket to ask about interfaces with; it sees those of the network that the calling thread is in now.
pub(crate) fn control() -> io::Result<OwnedFd> {
    // SAFETY: it takes three numbers.
    let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
    // SAFETY: the descriptor was made just now, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: F_SETFD takes an int and touches no memory.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

/// Flags and MTU (bytes) of the interface called `name`.
pub(crate) fn interface(control: BorrowedFd<'_>, name: &str) -> io::Result<(u32, u32)> {
    let ask = |number| {
        let mut request = [0u64; host::IFREQ.div_ceil(8)];
        for (i, byte) in name.bytes().take(15).enumerate() {
            let mut word = request[i / 8].to_ne_bytes();
            word[i % 8] = byte;
            request[i / 8] = u64::from_ne_bytes(word);
        }
        // SAFETY: these requests read and write one `struct ifreq`, which is as long as `request` and aligned so, during
        // the call only; there is no pointer in what they use of it.
        let result = unsafe { libc::ioctl(control.as_raw_fd(), number, request.as_mut_ptr()) };
        // behind the name
        checked(result).map(|_| request[2].to_ne_bytes())
    };
    let [low, high, ..] = ask(host::SIOCGIFFLAGS)?;
    let [a, b, c, d, ..] = ask(host::SIOCGIFMTU)?;
    Ok((u32::from(u16::from_ne_bytes([low, high])), u32::from_ne_bytes([a, b, c, d])))
}

/// One entry of getifaddrs(3).
#[derive(Debug)]
pub(crate) struct Entry {
    /// The interface's name.
    pub name: String,
    /// IFF_ flags.
    pub flags: u32,
    /// The address.
    pub address: Option<SocketAddress>,
    /// Its mask.
    pub mask: Option<SocketAddress>,
}

/// A `struct sockaddr`, as many bytes as there are of it.
#[derive(Debug)]
pub(crate) struct SocketAddress {
    /// AF_ number.
    pub family: i32,
    /// All of it, the family with it.
    pub bytes: Vec<u8>,
}

/// Copies a socket address.
///
/// # Safety
/// `address` is null or leads to a socket address that the system made, as long as it says or as its family is.
unsafe fn socket_address(address: *const libc::sockaddr) -> Option<SocketAddress> {
    if address.is_null() {
        return None;
    }
    // SAFETY: it is not null, and so leads to at least these two bytes, which every socket address has.
    let head = unsafe { *address.cast::<[u8; 2]>() };
    let (family, len) = host::family(head);
    // SAFETY: there are so many bytes, by the caller's contract; any byte is a valid u8.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), len) };
    Some(SocketAddress { family, bytes: bytes.to_vec() })
}

/// Frees a list of getifaddrs(3).
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: getifaddrs made it, and what was read of it was copied.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

/// getifaddrs(3): every address of every interface of the calling thread's network.
pub(crate) fn interfaces() -> io::Result<Vec<Entry>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: it writes one pointer, during the call.
    checked(unsafe { libc::getifaddrs(&raw mut first) })?;
    let list = List(first);
    let mut entries = Vec::new();
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: not null, so an entry of the list, which lives until `list` is dropped; nobody writes to it.
        let entry = unsafe { &*next };
        // SAFETY: the entry's name is a string with a NUL behind it, and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: null or an address that getifaddrs made.
        let address = unsafe { socket_address(entry.ifa_addr) };
        // SAFETY: null or a mask that getifaddrs made.
        let mask = unsafe { socket_address(entry.ifa_netmask) };
        let name = name.to_string_lossy().into_owned();
        entries.push(Entry { name, flags: entry.ifa_flags, address, mask });
        next = entry.ifa_next;
    }
    Ok(entries)
}

/// The index of the interface called `name`; 0 where there is none.
pub(crate) fn index_of(name: &str) -> u32 {
    let Ok(name) = CString::new(name) else { return 0 };
    // SAFETY: a string with a NUL behind it, which lives during the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// A link-layer address, as getifaddrs(3) gives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Index of the interface.
    pub index: u32,
    /// ARPHRD_ number on Linux, IFT_ number elsewhere.
    pub kind: u32,
    /// The address; empty where it has none.
    pub address: Vec<u8>,
}

/// Which link type an interface of some kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// This one.
    Linktype(Linktype),
    /// That of loopback interfaces.
    Loopback,
}

pub(crate) use host::{link, medium};

#[cfg(target_os = "linux")]
mod host {
    use super::{Link, Linktype, Medium};

    pub const IFREQ: usize = size_of::<libc::ifreq>();
    pub use libc::{SIOCGIFFLAGS, SIOCGIFMTU};
    const _: () = assert!(crate::encode::LINUX_IFREQ == IFREQ, "what BIOCSETIF takes in our header");

    /// Family and length in bytes of an address that begins so; the family says how long it is.
    pub fn family(head: [u8; 2]) -> (i32, usize) {
        let family = i32::from(u16::from_ne_bytes(head));
        let len = match family {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            libc::AF_PACKET => size_of::<libc::sockaddr_ll>(),
            _ => head.len(),
        };
        (family, len)
    }

    /// Reads a `struct sockaddr_ll`: index at byte 4, hardware type at 8, length at 11, address from 12 on.
    pub fn link(family: i32, bytes: &[u8]) -> Option<Link> {
        if family != libc::AF_PACKET {
            return None;
        }
        let index = u32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(bytes.get(8..10)?.try_into().ok()?);
        let len = usize::from(*bytes.get(11)?);
        let room = bytes.get(12..)?;
        Some(Link { index, kind: kind.into(), address: room[..len.min(room.len())].to_vec() })
    }

    /// The link type that a packet socket's packets have, by the ARPHRD_ number. As backend-linux knows them.
    pub fn medium(kind: u32) -> Option<Medium> {
        let linktype = match u16::try_from(kind).ok()? {
            libc::ARPHRD_LOOPBACK => return Some(Medium::Loopback),
            libc::ARPHRD_ETHER => Linktype::EN10MB,
            libc::ARPHRD_FDDI => Linktype::FDDI,
            libc::ARPHRD_IEEE80211 => Linktype::IEEE802_11,
            libc::ARPHRD_IEEE80211_RADIOTAP => Linktype::IEEE802_11_RADIO,
            // 519 ARPHRD_RAWIP, 823 ARPHRD_IP6GRE, 825 ARPHRD_6LOWPAN
            libc::ARPHRD_SLIP
            | libc::ARPHRD_CSLIP
            | libc::ARPHRD_PPP
            | libc::ARPHRD_NONE
            | 519
            | 823
            | 825 => Linktype::RAW,
            libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT | libc::ARPHRD_IPGRE => {
                Linktype::RAW
            }
            _ => return None,
        };
        Some(Medium::Linktype(linktype))
    }
}

#[cfg(not(target_os = "linux"))]
mod host {
    use bpfdev_core::abi::{Dir, Encoding};

    use super::{Link, Linktype, Medium};

    /// `sizeof(struct ifreq)`; the same on 32-bit machines.
    pub const IFREQ: usize = if cfg!(target_os = "netbsd") { 144 } else { 32 };
    // sys/sockio.h of each system
    const GIFMTU: u8 = if cfg!(any(target_os = "netbsd", target_os = "openbsd")) { 126 } else { 51 };
    pub const SIOCGIFFLAGS: libc::c_ulong =
        Encoding::Bsd.number(Dir::InOut, b'i', 17, IFREQ) as libc::c_ulong;
    pub const SIOCGIFMTU: libc::c_ulong =
        Encoding::Bsd.number(Dir::InOut, b'i', GIFMTU, IFREQ) as libc::c_ulong;

    #[cfg(not(target_os = "dragonfly"))]
    const _: () = assert!(size_of::<libc::ifreq>() == IFREQ);
    #[cfg(target_vendor = "apple")]
    const _: () = assert!(libc::SIOCGIFFLAGS == SIOCGIFFLAGS && libc::SIOCGIFMTU == SIOCGIFMTU);

    /// Family and length in bytes of an address that begins so: it says both itself.
    pub fn family([len, family]: [u8; 2]) -> (i32, usize) {
        // a mask of no bits may say 0
        (family.into(), usize::from(len).max(2))
    }

    /// Reads a `struct sockaddr_dl`: index at byte 2, IFT_ number at 4, lengths of name and address at 5 and 6, both
    /// from 8 on.
    pub fn link(family: i32, bytes: &[u8]) -> Option<Link> {
        if family != libc::AF_LINK {
            return None;
        }
        let index = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let kind = u32::from(*bytes.get(4)?);
        let (name, len) = (usize::from(*bytes.get(5)?), usize::from(*bytes.get(6)?));
        let address = bytes.get(8 + name..8 + name + len).unwrap_or_default().to_vec();
        Some(Link { index: index.into(), kind, address })
    }

    /// The link type BIOCGDLT tells first, by the IFT_ number (net/if_types.h), where it is the same on every system.
    pub fn medium(kind: u32) -> Option<Medium> {
        match kind {
            // IFT_ETHER, IFT_IEEE80211, IFT_L2VLAN, IFT_BRIDGE
            6 | 71 | 135 | 209 => Some(Medium::Linktype(Linktype::EN10MB)),
            // IFT_LOOP
            24 => Some(Medium::Loopback),
            _ => None,
        }
    }
}

// The dialects' numbers and layouts against libc's, where it has them: checked when this is compiled for that system.
#[cfg(all(
    target_pointer_width = "64",
    any(target_os = "freebsd", target_os = "dragonfly", target_os = "openbsd", target_os = "macos")
))]
mod libc_agrees {
    use std::mem::offset_of;

    use bpfdev_core::abi::Abi;
    #[cfg(not(target_os = "openbsd"))]
    use bpfdev_core::abi::Header;

    /// The number of the request called `name`.
    const fn number(abi: &Abi, name: &str) -> u64 {
        let mut i = 0;
        while i < abi.requests.len() {
            let row = &abi.requests[i];
            if same(row.name.as_bytes(), name.as_bytes()) {
                return abi.encodings[0].number(row.dir, row.group, row.number, row.arg.size()) as u64;
            }
            i += 1;
        }
        panic!("the dialect has no request of this name")
    }

    const fn same(a: &[u8], b: &[u8]) -> bool {
        let mut i = 0;
        while i < a.len() && i < b.len() && a[i] == b[i] {
            i += 1;
        }
        i == a.len() && i == b.len()
    }

    /// Requests that libc has under the table's name, or under another.
    macro_rules! numbers {
        ($abi:expr; $($name:literal $constant:ident)*) => {
            const _: () = { $(assert!(number(&$abi, $name) == libc::$constant as u64, $name);)* };
        };
    }

    macro_rules! common {
        ($abi:expr) => {
            numbers! { $abi;
                "BIOCGBLEN" BIOCGBLEN "BIOCSBLEN" BIOCSBLEN "BIOCFLUSH" BIOCFLUSH "BIOCPROMISC" BIOCPROMISC
                "BIOCGDLT" BIOCGDLT "BIOCGETIF" BIOCGETIF "BIOCSETIF" BIOCSETIF "BIOCGSTATS" BIOCGSTATS
                "BIOCIMMEDIATE" BIOCIMMEDIATE "BIOCVERSION" BIOCVERSION "BIOCGHDRCMPLT" BIOCGHDRCMPLT
                "BIOCSHDRCMPLT" BIOCSHDRCMPLT "BIOCGRSIG" BIOCGRSIG "BIOCSRSIG" BIOCSRSIG "BIOCSDLT" BIOCSDLT
            }
        };
    }

    /// Where `struct bpf_hdr` has its fields.
    #[cfg(any(target_os = "freebsd", target_os = "dragonfly", target_os = "macos"))]
    const fn is_header(header: &Header) -> bool {
        let stamp = header.stamp.size();
        offset_of!(libc::bpf_hdr, bh_caplen) == stamp
            && offset_of!(libc::bpf_hdr, bh_datalen) == stamp + 4
            && offset_of!(libc::bpf_hdr, bh_hdrlen) == stamp + 8
    }

    const _: () = assert!(size_of::<libc::timeval>() == 16 && offset_of!(libc::timeval, tv_usec) == 8);

    #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
    mod freebsd_like {
        use super::*;

        #[cfg(target_os = "dragonfly")]
        use bpfdev_core::abi::dragonfly::DRAGONFLY as ABI;
        #[cfg(target_os = "freebsd")]
        use bpfdev_core::abi::freebsd::FREEBSD as ABI;

        common!(ABI);
        numbers! { ABI;
            "BIOCSETF" BIOCSETF "BIOCGDLTLIST" BIOCGDLTLIST "BIOCSRTIMEOUT" BIOCSRTIMEOUT "BIOCGRTIMEOUT" BIOCGRTIMEOUT
        }
        #[cfg(target_os = "freebsd")]
        numbers! { ABI; "BIOCSETFNR" BIOCSETFNR "BIOCGDIRECTION" BIOCGSEESENT "BIOCSDIRECTION" BIOCSSEESENT }
        #[cfg(target_os = "dragonfly")]
        numbers! { ABI; "BIOCGSEESENT" BIOCGSEESENT "BIOCSSEESENT" BIOCSSEESENT }

        const _: () = {
            assert!(is_header(&ABI.header) && ABI.header.alignment == libc::BPF_ALIGNMENT);
            assert!(size_of::<libc::bpf_hdr>() == 32);
            assert!(size_of::<libc::bpf_program>() == 16 && offset_of!(libc::bpf_program, bf_insns) == 8);
            assert!(size_of::<libc::bpf_dltlist>() == 16 && size_of::<libc::bpf_insn>() == 8);
            assert!(size_of::<libc::bpf_stat>() == 8 && size_of::<libc::bpf_version>() == 4);
        };
    }

    #[cfg(target_os = "openbsd")]
    mod openbsd {
        use super::*;
        use bpfdev_core::abi::openbsd::OPENBSD as ABI;

        common!(ABI);
    }

    #[cfg(target_os = "macos")]
    mod macos {
        use super::*;
        use bpfdev_core::abi::macos::MACOS as ABI;

        common!(ABI);
        numbers! { ABI;
            "BIOCSETF" BIOCSETF "BIOCSETFNR" BIOCSETFNR "BIOCSRTIMEOUT" BIOCSRTIMEOUT "BIOCGRTIMEOUT" BIOCGRTIMEOUT
            "BIOCGDLTLIST" BIOCGDLTLIST "BIOCGSEESENT" BIOCGSEESENT "BIOCSSEESENT" BIOCSSEESENT
        }

        const _: () = {
            assert!(is_header(&ABI.header) && ABI.header.alignment == libc::BPF_ALIGNMENT);
            assert!(is_header(&bpfdev_core::abi::hdr::MACOS_EXTENDED), "bpf_hdr_ext begins like bpf_hdr");
            assert!(size_of::<libc::bpf_program>() == 16 && offset_of!(libc::bpf_program, bf_insns) == 8);
            assert!(size_of::<libc::bpf_dltlist>() == 12 && size_of::<libc::bpf_insn>() == 8);
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let entries = interfaces().expect("a list");
        let lo = entries.iter().find(|entry| entry.name.starts_with("lo")).expect("lo, lo0");
        assert_ne!(lo.flags & libc::IFF_LOOPBACK as u32, 0);
        assert_ne!(index_of(&lo.name), 0);
        assert_eq!(index_of("nosuch9"), 0);
        let control = control().expect("a socket");
        use std::os::fd::AsFd;
        let (flags, mtu) = interface(control.as_fd(), &lo.name).expect("lo has both");
        assert_ne!(flags & libc::IFF_LOOPBACK as u32, 0);
        assert!(mtu >= 1280);
        assert!(interface(control.as_fd(), "nosuch9").is_err());
    }
}
