//! `add_backward` against its reference, and that against differences.

use triplet::backend::Train;
use triplet::reference::{self, ADD_BACKWARD, cancelling, uniform};

use super::{agree, differences, lattice, started, weighted};
use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

#[test]
fn the_definition_is_the_derivative() {
    let (a, b, gradient) = (lattice(30, 1), lattice(10, 2), uniform(30, 3));
    let want = differences(&b, |b| weighted(&reference::add(&a, b), &gradient));
    agree("add", &reference::add_backward(&gradient, &[0.0; 10]), &want);
}

#[test]
fn sizes() {
    let mut failures = Failures::default();
    for variant in variants() {
        for [repeats, rows, cols] in [
            [0, 1, 5],
            [1, 1, 1],
            [3, 1, 255],
            [65, 1, 257],
            [700, 1, 33],
            [3, 7, 15],
            [130, 3, 520],
            [5, 40, 64],
        ] {
            for (kind, gradient) in [
                ("uniform", uniform(repeats * rows * cols, 1)),
                ("cancelling", cancelling(repeats * rows * cols, 2)),
            ] {
                let (mut b, start) = started(&variant.cpu, rows, cols, 3);
                let want = reference::add_backward(&gradient, &start);
                let gradient = padded(&variant.cpu, repeats * rows, cols, &gradient);
                variant.cpu.add_backward(inner(&gradient), &mut b).unwrap();
                let case = format!("{} {repeats}x{rows}x{cols} {kind}", variant.name);
                failures.check(&case, &b, &want, cols, ADD_BACKWARD);
            }
        }
    }
    failures.finish();
}
