//! `linear` with quantised weights and quantised activations.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::{After, Tolerance};
use crate::weights::{GROUP, Integers, Scheme};

/// Sums of integers are exact inside a group, and over a whole row of eight bits; a chain over a few hundred groups loses
/// about as much as a chain of as many multiply-adds, and each scale is rounded once or twice.
pub const TOLERANCE: Tolerance = Tolerance { norm: 1e-6, element: 2e-6 };

/// A row or a group whose largest magnitude is below this is taken as zeros.
pub const SMALLEST: f32 = 1e-30;

/// Largest integer of an activation that meets weights of eight bits: 127 * 2^8 = 255 * 127 + 127, two digits of -127 to 127.
pub const MOST: f32 = 32_512.0;

/// Longest row whose activations are quantised for weights of eight bits: sums of `LONGEST` products of a weight and a digit
/// fit into 32 bits. Longer ones are multiplied as they are.
pub const LONGEST: usize = 1 << 17;

/// For weights of eight bits, one element of a row in so many may be beyond the low digit.
pub const RARE: usize = 8;

/// The integers of a row of activations and their scales, for weights of a scheme. `integer = x * (most / max |x|)` to the
/// nearest, ties to even, and `scale = max |x| / most`, all in `f32`.
///
/// [`Scheme::Int8`]: one scale for the row. A row has outliers where at most `ceil(len / RARE)` elements are larger than a
/// quarter of the largest. `most` is 127 in rows without, else `127 * 2^j` with the largest `j` from 2 to 8 for which at most so
/// many are larger than `max |x| / 2^j`: all others keep to -127 to 127, and outliers, up to [`MOST`], do not coarsen them.
/// More than one element in [`RARE`] is larger than a quarter of what 127 stands for (or `j` is 8), so that rounding adds at
/// most 2.6 % of the row's norm, and in rows of normally distributed numbers 1 %.
///
/// [`Scheme::Int4`]: a scale for each group of [`GROUP`] elements (the last may be shorter); `most` is 127.
///
/// What shares a scale with a number that is not finite has NaN as its scale.
pub fn quantise_row(x: &[f32], scheme: Scheme) -> (Vec<i16>, Vec<f32>) {
    let (mut integers, mut scales) = (Vec::new(), Vec::new());
    let run = match scheme {
        Scheme::Int8 => x.len().max(1),
        Scheme::Int4 => GROUP,
    };
    for group in x.chunks(run) {
        let largest = group.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let (mut most, mut next) = (127.0, 4.0 * 127.0);
        while scheme == Scheme::Int8 && next <= MOST {
            let bound = largest * (127.0 / next);
            if group.iter().filter(|x| x.abs() > bound).count() > group.len().div_ceil(RARE) {
                break;
            }
            (most, next) = (next, 2.0 * next);
        }
        let finite = group.iter().all(|x| x.is_finite());
        let inverse = if finite && largest >= SMALLEST { most / largest } else { 0.0 };
        let round = |x: &f32| if inverse > 0.0 { libm::rintf(x * inverse) as i16 } else { 0 };
        integers.extend(group.iter().map(round));
        scales.push(match finite {
            true if inverse > 0.0 => largest / most,
            true => 0.0,
            false => f32::NAN,
        });
    }
    (integers, scales)
}

/// `x [rows, k]` in the integers of [`quantise_row`] times a quantised weight `[n, k]` gives `[rows, n]`, then `after`.
pub fn linear_quantised(
    x: &[f32],
    weight: &Integers,
    scheme: Scheme,
    [rows, k, n]: [usize; 3],
    after: &After,
) -> Vec<f64> {
    let mut out = vec![0.0; rows * n];
    for row in 0..rows {
        let x = &x[row * k..(row + 1) * k];
        let (integers, scales) = quantise_row(x, scheme);
        for col in 0..n {
            for i in 0..k {
                let (w, of_weight, of_row) = match scheme {
                    Scheme::Int8 => {
                        (i32::from(weight.bytes[col * k + i] as i8), weight.scales[col], scales[0])
                    }
                    Scheme::Int4 => {
                        let byte = weight.bytes[(col * k + i) / 2];
                        let nibble = if i % 2 == 0 { byte & 15 } else { byte >> 4 };
                        (i32::from(nibble) - 8, weight.scales[(col * k + i) / GROUP], scales[i / GROUP])
                    }
                };
                let activation = match scheme == Scheme::Int8 && k > LONGEST {
                    true => f64::from(x[i]),
                    false => f64::from(of_row) * f64::from(integers[i]),
                };
                out[row * n + col] += activation * f64::from(of_weight) * f64::from(w);
            }
        }
    }
    after.apply(&mut out, n.max(1));
    out
}
