//! `gather_scaled` and its transpose against their references, and those against differences.

use triplet::backend::{Backend, Train};
use triplet::reference::{self, GATHER_SCALED, uniform};

use super::{agree, differences, lattice, weighted};
use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

const ROWS: [usize; 7] = [2, 0, 2, 5, 2, 0, 4];
const FACTORS: [f32; 7] = [1.0, 0.0, -0.5, 2.0, 1.0, 3.0, 0.25];

#[test]
fn the_definition_is_the_derivative() {
    let (x, gradient) = (lattice(6 * 3, 1), uniform(7 * 3, 2));
    let want = differences(&x, |x| weighted(&reference::gather_scaled(x, 3, &ROWS, &FACTORS), &gradient));
    agree("gather", &reference::gather_scaled_backward(&gradient, 3, &ROWS, &FACTORS, 6), &want);
}

#[test]
fn sizes() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        for [count, taken, cols] in
            [[6, 7, 0], [6, 7, 1], [6, 7, 17], [1, 300, 35], [50, 0, 4], [40, 700, 513]]
        {
            let rows: Vec<usize> = (0..taken).map(|i| ROWS[i % 7] * 7 % count.min(i + 1)).collect();
            let factors: Vec<f32> = (0..taken).map(|i| FACTORS[i % 7]).collect();
            let (x, gradient) = (uniform(count * cols, 1), uniform(taken * cols, 2));
            let case = format!("{} {count} {taken} {cols}", variant.name);
            let want = reference::gather_scaled(&x, cols, &rows, &factors);
            let x = padded(cpu, count, cols, &x);
            let got = cpu.gather_scaled(inner(&x), &rows, &factors).unwrap();
            failures.check(&case, &got, &want, cols, GATHER_SCALED);
            let want = reference::gather_scaled_backward(&gradient, cols, &rows, &factors, count);
            let gradient = padded(cpu, taken, cols, &gradient);
            let got = cpu.gather_scaled_backward(inner(&gradient), &rows, &factors, count).unwrap();
            failures.check(&format!("{case} backward"), &got, &want, cols, GATHER_SCALED);
        }
    }
    failures.finish();
}

#[test]
fn a_factor_of_zero_hides_what_the_row_holds() {
    for variant in variants() {
        let x = variant.cpu.upload(1, 3, &[f32::NAN, f32::INFINITY, 1.0]).unwrap();
        let got = variant.cpu.gather_scaled(x.view(), &[0, 0], &[0.0, 1.0]).unwrap();
        assert_eq!(got.buffer()[..3], [0.0; 3]);
        assert!(got.buffer()[3].is_nan());
        let got = variant.cpu.gather_scaled_backward(x.view(), &[0], &[0.0], 2).unwrap();
        assert_eq!(got.buffer()[..6], [0.0; 6]);
    }
}
