//! `y[r, n] = sum_k x[r, k] * weight[n, k] + bias[n]`, then the epilogue.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::{After, Tolerance, matmul};

/// A chain of 192 multiply-adds in f32 loses about `sqrt(192) / 2` half units in the last place; the portable kernel,
/// which rounds products too, somewhat more.
pub const TOLERANCE: Tolerance = Tolerance { norm: 1e-6, element: 2e-6 };

/// `x [rows, k]`, `weight [n, k]` give `[rows, n]`.
pub fn linear(x: &[f32], weight: &[f32], [rows, k, n]: [usize; 3], after: &After) -> Vec<f64> {
    let mut out = matmul(x, weight, [rows, k, n], true);
    after.apply(&mut out, n.max(1));
    out
}
