//! Rotary positions by the halves convention.
#![forbid(unsafe_code)]

use super::Cpu;
use super::mat::Mat;

/// Elements of scratch that [`rope`] takes: sine and cosine of every frequency for each worker.
pub(super) fn scratch(cpu: &Cpu, frequencies: usize) -> usize {
    2 * frequencies * cpu.threads.workers()
}

/// Turns the pairs of every head of `x`; row `r` stands at position `first + r`. The angle is the product rounded to
/// `f32`, as the frameworks that trained the models compute it.
pub(super) fn rope(
    cpu: &Cpu,
    x: Mat,
    heads: usize,
    first: usize,
    frequencies: &[f32],
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let half = frequencies.len();
    let d = 2 * half;
    if d == 0 {
        return;
    }
    debug_assert_eq!(d * heads, x.cols);
    cpu.threads.rows_with(10, out, x.cols, scratch, |scratch, start, out| {
        let turns: &mut [[f32; 2]] = scratch.as_chunks_mut().0;
        for (i, row) in out.chunks_exact_mut(x.cols).enumerate() {
            let position = (first + start + i) as f32;
            for (turn, frequency) in turns.iter_mut().zip(frequencies) {
                *turn = libm::sincosf(position * frequency).into();
            }
            for (out, x) in row.chunks_exact_mut(d).zip(x.row(start + i).chunks_exact(d)) {
                let (out_low, out_high) = out.split_at_mut(half);
                let (low, high) = x.split_at(half);
                for (j, &[sin, cos]) in turns.iter().enumerate() {
                    out_low[j] = low[j] * cos - high[j] * sin;
                    out_high[j] = high[j] * cos + low[j] * sin;
                }
            }
        }
    });
}
