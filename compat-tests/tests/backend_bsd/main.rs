//! backend-bsd as a program on each system uses it, against our own device in that system's dialect: `bpfdev serve` as a
//! child, real packets on a veth pair in a namespace made for each test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod device;
mod file;
#[allow(dead_code)] // the device's own tests use the rest
#[path = "../device/node.rs"]
mod node;
mod packets;
#[path = "../program/mod.rs"]
mod program;
mod requests;
#[allow(dead_code)]
#[path = "../device/sys.rs"]
mod sys;
mod waiting;

/// Each of these cases, for each system.
macro_rules! on_every_system {
    ($($case:ident)*) => {
        on_every_system! { @ [$($case)*] freebsd netbsd openbsd dragonfly macos }
    };
    (@ $cases:tt $($system:ident)*) => {
        $(mod $system { crate::on_every_system! { % $system $cases } })*
    };
    (% $system:ident [$($case:ident)*]) => {
        $(
            #[test]
            #[serial_test::serial]
            fn $case() {
                super::$case(&crate::device::Served::start(stringify!($system)));
            }
        )*
    };
}
pub(crate) use on_every_system;
