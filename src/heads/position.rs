//! Fixed positions: sine and cosine of the cell's place.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::f64::consts::TAU;

use crate::backend::{Backend, Grid, Matrix};
use crate::checked::Size;
use crate::error::Result;

const TEMPERATURE: f64 = 10_000.0;
const EPS: f64 = 1e-6;

/// DETR's spatial position embedding `[grid.cells, d_model]`: the first half of a row encodes the cell's line, the second
/// its column, each as (sin, cos) pairs of `2 pi (i + 1) / (n + 1e-6) / 10000^(2k / (d_model / 2))`. `d_model` is a
/// multiple of 4.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) and [`Error::Memory`](crate::Error::Memory) where it is too large.
pub fn sine_position<B: Backend>(backend: &B, grid: Grid, d_model: usize) -> Result<Matrix<B>> {
    let half = d_model / 2;
    let (lines, columns) = (axis(grid.height, half), axis(grid.width, half));
    let mut out = Vec::with_capacity(Size::product(&[grid.height, grid.width, d_model])?.get());
    for line in lines.chunks_exact(half.max(1)) {
        for column in columns.chunks_exact(half.max(1)) {
            out.extend_from_slice(line);
            out.extend_from_slice(column);
        }
    }
    backend.upload(grid.cells(), d_model, &out)
}

/// `count` rows of `width` numbers: the encoding of one coordinate.
fn axis(count: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(count.saturating_mul(width));
    for index in 0..count {
        let place = (index + 1) as f64 / (count as f64 + EPS) * TAU;
        for channel in 0..width {
            let pair = (channel / 2 * 2) as f64;
            let angle = place / libm::pow(TEMPERATURE, pair / width as f64);
            let value = if channel.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) };
            out.push(value as f32);
        }
    }
    out
}
