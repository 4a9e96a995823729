//! `out[r, c] = sum_k a[r, k] * b[k, c]`, or `b[c, k]` where `b` is transposed.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// As for the linear layer.
pub const TOLERANCE: Tolerance = super::linear::TOLERANCE;

/// `a [rows, k]` times `b [k, n]` (or the transpose of `b [n, k]`) gives `[rows, n]`.
pub fn matmul(a: &[f32], b: &[f32], [rows, k, n]: [usize; 3], transpose_b: bool) -> Vec<f64> {
    let mut out = Vec::with_capacity(rows * n);
    for r in 0..rows {
        for c in 0..n {
            let b = |i: usize| f64::from(if transpose_b { b[c * k + i] } else { b[i * n + c] });
            out.push((0..k).map(|i| f64::from(a[r * k + i]) * b(i)).sum());
        }
    }
    out
}
