//! Activations against their reference: by vectors of awkward length, and over the whole range of `f32`.

use triplet::backend::{Activation, Backend};
use triplet::reference::{self, ACTIVATE, lengths, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::{isas, variants};

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
fn alone_and_as_a_gate() {
    let mut failures = Failures::default();
    for variant in variants() {
        for cols in [4, 8, 16].into_iter().flat_map(lengths) {
            for activation in ALL {
                let x: Vec<f32> = uniform(3 * cols, 1).into_iter().map(|x| x * 6.0).collect();
                let up = uniform(3 * cols, 2);
                let (xm, upm) = (padded(&variant.cpu, 3, cols, &x), padded(&variant.cpu, 3, cols, &up));
                let case = format!("{} {cols} {activation:?}", variant.name);
                let got = variant.cpu.activate(inner(&xm), activation).unwrap();
                failures.check(&case, &got, &reference::activate(&x, activation), cols, ACTIVATE);
                let got = variant.cpu.gated(inner(&xm), inner(&upm), activation).unwrap();
                failures.check(&case, &got, &reference::gated(&x, &up, activation), cols, ACTIVATE);
            }
        }
    }
    failures.finish();
}

/// Units in the last place by which `got` misses `want`, counted in the last place of at least `floor`.
fn units(got: f32, want: f64, floor: f64) -> f64 {
    if want.is_nan() {
        return if got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if f64::from(got) == want || got == want as f32 {
        return 0.0;
    }
    let exponent = want.abs().max(floor).log2().floor();
    (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
}

#[test]
fn accuracy_over_the_whole_range() {
    // A million numbers evenly over the bit patterns, and a million evenly where the functions bend.
    let patterns = (0..1_000_000u64).map(|i| f32::from_bits((i * 4294) as u32));
    let bends = (0..1_000_000).map(|i| i as f32 * 4e-5 - 20.0);
    let special =
        [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
    let x: Vec<f32> = patterns.chain(bends).chain(special).collect();
    let mut failures = Failures::default();
    for isa in isas() {
        let cpu = triplet::Cpu::with_threads(2).with_isa(isa).unwrap();
        let matrix = cpu.upload(1, x.len(), &x).unwrap();
        for activation in ALL {
            let (most, floor) = match activation {
                Activation::Identity | Activation::Relu => (0.0, 0.0),
                Activation::Tanh | Activation::Sigmoid => (4.0, 1e-30),
                Activation::Gelu | Activation::GeluTanh => (20.0, 1e-3),
                _ => (10.0, 1e-3),
            };
            let got = cpu.activate(matrix.view(), activation).unwrap();
            let worst = got.buffer().iter().zip(&x).fold((0.0, 0.0, 0.0), |worst, (&got, &x)| {
                let units = units(got, reference::activation(f64::from(x), activation), floor);
                if units > worst.0 { (units, x, got) } else { worst }
            });
            println!("{} {activation:?}: {:.2} units at {}", isa.name(), worst.0, worst.1);
            let case = format!("{} {activation:?}: {worst:?}", isa.name());
            failures.ensure(&case, worst.0 <= most);
        }
    }
    failures.finish();
}
