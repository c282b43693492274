//! The sending process: one order a line, one account of it back.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::frame;
use super::part::{now, tell};
use super::sys::{AT_ONCE, PacketSender};

/// What to send.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Length of a frame, bytes.
    pub frame: usize,
    /// How many.
    pub packets: u64,
    /// Packets a second; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Each frame alone and with its time in it.
    pub stamped: bool,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// How many the kernel took.
    pub packets: u64,
    /// How long it took, nanoseconds.
    pub nanos: u64,
}

/// Frames that go out together: as many as are due after so long.
const BURST: Duration = Duration::from_micros(500);
/// Sleeping shorter than that comes out longer.
const SHORTEST_SLEEP: Duration = Duration::from_micros(150);
/// Who was kept from the CPU longer than that does not make up for it: no ring holds what would come then.
const LATE: Duration = Duration::from_millis(5);

/// Sends on `interface` what stdin orders, until it ends.
///
/// # Errors
/// The socket's; an order that is none.
pub fn run(interface: &str) -> anyhow::Result<()> {
    let socket = PacketSender::open(interface).with_context(|| format!("sending on {interface}"))?;
    tell(&"ready")?;
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let begun = Instant::now();
        let packets = match order.rate {
            _ if order.stamped => stamped(&socket, &order)?,
            Some(rate) => paced(&socket, &order, rate)?,
            None => burst(&socket, &frame::frame(order.frame), order.packets)?,
        };
        tell(&Sent { packets, nanos: u64::try_from(begun.elapsed().as_nanos())? })?;
    }
    Ok(())
}

fn burst(socket: &PacketSender, frame: &[u8], packets: u64) -> anyhow::Result<u64> {
    let mut left = packets;
    while left > 0 {
        let count = AT_ONCE.min(usize::try_from(left).unwrap_or(AT_ONCE));
        left -= socket.send(frame, count).context("sending")? as u64;
    }
    Ok(packets)
}

fn wait_until(at: Instant) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(SHORTEST_SLEEP) {
            Some(long) if !long.is_zero() => std::thread::sleep(long),
            _ => std::hint::spin_loop(),
        }
    }
}

fn paced(socket: &PacketSender, order: &Order, rate: u64) -> anyhow::Result<u64> {
    let frame = frame::frame(order.frame);
    let each = (rate * u64::try_from(BURST.as_micros())? / 1_000_000).max(1);
    let gap = Duration::from_nanos(each * 1_000_000_000 / rate.max(1));
    let (mut sent, mut due) = (0, Instant::now());
    while sent < order.packets {
        wait_until(due);
        sent += burst(socket, &frame, each.min(order.packets - sent))?;
        due += gap;
        let now = Instant::now();
        if now.saturating_duration_since(due) > LATE {
            due = now;
        }
    }
    Ok(sent)
}

fn stamped(socket: &PacketSender, order: &Order) -> anyhow::Result<u64> {
    let mut frame = frame::frame(order.frame);
    let gap = Duration::from_nanos(1_000_000_000 / order.rate.unwrap_or(1000).max(1));
    for _ in 0..order.packets {
        std::thread::sleep(gap);
        frame::stamp(&mut frame, now()?);
        burst(socket, &frame, 1)?;
    }
    Ok(order.packets)
}
