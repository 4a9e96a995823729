//! `linear` against its reference.

use core::ops::Range;

use triplet::backend::{Activation, Backend, Epilogue, Matrix};
use triplet::cpu::{Cpu, Isa, Stored};
use triplet::reference::{self, After, LINEAR, cancelling, uniform};
use triplet::weights::Dtype;

use crate::common::operands::{Failures, STORED, inner, matrix, padded, weight};
use crate::common::shapes;
use crate::common::variants::{isas, variants};

/// Rows, inputs, outputs around every vector, tile, panel, block and strip size.
const SIZES: [[usize; 3]; 21] = [
    [0, 3, 5],
    [3, 0, 5],
    [3, 5, 0],
    [1, 1, 1],
    [2, 3, 4],
    [5, 4, 7],
    [4, 7, 8],
    [7, 8, 9],
    [6, 15, 16],
    [12, 17, 31],
    [13, 33, 33],
    [25, 67, 63],
    [3, 191, 65],
    [1, 192, 64],
    [11, 193, 67],
    [2, 385, 3],
    [97, 600, 131],
    [13, 127, 65],
    [6, 128, 64],
    [7, 129, 128],
    [31, 257, 193],
];

#[test]
fn sizes_types_and_alignments() {
    let mut failures = Failures::default();
    for variant in variants() {
        for [rows, k, n] in SIZES {
            for stored in STORED {
                let x = uniform(rows * k, 1);
                let (w, w_meant) = weight(&variant.cpu, &[n, k], &uniform(n * k, 2), stored);
                let (b, b_meant) = weight(&variant.cpu, &[n], &uniform(n, 3), stored);
                let (s, s_meant) = weight(&variant.cpu, &[n], &uniform(n, 4), stored);
                let residual = uniform(rows * n, 5);
                let after = After {
                    bias: Some(&b_meant),
                    activation: Activation::Silu,
                    scale: Some(&s_meant),
                    residual: Some(&residual),
                };
                let want = reference::linear(&x, &w_meant, [rows, k, n], &after);
                let (x, residual) =
                    (padded(&variant.cpu, rows, k, &x), padded(&variant.cpu, rows, n, &residual));
                let epilogue = Epilogue {
                    activation: Activation::Silu,
                    scale: Some(&s),
                    residual: Some(inner(&residual)),
                };
                let got = variant.cpu.linear(inner(&x), &w, Some(&b), epilogue).unwrap();
                let case = format!("{} {rows}x{k}x{n} {stored:?}", variant.name);
                failures.check(&case, &got, &want, n, LINEAR);

                let want = reference::linear(&uniform(rows * k, 1), &w_meant, [rows, k, n], &After::NONE);
                let got = variant.cpu.linear(inner(&x), &w, None, Epilogue::NONE).unwrap();
                failures.check(&format!("{case} bare"), &got, &want, n, LINEAR);
            }
        }
    }
    failures.finish();
}

