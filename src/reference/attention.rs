//! Softmax attention: `out[i] = sum_j p[i, j] v[j]`, `p = softmax_j(logit(q[i] . k[j]))` over the keys that `i` may see.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Tolerance;
use crate::backend::{Attention, AttentionMask};

/// Scores are chains in f32 whose error the exponential turns into a relative one: about their size times a unit in the
/// last place, for logits up to some tens.
pub const TOLERANCE: Tolerance = Tolerance { norm: 3e-6, element: 6e-6 };

/// With operands rounded to `bf16`: a half of 2^-8 for each, of which most average out.
pub const ROUNDED: Tolerance = Tolerance { norm: 6e-3, element: 1.2e-2 };

/// `q [rows, heads * d]`, `k [keys, kv_heads * d]`, `v [keys, kv_heads * e]` give `[rows, heads * e]`; `rows` and `keys`
/// are given, as no width of 0 says them.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    [rows, keys]: [usize; 2],
    attention: &Attention,
) -> Vec<f64> {
    let Attention { heads, kv_heads, scale, soft_cap, mask, .. } = *attention;
    let d = q.len() / (rows * heads).max(1);
    let e = v.len() / (keys * kv_heads).max(1);
    let mut out = vec![0.0; rows * heads * e];
    for row in 0..rows {
        for head in 0..heads {
            let shared = head / (heads / kv_heads);
            let sees = |j: usize| match mask {
                AttentionMask::Full => true,
                AttentionMask::Causal { first, window } => {
                    j <= first + row && window.is_none_or(|window| j + window > first + row)
                }
            };
            let logit = |j: usize| {
                let q = &q[(row * heads + head) * d..][..d];
                let k = &k[(j * kv_heads + shared) * d..][..d];
                let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let logit = dot * f64::from(scale);
                soft_cap.map_or(logit, |cap| f64::from(cap) * libm::tanh(logit / f64::from(cap)))
            };
            let logits: Vec<(usize, f64)> = (0..keys).filter(|&j| sees(j)).map(|j| (j, logit(j))).collect();
            let largest = logits.iter().map(|&(_, logit)| logit).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logits.iter().map(|&(_, logit)| libm::exp(logit - largest)).sum();
            for (j, logit) in logits {
                let p = libm::exp(logit - largest) / total;
                for i in 0..e {
                    out[(row * heads + head) * e + i] += p * f64::from(v[(j * kv_heads + shared) * e + i]);
                }
            }
        }
    }
    out
}
