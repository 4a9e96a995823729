//! Kernels of positions and maps: rope, resize, conv2d, depthwise.

use triplet::backend::{Conv, Grid, Resize};
use triplet::reference::{self, After};

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number};

/// `rope` near the start and at positions whose angles are thousands of turns.
pub fn rope(kernels: &Kernels) -> Result<(), String> {
    for (rows, heads, half, gap, first) in
        [(1, 1, 1, 0, 0), (5, 3, 8, 5, 3), (5, 2, 33, 0, 700), (4, 1, 16, 2, 32_000)]
    {
        let memory = Memory::new();
        let cols = heads * 2 * half;
        let x = reference::uniform(rows * cols, 21);
        let frequencies: Vec<f32> = (0..half).map(|i| 10_000f32.powf(-(i as f32) / half as f32)).collect();
        let out = output(&memory, rows * cols);
        let args = [
            Address(out),
            Address(memory.matrix(&x, cols, cols + gap, 4)),
            Address(memory.matrix(&frequencies, half, half, 0)),
            Number(rows),
            Number(cols),
            Number(cols + gap),
            Number(half),
            Number(first),
        ];
        kernels.launch("rope", [(rows * cols / 2).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
        let want = reference::rope(&x, heads, first, &frequencies);
        check(&memory, out, &want, reference::ROPE, &format!("rope {rows}x{heads}x{half} from {first}"))?;
    }
    Ok(())
}

/// `resize` up and down in every mode, one side alone, and to the same size.
pub fn resize(kernels: &Kernels) -> Result<(), String> {
    let cases = [
        ((1, 1), (3, 2), 1),
        ((4, 5), (9, 7), 3),
        ((9, 7), (4, 5), 2),
        ((6, 6), (6, 6), 4),
        ((2, 11), (13, 3), 1),
    ];
    for ((from_height, from_width), (to_height, to_width), cols) in cases {
        for (mode, resize) in [Resize::Nearest, Resize::Bilinear, Resize::Bicubic].into_iter().enumerate() {
            let memory = Memory::new();
            let from = Grid { height: from_height, width: from_width };
            let to = Grid { height: to_height, width: to_width };
            let x = reference::uniform(from.cells() * cols, 22);
            let out = output(&memory, to.cells() * cols);
            let args = [
                Address(out),
                Address(memory.matrix(&x, cols, cols + 3, 4)),
                Number(from_height),
                Number(from_width),
                Number(to_height),
                Number(to_width),
                Number(cols),
                Number(cols + 3),
                Number(mode),
            ];
            kernels.launch("resize", [(to.cells() * cols).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
            let want = reference::resize(&x, cols, from, to, resize);
            check(&memory, out, &want, reference::RESIZE, &format!("{resize:?} {from:?} to {to:?}"))?;
        }
    }
    Ok(())
}

/// A convolution: map, channels in and out, kernel, stride, padding.
type Case = ((usize, usize), usize, usize, (usize, usize), usize, usize);

fn convolve(kernels: &Kernels, name: &str, cases: &[Case]) -> Result<(), String> {
    for (i, &((height, width), channels, out_channels, (kernel_height, kernel_width), stride, padding)) in
        cases.iter().enumerate()
    {
        let memory = Memory::new();
        let depthwise = name == "depthwise";
        let conv = Conv { stride, padding, depthwise };
        let (grid, kernel) = (Grid { height, width }, Grid { height: kernel_height, width: kernel_width });
        let to = conv.output(grid, kernel).expect("the kernel fits");
        let filters = if depthwise { 1 } else { channels };
        let (gap, residual_gap) = (i % 3, (i + 1) % 4);
        let x = reference::uniform(grid.cells() * channels, 23);
        let weight = Stored::new(&memory, out_channels * filters * kernel.cells(), 24, TYPES[i % 3], true);
        let vector = |there: bool, seed: u64| match there {
            true => Stored::new(&memory, out_channels, seed, TYPES[(i + 1) % 3], true),
            false => Stored::absent(),
        };
        let (bias, scale) = (vector(i.is_multiple_of(2), 25), vector(i % 3 == 1, 26));
        let residual = reference::uniform(to.cells() * out_channels, 27);
        let with_residual = i % 2 == 1;
        let residual_stride = out_channels + residual_gap;
        let residual_at =
            if with_residual { memory.matrix(&residual, out_channels, residual_stride, 4) } else { 0 };
        let code = [0, 2, 5, 1, 7][i % 5];
        let out = output(&memory, to.cells() * out_channels);
        let args = [
            Address(out),
            Address(memory.matrix(&x, channels, channels + gap, 4)),
            weight.at(),
            bias.at(),
            scale.at(),
            Address(residual_at),
            weight.kind(),
            bias.kind(),
            scale.kind(),
            Number(height),
            Number(width),
            Number(channels),
            Number(to.height),
            Number(to.width),
            Number(out_channels),
            Number(kernel_height),
            Number(kernel_width),
            Number(stride),
            Number(padding),
            Number(channels + gap),
            Number(residual_stride),
            Number(code),
        ];
        let (blocks, threads) = match depthwise {
            true => ([(to.cells() * out_channels).div_ceil(256), 1, 1], 256),
            false => ([to.cells().div_ceil(64), out_channels.div_ceil(64), 1], 128),
        };
        kernels.launch(name, blocks, threads, 0, &args, &memory)?;
        let after = After {
            bias: bias.some(),
            activation: ACTIVATIONS[code],
            scale: scale.some(),
            residual: with_residual.then_some(&residual[..]),
        };
        let shape = [out_channels, filters, kernel_height, kernel_width];
        let want = reference::conv2d(&x, grid, &weight.numbers, shape, conv, &after);
        check(&memory, out, &want, reference::CONV2D, &format!("{name} case {i}"))?;
    }
    Ok(())
}

/// `conv2d`: one cell, patches, padding on all sides, a stride, more outputs than a tile.
pub fn conv2d(kernels: &Kernels) -> Result<(), String> {
    convolve(
        kernels,
        "conv2d",
        &[
            ((1, 1), 1, 1, (1, 1), 1, 0),
            ((8, 6), 3, 5, (2, 2), 2, 0),
            ((9, 8), 5, 66, (3, 3), 1, 1),
            ((7, 5), 2, 7, (3, 2), 2, 1),
            ((5, 4), 9, 3, (3, 3), 1, 2),
        ],
    )
}

/// `depthwise`: the same kinds of cases.
pub fn depthwise(kernels: &Kernels) -> Result<(), String> {
    convolve(
        kernels,
        "depthwise",
        &[
            ((1, 1), 1, 1, (1, 1), 1, 0),
            ((9, 7), 5, 5, (3, 3), 1, 1),
            ((8, 8), 33, 33, (2, 2), 2, 0),
            ((7, 9), 4, 4, (7, 5), 1, 3),
            ((6, 5), 3, 3, (2, 3), 2, 1),
        ],
    )
}

#[test]
fn positions_and_maps() {
    for check in [rope, resize, conv2d, depthwise] {
        check(&Kernels::new(3)).unwrap();
        check(&Kernels::new(103)).unwrap();
    }
}