/// But for the matrix unit, whose products of packed weights have bits of their own, see below.
#[test]
fn packed_weights_give_the_bits_of_those_in_place() {
    let mut failures = Failures::default();
    for variant in variants() {
        let packing = variant.cpu.clone().with_packed_weights(true);
        for [rows, k, n] in SIZES {
            for stored in STORED {
                let x = variant.cpu.upload(rows, k, &uniform(rows * k, 1)).unwrap();
                let numbers = uniform(n * k, 2);
                let (w, _) = weight(&variant.cpu, &[n, k], &numbers, stored);
                let (packed, _) = matrix(&packing, [n, k], &numbers, stored);
                let case = format!("{} {rows}x{k}x{n} {stored:?}", variant.name);
                let is_packed = matches!(packed.stored(), Stored::Packed(_));
                failures
                    .ensure(&format!("{case} is packed"), is_packed == (stored.0 == Dtype::F32 && n * k > 0));
                let want = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                let same = |cpu: &Cpu, want: &[f32]| {
                    let got = cpu.linear(x.view(), &packed, None, Epilogue::NONE).unwrap();
                    got.buffer().iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits()))
                };
                if variant.cpu.isa() != Isa::Avx512Amx {
                    failures.ensure(&case, same(&variant.cpu, want.buffer()));
                }
                // For another instruction set the tensor is read in its place.
                for isa in isas().into_iter().filter(|&isa| isa != Isa::Avx512Amx) {
                    let other = variant.cpu.clone().with_isa(isa).unwrap();
                    let want = other.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                    failures.ensure(&format!("{case} on {}", isa.name()), same(&other, want.buffer()));
                }
                let half = packed.column_range(0..k / 2).unwrap();
                let part = x.view().col_range(0..k / 2).unwrap();
                let want = variant.cpu.linear(part, &w.column_range(0..k / 2).unwrap(), None, Epilogue::NONE);
                let got = variant.cpu.linear(part, &half, None, Epilogue::NONE).unwrap();
                let bits =
                    |matrix: &Matrix<Cpu>| matrix.buffer().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                failures.ensure(&format!("{case} half"), bits(&got) == bits(&want.unwrap()));
            }
        }
    }
    failures.finish();
}

/// The matrix unit multiplies thirds of numbers (`src/cpu/amx_thirds.rs`): as near to the definition as chains of multiply-adds
/// are, the same bits for any number of rows and threads.
#[test]
fn packed_weights_on_the_matrix_unit() {
    let mut failures = Failures::default();
    let sizes = SIZES.into_iter().chain([
        [1, 768, 96],
        [33, 130, 65],
        [50, 1024, 320],
        [197, 100, 200],
        [5, 4096, 64],
    ]);
    for [rows, k, n] in sizes {
        for (kind, x) in [("uniform", uniform(rows * k, 1)), ("cancelling", cancelling(rows * k, 7))] {
            let (w, bias, residual) = (uniform(n * k, 2), uniform(n, 3), uniform(rows * n, 4));
            let after = After { bias: Some(&bias), residual: Some(&residual), ..After::NONE };
            let want = reference::linear(&x, &w, [rows, k, n], &after);
            let mut seen: Option<Vec<u32>> = None;
            for variant in variants().into_iter().filter(|variant| variant.cpu.isa() == Isa::Avx512Amx) {
                let cpu = variant.cpu.clone().with_packed_weights(true);
                let case = format!("{} {rows}x{k}x{n} {kind}", variant.name);
                let (in_place, _) = weight(&cpu, &[n, k], &w, (Dtype::F32, 0));
                let (packed, _) = matrix(&cpu, [n, k], &w, (Dtype::F32, 0));
                let (bias, _) = weight(&cpu, &[n], &bias, (Dtype::F32, 0));
                let matrices = [(rows, k, &x), (rows, n, &residual)];
                let [x, residual] =
                    matrices.map(|(rows, cols, numbers)| cpu.upload(rows, cols, numbers).unwrap());
                let linear = |rows: Range<usize>, weight| {
                    let residual = Some(residual.view().row_range(rows.clone()).unwrap());
                    let epilogue = Epilogue { residual, ..Epilogue::NONE };
                    cpu.linear(x.view().row_range(rows).unwrap(), weight, Some(&bias), epilogue).unwrap()
                };
                let got = linear(0..rows, &packed);
                failures.check(&case, &got, &want, n, LINEAR);
                let error = |got: &Matrix<Cpu>| {
                    let squares = got.buffer()[..rows * n].iter().zip(&want);
                    squares.map(|(&got, &want)| (f64::from(got) - want).powi(2)).sum::<f64>().sqrt()
                };
                let (ours, chains) = (error(&got), error(&linear(0..rows, &in_place)));
                failures.ensure(
                    &format!("{case}: error {ours:e} beside {chains:e}"),
                    ours <= 1.25 * chains + 1e-12,
                );
                let bits: Vec<u32> = got.buffer()[..rows * n].iter().map(|x| x.to_bits()).collect();
                for row in [0, rows / 2, rows.saturating_sub(1)].into_iter().filter(|&row| row < rows) {
                    let alone = linear(row..row + 1, &packed);
                    let same = alone.buffer()[..n]
                        .iter()
                        .map(|x| x.to_bits())
                        .eq(bits[row * n..][..n].iter().copied());
                    failures.ensure(&format!("{case}: row {row} alone"), same);
                }
                failures.ensure(&format!("{case}: threads"), seen.get_or_insert(bits.clone()) == &bits);
            }
        }
    }
    failures.finish();
}

