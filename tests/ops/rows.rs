//! Operations that move rows: add, gather, embedding, read, copy, upload and download.

use triplet::backend::Backend;
use triplet::reference::{self, ADD, EMBEDDING, lengths, uniform};

use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

#[test]
fn add_repeats_the_second_operand() {
    let mut failures = Failures::default();
    for variant in variants() {
        for cols in [4, 8, 16].into_iter().flat_map(lengths) {
            for (a_rows, b_rows) in [(0, 0), (0, 1), (1, 1), (6, 1), (6, 3), (6, 6)] {
                let (a, b) = (uniform(a_rows * cols, 1), uniform(b_rows * cols, 2));
                let want = reference::add(&a, &b);
                let (a, b) = (padded(&variant.cpu, a_rows, cols, &a), padded(&variant.cpu, b_rows, cols, &b));
                let got = variant.cpu.add(inner(&a), inner(&b)).unwrap();
                failures.check(&format!("{} {a_rows}+{b_rows}x{cols}", variant.name), &got, &want, cols, ADD);
            }
        }
    }
    failures.finish();
}

#[test]
fn embedding_and_read_convert_exactly() {
    let mut failures = Failures::default();
    for variant in variants() {
        for cols in [4, 8, 16].into_iter().flat_map(lengths).chain([50_000]) {
            for stored in STORED {
                let (table, meant) = weight(&variant.cpu, &[5, cols], &uniform(5 * cols, 1), stored);
                let ids = [4, 0, 0, 3];
                let want = reference::embedding(&meant, cols, &ids);
                let case = format!("{} {cols} {stored:?}", variant.name);
                let got = variant.cpu.embedding(&table, &ids).unwrap();
                failures.check(&case, &got, &want, cols, EMBEDDING);
                let got = variant.cpu.read(&table, cols, 5).unwrap();
                let want: Vec<f64> = meant.iter().map(|&x| f64::from(x)).collect();
                failures.check(&case, &got, &want, 5, EMBEDDING);
            }
        }
    }
    failures.finish();
}

#[test]
fn gather_copy_and_download_move_elements() {
    let mut failures = Failures::default();
    for variant in variants() {
        let cpu = &variant.cpu;
        let x = uniform(6 * 7, 1);
        let m = padded(cpu, 6, 7, &x);
        failures.ensure("download", cpu.download(inner(&m)).unwrap() == x);

        let rows = [5, 0, 5];
        let want: Vec<f64> =
            rows.iter().flat_map(|&row| &x[row * 7..row * 7 + 7]).map(|&x| x.into()).collect();
        failures.check("gather", &cpu.gather(inner(&m), &rows).unwrap(), &want, 7, EMBEDDING);

        let mut out = cpu.zeros(8, 9).unwrap();
        cpu.copy(inner(&m), &mut out, 1, 2).unwrap();
        let mut want = vec![0.0; 72];
        for (i, &x) in x.iter().enumerate() {
            want[(i / 7 + 1) * 9 + i % 7 + 2] = f64::from(x);
        }
        failures.check("copy", &out, &want, 9, EMBEDDING);

        failures.ensure("finite", cpu.is_finite(inner(&m)).unwrap());
        failures.ensure("padding is not finite", !cpu.is_finite(m.view()).unwrap());
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let one = cpu.upload(2, 2, &[1.0, 2.0, special, 4.0]).unwrap();
            failures.ensure("not finite", !cpu.is_finite(one.view()).unwrap());
        }
        let large = cpu.upload(1, 2, &[f32::MAX, f32::MAX]).unwrap();
        failures.ensure("large but finite", cpu.is_finite(large.view()).unwrap());
    }
    failures.finish();
}
