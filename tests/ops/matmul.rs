//! `matmul` against its reference.

use triplet::backend::Backend;
use triplet::reference::{self, MATMUL, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

#[test]
fn sizes_and_both_layouts() {
    let mut failures = Failures::default();
    let sizes =
        [[0, 2, 3], [2, 0, 3], [2, 3, 0], [1, 1, 1], [5, 9, 7], [13, 31, 33], [17, 64, 65], [100, 300, 40]];
    for variant in variants() {
        for [rows, k, n] in sizes {
            for transposed in [false, true] {
                let (a, b) = (uniform(rows * k, 1), uniform(k * n, 2));
                let want = reference::matmul(&a, &b, [rows, k, n], transposed);
                let (b_rows, b_cols) = if transposed { (n, k) } else { (k, n) };
                let (a, b) = (padded(&variant.cpu, rows, k, &a), padded(&variant.cpu, b_rows, b_cols, &b));
                let got = variant.cpu.matmul(inner(&a), inner(&b), transposed).unwrap();
                let case = format!("{} {rows}x{k}x{n} transposed: {transposed}", variant.name);
                failures.check(&case, &got, &want, n, MATMUL);
            }
        }
    }
    failures.finish();
}
