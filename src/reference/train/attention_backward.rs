//! Softmax attention by its three operands. With `p` the probabilities and `o[i, j] = gradient[i] . v[j]`:
//! `v[j]` gets `sum_i p[i, j] gradient[i]`, the logits `s[i, j] = p[i, j] (o[i, j] - sum_j p[i, j] o[i, j])`, and with
//! `t = s * scale * (1 - tanh^2)` (the last factor under a soft cap alone) `q[i]` gets `sum_j t[i, j] k[j]` and `k[j]` gets
//! `sum_i t[i, j] q[i]`.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{Attention, AttentionMask};
use crate::reference::Tolerance;

/// As for the attention; differences of probabilities cost some more.
pub const TOLERANCE: Tolerance = Tolerance { norm: 6e-6, element: 1.2e-5 };

/// Operands as for [`attention`](crate::reference::attention), `gradient [rows, heads * e]`; gives the derivatives by
/// `q`, `k` and `v`.
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    [rows, keys]: [usize; 2],
    attention: &Attention,
    gradient: &[f32],
) -> [Vec<f64>; 3] {
    let Attention { heads, kv_heads, scale, soft_cap, mask, .. } = *attention;
    let d = q.len() / (rows * heads).max(1);
    let e = v.len() / (keys * kv_heads).max(1);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    for row in 0..rows {
        for head in 0..heads {
            let shared = head / (heads / kv_heads);
            let sees = |j: usize| match mask {
                AttentionMask::Full => true,
                AttentionMask::Causal { first, window } => {
                    j <= first + row && window.is_none_or(|window| j + window > first + row)
                }
            };
            let (at, out) = ((row * heads + head) * d, (row * heads + head) * e);
            // Logit and its slope by the scaled dot product.
            let logit = |j: usize| {
                let logit = dot(&q[at..][..d], &k[(j * kv_heads + shared) * d..][..d]) * f64::from(scale);
                soft_cap.map_or((logit, 1.0), |cap| {
                    let t = libm::tanh(logit / f64::from(cap));
                    (f64::from(cap) * t, 1.0 - t * t)
                })
            };
            let seen: Vec<(usize, f64, f64)> = (0..keys)
                .filter(|&j| sees(j))
                .map(|j| {
                    let (logit, slope) = logit(j);
                    (j, logit, slope)
                })
                .collect();
            let largest = seen.iter().map(|&(_, logit, _)| logit).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = seen.iter().map(|&(_, logit, _)| libm::exp(logit - largest)).sum();
            let p = |logit: f64| libm::exp(logit - largest) / total;
            let o = |j: usize| dot(&gradient[out..][..e], &v[(j * kv_heads + shared) * e..][..e]);
            let mean: f64 = seen.iter().map(|&(j, logit, _)| p(logit) * o(j)).sum();
            for &(j, logit, slope) in &seen {
                let t = p(logit) * (o(j) - mean) * slope * f64::from(scale);
                for i in 0..d {
                    let other = (j * kv_heads + shared) * d + i;
                    dq[at + i] += t * f64::from(k[other]);
                    dk[other] += t * f64::from(q[at + i]);
                }
                for i in 0..e {
                    dv[(j * kv_heads + shared) * e + i] += p(logit) * f64::from(gradient[out + i]);
                }
            }
        }
    }
    [dq, dk, dv]
}
