//! The updates of parameters against their definitions.

use triplet::backend::{AdamwStep, Backend, Train};
use triplet::reference::{self, ADAMW, Tolerance, uniform};

use super::started;
use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

const STEP: AdamwStep =
    AdamwStep { rate: 3e-2, betas: [0.9, 0.95], eps: 1e-8, decay: 0.1, step: 3, factor: 0.7 };

#[test]
fn adamw() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        for [rows, cols] in [[0, 4], [1, 1], [3, 7], [40, 700], [1, 40000]] {
            for step in [1, 2, 100] {
                let step = AdamwStep { step, ..STEP };
                let stored = STORED[cols % STORED.len()];
                let (mut w, meant) = weight(cpu, &[rows, cols], &uniform(rows * cols, 1), stored);
                let gradient = uniform(rows * cols, 2);
                let (mut first, first_start) = started(cpu, rows, cols, 3);
                let (mut second, mut second_start) = started(cpu, rows, cols, 4);
                second_start.iter_mut().for_each(|x| *x *= *x);
                second.buffer_mut()[..rows * cols].copy_from_slice(&second_start);
                let want = reference::adamw(&meant, &gradient, &first_start, &second_start, &step);
                let gradient = padded(cpu, rows, cols, &gradient);
                let kept = w.clone();
                cpu.adamw(&mut w, inner(&gradient), &mut first, &mut second, &step).unwrap();
                let case = format!("{} {rows}x{cols} step {}", variant.name, step.step);
                let new = cpu.read(&w, rows, cols).unwrap();
                failures.check(&case, &new, &want[0], cols, ADAMW);
                failures.check(&format!("{case} first"), &first, &want[1], cols, ADAMW);
                failures.check(&format!("{case} second"), &second, &want[2], cols, ADAMW);
                let kept = cpu.read(&kept, rows, cols).unwrap();
                failures.ensure(&format!("{case} old handle"), kept.buffer()[..rows * cols] == meant);
            }
        }
    }
    failures.finish();
}

/// The bias correction makes the first step of a constant gradient `rate`, whatever its size.
#[test]
fn the_first_step_is_the_rate() {
    let cpu = triplet::Cpu::with_threads(1);
    for gradient in [1e-3f32, 50.0] {
        let mut w = cpu.parameter(&[1, 2], &[1.0, -1.0]).unwrap();
        let mut moments = [cpu.zeros(1, 2).unwrap(), cpu.zeros(1, 2).unwrap()];
        let gradient = cpu.upload(1, 2, &[gradient, -gradient]).unwrap();
        let step = AdamwStep { decay: 0.0, step: 1, factor: 1.0, ..STEP };
        let [first, second] = &mut moments;
        cpu.adamw(&mut w, gradient.view(), first, second, &step).unwrap();
        let new = cpu.download(cpu.read(&w, 1, 2).unwrap().view()).unwrap();
        assert!((new[0] - 0.97).abs() < 1e-4 && (new[1] + 0.97).abs() < 1e-4, "{new:?}");
    }
}

#[test]
fn lerp_and_sum_of_squares() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        for [rows, cols] in [[0, 4], [3, 7], [1, 8], [9, 40000]] {
            let (mut w, from) = weight(cpu, &[rows, cols], &uniform(rows * cols, 1), STORED[2]);
            let (to, target) = weight(cpu, &[rows, cols], &uniform(rows * cols, 2), STORED[0]);
            cpu.lerp(&mut w, &to, 0.25).unwrap();
            let want: Vec<f64> =
                from.iter().zip(&target).map(|(&a, &b)| 0.75 * f64::from(a) + 0.25 * f64::from(b)).collect();
            let got = cpu.read(&w, rows, cols).unwrap();
            let tolerance = Tolerance { norm: 1e-7, element: 2e-7 };
            failures.check(&format!("{} lerp {rows}x{cols}", variant.name), &got, &want, cols, tolerance);

            let want: f64 = from.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let x = padded(cpu, rows, cols, &from);
            let got = cpu.sum_of_squares(inner(&x)).unwrap();
            let case = format!("{} squares {rows}x{cols}: {got} {want}", variant.name);
            failures.ensure(&case, (got - want).abs() <= 1e-12 * want);
        }
    }
    failures.finish();
}
