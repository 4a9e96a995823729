//! The norms against their references.

use triplet::backend::{Activation, Backend};
use triplet::reference::{self, GROUP_NORM, LAYER_NORM, RMS_NORM, Tolerance, large_mean, lengths, uniform};

use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

const EPS: f32 = 1e-5;

fn widths() -> Vec<usize> {
    let mut widths: Vec<usize> = [4, 8, 16].into_iter().flat_map(lengths).collect();
    widths.extend([192, 768]);
    widths
}

#[test]
fn layer_norm() {
    let mut failures = Failures::default();
    for variant in variants() {
        for width in widths() {
            for stored in STORED {
                for (rows, parts) in [(0, 1), (1, 1), (5, 1), (3, 4)] {
                    let x = uniform(rows * parts * width, 1);
                    let (w, w_meant) = weight(&variant.cpu, &[width], &uniform(width, 2), stored);
                    let (b, b_meant) = weight(&variant.cpu, &[width], &uniform(width, 3), stored);
                    let want = reference::layer_norm(&x, width, Some(&w_meant), Some(&b_meant), EPS);
                    let m = padded(&variant.cpu, rows, parts * width, &x);
                    let got = variant.cpu.layer_norm(inner(&m), parts, Some(&w), Some(&b), EPS).unwrap();
                    let case = format!("{} {rows}x{parts}x{width} {stored:?}", variant.name);
                    failures.check(&case, &got, &want, parts * width, LAYER_NORM);
                    let want = reference::layer_norm(&x, width, None, None, EPS);
                    let got = variant.cpu.layer_norm(inner(&m), parts, None, None, EPS).unwrap();
                    failures.check(&case, &got, &want, parts * width, LAYER_NORM);
                }
            }
        }
    }
    failures.finish();
}

/// The mean of numbers around 1000 is rounded to 6e-5, which is 1e-4 of what is left of them.
#[test]
fn a_large_mean_costs_only_its_own_digits() {
    let tolerance = Tolerance { norm: 2e-4, element: 2e-4 };
    let mut failures = Failures::default();
    for variant in variants() {
        let x = large_mean(4 * 768, 1);
        let want = reference::layer_norm(&x, 768, None, None, EPS);
        let m = variant.cpu.upload(4, 768, &x).unwrap();
        let got = variant.cpu.layer_norm(m.view(), 1, None, None, EPS).unwrap();
        failures.check(&variant.name, &got, &want, 768, tolerance);
    }
    failures.finish();
}

#[test]
fn rms_norm() {
    let mut failures = Failures::default();
    for variant in variants() {
        for width in widths() {
            for stored in STORED {
                for rows in [0, 1, 5] {
                    let x = uniform(rows * width, 1);
                    let (w, w_meant) = weight(&variant.cpu, &[width], &uniform(width, 2), stored);
                    let want = reference::rms_norm(&x, &w_meant, EPS);
                    let m = padded(&variant.cpu, rows, width, &x);
                    let got = variant.cpu.rms_norm(inner(&m), &w, EPS).unwrap();
                    let case = format!("{} {rows}x{width} {stored:?}", variant.name);
                    failures.check(&case, &got, &want, width, RMS_NORM);
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn group_norm() {
    let mut failures = Failures::default();
    for variant in variants() {
        for (rows, groups, width) in
            [(1, 1, 1), (1, 2, 3), (7, 4, 8), (30, 3, 17), (400, 32, 2), (10, 2, 67), (200, 32, 8)]
        {
            for stored in STORED {
                let cols = groups * width;
                let x = uniform(rows * cols, 1);
                let (w, w_meant) = weight(&variant.cpu, &[cols], &uniform(cols, 2), stored);
                let (b, b_meant) = weight(&variant.cpu, &[cols], &uniform(cols, 3), stored);
                let function = Activation::Gelu;
                // A single element has no variance: only `eps` is left, and nothing to compare but the bias.
                let want = reference::group_norm(&x, groups, &w_meant, &b_meant, EPS, function);
                let m = padded(&variant.cpu, rows, cols, &x);
                let got = variant.cpu.group_norm(inner(&m), groups, &w, &b, EPS, function).unwrap();
                let case = format!("{} {rows}x{groups}x{width} {stored:?}", variant.name);
                failures.check(&case, &got, &want, cols, GROUP_NORM);
            }
        }
    }
    failures.finish();
}

/// As for layers: groups of 8 channels over 300 cells, in several pieces.
#[test]
fn a_large_mean_of_groups_costs_only_its_own_digits() {
    let tolerance = Tolerance { norm: 2e-4, element: 2e-4 };
    let mut failures = Failures::default();
    for variant in variants() {
        let (x, ones, zeros) = (large_mean(300 * 40, 1), [1.0; 40], [0.0; 40]);
        let want = reference::group_norm(&x, 5, &ones, &zeros, EPS, Activation::Identity);
        let (w, _) = weight(&variant.cpu, &[40], &ones, STORED[0]);
        let (b, _) = weight(&variant.cpu, &[40], &zeros, STORED[0]);
        let m = variant.cpu.upload(300, 40, &x).unwrap();
        let got = variant.cpu.group_norm(m.view(), 5, &w, &b, EPS, Activation::Identity).unwrap();
        failures.check(&variant.name, &got, &want, 40, tolerance);
    }
    failures.finish();
}
