//! Kernels with a sum over rows or maps: layer_norm, rms_norm, group_norm.

use triplet::reference::{self, Tolerance};

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number, Single};

/// Threads that a run of so many elements gets.
fn threads(width: usize) -> usize {
    if width <= 256 { 32 } else { 256 }
}

/// `layer_norm` with and without weight and bias, in parts, around a large mean.
pub fn layer_norm(kernels: &Kernels) -> Result<(), String> {
    let cases = [
        (1, 1, 1, 1, true, true),
        (3, 37, 1, 40, true, false),
        (2, 96, 3, 101, true, true),
        (3, 300, 1, 300, false, true),
        (2, 1000, 1, 1003, false, false),
        (2, 511, 1, 511, true, true),
    ];
    for (i, (rows, cols, parts, stride, weighted, biased)) in cases.into_iter().enumerate() {
        for (mean, tolerance) in
            [(false, reference::LAYER_NORM), (true, Tolerance { norm: 2e-4, element: 2e-4 })]
        {
            let memory = Memory::new();
            let width = cols / parts;
            let x = match mean {
                false => reference::uniform(rows * cols, 11),
                true => reference::large_mean(rows * cols, 11),
            };
            let vector = |there: bool, seed: u64, kind: usize| match there {
                true => Stored::new(&memory, width, seed, TYPES[kind % 3], true),
                false => Stored::absent(),
            };
            let (weight, bias) = (vector(weighted, 12, i), vector(biased, 13, i + 1));
            let out = output(&memory, rows * cols);
            let args = [
                Address(out),
                Address(memory.matrix(&x, cols, stride, 4)),
                weight.at(),
                bias.at(),
                weight.kind(),
                bias.kind(),
                Number(rows),
                Number(cols),
                Number(stride),
                Number(parts),
                Single(1e-5),
            ];
            kernels.launch("layer_norm", [rows * parts, 1, 1], threads(width), 0, &args, &memory)?;
            let want = reference::layer_norm(&x, width, weight.some(), bias.some(), 1e-5);
            check(&memory, out, &want, tolerance, &format!("layer_norm {rows}x{cols}/{parts} mean {mean}"))?;
        }
    }
    Ok(())
}

/// `rms_norm` of every type of weight.
pub fn rms_norm(kernels: &Kernels) -> Result<(), String> {
    for (i, (rows, cols, stride)) in
        [(1, 1, 1), (3, 37, 39), (2, 256, 256), (2, 1027, 1030)].into_iter().enumerate()
    {
        let memory = Memory::new();
        let x = reference::uniform(rows * cols, 14);
        let weight = Stored::new(&memory, cols, 15, TYPES[i % 3], true);
        let out = output(&memory, rows * cols);
        let args = [
            Address(out),
            Address(memory.matrix(&x, cols, stride, 4)),
            weight.at(),
            weight.kind(),
            Number(rows),
            Number(cols),
            Number(stride),
            Single(1e-6),
        ];
        kernels.launch("rms_norm", [rows, 1, 1], threads(cols), 0, &args, &memory)?;
        let want = reference::rms_norm(&x, &weight.numbers, 1e-6);
        check(&memory, out, &want, reference::RMS_NORM, &format!("rms_norm {rows}x{cols}"))?;
    }
    Ok(())
}

/// `group_norm` of small maps, also ones smaller than a block, with an activation.
pub fn group_norm(kernels: &Kernels) -> Result<(), String> {
    for (i, (rows, cols, stride, groups)) in
        [(1, 2, 2, 1), (7, 12, 15, 3), (49, 24, 24, 4), (65, 5, 6, 5)].into_iter().enumerate()
    {
        let memory = Memory::new();
        let x = reference::uniform(rows * cols, 16);
        let weight = Stored::new(&memory, cols, 17, TYPES[i % 3], true);
        let bias = Stored::new(&memory, cols, 18, TYPES[(i + 1) % 3], true);
        let out = output(&memory, rows * cols);
        let code = [0, 1, 5, 2][i];
        let args = [
            Address(out),
            Address(memory.matrix(&x, cols, stride, 4)),
            weight.at(),
            bias.at(),
            weight.kind(),
            bias.kind(),
            Number(rows),
            Number(cols),
            Number(stride),
            Number(groups),
            Single(1e-5),
            Number(code),
        ];
        kernels.launch("group_norm", [groups, 1, 1], 256, 0, &args, &memory)?;
        let want = reference::group_norm(&x, groups, &weight.numbers, &bias.numbers, 1e-5, ACTIVATIONS[code]);
        check(&memory, out, &want, reference::GROUP_NORM, &format!("group_norm {rows}x{cols}/{groups}"))?;
    }
    Ok(())
}

#[test]
fn norms() {
    for check in [layer_norm, rms_norm, group_norm] {
        check(&Kernels::new(2)).unwrap();
        check(&Kernels::new(102)).unwrap();
    }
}
