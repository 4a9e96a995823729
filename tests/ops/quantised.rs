//! `linear` with quantised weights: against its reference, and the promises about bits.

use std::sync::Arc;

use triplet::Error;
use triplet::backend::{Activation, Backend, Epilogue, Weight};
use triplet::cpu::{Cpu, Isa, Stored};
use triplet::reference::{
    self, After, LINEAR, LONGEST, QUANTISED, RARE, linear_quantised, quantise_row, uniform,
};
use triplet::weights::{Dtype, Integers, Quantised, Scheme, Tensor, dequantise, quantise};

use crate::common::operands::{Failures, inner, padded, weight};
use crate::common::variants::{isas, variants};

/// How integers and scales are stored, and how many bytes into their storage.
const STORED: [(Scheme, Dtype, usize); 4] = [
    (Scheme::Int8, Dtype::F32, 0),
    (Scheme::Int8, Dtype::F16, 3),
    (Scheme::Int4, Dtype::F32, 1),
    (Scheme::Int4, Dtype::F16, 0),
];

/// Rows, inputs, outputs around every vector, group, chunk, tile, panel and strip size.
const SIZES: [[usize; 3]; 15] = [
    [0, 32, 5],
    [3, 0, 5],
    [3, 32, 0],
    [1, 32, 1],
    [1, 64, 17],
    [2, 96, 4],
    [3, 128, 15],
    [4, 160, 16],
    [5, 192, 31],
    [6, 256, 33],
    [7, 224, 63],
    [13, 512, 65],
    [12, 544, 70],
    [25, 672, 40],
    [197, 1056, 67],
];

/// Sizes that only rows of eight bits can have.
const ODD: [[usize; 3]; 6] = [[1, 1, 1], [2, 33, 9], [4, 127, 8], [5, 129, 20], [7, 700, 33], [1, 65, 130]];

/// Integers of every value for a matrix `[n, k]`: rounded from numbers, then some at the ends of the range, which rounding
/// does not reach.
fn integers(n: usize, k: usize, scheme: Scheme, dtype: Dtype) -> Integers {
    let mut integers = quantise(&uniform(n * k, 2), k, scheme);
    integers.scales.resize(n * scheme.row_scales(k), 0.0);
    for (i, byte) in integers.bytes.iter_mut().enumerate().filter(|(i, _)| i % 7 == 3) {
        *byte = [0x80, 0x7f, 0x00, 0xff][i % 4];
    }
    if dtype == Dtype::F16 {
        let (_, meant) = reference::bytes(&integers.scales, dtype);
        integers.scales = meant;
    }
    integers
}

/// The same as a weight, with bytes before and behind that would show.
fn stored(
    cpu: &Cpu,
    [n, k]: [usize; 2],
    integers: &Integers,
    (scheme, dtype, offset): (Scheme, Dtype, usize),
) -> Weight<Cpu> {
    let surround = |bytes: &[u8]| {
        let mut storage = vec![0x7f; offset];
        storage.extend_from_slice(bytes);
        storage.resize(storage.len() + 64, 0x7f);
        (Arc::new(storage), offset..offset + bytes.len())
    };
    let shape = if scheme == Scheme::Int8 { vec![n] } else { vec![n, scheme.row_scales(k)] };
    let (storage, range) = surround(&reference::bytes(&integers.scales, dtype).0);
    let scales = Tensor::new("weight_scale".into(), dtype, shape, storage, range).unwrap();
    let (storage, range) = surround(&integers.bytes);
    let matrix = Quantised::new("weight".into(), scheme, [n, k], storage, range, scales).unwrap();
    Weight::new(cpu.store_quantised(&matrix).unwrap(), &[n, k])
}

/// The numbers that the integers stand for.
fn meant([n, k]: [usize; 2], integers: &Integers, scheme: Scheme) -> Vec<f32> {
    let mut numbers = vec![0.0; n * k];
    for (row, out) in numbers.chunks_exact_mut(k.max(1)).enumerate() {
        let bytes = &integers.bytes[row * scheme.row_bytes(k)..];
        dequantise(bytes, &integers.scales[row * scheme.row_scales(k)..], scheme, out);
    }
    numbers
}

/// Rows of every kind: without outliers, with one of a million, and with every 37th element 30 times as large.
fn activations(rows: usize, k: usize) -> Vec<f32> {
    let mut x = uniform(rows * k, 1);
    for (i, row) in x.chunks_exact_mut(k.max(1)).enumerate() {
        match i % 5 {
            1 => row[k / 3] = 1e6,
            3 => row.iter_mut().skip(i).step_by(37).for_each(|x| *x *= 30.0),
            _ => {}
        }
    }
    x
}

