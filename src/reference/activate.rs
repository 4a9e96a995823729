//! Activations: see [`Activation`](crate::backend::Activation) for the formulas.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;
use crate::backend::Activation;

/// One rounding and polynomials good to about 2 units in the last place.
pub const TOLERANCE: Tolerance = Tolerance { norm: 4e-7, element: 4e-7 };

/// `activation(x)`
pub fn activation(x: f64, activation: Activation) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    match activation {
        Activation::Identity => x,
        Activation::Relu if x < 0.0 => 0.0,
        Activation::Relu => x,
        Activation::Gelu => x * 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2),
        Activation::GeluTanh => {
            let slope = core::f64::consts::FRAC_2_SQRT_PI * core::f64::consts::FRAC_1_SQRT_2;
            0.5 * x * (1.0 + libm::tanh(slope * (x + 0.044715 * x * x * x)))
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => libm::tanh(x),
    }
}

/// `activation(x)` by elements.
pub fn activate(x: &[f32], function: Activation) -> Vec<f64> {
    x.iter().map(|&x| activation(f64::from(x), function)).collect()
}

/// `activation(gate) * up` by elements.
pub fn gated(gate: &[f32], up: &[f32], function: Activation) -> Vec<f64> {
    gate.iter().zip(up).map(|(&gate, &up)| activation(f64::from(gate), function) * f64::from(up)).collect()
}
