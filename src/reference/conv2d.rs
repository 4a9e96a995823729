//! Cross-correlation of a map with zeros around it, dense or one filter a channel.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::{After, Tolerance};
use crate::backend::{Conv, Grid};

/// As for the linear layer.
pub const TOLERANCE: Tolerance = super::linear::TOLERANCE;

/// `x [grid.cells, channels]` with `weight` of `shape [c_out, c_in, height, width]` (`c_in` is 1 where depthwise) gives
/// `[output cells, c_out]`.
pub fn conv2d(
    x: &[f32],
    grid: Grid,
    weight: &[f32],
    [c_out, c_in, kernel_height, kernel_width]: [usize; 4],
    conv: Conv,
    after: &After,
) -> Vec<f64> {
    let kernel = Grid { height: kernel_height, width: kernel_width };
    let channels = if conv.depthwise { c_out } else { c_in };
    let height = (grid.height + 2 * conv.padding - kernel.height) / conv.stride + 1;
    let width = (grid.width + 2 * conv.padding - kernel.width) / conv.stride + 1;
    let mut out = vec![0.0; height * width * c_out];
    for (i, out) in out.iter_mut().enumerate() {
        let (cell, o) = (i / c_out, i % c_out);
        for c in 0..c_in {
            for ky in 0..kernel.height {
                for kx in 0..kernel.width {
                    let row = (cell / width * conv.stride + ky).wrapping_sub(conv.padding);
                    let col = (cell % width * conv.stride + kx).wrapping_sub(conv.padding);
                    if row < grid.height && col < grid.width {
                        let channel = if conv.depthwise { o } else { c };
                        let x = x[(row * grid.width + col) * channels + channel];
                        let w = weight[((o * c_in + c) * kernel.height + ky) * kernel.width + kx];
                        *out += f64::from(x) * f64::from(w);
                    }
                }
            }
        }
    }
    after.apply(&mut out, c_out.max(1));
    out
}