#[test]
fn sizes_schemes_and_alignments() {
    let mut failures = Failures::default();
    for case in STORED {
        let odd = ODD.iter().filter(|_| case.0 == Scheme::Int8);
        for &[rows, k, n] in SIZES.iter().chain(odd) {
            let integers = integers(n, k, case.0, case.1);
            let x = if case.0 == Scheme::Int8 { activations(rows, k) } else { uniform(rows * k, 1) };
            let (bias, residual) = (uniform(n, 3), uniform(rows * n, 4));
            let after = After {
                bias: Some(&bias),
                activation: Activation::Silu,
                scale: None,
                residual: Some(&residual),
            };
            let want = linear_quantised(&x, &integers, case.0, [rows, k, n], &After::NONE);
            let want_after = linear_quantised(&x, &integers, case.0, [rows, k, n], &after);
            let meant = meant([n, k], &integers, case.0);
            let want_exact = reference::linear(&x, &meant, [rows, k, n], &After::NONE);
            for variant in variants() {
                let name = format!("{} {rows}x{k}x{n} {case:?}", variant.name);
                let w = stored(&variant.cpu, [n, k], &integers, case);
                let x = padded(&variant.cpu, rows, k, &x);
                let got = variant.cpu.linear(inner(&x), &w, None, Epilogue::NONE).unwrap();
                failures.check(&name, &got, &want, n, QUANTISED);

                let (b, _) = weight(&variant.cpu, &[n], &bias, (Dtype::F32, 0));
                let residual = padded(&variant.cpu, rows, n, &residual);
                let epilogue =
                    Epilogue { activation: Activation::Silu, scale: None, residual: Some(inner(&residual)) };
                let got = variant.cpu.linear(inner(&x), &w, Some(&b), epilogue).unwrap();
                failures.check(&format!("{name} after"), &got, &want_after, n, QUANTISED);

                let exact = variant.cpu.clone().with_exact_activations(true);
                let got = exact.linear(inner(&x), &w, None, Epilogue::NONE).unwrap();
                failures.check(&format!("{name} exact"), &got, &want_exact, n, LINEAR);
            }
        }
    }
    failures.finish();
}

/// With weights of eight bits all do; those of four go through chains of floats, as long as the vectors are wide.
#[test]
fn instruction_sets_give_the_same_bits() {
    for (rows, k) in [(37, 544), (3, 672), (50, 1184)] {
        let x = activations(rows, k);
        for case in STORED {
            let n = 70;
            let integers = integers(n, k, case.0, case.1);
            let (bias, residual) = (uniform(n, 3), uniform(rows * n, 4));
            let mut first: Option<Vec<f32>> = None;
            let same = |isa: &Isa| case.0 == Scheme::Int8 || isa.name().starts_with("avx512");
            for isa in isas().into_iter().filter(same) {
                let cpu = Cpu::with_threads(2).with_isa(isa).unwrap();
                let w = stored(&cpu, [n, k], &integers, case);
                let (bias, _) = weight(&cpu, &[n], &bias, (Dtype::F32, 0));
                let (x, residual) =
                    (cpu.upload(rows, k, &x).unwrap(), cpu.upload(rows, n, &residual).unwrap());
                let epilogue = Epilogue { residual: Some(residual.view()), ..Epilogue::NONE };
                let y = cpu.linear(x.view(), &w, Some(&bias), epilogue).unwrap();
                let y = cpu.download(y.view()).unwrap();
                let first = first.get_or_insert_with(|| y.clone());
                let equal = first.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(equal, "{} {rows} rows {case:?}", isa.name());
            }
        }
    }
}

