//! Kernels that multiply matrices: linear, linear_row, matmul.

use std::ops::Range;

use triplet::reference::{self, After, Tolerance};

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number};

/// A linear layer: rows, k, n, elements between rows of x, whether weight and x lie at odd addresses.
#[derive(Clone, Copy)]
struct Case {
    rows: usize,
    k: usize,
    n: usize,
    gap: usize,
    skewed: bool,
}

const CASES: [Case; 8] = [
    Case { rows: 1, k: 1, n: 1, gap: 0, skewed: false },
    Case { rows: 3, k: 40, n: 9, gap: 4, skewed: false },
    Case { rows: 66, k: 48, n: 65, gap: 0, skewed: false },
    Case { rows: 5, k: 33, n: 70, gap: 1, skewed: true },
    Case { rows: 2, k: 200, n: 5, gap: 0, skewed: true },
    Case { rows: 9, k: 136, n: 12, gap: 8, skewed: false },
    Case { rows: 65, k: 17, n: 3, gap: 3, skewed: false },
    Case { rows: 3, k: 32, n: 4, gap: 2, skewed: false },
];

/// Longer than a chunk of `linear_row`.
const LONG: Case = Case { rows: 2, k: 2216, n: 3, gap: 0, skewed: false };

/// Runs a linear layer by `name`; gives the output's bits.
fn run(
    kernels: &Kernels,
    name: &str,
    i: usize,
    case: Case,
    kind: usize,
    tolerance: Tolerance,
) -> Result<Vec<f32>, String> {
    run_in_parts(kernels, name, i, case, kind, tolerance, 1)
}

