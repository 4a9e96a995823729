//! `layer_norm_backward` against its reference, and that against differences.

use triplet::backend::{NormGradients, Train};
use triplet::reference::{self, LAYER_NORM_BACKWARD, lengths, uniform};

use super::{agree, differences, lattice, plus, started, weighted};
use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

const EPS: f32 = 1e-5;

#[test]
fn the_definition_is_the_derivative() {
    for width in [2, 7, 12] {
        let (x, w, b) = (lattice(4 * width, 1), lattice(width, 2), lattice(width, 3));
        let gradient = uniform(4 * width, 4);
        // A wide eps keeps the norm of two numbers from being a step.
        let eps = 0.5;
        let loss = |x: &[f32], w: &[f32], b: &[f32]| {
            weighted(&reference::layer_norm(x, width, Some(w), Some(b), eps), &gradient)
        };
        let sums = reference::layer_norm_backward(&x, width, Some(&w), eps, &gradient);
        agree(&format!("x of {width}"), &sums.x, &differences(&x, |x| loss(x, &w, &b)));
        agree(&format!("weight of {width}"), &sums.weight, &differences(&w, |w| loss(&x, w, &b)));
        agree(&format!("bias of {width}"), &sums.bias, &differences(&b, |b| loss(&x, &w, b)));
    }
}

#[test]
fn sizes_parts_and_types() {
    let mut failures = Failures::default();
    let mut widths: Vec<usize> = [4, 16].into_iter().flat_map(lengths).filter(|&width| width != 1).collect();
    widths.extend([64, 192]);
    for variant in variants() {
        let cpu = &variant.cpu;
        for &width in &widths {
            for (rows, parts) in [(0, 1), (1, 1), (70, 1), (33, 4)] {
                let cols = parts * width;
                let (x, gradient) = (uniform(rows * cols, 1), uniform(rows * cols, 2));
                let residual = uniform(rows * cols, 3);
                let stored = STORED[width % STORED.len()];
                let (w, meant) = weight(cpu, &[width], &uniform(width, 4), stored);
                let (px, pg, pr) = (
                    padded(cpu, rows, cols, &x),
                    padded(cpu, rows, cols, &gradient),
                    padded(cpu, rows, cols, &residual),
                );
                let case = format!("{} {rows}x{parts}x{width} {stored:?}", variant.name);
                let want = reference::layer_norm_backward(&x, width, Some(&meant), EPS, &gradient);
                let (mut weight_sum, weight_start) = started(cpu, 1, width, 5);
                let (mut bias_sum, bias_start) = started(cpu, 1, width, 6);
                let into = NormGradients { weight: &mut weight_sum, bias: &mut bias_sum };
                let residuals = Some(inner(&pr));
                let got = cpu
                    .layer_norm_backward(inner(&px), parts, Some(&w), EPS, inner(&pg), residuals, Some(into))
                    .unwrap();
                failures.check(&case, &got, &plus(&residual, &want.x), cols, LAYER_NORM_BACKWARD);
                let expected = plus(&weight_start, &want.weight);
                failures.check(&format!("{case} weight"), &weight_sum, &expected, width, LAYER_NORM_BACKWARD);
                let expected = plus(&bias_start, &want.bias);
                failures.check(&format!("{case} bias"), &bias_sum, &expected, width, LAYER_NORM_BACKWARD);

                let want = reference::layer_norm_backward(&x, width, None, EPS, &gradient);
                let got =
                    cpu.layer_norm_backward(inner(&px), parts, None, EPS, inner(&pg), None, None).unwrap();
                failures.check(&format!("{case} bare"), &got, &want.x, cols, LAYER_NORM_BACKWARD);
            }
        }
    }
    failures.finish();
}