#[test]
fn real_layers_and_cancelling_sums() {
    let mut failures = Failures::default();
    let variants: Vec<_> = variants().into_iter().filter(|variant| variant.name.ends_with("x2")).collect();
    for (name, rows, k, n) in shapes::LINEAR {
        // The definition is slow: few outputs of the large layers, all of `k`.
        let (rows, n) = (rows.min(50), n.min(200));
        for (kind, x) in [("uniform", uniform(rows * k, 6)), ("cancelling", cancelling(rows * k, 7))] {
            let w = uniform(n * k, 8);
            let want = reference::linear(&x, &w, [rows, k, n], &After::NONE);
            for variant in &variants {
                let (w, _) = weight(&variant.cpu, &[n, k], &w, (Dtype::F32, 0));
                let x = variant.cpu.upload(rows, k, &x).unwrap();
                let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                failures.check(&format!("{} {name} {kind}", variant.name), &got, &want, n, LINEAR);
            }
        }
    }
    failures.finish();
}

#[test]
fn trailing_dimensions_of_the_weight_count_as_inputs() {
    let mut failures = Failures::default();
    for variant in variants() {
        let (x, w) = (uniform(4 * 12, 1), uniform(5 * 12, 2));
        let want = reference::linear(&x, &w, [4, 12, 5], &After::NONE);
        let (w, _) = weight(&variant.cpu, &[5, 3, 2, 2], &w, (Dtype::F32, 0));
        let x = variant.cpu.upload(4, 12, &x).unwrap();
        let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
        failures.check(&variant.name, &got, &want, 5, LINEAR);
    }
    failures.finish();
}

#[test]
fn some_columns_of_a_weight_are_a_weight() {
    let mut failures = Failures::default();
    for variant in variants() {
        for stored in STORED {
            let (rows, k, n) = (7, 230, 37);
            let (w, meant) = weight(&variant.cpu, &[n, k], &uniform(n * k, 2), stored);
            for columns in [0..k, 0..1, 3..3, 5..200, 17..k] {
                let width = columns.len();
                let x = uniform(rows * width, 1);
                let of_columns: Vec<f32> =
                    meant.chunks(k).flat_map(|row| row[columns.clone()].iter().copied()).collect();
                let want = reference::linear(&x, &of_columns, [rows, width, n], &After::NONE);
                let x = variant.cpu.upload(rows, width, &x).unwrap();
                let part = w.column_range(columns.clone()).unwrap();
                let got = variant.cpu.linear(x.view(), &part, None, Epilogue::NONE).unwrap();
                let case = format!("{} {columns:?} {stored:?}", variant.name);
                failures.check(&case, &got, &want, n, LINEAR);
            }
        }
    }
    failures.finish();
}

#[test]
fn nan_reaches_its_row_and_no_other() {
    let mut failures = Failures::default();
    for variant in variants() {
        let (rows, k, n) = (30, 300, 70);
        let mut x = uniform(rows * k, 1);
        x[7 * k + 299] = f32::NAN;
        let (w, _) = weight(&variant.cpu, &[n, k], &uniform(n * k, 2), (Dtype::F32, 0));
        let x = variant.cpu.upload(rows, k, &x).unwrap();
        let got = variant.cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
        let got = variant.cpu.download(got.view()).unwrap();
        for (row, cells) in got.chunks(n).enumerate() {
            let holds = cells.iter().all(|x| x.is_nan() == (row == 7));
            failures.ensure(&format!("{} row {row}", variant.name), holds);
        }
    }
    failures.finish();
}
