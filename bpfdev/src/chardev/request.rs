//! Requests on their way to an open file.

use std::borrow::Cow;
use std::sync::Arc;

use bpfdev_core::abi::{Call, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::Caller;

use super::signal::Owner;
use super::wire::{PollIn, ReadIn};

/// An ioctl on its way through the helpers.
#[derive(Debug)]
pub struct Ioctl {
    pub unique: u64,
    pub fh: u64,
    /// The calling thread; 0: outside our pid namespace.
    pub tid: u32,
    pub uid: u32,
    pub call: Call,
    pub caller: Caller,
    /// The third argument as it is.
    pub address: u64,
    /// The argument's bytes, as far as they are here.
    pub arg: Vec<u8>,
    /// Room the kernel gives for reply bytes.
    pub out_size: usize,
}

impl Ioctl {
    /// The reply must be written to the caller's memory by us: a list, or what the kernel does not take for output.
    pub fn replies_by_memory(&self, response: &Response) -> bool {
        let list = matches!(response, Response::DltList { list, .. } if !list.is_empty());
        list || self.call.arg_out() > self.out_size
    }
}

/// The owner that FIOSETOWN or TIOCSPGRP means, or why it cannot be.
pub type Found = Result<Option<Arc<Owner>>, Errno>;

/// A request that is ready to be applied to the descriptor.
#[derive(Debug)]
pub enum Req<'a> {
    Read { unique: u64, read: ReadIn },
    Write { unique: u64, data: Cow<'a, [u8]> },
    Ioctl { ioctl: Ioctl, request: Request, found: Option<Found> },
    Poll { unique: u64, poll: PollIn },
}

impl Req<'_> {
    pub fn unique(&self) -> u64 {
        match self {
            Req::Read { unique, .. } | Req::Write { unique, .. } | Req::Poll { unique, .. } => *unique,
            Req::Ioctl { ioctl, .. } => ioctl.unique,
        }
    }

    pub fn into_owned(self) -> Req<'static> {
        match self {
            Req::Write { unique, data } => Req::Write { unique, data: Cow::Owned(data.into_owned()) },
            Req::Read { unique, read } => Req::Read { unique, read },
            Req::Ioctl { ioctl, request, found } => Req::Ioctl { ioctl, request, found },
            Req::Poll { unique, poll } => Req::Poll { unique, poll },
        }
    }
}
