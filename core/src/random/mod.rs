//! Random input for tests: numbers, bytes that are nearly right, and with [`filter`] programs and frames. Only with the
//! feature `random`.

pub mod filter;

/// Knuth's linear congruential generator: the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Lcg(pub u64);

impl Lcg {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) % u64::from(bound)) as u32
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of `values`.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    /// Any number.
    pub fn word(&mut self) -> u32 {
        self.below(1 << 16) << 16 | self.below(1 << 16)
    }

    /// A number of 64 bits.
    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.word() as u8).collect()
    }

    /// Changes a few bytes to what programs stumble over: ends of ranges, signs, lengths of nothing and of everything; or
    /// cuts the end off, or puts something behind it.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            let Some(last) = bytes.len().checked_sub(1) else { return };
            let at = self.below(bytes.len() as u32) as usize;
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.word() as u8,
                2 => bytes[at] = self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                3..=4 => {
                    let word =
                        self.pick(&[0, 1, 17, 18, 26, 0x7fff_ffff, 0x8000_0000, u32::MAX - 7, u32::MAX]);
                    for (to, from) in bytes[at..].iter_mut().zip(word.to_ne_bytes()) {
                        *to = from;
                    }
                }
                // a little more or less, as lengths are wrong by one
                5 => bytes[at] = bytes[at].wrapping_add(self.pick(&[1, 0xff, 4, 0xfc])),
                6 => bytes.truncate(last.saturating_sub(self.below(last as u32 + 1) as usize / 2)),
                _ => {
                    let more = self.below(40) as usize;
                    let more = self.bytes(more);
                    bytes.extend(more);
                }
            }
        }
    }
}
