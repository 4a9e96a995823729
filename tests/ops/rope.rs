//! `rope` against its reference.

use triplet::backend::Backend;
use triplet::reference::{self, ROPE, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

#[test]
fn sizes_and_positions() {
    let mut failures = Failures::default();
    for variant in variants() {
        for (rows, heads, half) in [(0, 2, 4), (1, 1, 1), (5, 3, 7), (40, 4, 32), (3, 0, 4), (3, 4, 0)] {
            for first in [0, 1, 4095, 100_000] {
                let cols = heads * 2 * half;
                let x = uniform(rows * cols, 1);
                let frequencies: Vec<f32> =
                    (0..half).map(|i| 10_000f32.powf(-(i as f32) / half as f32)).collect();
                let want = reference::rope(&x, heads, first, &frequencies);
                let m = padded(&variant.cpu, rows, cols, &x);
                let got = variant.cpu.rope(inner(&m), heads, first, &frequencies).unwrap();
                let case = format!("{} {rows}x{heads}x{half} from {first}", variant.name);
                failures.check(&case, &got, &want, cols, ROPE);
            }
        }
    }
    failures.finish();
}
