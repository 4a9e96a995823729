//! Rows taken with factors, `out[i] = factors[i] * x[rows[i]]`, and its transpose.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crate::reference::Tolerance;

/// One product, or the sum of some hundred.
pub const TOLERANCE: Tolerance = Tolerance { norm: 8e-7, element: 1.5e-6 };

/// `x` has `cols` columns.
pub fn gather_scaled(x: &[f32], cols: usize, rows: &[usize], factors: &[f32]) -> Vec<f64> {
    let mut out = Vec::with_capacity(rows.len() * cols);
    for (&row, &factor) in rows.iter().zip(factors) {
        out.extend(x[row * cols..(row + 1) * cols].iter().map(|&x| f64::from(factor) * f64::from(x)));
    }
    out
}

/// The derivative by the `count` rows of `x`.
pub fn gather_scaled_backward(
    gradient: &[f32],
    cols: usize,
    rows: &[usize],
    factors: &[f32],
    count: usize,
) -> Vec<f64> {
    let mut out = vec![0.0; count * cols];
    for (i, (&row, &factor)) in rows.iter().zip(factors).enumerate() {
        for c in 0..cols {
            out[row * cols + c] += f64::from(factor) * f64::from(gradient[i * cols + c]);
        }
    }
    out
}
