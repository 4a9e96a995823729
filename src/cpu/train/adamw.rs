//! Updates of parameters, element by element in the order of PyTorch's `AdamW` and `lerp`; plain `f32` arithmetic, so the
//! bits depend on no instruction set.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::super::Cpu;
use super::super::mat::Mat;
use crate::backend::AdamwStep;

/// Elements of one piece of work.
const PIECE: usize = 1 << 14;

/// Updates `weight` and both moments by `gradient`.
pub(super) fn adamw(
    cpu: &Cpu,
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
    let keep = (1.0 - rate * decay) as f32;
    let stride = (rate / correction(beta1)) as f32;
    let root = libm::sqrt(correction(beta2)) as f32;
    let (fresh1, beta2, fresh2, eps) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32, eps as f32);

    let [first, second] = moments;
    let rows = (PIECE / gradient.cols).max(1);
    let piece = rows * gradient.cols;
    let cost = weight.len().saturating_mul(20);
    let moments = first.chunks_mut(piece).zip(second.chunks_mut(piece));
    let items: Vec<_> = weight.chunks_mut(piece).zip(moments).enumerate().collect();
    cpu.threads.each(
        cost,
        items,
        || (),
        |(), (index, (weight, (first, second)))| {
            let cols = gradient.cols;
            let moments = first.chunks_mut(cols).zip(second.chunks_mut(cols));
            for (i, (weight, (first, second))) in weight.chunks_mut(cols).zip(moments).enumerate() {
                let gradient = gradient.row(index * rows + i);
                for j in 0..cols {
                    let g = gradient[j] * factor;
                    let m = first[j] + fresh1 * (g - first[j]);
                    let v = second[j] * beta2 + fresh2 * g * g;
                    weight[j] = weight[j] * keep - stride * (m / (libm::sqrtf(v) / root + eps));
                    (first[j], second[j]) = (m, v);
                }
            }
        },
    );
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
