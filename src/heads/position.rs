//! Fixed positions: sine and cosine of the cell's place.
#![forbid(unsafe_code)]

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
    let axes = Size::new(grid.height).plus(grid.width)?.times(half)?.get();
    let mut axes = backend.arena().take("sine_position", axes)?;
    let out = backend.written(grid.cells(), d_model, &mut |out| {
        let (lines, columns) = axes.split_at_mut(grid.height * half);
        axis(grid.height, half, lines);
        axis(grid.width, half, columns);
        let (lines, columns) = (&*lines, &*columns);
        let places = lines.chunks_exact(half.max(1)).flat_map(|line| {
            let columns = columns.chunks_exact(half.max(1));
            columns.map(move |column| (line, column))
        });
        for (out, (line, column)) in out.chunks_exact_mut((2 * half).max(1)).zip(places) {
            out[..half].copy_from_slice(line);
            out[half..].copy_from_slice(column);
        }
        Ok(())
    })?;
    drop(axes);
    Ok(backend.settle(out))
}

/// `count` rows of `width` numbers: the encoding of one coordinate.
fn axis(count: usize, width: usize, out: &mut [f32]) {
    for (index, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let place = (index + 1) as f64 / (count as f64 + EPS) * TAU;
        for (channel, value) in row.iter_mut().enumerate() {
            let pair = (channel / 2 * 2) as f64;
            let angle = place / libm::pow(TEMPERATURE, pair / width as f64);
            *value = if channel.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) } as f32;
        }
    }
}
