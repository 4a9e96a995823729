//! The rate at which memory can be read: what no decoding can exceed.

use std::hint::black_box;
use std::time::Instant;

/// Words of eight bytes that are read: far more than any cache holds.
const WORDS: usize = 1 << 26;

/// Bytes a second that so many threads read together, the best of five passes.
pub fn rate(threads: usize) -> f64 {
    let words = vec![1u64; WORDS];
    let share = WORDS / threads.max(1);
    let pass = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for words in words.chunks(share) {
                scope.spawn(|| {
                    let mut sums = [0u64; 16];
                    for words in words.as_chunks::<16>().0 {
                        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
                    }
                    black_box(sums);
                });
            }
        });
        (WORDS * size_of::<u64>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}
