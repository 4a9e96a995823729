//! `cache` and `attention_cached`: keys and values in the types of a cache, against their definition.

use triplet::Error;
use triplet::backend::{Attention, AttentionMask, Backend, CacheType, Matrix, Operands, View};
use triplet::cpu::Cpu;
use triplet::reference::{self, ATTENTION, cached, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

/// Rows before and after those that are written.
const BEFORE: usize = 2;
const AFTER: usize = 1;

/// The rows `x [rows, heads * d]` in the middle of a cache that is NaN elsewhere.
fn held(cpu: &Cpu, x: &[f32], [rows, heads, d]: [usize; 3], kind: CacheType) -> Matrix<Cpu> {
    let columns = cpu.cache_columns(kind, heads, d).unwrap();
    let all = BEFORE + rows + AFTER;
    let mut slab = cpu.upload(all, columns, &vec![f32::NAN; all * columns]).unwrap();
    let x = padded(cpu, rows, heads * d, x);
    cpu.cache(inner(&x), heads, kind, &mut slab, BEFORE).unwrap();
    slab
}

fn rows(slab: &Matrix<Cpu>) -> View<'_, Cpu> {
    slab.view().row_range(BEFORE..slab.rows() - AFTER).unwrap()
}

fn bits(cpu: &Cpu, x: View<Cpu>) -> Vec<u32> {
    cpu.download(x).unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn attention_over_a_cache_is_that_of_the_rounded_numbers_to_the_bit() {
    let mut failures = Failures::default();
    // Queries, keys, heads, key-value heads, width of a head.
    let sizes = [
        [0, 3, 1, 1, 4],
        [3, 0, 1, 1, 4],
        [2, 3, 2, 1, 0],
        [1, 1, 1, 1, 1],
        [5, 7, 2, 1, 3],
        [13, 40, 4, 2, 17],
        [1, 130, 8, 8, 64],
        [20, 300, 4, 4, 66],
        [3, 130, 4, 1, 150],
    ];
    let masks = [
        AttentionMask::Full,
        AttentionMask::Causal { first: 60, window: None },
        AttentionMask::Causal { first: 3, window: Some(5) },
    ];
    for variant in variants() {
        let cpu = &variant.cpu;
        for [queries, keys, heads, kv_heads, d] in sizes {
            let q = uniform(queries * heads * d, 1);
            let k = uniform(keys * kv_heads * d, 2);
            let v = uniform(keys * kv_heads * d, 3);
            for kind in CacheType::ALL {
                let (meant_k, meant_v) = (cached(&k, d, kind), cached(&v, d, kind));
                let size = [keys, kv_heads, d];
                let (k, v) = (held(cpu, &k, size, kind), held(cpu, &v, size, kind));
                for (mask, soft_cap) in masks.into_iter().flat_map(|mask| [(mask, None), (mask, Some(3.0))]) {
                    let parameters =
                        Attention { heads, kv_heads, scale: 0.4, soft_cap, mask, operands: Operands::Exact };
                    let case = format!("{} {kind:?} {queries}x{keys} {d} {parameters:?}", variant.name);
                    let mut want = reference::attention(&q, &meant_k, &meant_v, [queries, keys], &parameters);
                    // Without keys the reference cannot know the width of the values.
                    want.resize(queries * heads * d, 0.0);
                    let q = padded(cpu, queries, heads * d, &q);
                    let got = cpu.attention_cached(inner(&q), rows(&k), rows(&v), kind, &parameters).unwrap();
                    failures.check(&case, &got, &want, heads * d, ATTENTION);
                    let plain_k = cpu.upload(keys, kv_heads * d, &meant_k).unwrap();
                    let plain_v = cpu.upload(keys, kv_heads * d, &meant_v).unwrap();
                    let plain =
                        cpu.attention(inner(&q), plain_k.view(), plain_v.view(), &parameters).unwrap();
                    failures.ensure(&case, bits(cpu, got.view()) == bits(cpu, plain.view()));
                }
            }
        }
    }
    failures.finish();
}

/// Numbers that hurt: ties, the largest that `f16` holds and the next, subnormal ones, a head of zeros, and what is not finite.
#[test]
fn what_is_kept_is_what_the_definition_says() {
    let d = 6;
    let heads: [[f32; 6]; 8] = [
        [0.5, -127.0, 1.5, 2.5, -0.5, 126.5],
        [65_504.0, 65_519.9, 1.0, -65_504.0, 0.0, -0.0],
        [1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 6e-8, 3e-8, 2.9e-8, -1e-7],
        [0.0; 6],
        [1e-31, -1e-38, 1e-45, 0.0, 5e-31, 0.0],
        [1.0, f32::NAN, 2.0, 3.0, 4.0, 5.0],
        [1.0, f32::NEG_INFINITY, 2.0, 3.0, 4.0, 5.0],
        [1e38, -3e38, 1e-38, 2e38, 0.0, 1.0],
    ];
    let x = heads.as_flattened();
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        for kind in CacheType::ALL {
            let want = cached(x, d, kind);
            let slab = held(cpu, x, [1, heads.len(), d], kind);
            // A value that is the only key comes out as it is kept, divided by a sum of 1.
            let q = cpu.upload(1, heads.len() * d, &vec![0.0; x.len()]).unwrap();
            let mask = AttentionMask::Full;
            let kv_heads = heads.len();
            let parameters = Attention {
                heads: kv_heads,
                kv_heads,
                scale: 1.0,
                soft_cap: None,
                mask,
                operands: Operands::Exact,
            };
            let keys = held(cpu, &vec![0.0; x.len()], [1, kv_heads, d], kind);
            let got = cpu.attention_cached(q.view(), rows(&keys), rows(&slab), kind, &parameters).unwrap();
            for (i, (got, want)) in cpu.download(got.view()).unwrap().iter().zip(&want).enumerate() {
                let same = got == want || got.is_nan() && want.is_nan();
                failures.ensure(&format!("{} {kind:?} {i}: {got} for {want}", variant.name), same);
            }
            let around = [0..BEFORE, BEFORE + 1..BEFORE + 1 + AFTER];
            for rows in around.map(|range| slab.view().row_range(range).unwrap()) {
                let untouched = cpu.download(rows).unwrap().iter().all(|x| x.is_nan());
                failures.ensure(&format!("{} {kind:?}: its neighbours", variant.name), untouched);
            }
        }
    }
    failures.finish();
}

