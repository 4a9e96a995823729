//! `attention` against its reference, and what masks promise.

use triplet::backend::{Attention, AttentionMask, Backend, Operands};
use triplet::cpu::Cpu;
use triplet::reference::{self, ATTENTION, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::shapes;
use crate::common::variants::{isas, variants};

const MASKS: [AttentionMask; 5] = [
    AttentionMask::Full,
    AttentionMask::Causal { first: 0, window: None },
    AttentionMask::Causal { first: 187, window: None },
    AttentionMask::Causal { first: 3, window: Some(5) },
    AttentionMask::Causal { first: 200, window: Some(100) },
];

#[test]
fn masks_heads_and_sizes() {
    let mut failures = Failures::default();
    // Queries, keys, heads, key-value heads, width of keys, width of values.
    let sizes = [
        [0, 3, 1, 1, 4, 4],
        [3, 0, 1, 1, 4, 4],
        [1, 1, 1, 1, 1, 1],
        [5, 7, 2, 1, 3, 5],
        [13, 40, 4, 2, 16, 9],
        [50, 33, 3, 3, 17, 33],
        [20, 300, 2, 2, 64, 64],
        [3, 513, 4, 1, 300, 20],
    ];
    for variant in variants() {
        for [queries, keys, heads, kv_heads, d, e] in sizes {
            for mask in MASKS {
                for soft_cap in [None, Some(3.0)] {
                    let parameters =
                        Attention { heads, kv_heads, scale: 0.4, soft_cap, mask, operands: Operands::Exact };
                    let q = uniform(queries * heads * d, 1);
                    let k = uniform(keys * kv_heads * d, 2);
                    let v = uniform(keys * kv_heads * e, 3);
                    let mut want = reference::attention(&q, &k, &v, [queries, keys], &parameters);
                    // Without keys the reference cannot know the width of the values.
                    want.resize(queries * heads * e, 0.0);
                    let q = padded(&variant.cpu, queries, heads * d, &q);
                    let k = padded(&variant.cpu, keys, kv_heads * d, &k);
                    let v = padded(&variant.cpu, keys, kv_heads * e, &v);
                    let got = variant.cpu.attention(inner(&q), inner(&k), inner(&v), &parameters).unwrap();
                    let case = format!("{} {queries}x{keys} {d} {e} {parameters:?}", variant.name);
                    failures.check(&case, &got, &want, heads * e, ATTENTION);
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
        for (name, queries, keys, heads, kv_heads, d) in shapes::ATTENTION {
            // The definition is slow: the last queries stand for all.
            let queries = queries.min(30);
            let mask = AttentionMask::Causal { first: keys - queries, window: None };
            let parameters =
                Attention { heads, kv_heads, scale: 1.0, soft_cap: None, mask, operands: Operands::Exact };
            let q = uniform(queries * heads * d, 4);
            let k = uniform(keys * kv_heads * d, 5);
            let v = uniform(keys * kv_heads * d, 6);
            let want = reference::attention(&q, &k, &v, [queries, keys], &parameters);
            let q = cpu.upload(queries, heads * d, &q).unwrap();
            let k = cpu.upload(keys, kv_heads * d, &k).unwrap();
            let v = cpu.upload(keys, kv_heads * d, &v).unwrap();
            let got = cpu.attention(q.view(), k.view(), v.view(), &parameters).unwrap();
            failures.check(&format!("{} {name}", isa.name()), &got, &want, heads * d, ATTENTION);
        }
    }
    failures.finish();
}

/// Positions of a cache of 600 keys, asked one at a time with only the keys so far, in chunks, and all at once.
#[test]
fn a_causal_row_has_the_same_bits_however_many_keys_and_queries_come_with_it() {
    let (keys, heads, kv_heads, d) = (600, 4, 2, 20);
    let q = uniform(keys * heads * d, 1);
    let k = uniform(keys * kv_heads * d, 2);
    let v = uniform(keys * kv_heads * d, 3);
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        let q = cpu.upload(keys, heads * d, &q).unwrap();
        let k = cpu.upload(keys, kv_heads * d, &k).unwrap();
        let v = cpu.upload(keys, kv_heads * d, &v).unwrap();
        for window in [None, Some(37)] {
            let run = |first: usize, count: usize, cached: usize| {
                let mask = AttentionMask::Causal { first, window };
                let parameters = Attention {
                    heads,
                    kv_heads,
                    scale: 0.3,
                    soft_cap: None,
                    mask,
                    operands: Operands::Exact,
                };
                let q = q.view().row_range(first..first + count).unwrap();
                let (k, v) = (k.view().row_range(0..cached).unwrap(), v.view().row_range(0..cached).unwrap());
                let out = cpu.attention(q, k, v, &parameters).unwrap();
                cpu.download(out.view()).unwrap()
            };
            let all = run(0, keys, keys);
            for (first, count) in [(0, 1), (1, 1), (191, 1), (192, 1), (193, 30), (599, 1), (40, 200)] {
                for cached in [first + count, keys] {
                    let part = run(first, count, cached);
                    let equal = part == all[first * heads * d..(first + count) * heads * d];
                    let case = format!("{} {first}+{count} of {cached} window {window:?}", variant.name);
                    failures.ensure(&case, equal);
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn a_masked_key_cannot_be_felt_and_a_seen_nan_can() {
    let (queries, keys, d) = (20, 40, 8);
    let q = uniform(queries * d, 1);
    let clean = [uniform(keys * d, 2), uniform(keys * d, 3)];
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        let run = |k: &[f32], v: &[f32]| {
            let mask = AttentionMask::Causal { first: 10, window: Some(4) };
            let parameters = Attention {
                heads: 1,
                kv_heads: 1,
                scale: 1.0,
                soft_cap: None,
                mask,
                operands: Operands::Exact,
            };
            let q = cpu.upload(queries, d, &q).unwrap();
            let (k, v) = (cpu.upload(keys, d, k).unwrap(), cpu.upload(keys, d, v).unwrap());
            let out = cpu.attention(q.view(), k.view(), v.view(), &parameters).unwrap();
            cpu.download(out.view()).unwrap()
        };
        let want = run(&clean[0], &clean[1]);
        for poisoned in 0..2 {
            let mut dirty = clean.clone();
            // Key 17 is seen by the queries at positions 17 to 20, rows 7 to 10.
            dirty[poisoned][17 * d + 3] = f32::NAN;
            let got = run(&dirty[0], &dirty[1]);
            for (row, (got, want)) in got.chunks(d).zip(want.chunks(d)).enumerate() {
                let holds = if (7..=10).contains(&row) { got[3].is_nan() } else { got == want };
                failures.ensure(&format!("{} operand {poisoned} row {row}", variant.name), holds);
            }
        }
    }
    failures.finish();
}
