//! Structs as callers of any age have them: with a `struct_size` that may be too small, too large or none at all, and with
//! room behind them.
#![forbid(unsafe_code)]

use crate::random::Random;

/// Bytes behind the struct; as many as the longest struct has that the library accepts.
const WORDS: usize = 128;

/// What lies behind a struct that is written, and must stay beyond its `struct_size`.
const CANARY: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// A struct that starts with `struct_size`, and room behind it.
#[repr(C, align(8))]
pub struct Padded<T> {
    pub value: T,
    more: [u64; WORDS],
}

impl<T> Padded<T> {
    /// Options, of which a newer caller may set a field that the library does not know.
    pub fn options(value: T, random: &mut Random) -> Padded<T> {
        let mut more = [0; WORDS];
        more[0] = u64::from(random.chance(20));
        Padded { value, more }
    }

    /// A struct that is written.
    pub fn out(value: T) -> Padded<T> {
        Padded { value, more: [CANARY; WORDS] }
    }

    /// A size for the struct, most often its own.
    pub fn size(random: &mut Random) -> u32 {
        let own = size_of::<T>() as u32;
        if random.chance(95) { own } else { random.pick(&[0, 4, 5, 8, 24, 40, own + 8, 1024, 1028]) }
    }

    /// Asserts that nothing beyond `size` bytes was written.
    pub fn check(&self, size: u32) {
        let beyond = (size as usize).saturating_sub(size_of::<T>()).div_ceil(size_of::<u64>());
        let rest = self.more.get(beyond..).unwrap_or(&[]);
        assert!(rest.iter().all(|&word| word == CANARY), "written beyond {size} bytes");
    }
}
