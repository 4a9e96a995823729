//! A weight laid out for products of warp groups, and these products: linear_pack, linear_sm90a.

use half::f16;
use triplet::reference::{self, After, Tolerance};

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number};

/// Rows and columns of a tile.
const ROWS: usize = 128;
const COLS: usize = 64;

/// The power of two that brings the largest of a row to 128 and above, below 256.
fn scale(row: &[f32]) -> f64 {
    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let exponent = match largest {
        0.0 => -127,
        largest => f64::from(largest).log2().floor() as i32,
    };
    2f64.powi((7 - exponent).min(126))
}

/// What linear_pack makes of `[rows, k]`: units of all rows up to a multiple of 128, then tiles.
fn packed(numbers: &[f32], rows: usize, k: usize, code: usize) -> Vec<u8> {
    let all = rows.next_multiple_of(ROWS);
    let parts = if code == 0 { 2 } else { 1 };
    let scales: Vec<f64> = numbers.chunks(k).map(|row| if code == 1 { 1.0 } else { scale(row) }).collect();
    let units = (0..all).map(|row| match scales.get(row) {
        Some(scale) => (1.0 / scale) as f32,
        None if code == 1 => 1.0,
        None => 2f32.powi(-126),
    });
    let mut bytes: Vec<u8> = units.flat_map(f32::to_le_bytes).collect();
    let tiles = bytes.len();
    bytes.resize(tiles + all * k * 2 * parts, 0);
    let tile_bytes = ROWS * COLS * 2;
    for (row, (line, scale)) in numbers.chunks(k).zip(&scales).enumerate() {
        for (col, &x) in line.iter().enumerate() {
            let x = f64::from(x) * scale;
            let high = f16::from_f64(x);
            let low = f16::from_f64(x - high.to_f64());
            let tile = row / ROWS * (k / COLS) + col / COLS;
            // Within 16 of k: the pairs 0, 2, 4, 6 are the first 8, the others the second.
            let (sixteen, pair) = (col % COLS / 16, col % 16 / 2);
            let place = (2 * sixteen + pair % 2) * ROWS * 16 + row % ROWS * 16 + pair / 2 * 4 + col % 2 * 2;
            for (part, number) in [high, low].into_iter().take(parts).enumerate() {
                let at = tiles + (tile * parts + part) * tile_bytes + place;
                bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
            }
        }
    }
    bytes
}

/// `linear_pack`, to the bit.
pub fn linear_pack(kernels: &Kernels) -> Result<(), String> {
    for (i, (rows, k)) in [(128, 64), (129, 64), (3, 320)].into_iter().enumerate() {
        for kind in TYPES {
            let memory = Memory::new();
            let mut numbers = reference::uniform(rows * k, 71 + i as u64);
            // The largest of a row lies where a thread looks in its second round.
            numbers.iter_mut().skip(k - 64).step_by(k).for_each(|x| *x = 5.0);
            let (stored, numbers) = reference::bytes(&numbers, kind.0);
            let want = packed(&numbers, rows, k, kind.1);
            let (weight, out) = (memory.bytes(&stored, kind.0.size()), memory.room(want.len(), 0));
            let args = [Address(out), Address(weight), Number(kind.1), Number(rows), Number(k)];
            kernels.launch("linear_pack", [rows.next_multiple_of(ROWS), 1, 1], 256, 0, &args, &memory)?;
            let got: Vec<u8> =
                memory.read(out, want.len() / 4)?.into_iter().flat_map(u32::to_le_bytes).collect();
            if let Some(at) = got.iter().zip(&want).position(|(got, want)| got != want) {
                return Err(format!("linear_pack {rows}x{k} {:?}: byte {at} differs", kind.0));
            }
        }
    }
    Ok(())
}

/// Bytes of shared memory of linear_sm90a.
const SHARED: usize = 1024 + 3 * (128 * 320 + 32768);
/// Tensor cores cut sums off, and two parts of f16 are 22 bits.
const BY_TENSOR_CORES: Tolerance = Tolerance { norm: 2e-6, element: 4e-6 };

/// Runs linear_sm90a on rows whose numbers are `size` times as large as usual; with the inputs cut in runs linear_merge too.
fn run(
    kernels: &Kernels,
    i: usize,
    [rows, k, n, gap]: [usize; 4],
    kind: usize,
    size: f32,
    runs: usize,
) -> Result<(), String> {
    let memory = Memory::new();
    let x: Vec<f32> = reference::uniform(rows * k, 81).into_iter().map(|x| x * size).collect();
    let weight = Stored::new(&memory, n * k, 82, TYPES[kind], false);
    let laid_out = memory.bytes(&packed(&weight.numbers, n, k, TYPES[kind].1), 0);
    let vector = |there: bool, seed: u64| match there {
        true => Stored::new(&memory, n, seed, TYPES[(kind + i) % 3], true),
        false => Stored::absent(),
    };
    let (bias, scale) = (vector(i % 2 == 1, 83), vector(i % 3 == 1, 84));
    let residual = reference::uniform(rows * n, 85);
    let residual_at = if i == 1 { memory.matrix(&residual, n, n + 3, 4) } else { 0 };
    let code = [0, 3, 2, 0, 0, 5][i];
    let out = output(&memory, rows * n);
    let partial = if runs > 1 { output(&memory, runs * rows * n) } else { out };
    let args = [
        Address(partial),
        Address(memory.matrix(&x, k, k + gap, 0)),
        Address(laid_out),
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
        Number(n + 3),
        Number(code),
    ];
    let grid = [rows.div_ceil(ROWS), n.div_ceil(ROWS), runs];
    kernels.launch("linear_sm90a", grid, 288, SHARED, &args, &memory)?;
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
            Number(n + 3),
            Number(code),
            Number(runs),
        ];
        kernels.launch("linear_merge", [(rows * n).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
    }
    let after = After {
        bias: bias.some(),
        activation: ACTIVATIONS[code],
        scale: scale.some(),
        residual: (residual_at != 0).then_some(&residual[..]),
    };
    let want = reference::linear(&x, &weight.numbers, [rows, k, n], &after);
    let case = format!("linear_sm90a {rows}x{k}x{n} {:?}, x times {size}", TYPES[kind].0);
    check(&memory, out, &want, BY_TENSOR_CORES, &case)
}

/// `linear_sm90a`: more chunks than stages, tiles that end early, x of any size.
pub fn linear_sm90a(kernels: &Kernels) -> Result<(), String> {
    let cases = [
        ([1, 64, 128, 0], 1.0, 1),
        ([130, 256, 5, 4], 1.0, 1),
        ([12, 448, 130, 0], 1.0, 1),
        ([2, 128, 2, 0], 1e-36, 1),
        ([2, 128, 2, 0], 1e34, 1),
        ([129, 320, 131, 4], 1.0, 3),
    ];
    for (i, (sizes, size, runs)) in cases.into_iter().enumerate() {
        for kind in 0..3 {
            run(kernels, i, sizes, kind, size, runs)?;
        }
    }
    Ok(())
}

#[test]
fn packed_weights() {
    for seed in [12, 112] {
        linear_pack(&Kernels::new(seed)).unwrap();
        linear_sm90a(&Kernels::new(seed)).unwrap();
    }
}
