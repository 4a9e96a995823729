//! Bilinear sampling of maps of `f32`, PyTorch's `interpolate(mode="bilinear", align_corners=False)` in `f32`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Error, Result};

/// For one output cell the two source cells and the second one's weight.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// The taps of the outputs `range`, of an axis with `from` cells resized to `to`.
fn taps(from: usize, to: usize, range: Range<usize>) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let tap = |index: usize| {
        let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
        let low = (position as usize).min(from.saturating_sub(1));
        let high = (low + 1).min(from.saturating_sub(1));
        Tap { low, high, weight: (position - low as f32).clamp(0.0, 1.0) }
    };
    range.map(tap).collect()
}

/// The rectangle `rows x cols` of the map `[height, width]` resized to `to` = (height, width), row-major. `map` must have
/// `height * width` elements.
///
/// # Errors
/// [`Error::Memory`].
pub(super) fn interpolate(
    map: &[f32],
    (height, width): (usize, usize),
    to: (usize, usize),
    rows: Range<usize>,
    cols: Range<usize>,
) -> Result<Vec<f32>> {
    debug_assert_eq!(map.len(), height * width);
    let across = taps(width, to.1, cols);
    // every row of the map across first: few rows serve many
    let mut wide = reserve(height * across.len())?;
    for row in map.chunks_exact(width) {
        wide.extend(across.iter().map(|tap| (1.0 - tap.weight) * row[tap.low] + tap.weight * row[tap.high]));
    }
    let row = |index: usize| &wide[index * across.len()..(index + 1) * across.len()];
    let mut out = reserve(rows.len() * across.len())?;
    for down in taps(height, to.0, rows) {
        let (top, bottom) = (1.0 - down.weight, down.weight);
        let pairs = row(down.low).iter().zip(row(down.high));
        out.extend(pairs.map(|(upper, lower)| top * upper + bottom * lower));
    }
    Ok(out)
}

/// Room for `len` elements.
fn reserve(len: usize) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
    out.try_reserve_exact(len).map_err(|_| Error::Memory { what: "map", bytes, left: None })?;
    Ok(out)
}
