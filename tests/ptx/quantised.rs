//! Kernels of weights in integers: dequantise, linear_row_quantised.

use triplet::reference::{self, After, bytes};
use triplet::weights::{Dtype, Scheme, dequantise as numbers_of, quantise};

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number};

/// A matrix in integers: its operands, what they stand for.
struct Matrix {
    weight: u64,
    scales: u64,
    scale_type: usize,
    code: usize,
    numbers: Vec<f32>,
}

/// Random integers of `[n, k]`; `skewed` puts those of 8 bits at an odd address. Scales are f16 where `narrow`.
fn matrix(memory: &Memory, scheme: Scheme, [n, k]: [usize; 2], skewed: bool, narrow: bool) -> Matrix {
    let mut integers = quantise(&reference::uniform(n * k, 61), k, scheme);
    // The least of 8 bits, which rounding never gives.
    if scheme == Scheme::Int8 {
        integers.bytes[n * k / 2] = 0x80;
    }
    let (stored, scales) = bytes(&integers.scales, if narrow { Dtype::F16 } else { Dtype::F32 });
    let mut numbers = vec![0.0; n * k];
    let rows = integers.bytes.chunks(scheme.row_bytes(k)).zip(scales.chunks(scheme.row_scales(k)));
    for (out, (bytes, scales)) in numbers.chunks_mut(k).zip(rows) {
        numbers_of(bytes, scales, scheme, out);
    }
    Matrix {
        weight: memory.bytes(&integers.bytes, usize::from(skewed)),
        scales: memory.bytes(&stored, 4),
        scale_type: usize::from(narrow),
        code: if scheme == Scheme::Int8 { 3 } else { 4 },
        numbers,
    }
}

/// Matrices: rows, k, scheme, at an odd address.
const CASES: [(usize, usize, Scheme, bool); 7] = [
    (1, 1, Scheme::Int8, false),
    (9, 33, Scheme::Int8, false),
    (5, 160, Scheme::Int8, false),
    (6, 96, Scheme::Int8, true),
    (3, 32, Scheme::Int4, false),
    (10, 160, Scheme::Int4, false),
    (2, 2080, Scheme::Int4, false),
];

/// Launches `dequantise`; gives the output's address.
fn launch_dequantise(
    kernels: &Kernels,
    memory: &Memory,
    matrix: &Matrix,
    [n, k]: [usize; 2],
) -> Result<u64, String> {
    let out = output(memory, n * k);
    let args = [
        Address(out),
        Address(matrix.weight),
        Address(matrix.scales),
        Number(matrix.code),
        Number(matrix.scale_type),
        Number(n),
        Number(k),
    ];
    kernels.launch("dequantise", [(n * k).div_ceil(256), 1, 1], 256, 0, &args, memory)?;
    Ok(out)
}

/// `dequantise`, to the bit.
pub fn dequantise(kernels: &Kernels) -> Result<(), String> {
    for (i, (n, k, scheme, skewed)) in CASES.into_iter().enumerate() {
        let memory = Memory::new();
        let matrix = matrix(&memory, scheme, [n, k], skewed, !i.is_multiple_of(2));
        let out = launch_dequantise(kernels, &memory, &matrix, [n, k])?;
        let want: Vec<f64> = matrix.numbers.iter().map(|&x| f64::from(x)).collect();
        check(&memory, out, &want, reference::EMBEDDING, &format!("dequantise {n}x{k} {scheme:?}"))?;
    }
    Ok(())
}

/// `linear_row_quantised`, and that it gives the bits of `dequantise` and `linear`.
pub fn linear_row_quantised(kernels: &Kernels) -> Result<(), String> {
    for (i, (n, k, scheme, skewed)) in CASES.into_iter().enumerate() {
        let (memory, rows, gap) = (Memory::new(), 1 + i % 2, i % 3);
        let matrix = matrix(&memory, scheme, [n, k], skewed, i.is_multiple_of(2));
        let x = reference::uniform(rows * k, 62);
        let vector = |there: bool, seed: u64| match there {
            true => Stored::new(&memory, n, seed, TYPES[i % 3], true),
            false => Stored::absent(),
        };
        let (bias, scale) = (vector(i.is_multiple_of(2), 63), vector(i % 3 != 1, 64));
        let residual = reference::uniform(rows * n, 65);
        let residual_at = if !i.is_multiple_of(2) { memory.matrix(&residual, n, n + gap, 4) } else { 0 };
        let x_at = memory.matrix(&x, k, k + gap, 4);
        let code = [0, 5, 2, 1][i % 4];
        // Both kernels take what follows the weight's type alike.
        let finish = |out: u64, weight: [Arg; 2], scheme: &[Arg]| {
            let mut args = vec![Address(out), Address(x_at)];
            args.extend(weight.into_iter().filter(|arg| !matches!(arg, Address(0))));
            args.extend([bias.at(), scale.at(), Address(residual_at)]);
            args.extend(scheme);
            args.extend([bias.kind(), scale.kind()]);
            args.extend([rows, k, n, k + gap, n + gap, code].map(Number));
            args
        };
        let out = output(&memory, rows * n);
        let weight = [Address(matrix.weight), Address(matrix.scales)];
        let args = finish(out, weight, &[Number(matrix.code), Number(matrix.scale_type)]);
        kernels.launch("linear_row_quantised", [n.div_ceil(8), rows, 1], 256, 0, &args, &memory)?;
        let after = After {
            bias: bias.some(),
            activation: ACTIVATIONS[code],
            scale: scale.some(),
            residual: (residual_at != 0).then_some(&residual[..]),
        };
        let want = reference::linear(&x, &matrix.numbers, [rows, k, n], &after);
        let case = format!("linear_row_quantised {rows}x{k}x{n} {scheme:?}");
        check(&memory, out, &want, reference::LINEAR, &case)?;

        let numbers = launch_dequantise(kernels, &memory, &matrix, [n, k])?;
        let by_tile = output(&memory, rows * n);
        let args = finish(by_tile, [Address(numbers), Address(0)], &[Number(0)]);
        kernels.launch("linear", [rows.div_ceil(64), n.div_ceil(64), 1], 128, 0, &args, &memory)?;
        if memory.read(out, rows * n)? != memory.read(by_tile, rows * n)? {
            return Err(format!("{case}: other bits than linear"));
        }
    }
    Ok(())
}

#[test]
fn quantised() {
    for check in [dequantise, linear_row_quantised] {
        check(&Kernels::new(9)).unwrap();
        check(&Kernels::new(109)).unwrap();
    }
}
