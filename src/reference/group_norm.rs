//! Group norm of a map: every group of channels has mean 0 and variance 1 over all cells, then weight, bias, activation.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::{Tolerance, activation};
use crate::backend::Activation;

/// As for the layer norm.
pub const TOLERANCE: Tolerance = super::layer_norm::TOLERANCE;

/// `x [cells, channels]`, `weight` and `bias` `[channels]`.
pub fn group_norm(
    x: &[f32],
    groups: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    function: Activation,
) -> Vec<f64> {
    let channels = weight.len();
    let width = channels / groups;
    let mut out = vec![0.0; x.len()];
    for group in 0..groups {
        let member = |i: &usize| i % channels / width == group;
        let count = (x.len() / channels * width) as f64;
        let mean = (0..x.len()).filter(member).map(|i| f64::from(x[i])).sum::<f64>() / count;
        let square = |i: usize| (f64::from(x[i]) - mean) * (f64::from(x[i]) - mean);
        let variance = (0..x.len()).filter(member).map(square).sum::<f64>() / count;
        let root = libm::sqrt(variance + f64::from(eps));
        for i in (0..x.len()).filter(member) {
            let (weight, bias) = (f64::from(weight[i % channels]), f64::from(bias[i % channels]));
            out[i] = activation((f64::from(x[i]) - mean) / root * weight + bias, function);
        }
    }
    out
}
