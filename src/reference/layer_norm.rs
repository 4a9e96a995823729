//! Layer norm of equal runs: `(x - mean) / sqrt(variance + eps) * weight + bias`, variance without Bessel's correction.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// A few roundings; a large mean costs its own share of the digits (1000 in 1 leaves 6e-5), so tests with one allow for it.
pub const TOLERANCE: Tolerance = Tolerance { norm: 1e-6, element: 2e-6 };

/// Normalises every run of `width` elements of `x`; `weight` and `bias` are `[width]`.
pub fn layer_norm(
    x: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for run in x.chunks_exact(width.max(1)) {
        let mean = run.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let squares = run.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>();
        let root = libm::sqrt(squares / width as f64 + f64::from(eps));
        for (i, &x) in run.iter().enumerate() {
            let scaled = (f64::from(x) - mean) / root * weight.map_or(1.0, |weight| f64::from(weight[i]));
            out.push(scaled + bias.map_or(0.0, |bias| f64::from(bias[i])));
        }
    }
    out
}
