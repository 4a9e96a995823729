//! Exponential, hyperbolic tangent and the activations, by vectors. Coefficients are minimax fits of our own.
//!
//! Largest errors against f64 over all of f32, in units in the last place (`tests/ops/activate.rs` holds them to it):
//! `tanh` and `sigmoid` 4, counted at `max(|y|, 1e-30)`; the others at `max(|y|, 1e-3)`: SiLU and quick-GELU 10, both
//! GELUs 20 (in their negative tail, where `e^(-x^2/2)` multiplies the rounding of its argument).
#![forbid(unsafe_code)]

use super::lanes::{Lanes, Map, map_in_place};
use crate::backend::Activation;

/// `c[0] + x * (c[1] + x * ...)`
#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(lanes: L, x: L::V, coefficients: [f32; N]) -> L::V {
    let mut sum = lanes.splat(coefficients[N - 1]);
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = lanes.mul_add(sum, x, lanes.splat(coefficient));
    }
    sum
}

#[inline(always)]
pub(super) fn abs<L: Lanes>(lanes: L, x: L::V) -> L::V {
    lanes.max(lanes.sub(lanes.splat(0.0), x), x)
}

/// `e^x`; `x = n ln 2 + r`, a polynomial in `r` within half of `ln 2`, times `2^n`.
#[inline(always)]
pub(super) fn exp<L: Lanes>(lanes: L, x: L::V) -> L::V {
    /// Adding and subtracting it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts; the first has so few digits that its product with `n` is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// `(e^r - 1 - r) / r^2`, relative error of `e^r` 3.2e-9.
    const TAIL: [f32; 5] = [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_954, 0.001_395_06];

    // Beyond these e^x is infinite or rounds to zero; a NaN stays.
    let x = lanes.min(lanes.splat(89.0), lanes.max(lanes.splat(-104.0), x));
    let round = lanes.splat(ROUND);
    let n = lanes.sub(lanes.mul_add(x, lanes.splat(core::f32::consts::LOG2_E), round), round);
    let r = lanes.mul_add(n, lanes.splat(-LN2_HIGH), x);
    let r = lanes.mul_add(n, lanes.splat(-LN2_LOW), r);
    let tail = polynomial(lanes, r, TAIL);
    let power = lanes.add(lanes.mul_add(lanes.mul(tail, r), r, r), lanes.splat(1.0));
    lanes.scale2(power, n)
}

/// `tanh x`: an odd polynomial near 0, `1 - 2 / (e^2|x| + 1)` elsewhere.
#[inline(always)]
pub(super) fn tanh<L: Lanes>(lanes: L, x: L::V) -> L::V {
    /// `(tanh(x) / x - 1) / x^2` by powers of `x^2` for `|x| < 0.64`, relative error of `tanh` 5.4e-9.
    const NEAR: [f32; 5] = [-0.333_332_72, 0.133_311_52, -0.053_714_104, 0.020_551_711, -0.005_603_905];

    let one = lanes.splat(1.0);
    let size = abs(lanes, x);
    let square = lanes.mul(x, x);
    let near = lanes.mul_add(lanes.mul(polynomial(lanes, square, NEAR), square), x, x);
    let power = exp(lanes, lanes.add(size, size));
    let far = lanes.sub(one, lanes.div(lanes.splat(2.0), lanes.add(power, one)));
    let zero = lanes.splat(0.0);
    let far = lanes.select_less(x, zero, lanes.sub(zero, far), far);
    lanes.select_less(size, lanes.splat(0.625), near, far)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(super) fn sigmoid<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let one = lanes.splat(1.0);
    lanes.div(one, lanes.add(one, exp(lanes, lanes.sub(lanes.splat(0.0), x))))
}

/// `erfc(z) / 2` for `z >= 0`: `e^(-z^2)` times a polynomial in `t = 1 / (1 + 0.4 z)` (the form of Abramowitz and Stegun
/// 7.1.26), relative error 7.8e-9 and the rounding of `z^2`.
#[inline(always)]
pub(super) fn half_erfc<L: Lanes>(lanes: L, z: L::V) -> L::V {
    const SCALED: [f32; 10] = [
        0.225_706_9,
        0.224_952_03,
        0.214_919_1,
        0.129_679_6,
        0.272_066_24,
        -0.284_366_7,
        0.547_435_46,
        -0.498_811_5,
        0.198_013_22,
        -0.029_594_338,
    ];
    let one = lanes.splat(1.0);
    let t = lanes.div(one, lanes.mul_add(z, lanes.splat(0.4), one));
    let power = exp(lanes, lanes.mul(lanes.sub(lanes.splat(0.0), z), z));
    lanes.mul(lanes.mul(polynomial(lanes, t, SCALED), t), lanes.mul(power, lanes.splat(0.5)))
}

/// [`Activation::Relu`]
#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Map for Relu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        lanes.max(lanes.splat(0.0), x)
    }
}

/// [`Activation::Gelu`]
#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Map for Gelu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        let z = lanes.mul(abs(lanes, x), lanes.splat(core::f32::consts::FRAC_1_SQRT_2));
        let below = half_erfc(lanes, z);
        let above = lanes.sub(lanes.splat(1.0), below);
        lanes.mul(x, lanes.select_less(x, lanes.splat(0.0), below, above))
    }
}

/// [`Activation::GeluTanh`], by `(1 + tanh u) / 2 = sigmoid(2 u)`.
#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl Map for GeluTanh {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        /// `2 sqrt(2 / pi)`
        const SLOPE: f32 = 1.595_769;
        let cube = lanes.mul(lanes.mul(x, x), x);
        let u = lanes.mul_add(cube, lanes.splat(0.044_715), x);
        lanes.mul(x, sigmoid(lanes, lanes.mul(u, lanes.splat(SLOPE))))
    }
}

/// `x * sigmoid(slope * x)`: [`Activation::Silu`] and [`Activation::QuickGelu`].
#[derive(Clone, Copy)]
pub(super) struct Silu {
    pub(super) slope: f32,
}

impl Map for Silu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        lanes.mul(x, sigmoid(lanes, lanes.mul(x, lanes.splat(self.slope))))
    }
}

/// [`Activation::Sigmoid`]
#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl Map for Sigmoid {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        sigmoid(lanes, x)
    }
}

/// [`Activation::Tanh`]
#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl Map for Tanh {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        tanh(lanes, x)
    }
}

/// `x = activation(x)`
#[inline(always)]
pub(super) fn activate_in_place<L: Lanes>(lanes: L, x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => map_in_place(lanes, x, Relu),
        Activation::Gelu => map_in_place(lanes, x, Gelu),
        Activation::GeluTanh => map_in_place(lanes, x, GeluTanh),
        Activation::QuickGelu => map_in_place(lanes, x, Silu { slope: 1.702 }),
        Activation::Silu => map_in_place(lanes, x, Silu { slope: 1.0 }),
        Activation::Sigmoid => map_in_place(lanes, x, Sigmoid),
        Activation::Tanh => map_in_place(lanes, x, Tanh),
    }
}
