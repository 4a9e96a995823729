//! Updates of parameters, element by element in the order of PyTorch's `AdamW` and `lerp`; plain `f32` arithmetic, so the
//! bits depend on no instruction set.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::super::Cpu;
use super::super::isa::Op;
use super::super::lanes::Lanes;
use super::super::mat::Mat;
use crate::backend::AdamwStep;

/// Elements of one piece of work.
const PIECE: usize = 1 << 14;

/// Writes to `weight` what `gradient` makes of `old`, and updates both moments.
pub(super) fn adamw(
    cpu: &Cpu,
    old: &[f32],
    weight: &mut [f32],
    gradient: Mat,
    moments: [&mut [f32]; 2],
    step: &AdamwStep,
) {
    if weight.is_empty() {
        return;
    }
    let AdamwStep { rate, betas: [beta1, beta2], eps, decay, step, factor } = *step;
    let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
    let constants = Constants {
        factor,
        keep: (1.0 - rate * decay) as f32,
        stride: (rate / correction(beta1)) as f32,
        root: libm::sqrt(correction(beta2)) as f32,
        fresh1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        fresh2: (1.0 - beta2) as f32,
        eps: eps as f32,
    };

    let [first, second] = moments;
    let rows = (PIECE / gradient.cols).max(1);
    let piece = rows * gradient.cols;
    let cost = weight.len().saturating_mul(20);
    let moments = first.chunks_mut(piece).zip(second.chunks_mut(piece));
    let weights = old.chunks(piece).zip(weight.chunks_mut(piece));
    let items: Vec<_> = weights.zip(moments).enumerate().collect();
    cpu.threads.each(
        cost,
        items,
        || (),
        |(), (index, ((old, weight), (first, second)))| {
            let cols = gradient.cols;
            let moments = first.chunks_mut(cols).zip(second.chunks_mut(cols));
            let weights = old.chunks(cols).zip(weight.chunks_mut(cols));
            for (i, ((old, weight), (first, second))) in weights.zip(moments).enumerate() {
                let gradient = gradient.row(index * rows + i);
                cpu.isa.run(Row { constants, gradient, old, weight, first, second });
            }
        },
    );
}

/// What an update has for all elements; fields are named as in [`Row::run`].
#[derive(Clone, Copy)]
struct Constants {
    factor: f32,
    keep: f32,
    stride: f32,
    root: f32,
    fresh1: f32,
    beta2: f32,
    fresh2: f32,
    eps: f32,
}

/// The update of a row, compiled for every instruction set: the same operations, each rounded once, and so the same bits.
struct Row<'a> {
    constants: Constants,
    gradient: &'a [f32],
    old: &'a [f32],
    weight: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Op for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Constants { factor, keep, stride, root, fresh1, beta2, fresh2, eps } = self.constants;
        let moments = self.first.iter_mut().zip(self.second);
        let weights = self.old.iter().zip(self.weight);
        for ((&g, (&old, weight)), (first, second)) in self.gradient.iter().zip(weights).zip(moments) {
            let g = g * factor;
            let m = *first + fresh1 * (g - *first);
            let v = *second * beta2 + fresh2 * g * g;
            *weight = old * keep - stride * (m / (square_root(v) / root + eps));
            (*first, *second) = (m, v);
        }
    }
}

/// Rounded once, as IEEE 754 has it, with and without the standard library; the former becomes vectors.
#[inline(always)]
fn square_root(x: f32) -> f32 {
    #[cfg(feature = "std")]
    {
        x.sqrt()
    }
    #[cfg(not(feature = "std"))]
    {
        libm::sqrtf(x)
    }
}

/// `weight += amount * (to - weight)`
pub(super) fn lerp(cpu: &Cpu, weight: &mut [f32], to: &[f32], amount: f32) {
    let cost = weight.len().saturating_mul(4);
    let items: Vec<_> = weight.chunks_mut(PIECE).zip(to.chunks(PIECE)).collect();
    cpu.threads.each(
        cost,
        items,
        || (),
        |(), (weight, to)| {
            weight.iter_mut().zip(to).for_each(|(weight, to)| *weight += amount * (to - *weight));
        },
    );
}
