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

use super::{Pass, check_size};
use crate::arena::{Arena, Room};
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
struct Taps<'a> {
    /// First source pixel and number of weights.
    bounds: &'a [[u32; 2]],
    /// `width` weights per output pixel, in fixed point; the rest of a run is 0.
    weights: &'a [i32],
    width: usize,
}

impl<'a> Taps<'a> {
    /// Most weights of an output pixel.
    fn width(from: usize, to: usize, filter: Resample) -> usize {
        let stretch = (from as f64 / to as f64).max(1.0);
        libm::ceil(filter.support() * stretch) as usize * 2 + 1
    }

    /// Elements of scratch that [`Taps::new`] takes.
    fn scratch(from: usize, to: usize, filter: Resample) -> Result<usize> {
        Ok(Size::new(Taps::width(from, to, filter)).plus(2)?.times(to)?.get())
    }

    fn new(from: usize, to: usize, filter: Resample, room: &mut Room<'a>) -> Taps<'a> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let width = Taps::width(from, to, filter);
        let bounds = room.take_as::<[u32; 2]>(to);
        let weights = room.take_as::<i32>(to * width);
        weights.fill(0);
        for (index, (run, bounds)) in weights.chunks_exact_mut(width).zip(&mut *bounds).enumerate() {
            let centre = (index as f64 + 0.5) * scale;
            // a cast from f64 truncates and takes what is negative to 0
            let first = (centre - support + 0.5) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let weight = |x: usize| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch));
            let sum: f64 = (first..last).map(weight).sum();
            let factor = if sum == 0.0 { 1.0 } else { sum };
            for (fixed, x) in run.iter_mut().zip(first..last) {
                let scaled = weight(x) / factor * f64::from(1u32 << PRECISION);
                *fixed = (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
            *bounds = [first as u32, last.saturating_sub(first).min(width) as u32];
        }
        Taps { bounds, weights, width }
    }

    /// First source pixel and weights of each output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let runs = self.weights.chunks_exact(self.width);
        self.bounds.iter().zip(runs).map(|(&[first, count], run)| (first as usize, &run[..count as usize]))
    }
}

/// A pass of a resize as a table; where nothing changes every pixel is itself.
///
/// # Errors
/// [`Error::Memory`], [`Error::Limit`].
pub(super) fn pass(from: usize, to: usize, filter: Resample) -> Result<Pass> {
    if from == to {
        let bounds = (0..).take(to).map(|index| [index, 1]).collect();
        return Ok(Pass { bounds, weights: vec![1 << PRECISION; to], taps: 1 });
    }
    let mut scratch = Arena::HEAP.take("picture", Taps::scratch(from, to, filter)?)?;
    let taps = Taps::new(from, to, filter, &mut Room::new(&mut scratch));
    Ok(Pass { bounds: taps.bounds.to_vec(), weights: taps.weights.to_vec(), taps: taps.width })
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
/// what the call before left there, anything at first.
pub(super) fn resize_rows<const C: usize>(
    from: (usize, usize),
    to: (usize, usize),
    filter: Resample,
    row: impl FnMut(usize, &mut [u8]),
) -> Result<Vec<u8>> {
    let mut scratch = Arena::HEAP.take("picture", scratch::<C>(from, to, filter)?)?;
    Ok(resize_rows_in::<C>(from, to, filter, &mut Room::new(&mut scratch), row).to_vec())
}

/// Elements of scratch that [`resize_rows_in`] takes: a row of the source, the picture after each pass, weights and sums.
pub(super) fn scratch<const C: usize>(
    (width, height): (usize, usize),
    (to_width, to_height): (usize, usize),
    filter: Resample,
) -> Result<usize> {
    check_size(to_width, to_height)?;
    let line = Size::new(to_width).times(C)?;
    let bytes = |size: Size| size.get().div_ceil(size_of::<f32>());
    let source = Size::new(bytes(Size::new(width).times(C)?));
    let passes = source.plus(bytes(line.times(height)?))?.plus(bytes(line.times(to_height)?))?;
    let taps = Size::new(Taps::scratch(width, to_width, filter)?);
    Ok(passes.plus(taps.plus(Taps::scratch(height, to_height, filter)?)?.get())?.plus(line.get())?.get())
}

/// As [`resize_rows`] for sizes that [`scratch`] has checked, in its scratch.
pub(super) fn resize_rows_in<'a, const C: usize>(
    (width, height): (usize, usize),
    (to_width, to_height): (usize, usize),
    filter: Resample,
    room: &mut Room<'a>,
    mut row: impl FnMut(usize, &mut [u8]),
) -> &'a [u8] {
    let line = to_width * C;
    let source = room.take_as::<u8>(width * C);
    let narrow = room.take_as::<u8>(line * height);
    let horizontal = (width != to_width).then(|| Taps::new(width, to_width, filter, room));
    for (y, out) in narrow.chunks_exact_mut(line).enumerate() {
        match &horizontal {
            None => row(y, out),
            Some(taps) => {
                row(y, source);
                resample_row::<C>(source, taps, out);
            }
        }
    }
    if height == to_height {
        return narrow;
    }
    let vertical = Taps::new(height, to_height, filter, room);
    let out = room.take_as::<u8>(line * to_height);
    let sums = room.take_as::<i32>(line);
    for ((first, weights), out) in vertical.iter().zip(out.chunks_exact_mut(line)) {
        sums.fill(1 << (PRECISION - 1));
        for (row, &weight) in narrow.chunks_exact(line).skip(first).zip(weights) {
            for (sum, &pixel) in sums.iter_mut().zip(row) {
                *sum += i32::from(pixel) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&*sums) {
            *out = clip(sum);
        }
    }
    out
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
