//! How long packets may lie in a tap while they flow.

use std::time::Duration;

/// However large the tap is.
const LONGEST: Duration = Duration::from_millis(8);
/// The taps of smaller buffers are too small.
const SMALLEST: usize = 0x8000;

/// How long a reader in no hurry may let packets come for one look, with buffers of `bufsize` bytes: each wake-up costs as
/// much as a hundred packets. Less than a quarter of the time in which 300,000 of the smallest packets a second fill a
/// tap of twice the buffer, which is 10 ms for 512 KiB. `None`: not at all.
pub fn nap(bufsize: usize) -> Option<Duration> {
    (bufsize >= SMALLEST).then(|| Duration::from_nanos((bufsize as u64).saturating_mul(16)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nap_is_a_quarter_of_what_the_tap_holds() {
        assert_eq!(nap(4096), None);
        for bufsize in [0x8000, 512 << 10, 8 << 20, usize::MAX] {
            let packets = bufsize / 88 * 2;
            let full = Duration::from_secs_f64(packets as f64 / 300_000.0);
            assert!(nap(bufsize).is_some_and(|nap| nap < full / 4 && nap >= Duration::from_micros(500)));
        }
    }
}
