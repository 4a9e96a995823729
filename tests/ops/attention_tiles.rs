//! `attention` without a mask, which takes a way of its own where there is a matrix unit (`src/cpu/attention_tiles.rs`).

use triplet::backend::{Attention, AttentionMask, Backend, Operands};
use triplet::cpu::{Cpu, Isa};
use triplet::reference::{self, ATTENTION, ATTENTION_ROUNDED, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::{isas, variants};

/// Queries, keys, heads, key-value heads, width of keys, width of values.
const SIZES: [[usize; 6]; 10] = [
    [1, 577, 2, 2, 64, 64],
    [15, 16, 1, 1, 16, 16],
    [17, 33, 2, 1, 32, 80],
    [33, 197, 2, 2, 64, 64],
    [197, 70, 1, 1, 80, 33],
    [5, 300, 6, 2, 33, 1],
    [40, 129, 1, 1, 128, 17],
    [16, 257, 2, 2, 1, 40],
    [130, 31, 1, 1, 72, 72],
    [20, 520, 8, 1, 24, 24],
];

fn full([heads, kv_heads]: [usize; 2], scale: f32, operands: Operands) -> Attention {
    Attention { heads, kv_heads, scale, soft_cap: None, mask: AttentionMask::Full, operands }
}

/// The attention of one backend; `q`, `k` and `v` lie inside of NaN.
fn attend(cpu: &Cpu, sizes: [usize; 6], [q, k, v]: [&[f32]; 3], parameters: &Attention) -> Vec<f32> {
    let [queries, keys, heads, kv_heads, d, e] = sizes;
    let (q, k) = (padded(cpu, queries, heads * d, q), padded(cpu, keys, kv_heads * d, k));
    let v = padded(cpu, keys, kv_heads * e, v);
    let out = cpu.attention(inner(&q), inner(&k), inner(&v), parameters).unwrap();
    cpu.download(out.view()).unwrap()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sizes_scales_and_operands() {
    let mut failures = Failures::default();
    for sizes in SIZES {
        let [queries, keys, heads, kv_heads, d, e] = sizes;
        let (q, k) = (uniform(queries * heads * d, 1), uniform(keys * kv_heads * d, 2));
        let v = uniform(keys * kv_heads * e, 3);
        let root = 1.0 / (d as f32).sqrt();
        for (scale, soft_cap) in [(4.0 * root, None), (2.0, Some(3.0)), (-3.0 * root, None), (0.0, None)] {
            let exact = Attention { soft_cap, ..full([heads, kv_heads], scale, Operands::Exact) };
            let rounded = Attention { operands: Operands::Rounded, ..exact };
            let want = reference::attention(&q, &k, &v, [queries, keys], &exact);
            let mut seen: [Option<Vec<u32>>; 2] = [None, None];
            for variant in variants() {
                let cpu = &variant.cpu;
                let q = padded(cpu, queries, heads * d, &q);
                let (k, v) = (padded(cpu, keys, kv_heads * d, &k), padded(cpu, keys, kv_heads * e, &v));
                let run = |parameters| cpu.attention(inner(&q), inner(&k), inner(&v), parameters).unwrap();
                let case = format!("{} {sizes:?} {scale} {soft_cap:?}", variant.name);
                let got = [run(&exact), run(&rounded)];
                failures.check(&case, &got[0], &want, heads * e, ATTENTION);
                failures.check(&format!("{case} rounded"), &got[1], &want, heads * e, ATTENTION_ROUNDED);
                let got = got.map(|got| bits(&cpu.download(got.view()).unwrap()));
                if cpu.isa() != Isa::Avx512Amx {
                    failures.ensure(&format!("{case}: no use for less"), got[0] == got[1]);
                    continue;
                }
                failures.ensure(&format!("{case}: less is used"), got[0] != got[1]);
                // What multiplies integers exactly takes these exactly as well.
                let kept = cpu.clone().with_exact_activations(true);
                let kept = kept.attention(inner(&q), inner(&k), inner(&v), &rounded).unwrap();
                let kept = bits(&cpu.download(kept.view()).unwrap());
                failures.ensure(&format!("{case}: exact activations"), kept == got[0]);
                for (got, seen) in got.into_iter().zip(&mut seen) {
                    failures.ensure(&format!("{case}: threads"), seen.get_or_insert(got.clone()) == &got);
                }
            }
        }
    }
    failures.finish();
}

/// The root of the mean square error is at most a quarter above that of chains of multiply-adds.
#[test]
fn exact_operands_are_no_less_exact_than_chains() {
    let mut failures = Failures::default();
    let Some(unit) = isas().into_iter().find(|&isa| isa == Isa::Avx512Amx) else { return };
    for sizes in [[64, 197, 1, 1, 64, 64], [40, 2000, 1, 1, 32, 32], [40, 130, 1, 1, 128, 64]] {
        let [queries, keys, heads, kv_heads, d, e] = sizes;
        let (q, k) = (uniform(queries * d, 4), uniform(keys * d, 5));
        let v = uniform(keys * e, 6);
        for logits in [0.5, 5.0, 50.0] {
            // Scores of uniform numbers spread by a third of the root of `d`.
            let scale = 3.0 * logits / (d as f32).sqrt() / 3.0;
            let parameters = full([heads, kv_heads], scale, Operands::Exact);
            let want = reference::attention(&q, &k, &v, [queries, keys], &parameters);
            let error = |isa| {
                let cpu = Cpu::with_threads(1).with_isa(isa).unwrap().poisoned();
                let got = attend(&cpu, sizes, [&q, &k, &v], &parameters);
                let squares = got.iter().zip(&want).map(|(&got, &want)| (f64::from(got) - want).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let (ours, chains) = (error(unit), error(Isa::Avx512));
            let case = format!("{sizes:?} logits {logits}: error {ours:e} beside {chains:e}");
            failures.ensure(&case, ours <= 1.25 * chains);
        }
    }
    failures.finish();
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let sizes = [1100, 140, 2, 1, 40, 24];
    let [queries, keys, heads, kv_heads, d, e] = sizes;
    let (q, k) = (uniform(queries * heads * d, 1), uniform(keys * kv_heads * d, 2));
    let v = uniform(keys * kv_heads * e, 3);
    let mut failures = Failures::default();
    for isa in isas() {
        let cpu = Cpu::with_threads(2).with_isa(isa).unwrap().poisoned();
        for operands in [Operands::Exact, Operands::Rounded] {
            let parameters = full([heads, kv_heads], 0.5, operands);
            let all = attend(&cpu, sizes, [&q, &k, &v], &parameters);
            for (first, count) in [(0, 1), (1, 16), (15, 18), (600, 300), (1099, 1)] {
                let rows = [count, keys, heads, kv_heads, d, e];
                let part = &q[first * heads * d..(first + count) * heads * d];
                let got = attend(&cpu, rows, [part, &k, &v], &parameters);
                let want = &all[first * heads * e..(first + count) * heads * e];
                let case = format!("{} {operands:?} {first}+{count}", isa.name());
                failures.ensure(&case, bits(&got) == bits(want));
            }
        }
    }
    failures.finish();
}

/// What is not finite, or leaves the range of `f32` on the way, comes out as from chains of multiply-adds, in its own rows alone.
#[test]
fn numbers_out_of_range() {
    let sizes = [20, 150, 1, 1, 40, 48];
    let [queries, keys, _, _, d, e] = sizes;
    let clean = [uniform(queries * d, 1), uniform(keys * d, 2), uniform(keys * e, 3)];
    // A NaN of which rounding would make another number.
    let all_ones = f32::from_bits(u32::MAX);
    let nan = [f32::NAN, all_ones, f32::from_bits(0x7F80_0001)];
    let mut failures = Failures::default();
    for isa in isas() {
        let cpu = Cpu::with_threads(2).with_isa(isa).unwrap().poisoned();
        let plain = Cpu::with_threads(1).with_isa(Isa::Portable).unwrap();
        for operands in [Operands::Exact, Operands::Rounded] {
            let parameters = full([1, 1], 0.3, operands);
            let want_clean = attend(&cpu, sizes, [&clean[0], &clean[1], &clean[2]], &parameters);
            for operand in 0..3 {
                for x in nan.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e37, 1e-45]) {
                    let mut dirty = clean.clone();
                    let width = [d, d, e][operand];
                    dirty[operand][14 * width + 5] = x;
                    let case = format!("{} {operands:?} {operand} {x} {:x}", isa.name(), x.to_bits());
                    let got = attend(&cpu, sizes, [&dirty[0], &dirty[1], &dirty[2]], &parameters);
                    let want = attend(&plain, sizes, [&dirty[0], &dirty[1], &dirty[2]], &parameters);
                    let near = |(&got, &want): (&f32, &f32)| match want.is_finite() {
                        true => (got - want).abs() <= 0.05 * want.abs().max(0.5),
                        false => got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                    };
                    failures.ensure(&case, got.iter().zip(&want).all(near));
                    if operand == 0 {
                        let others = |x: &[f32]| [bits(&x[..14 * e]), bits(&x[15 * e..])];
                        let same = others(&got) == others(&want_clean);
                        failures.ensure(&format!("{case}: other rows"), same);
                    }
                }
            }
        }
    }
    failures.finish();
}
