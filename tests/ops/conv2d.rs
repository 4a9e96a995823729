//! `conv2d`, dense and depthwise, against its reference.

use triplet::backend::{Activation, Backend, Conv, Epilogue, Grid};
use triplet::cpu::{Isa, Stored};
use triplet::reference::{self, After, CONV2D, uniform};
use triplet::weights::Dtype;

use crate::common::operands::{Failures, STORED, inner, kernel, padded, weight};
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

/// Convolutions whose weights are packed where the instruction set has a use for that, on maps of several pieces of work and of
/// several slabs; the same bits whatever the number of threads.
#[test]
fn packed() {
    let mut failures = Failures::default();
    let sizes = [
        (Grid { height: 1, width: 1 }, [1, 1, 1, 1], [1, 0]),
        (Grid { height: 5, width: 7 }, [9, 3, 3, 3], [1, 1]),
        (Grid { height: 6, width: 4 }, [33, 40, 3, 3], [1, 1]),
        (Grid { height: 7, width: 9 }, [65, 160, 2, 3], [1, 0]),
        (Grid { height: 2, width: 3 }, [4, 129, 5, 3], [1, 2]),
        (Grid { height: 33, width: 30 }, [70, 256, 1, 1], [1, 0]),
        (Grid { height: 40, width: 62 }, [96, 33, 3, 3], [1, 1]),
        (Grid { height: 3, width: 700 }, [5, 20, 3, 3], [1, 1]),
        (Grid { height: 60, width: 60 }, [2, 2048, 1, 3], [1, 1]),
        (Grid { height: 8, width: 9 }, [5, 4, 2, 2], [2, 0]),
        (Grid { height: 98, width: 98 }, [40, 3, 14, 14], [14, 0]),
        (Grid { height: 2, width: 2 }, [4, 2, 5, 3], [3, 2]),
        (Grid { height: 3, width: 3 }, [7, 60, 1, 1], [2, 0]),
    ];
    for (grid, shape, [stride, padding]) in sizes {
        let conv = Conv { stride, padding, depthwise: false };
        let [c_out, c_in, height, width] = shape;
        let output = conv.output(grid, Grid { height, width }).unwrap().cells();
        let (x, w) = (uniform(grid.cells() * c_in, 1), uniform(shape.iter().product(), 2));
        let (b, residual) = (uniform(c_out, 3), uniform(output * c_out, 4));
        let activation = Activation::Relu;
        let after = After { bias: Some(&b), activation, scale: None, residual: Some(&residual) };
        let want = reference::conv2d(&x, grid, &w, shape, conv, &after);
        let mut seen: Vec<(Isa, Vec<u32>)> = Vec::new();
        for variant in variants() {
            let cpu = variant.cpu.clone().with_packed_weights(true);
            let isa = cpu.isa();
            for offset in [0, 1] {
                let (w, _) = kernel(&cpu, shape, stride, &w, (Dtype::F32, offset));
                assert!(matches!(w.stored(), Stored::Packed(_)), "{}", variant.name);
                let (b, _) = weight(&cpu, &[c_out], &b, (Dtype::F32, 0));
                let x = padded(&cpu, grid.cells(), c_in, &x);
                let residual = cpu.upload(output, c_out, &residual).unwrap();
                let epilogue = Epilogue { activation, ..Epilogue::residual(residual.view(), None) };
                let got = cpu.conv2d(inner(&x), grid, &w, Some(&b), conv, epilogue).unwrap();
                let case = format!("{} {grid:?} {shape:?} {conv:?} {offset}", variant.name);
                failures.check(&case, &got, &want, c_out, CONV2D);
                let bits: Vec<u32> = got.buffer()[..output * c_out].iter().map(|x| x.to_bits()).collect();
                match seen.iter().find(|(seen, _)| *seen == isa) {
                    Some((_, seen)) => failures.ensure(&format!("{case}: bits"), *seen == bits),
                    None => seen.push((isa, bits)),
                }
            }
        }
    }
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
