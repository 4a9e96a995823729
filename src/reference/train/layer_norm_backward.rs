//! The layer norm by its input and its parameters. With `z = (x - mean) / root`, `root = sqrt(variance + eps)` and
//! `g = gradient * weight`, by `x`: `(g - mean(g) - z mean(g z)) / root`.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crate::reference::Tolerance;

/// As for the layer norm, twice: the derivative subtracts two means.
pub const TOLERANCE: Tolerance = Tolerance { norm: 3e-6, element: 6e-6 };

/// Derivatives by the operands of a layer norm.
#[derive(Clone, Debug, Default)]
pub struct NormBackward {
    /// By the input.
    pub x: Vec<f64>,
    /// `[width]`
    pub weight: Vec<f64>,
    /// `[width]`
    pub bias: Vec<f64>,
}

/// Every run of `width` elements of `x` was normalised; `weight` is `[width]`.
pub fn layer_norm_backward(
    x: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    eps: f32,
    gradient: &[f32],
) -> NormBackward {
    let mut out =
        NormBackward { x: Vec::with_capacity(x.len()), weight: vec![0.0; width], bias: vec![0.0; width] };
    for (run, gradient) in x.chunks_exact(width.max(1)).zip(gradient.chunks_exact(width.max(1))) {
        let count = width as f64;
        let mean = run.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = run.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>();
        let root = libm::sqrt(squares / count + f64::from(eps));
        let z = |i: usize| (f64::from(run[i]) - mean) / root;
        let g = |i: usize| f64::from(gradient[i]) * weight.map_or(1.0, |weight| f64::from(weight[i]));
        let mean_g = (0..width).map(g).sum::<f64>() / count;
        let mean_gz = (0..width).map(|i| g(i) * z(i)).sum::<f64>() / count;
        for (i, &slope) in gradient.iter().enumerate() {
            out.x.push((g(i) - mean_g - z(i) * mean_gz) / root);
            out.weight[i] += f64::from(slope) * z(i);
            out.bias[i] += f64::from(slope);
        }
    }
    out
}
