//! `attention_backward` against its reference, and that against differences.

use triplet::backend::{Attention, AttentionMask, Operands, Train};
use triplet::reference::{self, ATTENTION_BACKWARD, uniform};

use super::{agree, differences, lattice, weighted};
use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::{isas, variants};
use triplet::backend::Backend;
use triplet::cpu::Cpu;

const MASKS: [AttentionMask; 3] = [
    AttentionMask::Full,
    AttentionMask::Causal { first: 0, window: None },
    AttentionMask::Causal { first: 3, window: Some(5) },
];

#[test]
fn the_definition_is_the_derivative() {
    let (queries, keys, d, e) = (4, 5, 3, 2);
    for mask in MASKS {
        for (heads, kv_heads) in [(2, 2), (4, 2)] {
            for soft_cap in [None, Some(0.8)] {
                let parameters =
                    Attention { heads, kv_heads, scale: 0.7, soft_cap, mask, operands: Operands::Exact };
                let (q, k) = (lattice(queries * heads * d, 1), lattice(keys * kv_heads * d, 2));
                let (v, gradient) = (lattice(keys * kv_heads * e, 3), uniform(queries * heads * e, 4));
                let loss = |q: &[f32], k: &[f32], v: &[f32]| {
                    weighted(&reference::attention(q, k, v, [queries, keys], &parameters), &gradient)
                };
                let [by_q, by_k, by_v] =
                    reference::attention_backward(&q, &k, &v, [queries, keys], &parameters, &gradient);
                let case = format!("{parameters:?}");
                agree(&format!("{case} q"), &by_q, &differences(&q, |q| loss(q, &k, &v)));
                agree(&format!("{case} k"), &by_k, &differences(&k, |k| loss(&q, k, &v)));
                agree(&format!("{case} v"), &by_v, &differences(&v, |v| loss(&q, &k, v)));
            }
        }
    }
}

/// Queries, keys, heads, key-value heads, width of keys, width of values.
fn check(failures: &mut Failures, name: &str, cpu: &Cpu, sizes: [usize; 6], parameters: &Attention) {
    let [queries, keys, heads, kv_heads, d, e] = sizes;
    let (q, k) = (uniform(queries * heads * d, 1), uniform(keys * kv_heads * d, 2));
    let (v, gradient) = (uniform(keys * kv_heads * e, 3), uniform(queries * heads * e, 4));
    let want = reference::attention_backward(&q, &k, &v, [queries, keys], parameters, &gradient);
    let q = padded(cpu, queries, heads * d, &q);
    let k = padded(cpu, keys, kv_heads * d, &k);
    let v = padded(cpu, keys, kv_heads * e, &v);
    let gradient = padded(cpu, queries, heads * e, &gradient);
    let got = cpu.attention_backward(inner(&q), inner(&k), inner(&v), parameters, inner(&gradient)).unwrap();
    let case = format!("{name} {sizes:?} {parameters:?}");
    failures.check(&format!("{case} q"), &got.q, &want[0], heads * d, ATTENTION_BACKWARD);
    failures.check(&format!("{case} k"), &got.k, &want[1], kv_heads * d, ATTENTION_BACKWARD);
    failures.check(&format!("{case} v"), &got.v, &want[2], kv_heads * e, ATTENTION_BACKWARD);
}

#[test]
fn masks_heads_and_sizes() {
    let mut failures = Failures::default();
    let sizes = [
        [0, 3, 1, 1, 4, 4],
        [3, 0, 1, 1, 4, 4],
        [3, 5, 2, 1, 4, 0],
        [3, 5, 2, 1, 0, 4],
        [1, 2, 1, 1, 1, 1],
        [5, 7, 2, 1, 3, 5],
        [13, 40, 4, 2, 16, 9],
        [50, 33, 3, 3, 17, 33],
        [193, 20, 2, 2, 8, 24],
    ];
    for variant in variants() {
        for sizes in sizes {
            let [_, _, heads, kv_heads, ..] = sizes;
            for mask in MASKS {
                for soft_cap in [None, Some(3.0)] {
                    let parameters =
                        Attention { heads, kv_heads, scale: 0.4, soft_cap, mask, operands: Operands::Exact };
                    check(&mut failures, &variant.name, &variant.cpu, sizes, &parameters);
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn real_layers() {
    let mut failures = Failures::default();
    for isa in isas() {
        let cpu = Cpu::with_threads(2).with_isa(isa).unwrap().poisoned();
        for (sizes, soft_cap) in [([197, 197, 2, 2, 64, 64], None), ([400, 385, 1, 1, 200, 64], Some(30.0))] {
            let scale = 1.0 / (sizes[4] as f32).sqrt();
            let parameters = Attention {
                heads: sizes[2],
                kv_heads: sizes[3],
                scale: 8.0 * scale,
                soft_cap,
                mask: AttentionMask::Full,
                operands: Operands::Exact,
            };
            check(&mut failures, isa.name(), &cpu, sizes, &parameters);
        }
    }
    failures.finish();
}

#[test]
fn a_wrong_number_reaches_the_gradients() {
    let cpu = Cpu::with_threads(1);
    let mut q = uniform(5 * 4, 1);
    q[7] = f32::NAN;
    let q = cpu.upload(5, 4, &q).unwrap();
    let k = cpu.upload(5, 4, &uniform(20, 2)).unwrap();
    let parameters = Attention {
        heads: 1,
        kv_heads: 1,
        scale: 1.0,
        soft_cap: None,
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    let got = cpu.attention_backward(q.view(), k.view(), k.view(), &parameters, k.view()).unwrap();
    for gradient in [&got.q, &got.k, &got.v] {
        assert!(!cpu.is_finite(gradient.view()).unwrap());
    }
}
