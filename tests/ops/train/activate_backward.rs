//! `activate_backward` against its reference, and that against differences.

use triplet::backend::{Activation, Train};
use triplet::reference::{self, ACTIVATE_BACKWARD, lengths, uniform};

use super::{agree, differences, lattice, weighted};
use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

const ALL: [Activation; 8] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
];

#[test]
fn the_definition_is_the_derivative() {
    for function in ALL {
        // Spread over (-4, 4), and away from the kink of the rectifier.
        let x: Vec<f32> = lattice(80, 1)
            .into_iter()
            .map(|x| 4.0 * x)
            .map(|x| if x.abs() < 0.01 { 0.5 } else { x })
            .collect();
        let gradient = uniform(x.len(), 2);
        let want = differences(&x, |x| weighted(&reference::activate(x, function), &gradient));
        agree(&format!("{function:?}"), &reference::activate_backward(&x, function, &gradient), &want);
    }
}

#[test]
fn sizes() {
    let mut failures = Failures::default();
    for variant in variants() {
        for function in ALL {
            for cols in [4, 8, 16].into_iter().flat_map(lengths) {
                let rows = 5;
                let x: Vec<f32> = uniform(rows * cols, 3).into_iter().map(|x| 12.0 * x * x * x).collect();
                let gradient = uniform(rows * cols, 4);
                let want = reference::activate_backward(&x, function, &gradient);
                let (x, gradient) =
                    (padded(&variant.cpu, rows, cols, &x), padded(&variant.cpu, rows, cols, &gradient));
                let got = variant.cpu.activate_backward(inner(&x), function, inner(&gradient)).unwrap();
                let case = format!("{} {function:?} {rows}x{cols}", variant.name);
                failures.check(&case, &got, &want, cols, ACTIVATE_BACKWARD);
            }
        }
    }
    failures.finish();
}

#[test]
fn far_out_the_slopes_are_those_of_the_limits_and_nan_stays() {
    let mut failures = Failures::default();
    for variant in variants() {
        for function in ALL {
            let x = [-1e4, -100.0, -30.0, 30.0, 100.0, 1e4, f32::NAN];
            let cpu = &variant.cpu;
            use triplet::backend::Backend;
            let m = cpu.upload(1, x.len(), &x).unwrap();
            let ones = cpu.upload(1, x.len(), &[1.0; 7]).unwrap();
            let got = cpu.activate_backward(m.view(), function, ones.view()).unwrap();
            let got = cpu.download(got.view()).unwrap();
            for (i, (&x, &got)) in x.iter().zip(&got).enumerate() {
                let holds = if x.is_nan() {
                    got.is_nan() || function == Activation::Identity
                } else {
                    (f64::from(got) - reference::slope(f64::from(x), function)).abs() < 1e-6
                };
                failures.ensure(&format!("{} {function:?} at {i}: {got}", variant.name), holds);
            }
        }
    }
    failures.finish();
}
