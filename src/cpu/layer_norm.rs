//! Layer norm over rows or equal parts of rows; two passes over the data, so a large mean costs no precision.
#![forbid(unsafe_code)]

use super::Cpu;
use super::finish::{Product, Sum};
use super::isa::Op;
use super::lanes::{Lanes, Map, map_in_place, sum_of, zip_in_place};
use super::mat::Mat;
use crate::checked::quotient;

/// `x`
#[derive(Clone, Copy)]
pub(super) struct Itself;

impl Map for Itself {
    #[inline(always)]
    fn apply<L: Lanes>(self, _lanes: L, x: L::V) -> L::V {
        x
    }
}

/// `x^2`
#[derive(Clone, Copy)]
pub(super) struct Square;

impl Map for Square {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        lanes.mul(x, x)
    }
}

/// `x - .0`
#[derive(Clone, Copy)]
pub(super) struct Minus(pub(super) f32);

impl Map for Minus {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        lanes.sub(x, lanes.splat(self.0))
    }
}

/// `x * .0`
#[derive(Clone, Copy)]
pub(super) struct Times(pub(super) f32);

impl Map for Times {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        lanes.mul(x, lanes.splat(self.0))
    }
}

/// Normalises every part of `parts` parts of the rows of `x` into `out`.
pub(super) fn layer_norm(
    cpu: &Cpu,
    x: Mat,
    parts: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let part = quotient(x.cols, parts);
    cpu.threads.rows(10, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, first, part, weight, bias, eps, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    first: usize,
    part: usize,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { x, first, part, weight, bias, eps, out } = self;
        for (i, row) in out.chunks_exact_mut(x.cols).enumerate() {
            row.copy_from_slice(x.row(first + i));
            for run in row.chunks_exact_mut(part) {
                let mean = sum_of(lanes, run, Itself) / part as f32;
                map_in_place(lanes, run, Minus(mean));
                let variance = sum_of(lanes, run, Square) / part as f32;
                map_in_place(lanes, run, Times(1.0 / libm::sqrtf(variance + eps)));
                if let Some(weight) = weight {
                    zip_in_place(lanes, run, weight, Product);
                }
                if let Some(bias) = bias {
                    zip_in_place(lanes, run, bias, Sum);
                }
            }
        }
    }
}
