//! `conv2d`, dense and depthwise, against its reference.

use triplet::backend::{Activation, Backend, Conv, Epilogue, Grid};
use triplet::reference::{self, After, CONV2D, uniform};

use crate::common::operands::{Failures, STORED, inner, padded, weight};
use crate::common::variants::variants;

fn run(grid: Grid, shape: [usize; 4], conv: Conv, failures: &mut Failures) {
    let [c_out, c_in, height, width] = shape;
    let channels = if conv.depthwise { c_out } else { c_in };
    let output = conv.output(grid, Grid { height, width }).unwrap().cells();
    for variant in variants() {
        for stored in STORED {
            let x = uniform(grid.cells() * channels, 1);
            let (w, w_meant) = weight(&variant.cpu, &shape, &uniform(shape.iter().product(), 2), stored);
            let (b, b_meant) = weight(&variant.cpu, &[c_out], &uniform(c_out, 3), stored);
            let residual = uniform(output * c_out, 4);
            let after = After {
                bias: Some(&b_meant),
                activation: Activation::Relu,
                scale: None,
                residual: Some(&residual),
            };
            let want = reference::conv2d(&x, grid, &w_meant, shape, conv, &after);
            let x = padded(&variant.cpu, grid.cells(), channels, &x);
            let residual = variant.cpu.upload(output, c_out, &residual).unwrap();
            let epilogue =
                Epilogue { activation: Activation::Relu, ..Epilogue::residual(residual.view(), None) };
            let got = variant.cpu.conv2d(inner(&x), grid, &w, Some(&b), conv, epilogue).unwrap();
            let case = format!("{} {grid:?} {shape:?} {conv:?} {stored:?}", variant.name);
            failures.check(&case, &got, &want, c_out, CONV2D);
        }
    }
}

#[test]
fn dense() {
    let mut failures = Failures::default();
    let conv = |stride, padding| Conv { stride, padding, depthwise: false };
    run(Grid { height: 1, width: 1 }, [1, 1, 1, 1], conv(1, 0), &mut failures);
    run(Grid { height: 5, width: 7 }, [9, 3, 3, 3], conv(1, 1), &mut failures);
    run(Grid { height: 6, width: 4 }, [33, 40, 3, 3], conv(1, 1), &mut failures);
    run(Grid { height: 8, width: 9 }, [5, 4, 2, 2], conv(2, 0), &mut failures);
    run(Grid { height: 28, width: 28 }, [24, 3, 14, 14], conv(14, 0), &mut failures);
    run(Grid { height: 3, width: 3 }, [17, 300, 1, 1], conv(1, 0), &mut failures);
    run(Grid { height: 2, width: 2 }, [4, 2, 5, 3], conv(3, 2), &mut failures);
    failures.finish();
}

#[test]
fn depthwise() {
    let mut failures = Failures::default();
    let conv = |stride, padding| Conv { stride, padding, depthwise: true };
    run(Grid { height: 9, width: 6 }, [1, 1, 7, 7], conv(1, 3), &mut failures);
    run(Grid { height: 12, width: 10 }, [31, 1, 7, 7], conv(1, 3), &mut failures);
    run(Grid { height: 5, width: 5 }, [67, 1, 3, 3], conv(2, 1), &mut failures);
    run(Grid { height: 2, width: 3 }, [16, 1, 3, 3], conv(1, 1), &mut failures);
    failures.finish();
}
