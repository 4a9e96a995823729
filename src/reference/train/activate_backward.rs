//! Derivatives of the activations: `gradient * activation'(x)`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::backend::Activation;
use crate::reference::Tolerance;

/// A few roundings of numbers near 1, and `1 - y` where `y` is.
pub const TOLERANCE: Tolerance = Tolerance { norm: 6e-7, element: 1e-6 };

/// `activation'(x)`; 0 for a rectifier at 0.
pub fn slope(x: f64, activation: Activation) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    let swish = |x: f64, steep: f64| {
        let s = sigmoid(steep * x);
        s + steep * x * s * (1.0 - s)
    };
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Gelu => {
            let below = 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
            let density = libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * core::f64::consts::PI);
            below + x * density
        }
        Activation::GeluTanh => {
            let steep = core::f64::consts::FRAC_2_SQRT_PI * core::f64::consts::FRAC_1_SQRT_2;
            let t = libm::tanh(steep * (x + 0.044715 * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * steep * (1.0 + 3.0 * 0.044715 * x * x)
        }
        Activation::QuickGelu => swish(x, 1.702),
        Activation::Silu => swish(x, 1.0),
        Activation::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
        Activation::Tanh => 1.0 - libm::tanh(x) * libm::tanh(x),
    }
}

/// `gradient * activation'(x)` by elements.
pub fn activate_backward(x: &[f32], function: Activation, gradient: &[f32]) -> Vec<f64> {
    x.iter().zip(gradient).map(|(&x, &g)| f64::from(g) * slope(f64::from(x), function)).collect()
}
