//! Dense convolutions of stride 1 with packed weights by the matrix unit: see [`super::amx_thirds`] for what it computes.
//!
//! The map is split into thirds once, with its padding, one line for every cell. As the lines lie one after the other, those
//! under a tap of the kernel are the same lines, some further on: no window is ever gathered. An output row of the map ends with
//! lines whose windows would reach over its border; they are computed and dropped.
#![forbid(unsafe_code)]

use super::Cpu;
use super::amx_thirds::{Left, ROWS, STEP, TILE_WORDS};
use super::conv2d::Windows;
use super::finish::Finish;
use super::isa::Avx512Amx;
use super::lanes::K_BLOCK;
use super::packed::Packed;
use super::product::even;
use super::product_thirds::{Lines, columns, pieces, worker};
use crate::backend::Grid;
use crate::checked::{quotient, remainder};

/// Most lines of a piece, unless one row of the map has more: with 128 channels they take half a megabyte.
const LINES: usize = 18 * ROWS;
/// Most words of the lines of a slab.
const SLAB: usize = 1 << 23;
/// Words of a cache line, at which scratch begins.
const ALIGNED: usize = 16;

/// How a convolution is cut.
struct Plan {
    /// Lines of a row of the map, with its padding.
    width: usize,
    /// Steps of channels.
    steps: usize,
    /// Output rows of the map that are computed from one slab of lines, and those of a piece.
    slab: usize,
    rows: usize,
    /// Output columns of a piece, whole panels.
    cols: usize,
}

impl Plan {
    /// For `channels` channels of a map and `n` of the output.
    fn new([kernel, output]: [Grid; 2], [channels, n]: [usize; 2]) -> Plan {
        let (width, steps) = (output.width + kernel.width - 1, channels.div_ceil(STEP));
        let fit = SLAB / (width * steps * 3 * TILE_WORDS).max(1);
        let slab = even(output.height, fit.saturating_sub(kernel.height - 1)).max(1);
        let rows = even(slab, quotient(LINES, width)).max(1);
        let cols = columns(padded(rows * width), slab.div_ceil(rows), n);
        Plan { width, steps, slab, rows, cols }
    }

    /// Lines of a slab of `rows` output rows; tiles may read beyond the last one.
    fn lines(&self, rows: usize, kernel: usize) -> usize {
        padded((rows + kernel - 1) * self.width) + ROWS
    }
}

/// Whole pairs of tiles.
fn padded(lines: usize) -> usize {
    lines.next_multiple_of(ROWS)
}

/// Elements of scratch that [`conv2d`] takes for a kernel and an output of those sizes, and channels of map and output.
pub(super) fn scratch(cpu: &Cpu, sizes: [Grid; 2], channels: [usize; 2]) -> usize {
    let plan = Plan::new(sizes, channels);
    let lines = plan.lines(plan.slab, sizes[0].height).saturating_mul(plan.steps * 3 * TILE_WORDS);
    lines.saturating_add(cpu.threads.workers() * worker(padded(plan.rows * plan.width), plan.cols) + ALIGNED)
}

/// Convolution of checked operands into `out [output cells, n]`.
pub(super) fn conv2d(
    cpu: &Cpu,
    unit: Avx512Amx,
    windows: &Windows<'_>,
    right: &Packed,
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let ([n, _], output, kernel) = (right.sizes(), windows.output, windows.kernel);
    if n == 0 || output.cells() == 0 {
        return;
    }
    let plan = Plan::new([kernel, output], [windows.x.cols, n]);
    let skip = scratch.as_ptr().align_offset(ALIGNED * size_of::<f32>()).min(ALIGNED);
    let scratch = &mut scratch[skip..];
    for (index, out) in out.chunks_mut(plan.slab * output.width * n).enumerate() {
        let first = index * plan.slab;
        let lines = plan.lines(quotient(out.len(), output.width * n), kernel.height);
        let (third, step) = (lines * TILE_WORDS, 3 * lines * TILE_WORDS);
        let (words, scratch) = scratch.split_at_mut(plan.steps * step);
        // As much work as two multiply-adds an element: it moves.
        cpu.threads.rows(2, words, step, |start, out| {
            for (i, out) in out.chunks_exact_mut(step).enumerate() {
                let channel = (start + i) * STEP;
                for line in 0..lines {
                    let cell = cell(windows, first + quotient(line, plan.width), remainder(line, plan.width));
                    let row = cell.map_or(&[][..], |cell| &windows.x.row(cell)[channel..]);
                    unit.split_row(
                        3,
                        &row[..row.len().min(STEP)],
                        1,
                        [third, step],
                        &mut out[line * TILE_WORDS..],
                    );
                }
            }
        });
        let lines = Lines {
            left: Left { words, third, step },
            line: TILE_WORDS,
            block: step * (K_BLOCK / STEP),
            taps: [kernel.width, plan.width],
            width: [output.width, plan.width],
        };
        let scratch =
            &mut scratch[..cpu.threads.workers() * worker(padded(plan.rows * plan.width), plan.cols)];
        let size = [plan.rows * output.width, plan.cols];
        pieces(cpu, unit, lines, right, (finish, first * output.width), size, scratch, out);
    }
}

/// The map's cell at a place of the padded map, `None` in the padding and behind it.
fn cell(windows: &Windows<'_>, row: usize, col: usize) -> Option<usize> {
    let (row, col) = (row.checked_sub(windows.conv.padding)?, col.checked_sub(windows.conv.padding)?);
    (row < windows.grid.height && col < windows.grid.width).then(|| row * windows.grid.width + col)
}
