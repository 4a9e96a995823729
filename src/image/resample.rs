//! Resizing of 8-bit pictures, byte for byte as Pillow's `Image.resize` does it.
//!
//! Pillow resamples rows first, then columns, each with weights rounded to fixed point of [`PRECISION`] bits and the result
//! of the first pass rounded to 8 bits. A filter is stretched by the scale when it shrinks (antialiasing), and cut off and
//! renormalised at the edges.
//!
//! Equal to every Pillow from 3.4 to 12, and for squares to Pillow 13, which takes columns first where the height shrinks
//! much more than the width.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::check_size;
use crate::checked::Size;
use crate::error::{Error, Result};

/// Bits after the point of a weight: 32 less 8 for the pixel and 2 for filters that exceed 1.
const PRECISION: u32 = 32 - 8 - 2;

/// The filter of a resize; the numbers are Pillow's, as `resample` in a preprocessor's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// Triangle, number 2.
    Bilinear,
    /// Cubic convolution with a = -0.5, number 3.
    Bicubic,
}

impl Resample {
    /// Half the filter's width in source pixels, before it is stretched.
    const fn support(self) -> f64 {
        match self {
            Resample::Bilinear => 1.0,
            Resample::Bicubic => 2.0,
        }
    }

    /// The filter's value at distance `x`.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = libm::fabs(x);
        match self {
            Resample::Bilinear if x < 1.0 => 1.0 - x,
            Resample::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Resample::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// For every output pixel of one axis its first source pixel and its weights.
struct Taps {
    /// First source pixel and number of weights.
    bounds: Vec<(usize, usize)>,
    /// `width` weights per output pixel, in fixed point; the rest of a run is 0.
    weights: Vec<i32>,
    width: usize,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Resample) -> Result<Taps> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let width = libm::ceil(support) as usize * 2 + 1;
        let mut bounds = Vec::with_capacity(to);
        let mut weights = vec![0i32; Size::new(to).times(width)?.get()];
        let mut exact = Vec::with_capacity(width);
        for (index, run) in weights.chunks_exact_mut(width).enumerate() {
            let centre = (index as f64 + 0.5) * scale;
            // a cast from f64 truncates and takes what is negative to 0
            let first = (centre - support + 0.5) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((first..last).map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch))));
            let sum: f64 = exact.iter().sum();
            let factor = if sum == 0.0 { 1.0 } else { sum };
            for (fixed, &weight) in run.iter_mut().zip(&exact) {
                let scaled = weight / factor * f64::from(1u32 << PRECISION);
                *fixed = (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
            bounds.push((first, exact.len().min(width)));
        }
        Ok(Taps { bounds, weights, width })
    }

    /// First source pixel and weights of each output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let runs = self.weights.chunks_exact(self.width);
        self.bounds.iter().zip(runs).map(|(&(first, count), run)| (first, &run[..count]))
    }
}

/// Rounds a sum of products to 8 bits. The sum fits: weights add to 1, and negative ones to no less than -0.2.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The picture `pixels` (`height` rows of `width` pixels of `C` bytes, without gaps) resized to `to = (width, height)`,
/// with the bytes that Pillow's `Image.resize(to, filter)` gives for `C` = 1 (`L`) and 3 (`RGB`).
///
/// # Errors
/// [`Error::Input`] and [`Error::Limit`] for sizes of 0 or beyond the limits of a picture, or where `pixels` has another
/// length.
pub fn resize<const C: usize>(
    pixels: &[u8],
    (width, height): (usize, usize),
    to: (usize, usize),
    filter: Resample,
) -> Result<Vec<u8>> {
    check_size(width, height)?;
    let row = width * C;
    if pixels.len() != row * height {
        let reason = format!("has {} bytes, but {width}x{height} pixels need {}", pixels.len(), row * height);
        return Err(Error::Input { field: "image.pixels", reason });
    }
    resize_rows::<C>((width, height), to, filter, |y, out| {
        out.copy_from_slice(&pixels[y * row..(y + 1) * row])
    })
}

/// As [`resize`], of a picture whose row `y` is written by `row(y, out)`; the picture is never held as a whole. `out` holds
/// what the call before left there.
pub(super) fn resize_rows<const C: usize>(
    (width, height): (usize, usize),
    (to_width, to_height): (usize, usize),
    filter: Resample,
    mut row: impl FnMut(usize, &mut [u8]),
) -> Result<Vec<u8>> {
    check_size(to_width, to_height)?;
    let mut source = vec![0u8; Size::new(width).times(C)?.get()];
    let line = to_width * C;
    let mut narrow = vec![0u8; Size::new(line).times(height)?.get()];
    let horizontal = if width == to_width { None } else { Some(Taps::new(width, to_width, filter)?) };
    for (y, out) in narrow.chunks_exact_mut(line).enumerate() {
        match &horizontal {
            None => row(y, out),
            Some(taps) => {
                row(y, &mut source);
                resample_row::<C>(&source, taps, out);
            }
        }
    }
    if height == to_height {
        return Ok(narrow);
    }
    let vertical = Taps::new(height, to_height, filter)?;
    let mut out = vec![0u8; line * to_height];
    let mut sums = vec![0i32; line];
    for ((first, weights), out) in vertical.iter().zip(out.chunks_exact_mut(line)) {
        sums.fill(1 << (PRECISION - 1));
        for (row, &weight) in narrow.chunks_exact(line).skip(first).zip(weights) {
            for (sum, &pixel) in sums.iter_mut().zip(row) {
                *sum += i32::from(pixel) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = clip(sum);
        }
    }
    Ok(out)
}

/// One row of the first pass.
fn resample_row<const C: usize>(source: &[u8], taps: &Taps, out: &mut [u8]) {
    let (source, _) = source.as_chunks::<C>();
    let (out, _) = out.as_chunks_mut::<C>();
    for ((first, weights), out) in taps.iter().zip(out) {
        let mut sums = [1i32 << (PRECISION - 1); C];
        for (pixel, &weight) in source[first..].iter().zip(weights) {
            for (sum, &channel) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(channel) * weight;
            }
        }
        *out = sums.map(clip);
    }
}
