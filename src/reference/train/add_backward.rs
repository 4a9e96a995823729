//! Sum with repetition, by what is repeated: `b[j] + sum of gradient[i] over i mod (len b) = j`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::reference::Tolerance;

/// Sums of some hundred numbers in f32, in runs of 64, which may be ten times as large as the sum.
pub const TOLERANCE: Tolerance = Tolerance { norm: 5e-6, element: 8e-6 };

/// `b` plus the gradients of its repetitions; the length of `b` divides that of `gradient`.
pub fn add_backward(gradient: &[f32], b: &[f32]) -> Vec<f64> {
    let mut sums: Vec<f64> = b.iter().map(|&b| f64::from(b)).collect();
    for (i, &g) in gradient.iter().enumerate() {
        sums[i % b.len()] += f64::from(g);
    }
    sums
}