/// Sums that nearly fill 32 bits are exact, and a row that is longer is multiplied as it is.
#[test]
fn the_longest_rows_and_the_largest_integers() {
    let mut failures = Failures::default();
    for (rows, k) in [(1, LONGEST), (5, LONGEST), (1, LONGEST + 1), (5, LONGEST + 1)] {
        let n = 2;
        let mut integers = Integers { bytes: vec![0x80; n * k], scales: vec![0.5, 0.25] };
        integers.bytes[k..].fill(0x7f);
        // All are the largest but one, whose low digit no other has.
        let mut x = vec![-3.0; rows * k];
        x.iter_mut().step_by(k).for_each(|x| *x = 0.001);
        let want = linear_quantised(&x, &integers, Scheme::Int8, [rows, k, n], &After::NONE);
        for variant in variants() {
            let w = stored(&variant.cpu, [n, k], &integers, STORED[0]);
            let x = variant.cpu.upload(rows, k, &x).unwrap();
            let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
            failures.check(&format!("{} {rows}x{k}", variant.name), &got, &want, n, QUANTISED);
        }
    }
    failures.finish();
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_200() {
    let mut failures = Failures::default();
    for case in STORED {
        let (rows, k) = (200, 736);
        let x: Vec<f32> = uniform(rows * k, 1).iter().zip(uniform(rows * k, 2)).map(|(x, y)| x / y).collect();
        for n in [1, 30, 64, 65, 300] {
            let integers = integers(n, k, case.0, case.1);
            for isa in isas() {
                let mut first: Option<Vec<f32>> = None;
                for threads in [1, 2] {
                    let cpu = Cpu::with_threads(threads).with_isa(isa).unwrap();
                    let w = stored(&cpu, [n, k], &integers, case);
                    let all = cpu.upload(rows, k, &x).unwrap();
                    let packing = cpu.clone().with_packed_weights(true);
                    let packed = stored(&packing, [n, k], &integers, case);
                    let is_packed = matches!(packed.stored(), Stored::PackedInt8(_));
                    assert_eq!(is_packed, case.0 == Scheme::Int8);
                    let run_with = |cpu: &Cpu, w: &Weight<Cpu>, from: usize, to: usize| {
                        let x = all.view().row_range(from..to).unwrap();
                        let y = cpu.linear(x, w, None, Epilogue::activation(Activation::Gelu)).unwrap();
                        cpu.download(y.view()).unwrap()
                    };
                    let run = |from: usize, to: usize| run_with(&cpu, &w, from, to);
                    let want = run(0, rows);
                    // Panels are for one instruction set; for others the matrix is read in its place.
                    let other = cpu.clone().with_isa(Isa::Portable).unwrap();
                    for (from, to) in [(0, rows), (3, 8), (0, 2)] {
                        let name =
                            format!("{} x{threads} {n} {case:?} packed, rows {from}..{to}", isa.name());
                        let holds = run_with(&cpu, &packed, from, to) == want[from * n..to * n];
                        failures.ensure(&name, holds);
                        let same = run_with(&other, &packed, from, to) == run_with(&other, &w, from, to);
                        failures.ensure(&format!("{name}, elsewhere"), same);
                    }
                    let name = format!("{} x{threads} {n} {case:?}", isa.name());
                    failures.ensure(&name, first.as_ref().is_none_or(|first| *first == want));
                    for (from, to) in [(0, 1), (13, 14), (199, 200), (3, 8), (5, 9), (7, 20), (50, 147)] {
                        let holds = run(from, to) == want[from * n..to * n];
                        failures.ensure(&format!("{name} rows {from}..{to}"), holds);
                    }
                    first = Some(want);
                }
            }
        }
    }
    failures.finish();
}

/// What the definition promises of a row: half a step at most, and as many steps as outliers allow.
#[test]
fn a_row_comes_back_within_half_a_step() {
    // Elements of up to 1, one or more of them larger, and what 127 stands for then as a part of the largest.
    for (seed, outlier, count, part) in [
        (1, 1.0, 1, 1.0),
        (2, 2.0, 1, 1.0),
        (3, 30.0, 1, 32.0),
        (4, 30.0, 98, 16.0),
        (5, 30.0, 99, 1.0),
        (6, 1e6, 1, 256.0),
    ] {
        let len = 777usize;
        assert_eq!(len.div_ceil(RARE), 98);
        let mut x = uniform(len, seed);
        x.iter_mut().skip(5).step_by(7).take(count).for_each(|x| *x = outlier * x.signum());
        let (integers, scales) = quantise_row(&x, Scheme::Int8);
        assert_eq!((integers.len(), scales.len()), (x.len(), 1));
        let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert_eq!(scales[0], largest / (127.0 * part), "{count} of {outlier}");
        for (&x, &integer) in x.iter().zip(&integers) {
            assert!(integer.unsigned_abs() <= 32_512);
            let error = (f64::from(x) - f64::from(scales[0]) * f64::from(integer)).abs();
            assert!(error <= f64::from(scales[0]) * 0.503, "{x} came back as {integer}");
        }
    }
}

/// Fifteen bits and a sign: an element a thousand times as large as the others leaves them six of theirs.
#[test]
fn an_outlier_costs_little() {
    let (k, n) = (256, 24);
    let mut x = uniform(k, 5);
    let w = uniform(n * k, 6);
    x[40] = 1000.0;
    let without_group = |w: &[f32]| {
        let mut w = w.to_vec();
        w.chunks_exact_mut(k).for_each(|row| row[32..64].fill(0.0));
        w
    };
    let cut = without_group(&w);
    let want = reference::linear(&x, &cut, [1, k, n], &After::NONE);
    let size: f64 = want.iter().map(|x| x * x).sum::<f64>().sqrt();
    for variant in variants() {
        let integers = quantise(&cut, k, Scheme::Int8);
        let w = stored(&variant.cpu, [n, k], &integers, STORED[0]);
        let x = variant.cpu.upload(1, k, &x).unwrap();
        let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
        let error: f64 = want.iter().zip(&got.buffer()[..n]).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum();
        assert!(error.sqrt() / size < 0.03, "{}: {}", variant.name, error.sqrt() / size);
    }
}

/// One channel in a hundred thirty times as large as the others: the products keep their direction.
#[test]
fn a_percent_of_outliers_turns_a_product_by_little() {
    let (rows, k, n) = (20, 1024, 96);
    let mut x = uniform(rows * k, 8);
    x.iter_mut().enumerate().filter(|(i, _)| i % k % 100 == 37).for_each(|(_, x)| *x *= 30.0);
    let w = uniform(n * k, 9);
    let want = reference::linear(&x, &w, [rows, k, n], &After::NONE);
    let integers = quantise(&w, k, Scheme::Int8);
    for variant in variants() {
        let w = stored(&variant.cpu, [n, k], &integers, STORED[0]);
        let x = variant.cpu.upload(rows, k, &x).unwrap();
        let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
        for (want, got) in want.chunks_exact(n).zip(got.buffer()[..rows * n].chunks_exact(n)) {
            let product = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                want.iter().zip(got).map(|(&a, &b)| f(a, f64::from(b))).sum()
            };
            let cosine = product(&|a, b| a * b) / (product(&|a, _| a * a) * product(&|_, b| b * b)).sqrt();
            assert!(cosine >= 0.9999, "{}: {cosine}", variant.name);
        }
    }
}

