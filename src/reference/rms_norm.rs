//! Root-mean-square norm of rows: `x / sqrt(mean(x^2) + eps) * weight`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// A few roundings.
pub const TOLERANCE: Tolerance = Tolerance { norm: 5e-7, element: 1e-6 };

/// Normalises the rows of `x`, which are as long as `weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len().max(1)) {
        let squares = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        let root = libm::sqrt(squares / row.len() as f64 + f64::from(eps));
        out.extend(row.iter().zip(weight).map(|(&x, &weight)| f64::from(x) / root * f64::from(weight)));
    }
    out
}