#[test]
fn the_error_of_a_type_is_what_its_bits_allow() {
    let (rows, d) = (50, 64);
    let x = uniform(rows * d, 9);
    for (kind, limit) in
        [(CacheType::F32, 0.0), (CacheType::F16, 1.0 / 2048.0), (CacheType::Int8, 0.501 / 127.0)]
    {
        let kept = cached(&x, d, kind);
        let worst = x.iter().zip(&kept).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(worst <= limit, "{kind:?}: {worst}");
        assert!(kind == CacheType::F32 || worst > limit / 4.0, "{kind:?} rounds: {worst}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let cpu = Cpu::with_threads(1);
    let x = cpu.upload(2, 12, &[0.5; 24]).unwrap();
    let operand = |result: Result<(), Error>| match result {
        Err(Error::Shape { operand, .. }) => operand,
        other => panic!("{other:?}"),
    };
    for kind in CacheType::ALL {
        let columns = cpu.cache_columns(kind, 3, 4).unwrap();
        assert_eq!(kind.name().parse(), Ok(kind));
        let mut slab = cpu.zeros(3, columns).unwrap();
        assert!(cpu.cache(x.view(), 3, kind, &mut slab, 1).is_ok());
        assert_eq!(operand(cpu.cache(x.view(), 3, kind, &mut slab, 2)), "cache.out");
        assert_eq!(operand(cpu.cache(x.view(), 3, kind, &mut slab, usize::MAX)), "cache.out");
        assert_eq!(operand(cpu.cache(x.view(), 5, kind, &mut slab, 0)), "cache.x");
        assert_eq!(operand(cpu.cache(x.view(), 0, kind, &mut slab, 0)), "cache.x");
        let mut narrow = cpu.zeros(3, columns - 1).unwrap();
        assert_eq!(operand(cpu.cache(x.view(), 3, kind, &mut narrow, 0)), "cache.out");

        let mask = AttentionMask::Full;
        let attend = |k: View<Cpu>, v: View<Cpu>, heads, kv_heads| {
            let parameters =
                Attention { heads, kv_heads, scale: 1.0, soft_cap: None, mask, operands: Operands::Exact };
            operand(cpu.attention_cached(x.view(), k, v, kind, &parameters).map(drop))
        };
        let (good, short) = (slab.view(), slab.view().row_range(0..2).unwrap());
        assert_eq!(attend(narrow.view(), good, 3, 3), "attention.k");
        assert_eq!(attend(good, narrow.view(), 3, 3), "attention.v");
        assert_eq!(attend(good, short, 3, 3), "attention.v");
        assert_eq!(attend(good, good, 3, 2), "attention.kv_heads");
        assert_eq!(attend(good, good, 5, 5), "attention.q");
        let huge = cpu.cache_columns(kind, usize::MAX, 8);
        assert!(matches!(huge, Err(Error::Limit { .. })), "{huge:?}");
    }
    let unknown = "int4".parse::<CacheType>();
    assert!(matches!(unknown, Err(Error::Input { field: "cache", .. })), "{unknown:?}");
}
