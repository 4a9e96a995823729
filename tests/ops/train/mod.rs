//! The operations of training: every definition against finite differences of its forward definition in f64, every
//! kernel against its definition, and the promises about bits.

mod activate_backward;
mod adamw;
mod add_backward;
mod attention_backward;
mod attention_each;
mod bits;
mod errors;
mod gather_scaled;
mod layer_norm_backward;
mod linear_backward;

use triplet::backend::{Backend, Matrix};
use triplet::cpu::Cpu;
use triplet::reference::uniform;

/// Half the widest step of a finite difference. Operands lie on multiples of it (see [`lattice`]), so `x + STEP` is exact.
const STEP: f32 = 1.0 / 512.0;

/// [`uniform`] numbers rounded to multiples of 1/4096, which `f32` adds without an error.
pub fn lattice(len: usize, seed: u64) -> Vec<f32> {
    uniform(len, seed).into_iter().map(|x| (x * 4096.0).round() / 4096.0).collect()
}

/// Derivative of `loss` by every element of `x`: differences of fourth order.
pub fn differences(x: &[f32], loss: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    let mut moved = x.to_vec();
    let mut at = |i: usize, step: f32| {
        moved[i] = x[i] + step;
        let loss = loss(&moved);
        moved[i] = x[i];
        loss
    };
    let slope = |i: usize| {
        let near = at(i, STEP) - at(i, -STEP);
        let far = at(i, 2.0 * STEP) - at(i, -2.0 * STEP);
        (8.0 * near - far) / (12.0 * f64::from(STEP))
    };
    (0..x.len()).map(slope).collect()
}

/// `sum_i gradient[i] * out[i]`, whose derivative by `out` is `gradient`.
pub fn weighted(out: &[f64], gradient: &[f32]) -> f64 {
    assert_eq!(out.len(), gradient.len());
    out.iter().zip(gradient).map(|(&out, &g)| out * f64::from(g)).sum()
}

/// Panics unless the definition agrees with the differences to `1e-7` of the largest.
pub fn agree(case: &str, definition: &[f64], differences: &[f64]) {
    assert_eq!(definition.len(), differences.len(), "{case}");
    let largest = differences.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    assert!(largest > 0.0, "{case}: nothing to compare");
    for (i, (a, b)) in definition.iter().zip(differences).enumerate() {
        assert!((a - b).abs() <= 1e-7 * largest, "{case}: element {i} is {a}, by differences {b}");
    }
}

/// What a gradient holds before an operation adds to it, and the same in the backend's hands.
pub fn started(cpu: &Cpu, rows: usize, cols: usize, seed: u64) -> (Matrix<Cpu>, Vec<f32>) {
    let start = uniform(rows * cols, seed);
    (cpu.upload(rows, cols, &start).unwrap(), start)
}

/// `start + added`
pub fn plus(start: &[f32], added: &[f64]) -> Vec<f64> {
    assert_eq!(start.len(), added.len());
    start.iter().zip(added).map(|(&a, &b)| f64::from(a) + b).collect()
}

#[test]
fn the_comparison_sees_a_wrong_derivative() {
    let x = lattice(5, 1);
    let cube = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(3)).sum();
    let right: Vec<f64> = x.iter().map(|&x| 3.0 * f64::from(x).powi(2)).collect();
    agree("cube", &right, &differences(&x, cube));
    let mut wrong = right;
    wrong[2] += 1e-5;
    assert!(std::panic::catch_unwind(|| agree("cube", &wrong, &differences(&x, cube))).is_err());
}
