//! `resize` against its reference.

use triplet::backend::{Backend, Grid, Resize};
use triplet::reference::{self, RESIZE, uniform};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

#[test]
fn grids_channels_and_kinds() {
    let mut failures = Failures::default();
    let grids = [
        [1, 1, 3, 2],
        [4, 5, 4, 5],
        [3, 7, 8, 5],
        [16, 16, 24, 24],
        [24, 20, 7, 9],
        [2, 2, 0, 4],
        [14, 14, 16, 17],
    ];
    for variant in variants() {
        for [height, width, to_height, to_width] in grids {
            for channels in [0, 1, 15, 16, 35] {
                for kind in [Resize::Nearest, Resize::Bilinear, Resize::Bicubic] {
                    let from = Grid { height, width };
                    let to = Grid { height: to_height, width: to_width };
                    let x = uniform(from.cells() * channels, 1);
                    let want = reference::resize(&x, channels, from, to, kind);
                    let m = padded(&variant.cpu, from.cells(), channels, &x);
                    let got = variant.cpu.resize(inner(&m), from, to, kind).unwrap();
                    let case = format!("{} {from:?} to {to:?} x{channels} {kind:?}", variant.name);
                    failures.check(&case, &got, &want, channels, RESIZE);
                }
            }
        }
    }
    failures.finish();
}
