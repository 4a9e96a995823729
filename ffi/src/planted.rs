//! Defects planted on purpose, for what must find them: sanitizers, valgrind, the guard. No build has this module but with
//! `--cfg triplet_planted`.

use core::hint::black_box;
use std::sync::Barrier;
use std::thread;

use crate::guard::guard;
use crate::status::triplet_status;

/// Reads one byte behind a block of the heap, in plain compiled code.
pub fn overflow() -> u8 {
    let block = black_box(vec![7u8; 24]);
    // SAFETY: none, that is the defect: the byte lies behind the block.
    unsafe { block.as_ptr().add(black_box(block.len())).read() }
}

/// Reads a block of the heap that was given back.
pub fn use_after_free() -> u8 {
    let block = black_box(vec![7u8; 24]);
    let first = block.as_ptr();
    drop(block);
    // SAFETY: none, that is the defect: the block is gone.
    unsafe { black_box(first).read() }
}

/// Counts in two threads without a lock.
pub fn race() -> u64 {
    struct Count(*mut u64);
    // SAFETY: none, that is the defect: both threads write.
    unsafe impl Send for Count {}
    let mut count = 0u64;
    // Both are there before either counts: nothing that a thread does at its end orders them.
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for place in [Count(&raw mut count), Count(&raw mut count)] {
            let start = &start;
            scope.spawn(move || {
                let Count(place) = { place };
                start.wait();
                for _ in 0..1000 {
                    // SAFETY: none, that is the defect.
                    unsafe { *black_box(place) += 1 };
                }
            });
        }
    });
    count
}

/// Panics behind the guard.
pub fn panic() -> triplet_status {
    guard(|| panic!("planted"))
}

/// What Miri has to stop.
#[cfg(all(test, miri))]
mod tests {
    #[test]
    fn overflow() {
        super::overflow();
    }

    #[test]
    fn race() {
        super::race();
    }
}
