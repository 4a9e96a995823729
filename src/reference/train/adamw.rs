//! AdamW: decay of the weight, moments of the gradient, a step along their quotient.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::backend::AdamwStep;
use crate::reference::Tolerance;

/// A few roundings; where the step is much smaller than the weight they vanish.
pub const TOLERANCE: Tolerance = Tolerance { norm: 3e-7, element: 6e-7 };

/// New weight, first and second moment from the old ones.
pub fn adamw(
    weight: &[f32],
    gradient: &[f32],
    first: &[f32],
    second: &[f32],
    step: &AdamwStep,
) -> [Vec<f64>; 3] {
    let AdamwStep { rate, betas: [beta1, beta2], eps, decay, step, factor } = *step;
    let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
    let mut new = [Vec::new(), Vec::new(), Vec::new()];
    for i in 0..weight.len() {
        let g = f64::from(gradient[i]) * f64::from(factor);
        let m = beta1 * f64::from(first[i]) + (1.0 - beta1) * g;
        let v = beta2 * f64::from(second[i]) + (1.0 - beta2) * g * g;
        let root = libm::sqrt(v / correction(beta2)) + eps;
        new[0].push(f64::from(weight[i]) * (1.0 - rate * decay) - rate * (m / correction(beta1)) / root);
        new[1].push(m);
        new[2].push(v);
    }
    new
}
