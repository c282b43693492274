//! Requests on their way to an open file.

use std::borrow::Cow;
use std::sync::Arc;

use bpfdev_core::abi::{Call, Request};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::Caller;

use super::argument::Reach;
use super::channel::Asker;
use super::signal::Owner;
use super::wire::{PollIn, ReadIn};

/// An ioctl on its way through the helpers.
#[derive(Debug)]
pub struct Ioctl {
    pub asker: Asker,
    pub fh: u64,
    /// The calling thread; 0: outside our pid namespace.
    pub tid: u32,
    pub uid: u32,
    pub call: Call,
    pub caller: Caller,
    pub reach: Reach,
    /// The third argument as it is.
    pub address: u64,
    /// The argument's bytes, as far as they are here.
    pub arg: Vec<u8>,
    /// Room the kernel gives for reply bytes.
    pub out_size: usize,
}

/// The owner that FIOSETOWN or TIOCSPGRP means, or why it cannot be.
pub type Found = Result<Option<Arc<Owner>>, Errno>;

/// A request that is ready to be applied to the descriptor.
#[derive(Debug)]
pub enum Req<'a> {
    Read { asker: Asker, tid: u32, read: ReadIn },
    Write { asker: Asker, data: Cow<'a, [u8]> },
    Ioctl { ioctl: Ioctl, request: Request, found: Option<Found> },
    Poll { asker: Asker, poll: PollIn },
}

impl Req<'_> {
    pub fn asker(&self) -> &Asker {
        match self {
            Req::Read { asker, .. } | Req::Write { asker, .. } | Req::Poll { asker, .. } => asker,
            Req::Ioctl { ioctl, .. } => &ioctl.asker,
        }
    }

    pub fn into_owned(self) -> Req<'static> {
        match self {
            Req::Write { asker, data } => Req::Write { asker, data: Cow::Owned(data.into_owned()) },
            Req::Read { asker, tid, read } => Req::Read { asker, tid, read },
            Req::Ioctl { ioctl, request, found } => Req::Ioctl { ioctl, request, found },
            Req::Poll { asker, poll } => Req::Poll { asker, poll },
        }
    }
}
