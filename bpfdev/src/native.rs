//! This system's own packet filter, under one name: the only place where the library looks at `target_os`.
//!
//! ```
//! use bpfdev::abi::{Request, Response};
//! use bpfdev::file::{Access, BpfFile};
//! use bpfdev::{native, records};
//!
//! let file = native::open(Access::Read)?;
//! if let Err(errno) = file.ioctl(&Request::SetIf(b"eth0".to_vec())) {
//!     println!("{errno}"); // ENXIO: no such interface; EACCES: no right to capture from it
//!     return Ok(());
//! }
//! file.ioctl(&Request::Immediate(1))?;
//! file.ioctl(&Request::SRTimeout { sec: 1, usec: 0 })?;
//! let Response::U32(size) = file.ioctl(&Request::GBlen)? else { unreachable!("BIOCGBLEN tells a number") };
//! let mut buf = vec![0; size as usize];
//! let n = file.read(&mut buf)?;
//! for record in records(&buf[..n], native::ABI.header) {
//!     println!("{} bytes of {}", record.data.len(), record.wirelen);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        use std::sync::Arc;

        use bpfdev_core::abi::{Abi, linux::LINUX};
        use bpfdev_core::file::{Access, EmulatedFile};

        pub use bpfdev_backend_linux::filter::PlanChoice;
        pub use bpfdev_backend_linux::{bpf, filter};
        pub use bpfdev_backend_linux::{MonotonicClock, PacketSocket, PacketSockets};

        /// The dialect that [`open`] speaks.
        pub static ABI: &Abi = &LINUX;
        /// What [`open`] gives: the device in this process, over packet sockets.
        pub type File = EmulatedFile;
        /// Why [`open`] fails: here it does not.
        pub type OpenError = std::convert::Infallible;

        /// Where taps come from here.
        pub type Taps = PacketSockets;

        /// This machine's interfaces, to attach taps to.
        pub fn network() -> Taps {
            PacketSockets::default()
        }

        /// How a loopback interface's packets are framed here.
        pub fn loopback() -> bpfdev_core::backend::LoopbackFraming {
            ABI.loopback
        }

        /// Opens the packet filter. A privilege (CAP_NET_RAW) is wanted once it is bound to an interface.
        ///
        /// # Errors
        /// None.
        pub fn open(access: Access) -> Result<File, OpenError> {
            let network = Arc::new(PacketSockets::default());
            Ok(EmulatedFile::open(ABI, access, network, Arc::new(MonotonicClock)))
        }
    } else if #[cfg(any(
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
        target_os = "macos"
    ))] {
        use bpfdev_core::abi::Abi;
        use bpfdev_core::backend::LoopbackFraming;
        use bpfdev_core::file::Access;

        pub use bpfdev_backend_bsd::{Devices, DeviceFile, DeviceTap, MonotonicClock, OpenError};

        cfg_if::cfg_if! {
            if #[cfg(target_os = "freebsd")] {
                use bpfdev_core::abi::freebsd::FREEBSD as NATIVE;
            } else if #[cfg(target_os = "netbsd")] {
                use bpfdev_core::abi::netbsd::NETBSD as NATIVE;
            } else if #[cfg(target_os = "openbsd")] {
                use bpfdev_core::abi::openbsd::OPENBSD as NATIVE;
            } else if #[cfg(target_os = "dragonfly")] {
                use bpfdev_core::abi::dragonfly::DRAGONFLY as NATIVE;
            } else {
                use bpfdev_core::abi::macos::MACOS as NATIVE;
            }
        }

        /// The dialect that [`open`] speaks: the system's own.
        pub static ABI: &Abi = &NATIVE;
        /// What [`open`] gives: a file of the kernel's own device.
        pub type File = DeviceFile;

        /// Where taps come from here.
        pub type Taps = Devices;

        /// This machine's interfaces, to attach taps to.
        pub fn network() -> Taps {
            Devices::new(ABI)
        }

        /// How a loopback interface's packets are framed here.
        pub fn loopback() -> LoopbackFraming {
            ABI.loopback
        }

        /// Opens the packet filter: /dev/bpf, or the first numbered node that is not busy.
        ///
        /// # Errors
        /// Those of open(2), with the node's path.
        pub fn open(access: Access) -> Result<File, OpenError> {
            DeviceFile::open_any(ABI, access)
        }
    } else {
        compile_error!("bpfdev captures by Linux packet sockets, or by the /dev/bpf of FreeBSD, NetBSD, OpenBSD, \
            DragonFly or macOS: this system has neither that it knows");
    }
}