/// As [`run`] with the inputs cut in runs, whose sums `linear_merge` joins.
fn run_in_parts(
    kernels: &Kernels,
    name: &str,
    i: usize,
    case: Case,
    kind: usize,
    tolerance: Tolerance,
    runs: usize,
) -> Result<Vec<f32>, String> {
    let Case { rows, k, n, gap, skewed } = case;
    let memory = Memory::new();
    let x = reference::uniform(rows * k, 31);
    let weight = Stored::new(&memory, n * k, 32, TYPES[kind], skewed);
    let vector = |there: bool, seed: u64| match there {
        true => Stored::new(&memory, n, seed, TYPES[(kind + i) % 3], true),
        false => Stored::absent(),
    };
    let (bias, scale) = (vector(i.is_multiple_of(2), 33), vector(i % 3 != 1, 34));
    let residual = reference::uniform(rows * n, 35);
    let with_residual = i % 2 == 1;
    let residual_at = if with_residual { memory.matrix(&residual, n, n + i % 3, 4) } else { 0 };
    let code = [0, 2, 5, 1, 0, 3, 6][i % 7];
    let out = output(&memory, rows * n);
    let partial = if runs > 1 { output(&memory, runs * rows * n) } else { out };
    let args = [
        Address(partial),
        Address(memory.matrix(&x, k, k + gap, if skewed { 4 } else { 0 })),
        weight.at(),
        bias.at(),
        scale.at(),
        Address(residual_at),
        weight.kind(),
        bias.kind(),
        scale.kind(),
        Number(rows),
        Number(k),
        Number(n),
        Number(k + gap),
        Number(n + i % 3),
        Number(code),
    ];
    let (grid, threads) = match name {
        "linear_row" => ([n.div_ceil(8), rows, 1], 256),
        _ => ([rows.div_ceil(64), n.div_ceil(64), runs], 128),
    };
    kernels.launch(name, grid, threads, 0, &args, &memory)?;
    if runs > 1 {
        let args = [
            Address(out),
            Address(partial),
            bias.at(),
            scale.at(),
            Address(residual_at),
            bias.kind(),
            scale.kind(),
            Number(rows),
            Number(n),
            Number(n + i % 3),
            Number(code),
            Number(runs),
        ];
        kernels.launch("linear_merge", [(rows * n).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
    }
    let after = After {
        bias: bias.some(),
        activation: ACTIVATIONS[code],
        scale: scale.some(),
        residual: with_residual.then_some(&residual[..]),
    };
    let want = reference::linear(&x, &weight.numbers, [rows, k, n], &after);
    check(&memory, out, &want, tolerance, &format!("{name} {rows}x{k}x{n} {:?}", TYPES[kind].0))?;
    memory.read_f32(out, rows * n)
}

/// `linear` of every type of weight.
pub fn linear(kernels: &Kernels) -> Result<(), String> {
    for (i, case) in CASES.into_iter().enumerate() {
        for kind in 0..3 {
            run(kernels, "linear", i, case, kind, reference::LINEAR)?;
        }
    }
    Ok(())
}

/// `linear_row`, and that it gives the bits of `linear`.
pub fn linear_row(kernels: &Kernels) -> Result<(), String> {
    for (i, case) in CASES.into_iter().chain([LONG]).enumerate() {
        for kind in 0..3 {
            let case = Case { rows: case.rows.min(3), ..case };
            let by_row = run(kernels, "linear_row", i, case, kind, reference::LINEAR)?;
            let by_tile = run(kernels, "linear", i, case, kind, reference::LINEAR)?;
            if by_row.iter().zip(&by_tile).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(format!("linear_row: case {i} has other bits than linear"));
            }
        }
    }
    Ok(())
}

/// Tensor cores cut sums off where multiply-adds round.
const BY_TENSOR_CORES: Tolerance = Tolerance { norm: 2e-6, element: 4e-6 };

/// `linear_sm80`.
pub fn linear_sm80(kernels: &Kernels) -> Result<(), String> {
    by_tensor_cores(kernels, "linear_sm80")?;
    in_parts(kernels, "linear_sm80", 0..2)
}

/// `linear_merge` of runs that `linear_sm80` left.
pub fn linear_merge(kernels: &Kernels) -> Result<(), String> {
    in_parts(kernels, "linear_sm80", 0..3)
}

/// A kernel of tensor cores by runs of the inputs: the last shorter than the others, in more tiles than one, with every type of
/// weight; and a row with the same bits in any batch.
fn in_parts(kernels: &Kernels, name: &str, kinds: Range<usize>) -> Result<(), String> {
    let cases = [
        (Case { rows: 65, k: 136, n: 70, gap: 4, skewed: false }, 3),
        (Case { rows: 7, k: 200, n: 129, gap: 0, skewed: false }, 2),
        (Case { rows: 5, k: 192, n: 9, gap: 0, skewed: false }, 3),
    ];
    for (i, (case, runs)) in cases.into_iter().enumerate() {
        for kind in kinds.clone() {
            let all = run_in_parts(kernels, name, i, case, kind, BY_TENSOR_CORES, runs)?;
            if i == 0 && kind == 1 {
                let few = Case { rows: 6, ..case };
                let few = run_in_parts(kernels, name, i, few, kind, BY_TENSOR_CORES, runs)?;
                if all.iter().zip(&few).any(|(a, b)| a.to_bits() != b.to_bits()) {
                    return Err(format!("{name}: a row has other bits in another batch"));
                }
            }
        }
    }
    Ok(())
}

/// `linear_sm75`.
pub fn linear_sm75(kernels: &Kernels) -> Result<(), String> {
    by_tensor_cores(kernels, "linear_sm75")?;
    in_parts(kernels, "linear_sm75", 0..2)?;
    (0..3).try_for_each(|kind| of_all_sizes(kernels, 66, kind).map(|_| ()))
}

/// A kernel of tensor cores with every type of weight, where it may run: wide enough rows, aligned.
fn by_tensor_cores(kernels: &Kernels, name: &str) -> Result<(), String> {
    let more = [
        Case { rows: 1, k: 8, n: 1, gap: 0, skewed: false },
        Case { rows: 40, k: 264, n: 130, gap: 4, skewed: false },
        // The last row and column among each of the sixteens of a block.
        Case { rows: 24, k: 40, n: 56, gap: 0, skewed: false },
        Case { rows: 56, k: 16, n: 24, gap: 0, skewed: false },
    ];
    for (i, case) in more.into_iter().chain(CASES).enumerate() {
        if case.k.is_multiple_of(8) && case.gap.is_multiple_of(4) && !case.skewed {
            for kind in 0..3 {
                run(kernels, name, i, case, kind, BY_TENSOR_CORES)?;
            }
        }
    }
    Ok(())
}

/// [`linear`] and its bits.
pub fn linear_both(kernels: &Kernels) -> Result<(), String> {
    linear(kernels)?;
    linear_row(kernels)
}

/// `matmul`, plain and with the transpose.
pub fn matmul(kernels: &Kernels) -> Result<(), String> {
    for (rows, k, n, gap) in [(1, 1, 1, 0), (5, 33, 70, 3), (66, 20, 65, 0), (3, 130, 4, 1)] {
        for transpose in [false, true] {
            let memory = Memory::new();
            let (a, b) = (reference::uniform(rows * k, 36), reference::uniform(k * n, 37));
            let b_cols = if transpose { k } else { n };
            let out = output(&memory, rows * n);
            let args = [
                Address(out),
                Address(memory.matrix(&a, k, k + gap, 4)),
                Address(memory.matrix(&b, b_cols, b_cols + gap, 4)),
                Number(rows),
                Number(k),
                Number(n),
                Number(k + gap),
                Number(b_cols + gap),
                Number(usize::from(transpose)),
            ];
            kernels.launch("matmul", [rows.div_ceil(64), n.div_ceil(64), 1], 128, 0, &args, &memory)?;
            let want = reference::matmul(&a, &b, [rows, k, n], transpose);
            check(&memory, out, &want, reference::MATMUL, &format!("matmul {rows}x{k}x{n} {transpose}"))?;
        }
    }
    Ok(())
}

/// Rows of x, rows of the weight and runs of k of very different sizes: scales are right where each row is, by its own measure, and where
/// the largest of a run lies at any of its places. Gives the output's bits.
fn of_all_sizes(kernels: &Kernels, rows: usize, kind: usize) -> Result<Vec<f32>, String> {
    let (k, n) = (72, 40);
    let memory = Memory::new();
    let power = |i: usize| [0, 30, -30, 9, -60][i % 5];
    let sized = |rows: usize, seed: u64| {
        let mut numbers = reference::uniform(rows * k, seed);
        for (row, numbers) in numbers.chunks_exact_mut(k).enumerate() {
            for (run, numbers) in numbers.chunks_mut(32).enumerate() {
                numbers.iter_mut().for_each(|x| *x *= 0.05);
                // The largest by far, at a place of its own in every row.
                let place = (row * 5 + run) % numbers.len();
                numbers[place] = 1.0;
            }
            numbers.iter_mut().for_each(|x| *x *= 2f32.powi(power(row)));
        }
        numbers
    };
    let (x, weight) = (sized(rows, 61), sized(n, 62));
    let weight: Vec<f32> = match TYPES[kind].0 {
        // Numbers of f16 lie within its range.
        triplet::weights::Dtype::F16 => weight
            .chunks_exact(k)
            .enumerate()
            .flat_map(|(i, row)| row.iter().map(move |x| x / 2f32.powi(power(i))))
            .collect(),
        _ => weight,
    };
    let (stored, weight) = reference::bytes(&weight, TYPES[kind].0);
    let out = output(&memory, rows * n);
    let absent = || [Address(0), Number(0)];
    let ([bias, none], [scale, _]) = (absent(), absent());
    let args = [
        Address(out),
        Address(memory.matrix(&x, k, k, 0)),
        Address(memory.bytes(&stored, 0)),
        bias,
        scale,
        Address(0),
        Number(TYPES[kind].1),
        none,
        none,
        Number(rows),
        Number(k),
        Number(n),
        Number(k),
        Number(n),
        Number(0),
    ];
    kernels.launch("linear_sm75", [rows.div_ceil(64), n.div_ceil(64), 1], 128, 0, &args, &memory)?;
    let want = reference::linear(&x, &weight, [rows, k, n], &After::NONE);
    let got = memory.read_f32(out, rows * n)?;
    // Each element by what its row and column are made of.
    let size = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let most = size(&x[i / n * k..][..k]) * size(&weight[i % n * k..][..k]);
        let off = (f64::from(*got) - want).abs() / most;
        if off.is_nan() || off > 1e-6 {
            return Err(format!(
                "linear_sm75 {:?}: element {i} is {got} where {want} is expected",
                TYPES[kind].0
            ));
        }
    }
    Ok(got)
}

#[test]
fn products() {
    for check in [linear, linear_row, linear_sm80, linear_merge, linear_sm75, matmul] {
        check(&Kernels::new(4)).unwrap();
        check(&Kernels::new(104)).unwrap();
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let kernels = Kernels::new(5);
    let case = Case { rows: 66, k: 100, n: 5, gap: 0, skewed: false };
    let all = run(&kernels, "linear", 0, case, 1, reference::LINEAR).unwrap();
    let few = run(&kernels, "linear", 0, Case { rows: 2, ..case }, 1, reference::LINEAR).unwrap();
    assert_eq!(all[..10], few[..]);
    for kind in 0..3 {
        let [all, few] = [66, 7].map(|rows| of_all_sizes(&kernels, rows, kind).unwrap());
        assert_eq!(all[..few.len()], few[..]);
    }
}
