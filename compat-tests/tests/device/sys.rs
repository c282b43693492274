//! A client of the device, as thin as a C program's: the only unsafe code of these tests.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// `struct ifreq` of Linux.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Ifreq<const N: usize>(pub [u8; N]);

impl<const N: usize> Ifreq<N> {
    pub fn named(name: &str) -> Ifreq<N> {
        let mut bytes = [0; N];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ifreq(bytes)
    }

    pub fn name(&self) -> String {
        self.0[..16].iter().take_while(|&&b| b != 0).map(|&b| char::from(b)).collect()
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Insn(pub u16, pub u8, pub u8, pub u32);

/// `struct bpf_program` and, with the same layout, `struct bpf_dltlist`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CountAndPointer {
    pub count: u32,
    pub pointer: u64,
}

/// The numbers of net/bpf.h as Linux puts them together.
pub mod number {
    const fn io(dir: u32, nr: u32, size: u32) -> u32 {
        dir << 30 | size << 16 | (b'B' as u32) << 8 | nr
    }
    const IN: u32 = 1;
    const OUT: u32 = 2;
    const INOUT: u32 = 3;
    pub const GBLEN: u32 = io(OUT, 102, 4);
    pub const SBLEN: u32 = io(INOUT, 102, 4);
    pub const SETF: u32 = io(IN, 103, 16);
    pub const FLUSH: u32 = io(0, 104, 0);
    pub const PROMISC: u32 = io(0, 105, 0);
    pub const GETIF: u32 = io(OUT, 107, 40);
    pub const SETIF: u32 = io(IN, 108, 40);
    pub const SETIF32: u32 = io(IN, 108, 32);
    pub const SRTIMEOUT: u32 = io(IN, 109, 16);
    pub const GSTATS: u32 = io(OUT, 111, 8);
    pub const IMMEDIATE: u32 = io(IN, 112, 4);
    pub const GDLTLIST: u32 = io(INOUT, 121, 16);
    pub const SHDRCMPLT: u32 = io(IN, 117, 4);
    pub const SDIRECTION: u32 = io(IN, 119, 4);
    pub const FIONREAD: u32 = 2 << 30 | 4 << 16 | (b'f' as u32) << 8 | 127;

    const fn bsd(dir: u32, nr: u32, size: u32) -> u32 {
        dir << 29 | size << 16 | (b'B' as u32) << 8 | nr
    }
    pub const BSD_GBLEN: u32 = bsd(2, 102, 4);
    pub const BSD_SBLEN: u32 = bsd(6, 102, 4);
    pub const BSD_SETF: u32 = bsd(4, 103, 16);
    pub const BSD_FLUSH: u32 = bsd(1, 104, 0);
    pub const BSD_GDLT: u32 = bsd(2, 106, 4);
    pub const BSD_GETIF: u32 = bsd(2, 107, 32);
    pub const BSD_SETIF: u32 = bsd(4, 108, 32);
    pub const BSD_SETIF_NETBSD: u32 = bsd(4, 108, 144);
    pub const BSD_GSTATS: u32 = bsd(2, 111, 8);
    pub const BSD_GSTATS_NETBSD: u32 = bsd(2, 111, 128);
    pub const BSD_IMMEDIATE: u32 = bsd(4, 112, 4);
    /// OpenBSD's.
    pub const BSD_SWTIMEOUT: u32 = bsd(4, 126, 16);
    pub const BSD_VERSION: u32 = bsd(2, 113, 4);
    pub const BSD_GDLTLIST: u32 = bsd(6, 121, 16);
    pub const BSD_GDLTLIST_NETBSD: u32 = bsd(6, 119, 16);
}

/// An open node.
#[derive(Debug)]
pub struct Bpf(OwnedFd);

impl Bpf {
    pub fn open(node: &Path) -> Bpf {
        Bpf::open_with(node, libc::O_RDWR).unwrap_or_else(|e| panic!("open {}: {e}", node.display()))
    }

