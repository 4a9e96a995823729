//! `linear_backward` and `linear_gradients` against their references, and those against differences.

use triplet::backend::{Activation, LinearGradients, LinearParameters, Train};
use triplet::reference::{self, After, LINEAR_BACKWARD, uniform};

use super::{agree, differences, lattice, plus, started, weighted};
use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

#[test]
fn the_definition_is_the_derivative() {
    let sizes @ [rows, k, n] = [3, 4, 5];
    let (x, w, b, s) = (lattice(rows * k, 1), lattice(n * k, 2), lattice(n, 3), lattice(n, 4));
    let gradient = uniform(rows * n, 5);
    let residual = uniform(rows * n, 6);
    let loss = |x: &[f32], w: &[f32], b: &[f32], s: &[f32]| {
        let after = After {
            bias: Some(b),
            activation: Activation::Identity,
            scale: Some(s),
            residual: Some(&residual),
        };
        weighted(&reference::linear(x, w, sizes, &after), &gradient)
    };
    let by_x = reference::linear_backward(&w, Some(&s), &gradient, sizes);
    agree("x", &by_x, &differences(&x, |x| loss(x, &w, &b, &s)));
    let sums = reference::linear_gradients(&x, &w, Some(&b), Some(&s), &gradient, sizes);
    agree("weight", &sums.weight, &differences(&w, |w| loss(&x, w, &b, &s)));
    agree("bias", &sums.bias, &differences(&b, |b| loss(&x, &w, b, &s)));
    agree("scale", &sums.scale, &differences(&s, |s| loss(&x, &w, &b, s)));
}

/// Rows, inputs, outputs around every vector, tile, panel, block and strip size.
const SIZES: [[usize; 3]; 13] = [
    [0, 3, 5],
    [3, 0, 5],
    [3, 5, 0],
    [1, 1, 1],
    [2, 3, 4],
    [7, 8, 9],
    [6, 15, 16],
    [12, 17, 31],
    [25, 67, 63],
    [191, 65, 3],
    [192, 33, 70],
    [193, 67, 17],
    [400, 20, 200],
];

#[test]
fn sizes_types_and_alignments() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        for sizes @ [rows, k, n] in SIZES {
            for stored in STORED {
                let (x, gradient) = (uniform(rows * k, 1), uniform(rows * n, 2));
                let (w, w_meant) = weight(cpu, &[n, k], &uniform(n * k, 3), stored);
                let (b, b_meant) = weight(cpu, &[n], &uniform(n, 4), stored);
                let (s, s_meant) = weight(cpu, &[n], &uniform(n, 5), stored);
                let (px, pg) = (padded(cpu, rows, k, &x), padded(cpu, rows, n, &gradient));
                for scale in [None, Some((&s, &s_meant))] {
                    let meant = scale.map(|(_, meant)| meant.as_slice());
                    let case = format!("{} {sizes:?} {stored:?} scaled: {}", variant.name, scale.is_some());
                    let want = reference::linear_backward(&w_meant, meant, &gradient, sizes);
                    let got = cpu.linear_backward(&w, scale.map(|(scale, _)| scale), inner(&pg)).unwrap();
                    failures.check(&format!("{case} x"), &got, &want, k, LINEAR_BACKWARD);

                    let want =
                        reference::linear_gradients(&x, &w_meant, Some(&b_meant), meant, &gradient, sizes);
                    let (mut weight_sum, weight_start) = started(cpu, n, k, 6);
                    let (mut bias_sum, bias_start) = started(cpu, 1, n, 7);
                    let (mut scale_sum, scale_start) = started(cpu, 1, n, 8);
                    let layer =
                        LinearParameters { weight: &w, bias: Some(&b), scale: scale.map(|(scale, _)| scale) };
                    let into = LinearGradients {
                        weight: &mut weight_sum,
                        bias: Some(&mut bias_sum),
                        scale: scale.map(|_| &mut scale_sum),
                    };
                    cpu.linear_gradients(inner(&px), layer, inner(&pg), into).unwrap();
                    let expected = plus(&weight_start, &want.weight);
                    failures.check(&format!("{case} weight"), &weight_sum, &expected, k, LINEAR_BACKWARD);
                    let expected = plus(&bias_start, &want.bias);
                    failures.check(&format!("{case} bias"), &bias_sum, &expected, n, LINEAR_BACKWARD);
                    let added = if scale.is_some() { want.scale } else { vec![0.0; n] };
                    let expected = plus(&scale_start, &added);
                    failures.check(&format!("{case} scale"), &scale_sum, &expected, n, LINEAR_BACKWARD);
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn trailing_dimensions_count_as_inputs_and_a_bias_may_be_missing() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        let sizes @ [rows, k, n] = [9, 12, 5];
        let (x, gradient) = (uniform(rows * k, 1), uniform(rows * n, 2));
        let (w, meant) = weight(cpu, &[n, 3, 2, 2], &uniform(n * k, 3), STORED[0]);
        let (s, s_meant) = weight(cpu, &[n], &uniform(n, 5), STORED[0]);
        let want = reference::linear_gradients(&x, &meant, None, Some(&s_meant), &gradient, sizes);
        let (mut weight_sum, weight_start) = started(cpu, n, k, 6);
        let (mut scale_sum, scale_start) = started(cpu, 1, n, 8);
        let (x, gradient) = (padded(cpu, rows, k, &x), padded(cpu, rows, n, &gradient));
        let layer = LinearParameters { weight: &w, bias: None, scale: Some(&s) };
        let into = LinearGradients { weight: &mut weight_sum, bias: None, scale: Some(&mut scale_sum) };
        cpu.linear_gradients(inner(&x), layer, inner(&gradient), into).unwrap();
        failures.check(&variant.name, &weight_sum, &plus(&weight_start, &want.weight), k, LINEAR_BACKWARD);
        failures.check(&variant.name, &scale_sum, &plus(&scale_start, &want.scale), n, LINEAR_BACKWARD);
    }
    failures.finish();
}
