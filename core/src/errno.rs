//! Error numbers by name. A number appears only where a reply is written.

use std::fmt;

macro_rules! errnos {
    ($($variant:ident $name:literal $linux:literal $what:literal,)*) => {
        /// An error of bpf(4) by its errno(2) name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the variant is the errno name
        pub enum Errno { $($variant,)* }

        impl Errno {
            /// The name in errno(2), such as `"EINVAL"`.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$variant => $name,)* }
            }
            /// The number Linux uses (asm-generic/errno.h), which is what a client of the device on Linux sees.
            pub const fn linux(self) -> i32 {
                match self { $(Errno::$variant => $linux,)* }
            }
            /// What it says, in a few words.
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$variant => $what,)* }
            }
            /// The error with this errno(2) name.
            pub fn from_name(name: &str) -> Option<Errno> {
                match name { $($name => Some(Errno::$variant),)* "EWOULDBLOCK" => Some(Errno::Again), _ => None }
            }
            /// The error with this number on Linux.
            pub const fn from_linux(number: i32) -> Option<Errno> {
                match number { $($linux => Some(Errno::$variant),)* _ => None }
            }
        }
    };
}

errnos! {
    Perm "EPERM" 1 "operation not permitted",
    NoEnt "ENOENT" 2 "no such file",
    Srch "ESRCH" 3 "no such process",
    Intr "EINTR" 4 "interrupted by a signal",
    Io "EIO" 5 "input/output error",
    NxIo "ENXIO" 6 "no such device or interface",
    BadF "EBADF" 9 "not open for this",
    Again "EAGAIN" 11 "nothing there yet",
    NoMem "ENOMEM" 12 "out of memory or room",
    Access "EACCES" 13 "permission denied",
    Fault "EFAULT" 14 "bad address",
    Busy "EBUSY" 16 "busy",
    NoDev "ENODEV" 19 "no such device",
    Inval "EINVAL" 22 "invalid argument",
    MFile "EMFILE" 24 "too many open files",
    NoTty "ENOTTY" 25 "not a request of this device",
    Range "ERANGE" 34 "out of range",
    NoSys "ENOSYS" 38 "no such operation",
    Overflow "EOVERFLOW" 75 "value too large",
    MsgSize "EMSGSIZE" 90 "frame too short or too long",
    OpNotSupp "EOPNOTSUPP" 95 "not supported",
    AfNoSupport "EAFNOSUPPORT" 97 "address family not supported",
    NetDown "ENETDOWN" 100 "interface is down",
    Already "EALREADY" 114 "already so",
    ConnAborted "ECONNABORTED" 103 "device went away",
    NoBufs "ENOBUFS" 105 "no buffer space",
    NotConn "ENOTCONN" 107 "device is served no longer",
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.text())
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for (name, number) in [("EPERM", 1), ("EAGAIN", 11), ("EINVAL", 22), ("ENOBUFS", 105)] {
            let errno = Errno::from_name(name).expect("a name of errno(2)");
            assert_eq!((errno.linux(), errno.name()), (number, name));
            assert_eq!(Errno::from_linux(number), Some(errno));
        }
        assert_eq!(Errno::from_name("EWOULDBLOCK"), Some(Errno::Again), "one error, two names");
        assert_eq!(Errno::from_linux(0), None);
    }
}
