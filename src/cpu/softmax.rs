//! Softmax of one row of attention scores that lies in blocks of [`K_BLOCK`] keys.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::lanes::{K_BLOCK, Lanes, Map};
use super::maths::{exp, tanh};

/// How scores become logits.
#[derive(Clone, Copy)]
pub(super) struct Logits {
    /// Factor on the scores.
    pub(super) scale: f32,
    /// `c * tanh(x / c)` after the scale.
    pub(super) soft_cap: Option<f32>,
}

impl Map for Logits {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, score: L::V) -> L::V {
        let logit = lanes.mul(score, lanes.splat(self.scale));
        match self.soft_cap {
            None => logit,
            Some(cap) => {
                let inner = tanh(lanes, lanes.div(logit, lanes.splat(cap)));
                lanes.mul(inner, lanes.splat(cap))
            }
        }
    }
}

/// Turns the scores of `keys` into `exp(logit - largest logit)` and returns their sum (0 where there are no keys).
///
/// Key `j` lies at `row[(j / K_BLOCK) * block_stride + j % K_BLOCK]`. The lane of a key depends on `j` alone, and keys
/// outside the range count as exact zeros, so later keys never change a bit.
#[inline(always)]
pub(super) fn softmax_row<L: Lanes>(
    lanes: L,
    row: &mut [f32],
    block_stride: usize,
    keys: Range<usize>,
    logits: Logits,
) -> f32 {
    if keys.is_empty() {
        return 0.0;
    }
    let blocks = keys.start / K_BLOCK..keys.end.div_ceil(K_BLOCK);
    // Whole vectors that cover the keys of a block; what lies beside them becomes -inf.
    let cells = |block: usize| {
        let start = keys.start.saturating_sub(block * K_BLOCK) / L::N * L::N;
        let end = (keys.end - block * K_BLOCK).min(K_BLOCK).next_multiple_of(L::N);
        block * block_stride + start..block * block_stride + end
    };
    let mut largest = lanes.splat(f32::NEG_INFINITY);
    for block in blocks.clone() {
        for v in row[cells(block)].chunks_exact_mut(L::N) {
            lanes.store(logits.apply(lanes, lanes.load(v)), v);
        }
        let first = (keys.start.saturating_sub(block * K_BLOCK)) % L::N;
        let cells_here = &mut row[cells(block)];
        cells_here[..first].fill(f32::NEG_INFINITY);
        let past = (keys.end - block * K_BLOCK).min(K_BLOCK) % L::N;
        if past > 0 {
            let end = cells_here.len();
            cells_here[end - L::N + past..].fill(f32::NEG_INFINITY);
        }
        for v in cells_here.chunks_exact(L::N) {
            largest = lanes.max(lanes.load(v), largest);
        }
    }
    let mut lane_values = [f32::NEG_INFINITY; super::lanes::MAX_PANEL];
    lanes.store(largest, &mut lane_values);
    let largest = lane_values[..L::N].iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });

    let largest = lanes.splat(largest);
    let mut total = lanes.splat(0.0);
    for block in blocks {
        for v in row[cells(block)].chunks_exact_mut(L::N) {
            let power = exp(lanes, lanes.sub(lanes.load(v), largest));
            lanes.store(power, v);
            total = lanes.add(total, power);
        }
    }
    lanes.sum(total)
}
