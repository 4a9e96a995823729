//! Rotary positions by the halves convention.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Cpu;
use super::mat::Mat;

/// Turns the pairs of every head of `x`; row `r` stands at position `first + r`. The angle is the product rounded to
/// `f32`, as the frameworks that trained the models compute it.
pub(super) fn rope(cpu: &Cpu, x: Mat, heads: usize, first: usize, frequencies: &[f32], out: &mut [f32]) {
    let half = frequencies.len();
    let d = 2 * half;
    if d == 0 {
        return;
    }
    debug_assert_eq!(d * heads, x.cols);
    cpu.threads.rows(10, out, x.cols, |start, out| {
        let mut turns: Vec<(f32, f32)> = vec![(0.0, 0.0); half];
        for (i, row) in out.chunks_exact_mut(x.cols).enumerate() {
            let position = (first + start + i) as f32;
            for (turn, frequency) in turns.iter_mut().zip(frequencies) {
                *turn = libm::sincosf(position * frequency);
            }
            for (out, x) in row.chunks_exact_mut(d).zip(x.row(start + i).chunks_exact(d)) {
                let (out_low, out_high) = out.split_at_mut(half);
                let (low, high) = x.split_at(half);
                for (j, &(sin, cos)) in turns.iter().enumerate() {
                    out_low[j] = low[j] * cos - high[j] * sin;
                    out_high[j] = high[j] * cos + low[j] * sin;
                }
            }
        }
    });
}