#[test]
fn what_is_not_finite_gives_nan_in_its_row_and_no_other() {
    let mut failures = Failures::default();
    for case in STORED {
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for rows in [3, 30] {
                let (k, n) = (288, 70);
                let mut x = uniform(rows * k, 1);
                x[2 * k + 200] = special;
                let integers = integers(n, k, case.0, case.1);
                for variant in variants() {
                    let w = stored(&variant.cpu, [n, k], &integers, case);
                    let x = variant.cpu.upload(rows, k, &x).unwrap();
                    let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                    let got = variant.cpu.download(got.view()).unwrap();
                    for (row, cells) in got.chunks(n).enumerate() {
                        let holds = cells.iter().all(|x| x.is_nan() == (row == 2));
                        failures.ensure(&format!("{} {case:?} row {row} of {rows}", variant.name), holds);
                    }
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn a_quantised_weight_serves_a_linear_layer_alone() {
    let cpu = Cpu::with_threads(1);
    let integers = integers(8, 64, Scheme::Int8, Dtype::F32);
    let w = stored(&cpu, [8, 64], &integers, STORED[0]);
    let x = cpu.zeros(2, 64).unwrap();
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::Shape { operand: "weight", .. }));
    assert!(refused(cpu.read(&w, 8, 64).map(drop)));
    assert!(refused(cpu.embedding(&w, &[1]).map(drop)));
    assert!(refused(
        cpu.linear(
            x.view(),
            &weight(&cpu, &[8, 64], &[0.0; 512], (Dtype::F32, 0)).0,
            Some(&stored(&cpu, [8, 1], &self::integers(8, 1, Scheme::Int8, Dtype::F32), STORED[0])),
            Epilogue::NONE
        )
        .map(drop)
    ));
    let reshaped = Weight::new(w.stored().clone(), &[16, 32]);
    let x = cpu.zeros(2, 32).unwrap();
    let got = cpu.linear(x.view(), &reshaped, None, Epilogue::NONE).map(drop);
    assert!(matches!(got, Err(Error::Shape { operand: "linear.weight", .. })));
}
