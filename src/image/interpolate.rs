//! Bilinear sampling of maps of `f32`, PyTorch's `interpolate(mode="bilinear", align_corners=False)` in `f32`.
#![forbid(unsafe_code)]

use core::mem;
use core::ops::Range;

/// For one output cell the two source cells and the second one's weight.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

impl Tap {
    const NONE: Tap = Tap { low: 0, high: 0, weight: 0.0 };
}

/// The taps of the outputs `range`, of an axis with `from` cells resized to `to`.
fn taps(from: usize, to: usize, range: Range<usize>) -> impl Iterator<Item = Tap> {
    let scale = from as f32 / to as f32;
    range.map(move |index| {
        let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
        let low = (position as usize).min(from.saturating_sub(1));
        let high = (low + 1).min(from.saturating_sub(1));
        Tap { low, high, weight: (position - low as f32).clamp(0.0, 1.0) }
    })
}

/// Columns that are sampled together, on the stack.
const STRIP: usize = 256;

/// Fills `out` with the rectangle `rows x cols` of the map `[height, width]` resized to `to` = (height, width), row-major.
/// `map` must have `height * width` elements.
pub(super) fn interpolate(
    map: &[f32],
    (height, width): (usize, usize),
    to: (usize, usize),
    rows: Range<usize>,
    cols: Range<usize>,
    out: &mut [f32],
) {
    debug_assert_eq!(map.len(), height * width);
    debug_assert_eq!(out.len(), rows.len() * cols.len());
    let stride = cols.len().max(1);
    for from in (0..cols.len()).step_by(STRIP) {
        let here = STRIP.min(cols.len() - from);
        let mut across = [Tap::NONE; STRIP];
        let first = cols.start + from;
        across.iter_mut().zip(taps(width, to.1, first..first + here)).for_each(|(place, tap)| *place = tap);
        let across = &across[..here];
        let widen = |index: usize, wide: &mut Wide| {
            if wide.index != Some(index) {
                let row = map.get(index * width..(index + 1) * width).unwrap_or_default();
                let sample = |tap: &Tap| (1.0 - tap.weight) * row[tap.low] + tap.weight * row[tap.high];
                wide.values.iter_mut().zip(across).for_each(|(value, tap)| *value = sample(tap));
                wide.index = Some(index);
            }
        };
        // Rows of the map across first: one serves many rows of the rectangle.
        let (mut upper, mut lower) = (&mut Wide::new(), &mut Wide::new());
        for (out, down) in out.chunks_exact_mut(stride).zip(taps(height, to.0, rows.clone())) {
            if lower.index == Some(down.low) {
                mem::swap(&mut upper, &mut lower);
            }
            widen(down.low, upper);
            widen(down.high, lower);
            let (top, bottom) = (1.0 - down.weight, down.weight);
            let pairs = upper.values.iter().zip(&lower.values);
            let out = &mut out[from..from + here];
            out.iter_mut()
                .zip(pairs)
                .for_each(|(value, (upper, lower))| *value = top * upper + bottom * lower);
        }
    }
}

/// A row of the map, sampled across.
struct Wide {
    index: Option<usize>,
    values: [f32; STRIP],
}

impl Wide {
    fn new() -> Wide {
        Wide { index: None, values: [0.0; STRIP] }
    }
}
