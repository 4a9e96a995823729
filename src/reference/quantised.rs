//! `linear` with quantised weights and quantised activations.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::{After, Tolerance};
use crate::weights::{GROUP, Integers, Scheme};

/// Sums inside a group are exact; a chain over a few hundred groups loses about as much as a chain of as many
/// multiply-adds, and each scale is rounded once or twice.
pub const TOLERANCE: Tolerance = Tolerance { norm: 1e-6, element: 2e-6 };

/// A group whose largest magnitude is below this is taken as zeros.
pub const SMALLEST: f32 = 1e-30;

/// The integers of a row of activations and the scales of its groups of [`GROUP`] elements (the last may be shorter):
/// `scale = max |x| / 127`, `integer = x * (127 / max |x|)` to the nearest, ties to even, all in `f32`. A group that holds a
/// number that is not finite has NaN as its scale.
pub fn quantise_row(x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let (mut integers, mut scales) = (Vec::new(), Vec::new());
    for group in x.chunks(GROUP) {
        let largest = group.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let finite = group.iter().all(|x| x.is_finite());
        let inverse = if finite && largest >= SMALLEST { 127.0 / largest } else { 0.0 };
        let round = |x: &f32| if inverse > 0.0 { libm::rintf(x * inverse) as i8 } else { 0 };
        integers.extend(group.iter().map(round));
        scales.push(match finite {
            true if inverse > 0.0 => largest / 127.0,
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
        let (integers, scales) = quantise_row(&x[row * k..(row + 1) * k]);
        for col in 0..n {
            for i in 0..k {
                let (w, scale) = match scheme {
                    Scheme::Int8 => (i32::from(weight.bytes[col * k + i] as i8), weight.scales[col]),
                    Scheme::Int4 => {
                        let byte = weight.bytes[(col * k + i) / 2];
                        let nibble = if i % 2 == 0 { byte & 15 } else { byte >> 4 };
                        (i32::from(nibble) - 8, weight.scales[(col * k + i) / GROUP])
                    }
                };
                let activation = f64::from(scales[i / GROUP]) * f64::from(integers[i]);
                out[row * n + col] += activation * f64::from(scale) * f64::from(w);
            }
        }
    }
    after.apply(&mut out, n.max(1));
    out
}
