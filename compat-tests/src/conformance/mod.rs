//! The conformance suite: cases written once against [`BpfFile`](bpfdev_core::file::BpfFile), run over every implementation of
//! the device.
//!
//! A case ([`cases`]) is one rule of bpf(4). It asks descriptors on a [`stage`], and every answer is compared, as text, with what
//! each system's sources say: literals, in a table of systems ([`system`]). Which stages there are [`targets`] knows.
//! Known differences are declared in [`gaps`].

pub mod broken;
pub mod case;
pub mod cases;
pub mod cli;
pub mod compare;
pub mod frame;
pub mod gaps;
pub mod html;
pub mod junit;
pub mod records;
pub mod report;
pub mod runner;
pub mod scene;
pub mod stage;
pub mod system;
pub mod targets;
pub mod text;
