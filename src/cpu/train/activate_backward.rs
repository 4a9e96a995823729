//! Slopes of the activations, times the gradient.
#![forbid(unsafe_code)]

use super::super::Cpu;
use super::super::finish::Product;
use super::super::isa::Op;
use super::super::lanes::{Lanes, Map, map_in_place, zip_in_place};
use super::super::mat::Mat;
use super::super::maths::{abs, exp, half_erfc, sigmoid, tanh};
use crate::backend::Activation;

/// `out = gradient * activation'(x)`
pub(super) fn activate_backward(cpu: &Cpu, x: Mat, activation: Activation, gradient: Mat, out: &mut [f32]) {
    cpu.threads.rows(10, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, activation, gradient, first, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    activation: Activation,
    gradient: Mat<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.x.cols).enumerate() {
            row.copy_from_slice(self.x.row(self.first + i));
            match self.activation {
                Activation::Identity => row.fill(1.0),
                Activation::Relu => map_in_place(lanes, row, Relu),
                Activation::Gelu => map_in_place(lanes, row, Gelu),
                Activation::GeluTanh => map_in_place(lanes, row, GeluTanh),
                Activation::QuickGelu => map_in_place(lanes, row, Silu { slope: 1.702 }),
                Activation::Silu => map_in_place(lanes, row, Silu { slope: 1.0 }),
                Activation::Sigmoid => map_in_place(lanes, row, Sigmoid),
                Activation::Tanh => map_in_place(lanes, row, Tanh),
            }
            zip_in_place(lanes, row, self.gradient.row(self.first + i), Product);
        }
    }
}

/// `y * (1 - y)`
#[inline(always)]
fn bell<L: Lanes>(lanes: L, y: L::V) -> L::V {
    lanes.mul(y, lanes.sub(lanes.splat(1.0), y))
}

/// 1 above 0.
#[derive(Clone, Copy)]
struct Relu;

impl Map for Relu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        let zero = lanes.splat(0.0);
        // The product with 0 keeps a NaN.
        lanes.select_less(zero, x, lanes.splat(1.0), lanes.mul(x, zero))
    }
}

/// `Phi(x) + x phi(x)`, the normal distribution and its density.
#[derive(Clone, Copy)]
struct Gelu;

impl Map for Gelu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        /// `1 / sqrt(2 pi)`
        const DENSITY: f32 = 0.398_942_3;
        let below = half_erfc(lanes, lanes.mul(abs(lanes, x), lanes.splat(core::f32::consts::FRAC_1_SQRT_2)));
        let above = lanes.sub(lanes.splat(1.0), below);
        let share = lanes.select_less(x, lanes.splat(0.0), below, above);
        let power = exp(lanes, lanes.mul(lanes.mul(x, x), lanes.splat(-0.5)));
        lanes.mul_add(lanes.mul(power, lanes.splat(DENSITY)), x, share)
    }
}

/// With `s = sigmoid(2 u)`, `2 u = a (x + b x^3)`: `s + x s (1 - s) a (1 + 3 b x^2)`.
#[derive(Clone, Copy)]
struct GeluTanh;

impl Map for GeluTanh {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        /// `2 sqrt(2 / pi)`
        const SLOPE: f32 = 1.595_769;
        const CUBIC: f32 = 0.044_715;
        let square = lanes.mul(x, x);
        let u = lanes.mul_add(lanes.mul(square, x), lanes.splat(CUBIC), x);
        let s = sigmoid(lanes, lanes.mul(u, lanes.splat(SLOPE)));
        let inner = lanes.mul_add(square, lanes.splat(3.0 * CUBIC * SLOPE), lanes.splat(SLOPE));
        lanes.mul_add(lanes.mul(bell(lanes, s), inner), x, s)
    }
}

/// With `s = sigmoid(slope x)`: `s + slope x s (1 - s)`.
#[derive(Clone, Copy)]
struct Silu {
    slope: f32,
}

impl Map for Silu {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        let steep = lanes.mul(x, lanes.splat(self.slope));
        let s = sigmoid(lanes, steep);
        lanes.mul_add(bell(lanes, s), steep, s)
    }
}

/// `s (1 - s)`
#[derive(Clone, Copy)]
struct Sigmoid;

impl Map for Sigmoid {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        bell(lanes, sigmoid(lanes, x))
    }
}

/// `1 - tanh^2`
#[derive(Clone, Copy)]
struct Tanh;

impl Map for Tanh {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        let y = tanh(lanes, x);
        let one = lanes.splat(1.0);
        lanes.mul(lanes.sub(one, y), lanes.add(one, y))
    }
}
