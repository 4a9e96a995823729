//! The linear layer `residual + scale * (x weight^T + bias)`, by its input and by its parameters.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crate::reference::Tolerance;

/// As for the linear layer; the gradient of a scale sums over rows and columns.
pub const TOLERANCE: Tolerance = Tolerance { norm: 2e-6, element: 4e-6 };

/// By `x`: `out[r, k] = sum_n gradient[r, n] * scale[n] * weight[n, k]`.
pub fn linear_backward(
    weight: &[f32],
    scale: Option<&[f32]>,
    gradient: &[f32],
    [rows, k, n]: [usize; 3],
) -> Vec<f64> {
    let mut out = vec![0.0; rows * k];
    for r in 0..rows {
        for o in 0..n {
            let g = f64::from(gradient[r * n + o]) * scale.map_or(1.0, |scale| f64::from(scale[o]));
            for i in 0..k {
                out[r * k + i] += g * f64::from(weight[o * k + i]);
            }
        }
    }
    out
}

/// Derivatives by the parameters of a linear layer.
#[derive(Clone, Debug, Default)]
pub struct AffineGradients {
    /// `[n, k]`
    pub weight: Vec<f64>,
    /// `[n]`
    pub bias: Vec<f64>,
    /// `[n]`
    pub scale: Vec<f64>,
}

/// By the parameters; a missing `bias` counts as 0 and a missing `scale` as 1.
pub fn linear_gradients(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    scale: Option<&[f32]>,
    gradient: &[f32],
    [rows, k, n]: [usize; 3],
) -> AffineGradients {
    let mut sums = AffineGradients { weight: vec![0.0; n * k], bias: vec![0.0; n], scale: vec![0.0; n] };
    for r in 0..rows {
        for o in 0..n {
            let g = f64::from(gradient[r * n + o]);
            let factor = scale.map_or(1.0, |scale| f64::from(scale[o]));
            let mut y = bias.map_or(0.0, |bias| f64::from(bias[o]));
            for i in 0..k {
                let x = f64::from(x[r * k + i]);
                y += x * f64::from(weight[o * k + i]);
                sums.weight[o * k + i] += g * factor * x;
            }
            sums.bias[o] += g * factor;
            sums.scale[o] += g * y;
        }
    }
    sums
}
