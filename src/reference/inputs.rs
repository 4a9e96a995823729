//! Inputs that tests and benches share: reproducible, and chosen to hurt.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use half::{bf16, f16};

use crate::weights::Dtype;

/// `len` numbers spread evenly over (-1, 1), from a seed (a 64-bit linear congruential generator, upper bits).
pub fn uniform(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 + 0.5) / 8_388_608.0 - 1.0
        })
        .collect()
}

/// `0, 1, ... 250, 0, 1 ...` over 251: a prime period that no tile size divides, so a shifted read shows.
pub fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 251) as f32 / 251.0).collect()
}

/// [`uniform`] around 1000: what a one-pass variance gets wrong.
pub fn large_mean(len: usize, seed: u64) -> Vec<f32> {
    uniform(len, seed).into_iter().map(|x| x + 1000.0).collect()
}

/// Pairs of large numbers that cancel, with small ones between: what a careless order of summation gets wrong.
pub fn cancelling(len: usize, seed: u64) -> Vec<f32> {
    let noise = uniform(len, seed);
    noise.into_iter().enumerate().map(|(i, x)| [100.0, x, -100.0, x][i % 4]).collect()
}

/// Lengths around multiples of a vector of `n` lanes: 0, 1, n-1, n, n+1, 4n+3.
pub fn lengths(n: usize) -> [usize; 6] {
    [0, 1, n - 1, n, n + 1, 4 * n + 3]
}

/// The numbers as a file stores them in `dtype` (nearest even), and the numbers that the stored ones stand for.
pub fn bytes(numbers: &[f32], dtype: Dtype) -> (Vec<u8>, Vec<f32>) {
    let mut stored = Vec::with_capacity(numbers.len() * dtype.size());
    let mut meant = Vec::with_capacity(numbers.len());
    for &x in numbers {
        match dtype {
            Dtype::F32 => {
                stored.extend_from_slice(&x.to_le_bytes());
                meant.push(x);
            }
            Dtype::F16 => {
                let x = f16::from_f32(x);
                stored.extend_from_slice(&x.to_le_bytes());
                meant.push(x.to_f32());
            }
            Dtype::Bf16 => {
                let x = bf16::from_f32(x);
                stored.extend_from_slice(&x.to_le_bytes());
                meant.push(x.to_f32());
            }
        }
    }
    (stored, meant)
}