    pub fn open_with(node: &Path, flags: i32) -> io::Result<Bpf> {
        let path = std::ffi::CString::new(node.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path; the flags ask for no mode argument.
        let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: open has just made it, and nobody else has it.
        Ok(Bpf(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// ioctl(2) with any third argument: the device's side must stand what comes.
    pub fn ioctl_at(&self, number: u32, address: usize) -> io::Result<()> {
        // SAFETY: the callers pass null, an address that faults, or that of a live value of the request's layout.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), number.into(), address) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn ioctl<T: Copy>(&self, number: u32, mut value: T) -> io::Result<T> {
        self.ioctl_at(number, (&raw mut value).expose_provenance())?;
        Ok(value)
    }

    pub fn u32(&self, number: u32, value: u32) -> u32 {
        self.ioctl(number, value).unwrap_or_else(|e| panic!("ioctl {number:#x}: {e}"))
    }

    pub fn set_if(&self, name: &str) -> io::Result<()> {
        self.ioctl(number::SETIF, Ifreq::<40>::named(name)).map(drop)
    }

    pub fn set_filter(&self, insns: &[Insn]) -> io::Result<()> {
        let pointer = insns.as_ptr().expose_provenance() as u64;
        let count = u32::try_from(insns.len()).unwrap();
        self.ioctl(number::SETF, CountAndPointer { count, pointer }).map(drop)
    }

    /// Bound to `name`, immediate.
    pub fn immediate(node: &Path, name: &str) -> Bpf {
        let bpf = Bpf::open(node);
        bpf.set_if(name).unwrap_or_else(|e| panic!("BIOCSETIF {name}: {e}"));
        bpf.u32(number::IMMEDIATE, 1);
        bpf
    }

    pub fn read(&self) -> io::Result<Vec<u8>> {
        let len = self.u32(number::GBLEN, 0) as usize;
        self.read_len(len)
    }

    pub fn read_len(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let n = nix::unistd::read(&self.0, &mut buf)?;
        buf.truncate(n);
        Ok(buf)
    }

    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(&self.0, frame)?)
    }

    /// read(2) into any memory.
    pub fn read_at(&self, address: usize, len: usize) -> io::Result<usize> {
        // SAFETY: the callers pass memory that cannot be written, which the kernel finds out.
        let n =
            unsafe { libc::read(self.0.as_raw_fd(), std::ptr::with_exposed_provenance_mut(address), len) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// write(2) from any memory.
    pub fn write_at(&self, address: usize, len: usize) -> io::Result<usize> {
        // SAFETY: write(2) only reads, and tells what it cannot read.
        let n = unsafe { libc::write(self.0.as_raw_fd(), std::ptr::with_exposed_provenance(address), len) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    pub fn set_nonblocking(&self, on: bool) {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(&self.0, FcntlArg::F_GETFL).unwrap());
        let flags = if on { flags | OFlag::O_NONBLOCK } else { flags - OFlag::O_NONBLOCK };
        fcntl(&self.0, FcntlArg::F_SETFL(flags)).unwrap();
    }

    pub fn readable_bytes(&self) -> u32 {
        self.u32(number::FIONREAD, 0)
    }

    pub fn stats(&self) -> [u32; 2] {
        self.ioctl(number::GSTATS, [0u32; 2]).unwrap()
    }
}

const PAGE: usize = 4096;

/// Three pages: one that can be written, one that is not mapped, one that can only be read.
pub struct Pages(*mut u8);

impl Pages {
    pub fn new() -> Pages {
        let (read, write) = (libc::PROT_READ, libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: memory at an address of the kernel's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), 3 * PAGE, read | write, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let pages = Pages(base.cast());
        pages.protect(1, libc::PROT_NONE);
        pages
    }

    /// The byte so far from the first.
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= 3 * PAGE);
        // SAFETY: within the three pages, or just behind them.
        unsafe { self.0.add(offset) }
    }

    fn protect(&self, page: usize, protection: i32) {
        // SAFETY: one of our pages, whose bytes are used through raw pointers only.
        assert_eq!(unsafe { libc::mprotect(self.at(page * PAGE).cast(), PAGE, protection) }, 0);
    }

    /// Puts bytes where the memory behind them cannot be touched, and gives their address.
    pub fn before_the_end(&self, bytes: &[u8]) -> usize {
        assert!(bytes.len() <= PAGE);
        let at = self.at(PAGE - bytes.len());
        // SAFETY: as many bytes as there are up to the page's end.
        unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        at.expose_provenance()
    }

    /// The last `len` bytes that can be touched.
    pub fn left_of_the_end(&self, len: usize) -> Vec<u8> {
        assert!(len <= PAGE);
        // SAFETY: within the first page; all of its bytes are initialized, and nobody writes them meanwhile.
        unsafe { std::slice::from_raw_parts(self.at(PAGE - len), len) }.to_vec()
    }

    /// Puts bytes into the page that can only be read, and gives their address.
    pub fn read_only(&self, bytes: &[u8]) -> usize {
        assert!(bytes.len() <= PAGE);
        self.protect(2, libc::PROT_READ | libc::PROT_WRITE);
        let at = self.at(2 * PAGE);
        // SAFETY: as many bytes as fit into the page.
        unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.protect(2, libc::PROT_READ);
        at.expose_provenance()
    }

    /// The first `len` bytes of it.
    pub fn read_only_bytes(&self, len: usize) -> Vec<u8> {
        assert!(len <= PAGE);
        // SAFETY: within the last page, which can be read.
        unsafe { std::slice::from_raw_parts(self.at(2 * PAGE), len) }.to_vec()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by new, and no pointer to it outlives its tests.
        unsafe { libc::munmap(self.0.cast(), 3 * PAGE) };
    }
}

impl AsFd for Bpf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Bpf {
    fn from(fd: OwnedFd) -> Bpf {
        Bpf(fd)
    }
}

/// Signals caught so far, by number.
static CAUGHT: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];

extern "C" fn count(signal: i32) {
    CAUGHT[signal.unsigned_abs() as usize].fetch_add(1, Ordering::SeqCst);
}

/// Has a signal of this process counted from now on; a system call it comes in is not restarted.
pub fn catch(signal: Signal) {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// How often it was caught.
pub fn caught(signal: Signal) -> u32 {
    CAUGHT[signal as usize].load(Ordering::SeqCst)
}

/// Sends a signal to one thread of this process.
pub fn signal_thread(tid: nix::unistd::Pid, signal: Signal) {
    // SAFETY: tgkill(2) takes three integers.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid.as_raw(), signal as i32) };
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
}

/// Makes this thread, and only it, one of another user without any right: it cannot be undone.
pub fn become_user(uid: u32) {
    // SAFETY: setresuid(2) takes three integers. Without libc around it, it is the calling thread that changes.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Frames of one read(2), by the 26-byte records of FreeBSD LP64: caplen at 16, hdrlen at 24.
pub fn frames(buffer: &[u8]) -> Vec<Vec<u8>> {
    let mut at = 0;
    let mut found = Vec::new();
    while at < buffer.len() {
        let caplen = u32::from_ne_bytes(buffer[at + 16..at + 20].try_into().unwrap()) as usize;
        let hdrlen = usize::from(u16::from_ne_bytes(buffer[at + 24..at + 26].try_into().unwrap()));
        found.push(buffer[at + hdrlen..at + hdrlen + caplen].to_vec());
        at += (hdrlen + caplen).div_ceil(8) * 8;
    }
    found
}

/// A packet socket that sends and receives whole frames on an interface of the calling thread's namespace.
pub fn packet_socket(name: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(name)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: socket(2) takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) has just made it, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: address and len describe one live sockaddr_ll.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
