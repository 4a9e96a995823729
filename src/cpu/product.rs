//! The blocked matrix product behind `linear`, `matmul` and `conv2d`: `out[r, n] = sum_k left[r, k] * right[n, k]`.
//!
//! The left rows are copied once into blocks of [`K_BLOCK`] columns. Then, for every strip of [`STRIP`] output columns,
//! panels of the right operand (a block of `k` by `PANEL` columns) are converted and transposed into scratch that stays in
//! the first-level cache, and the register tile sweeps all rows over each. An output element is the sum of its blocks in
//! order, each a chain of multiply-adds in ascending `k`; neither the tile nor the strip nor the number of rows enters.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::finish::{Finish, Sum};
use super::isa::Op;
use super::lanes::{Accumulate, K_BLOCK, Lanes, MAX_PANEL, zip_in_place};
#[cfg(feature = "finetune")]
use super::mat::Elements;
use super::mat::{Mat, Rows};
use super::quantise::dequantise;
use crate::checked::{quotient, remainder};
use crate::weights::Quantised;

/// Output columns of one piece of work; a multiple of every `PANEL`.
const STRIP: usize = 64;
/// Most rows of one piece of work: with a block of `k` they fill a quarter of a second-level cache of 2 MB.
const ROWS: usize = 480;
/// Rows of one piece where there are few strips to share out.
const FEW_ROWS: usize = 96;
/// Most floats of the copied left rows.
const SLAB: usize = 1 << 21;

/// The left operand.
pub(super) trait Left: Sync {
    /// Rows.
    fn rows(&self) -> usize;
    /// Elements of a row.
    fn k(&self) -> usize;
    /// Writes the elements of row `row` from `first` on.
    fn copy(&self, row: usize, first: usize, out: &mut [f32]);
}

impl Left for Mat<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn k(&self) -> usize {
        self.cols
    }

    fn copy(&self, row: usize, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.row(row)[first..first + out.len()]);
    }
}

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// A stored `[n, k]`.
    Weight(Rows<'a>),
    /// `[n, k]`
    Rows(Mat<'a>),
    /// `[k, n]`
    Columns(Mat<'a>),
    /// A stored `[n, k]` in integers.
    Quantised(&'a Quantised),
    /// A stored `[k, n]`.
    #[cfg(feature = "finetune")]
    WeightColumns(Elements<'a>, usize),
}

impl Right<'_> {
    /// Fills a panel: `cols` output columns from `col` on, `k` elements from `first` on.
    #[inline(always)]
    fn pack<L: Lanes>(
        self,
        lanes: L,
        cols: [usize; 2],
        k: [usize; 2],
        scratch: &mut [f32],
        panel: &mut [f32],
    ) {
        let ([col, cols], [first, k]) = (cols, k);
        match self {
            Right::Weight(rows) if rows.dtype() == crate::weights::Dtype::F32 => {
                lanes.pack(rows.from(col, first), rows.stride * 4, cols, k, panel);
            }
            Right::Weight(rows) => {
                for i in 0..cols {
                    let row = &mut scratch[i * K_BLOCK..i * K_BLOCK + k];
                    lanes.convert(rows.dtype(), rows.from(col + i, first), row);
                }
                lanes.pack(bytemuck::cast_slice(scratch), K_BLOCK * 4, cols, k, panel);
            }
            Right::Quantised(weight) => {
                for i in 0..cols {
                    dequantise(weight, col + i, first, &mut scratch[i * K_BLOCK..i * K_BLOCK + k]);
                }
                lanes.pack(bytemuck::cast_slice(scratch), K_BLOCK * 4, cols, k, panel);
            }
            Right::Rows(rows) => {
                let (bytes, stride) = rows.bytes(col);
                lanes.pack(bytes.get(first * 4..).unwrap_or(&[]), stride, cols, k, panel);
            }
            Right::Columns(matrix) => {
                for (i, cells) in panel[..k * L::PANEL].chunks_exact_mut(L::PANEL).enumerate() {
                    let (head, tail) = cells.split_at_mut(cols);
                    head.copy_from_slice(&matrix.row(first + i)[col..col + cols]);
                    tail.fill(0.0);
                }
            }
            #[cfg(feature = "finetune")]
            Right::WeightColumns(elements, n) => {
                for (i, cells) in panel[..k * L::PANEL].chunks_exact_mut(L::PANEL).enumerate() {
                    let (head, tail) = cells.split_at_mut(cols);
                    lanes.convert(elements.dtype, elements.from((first + i) * n + col), head);
                    tail.fill(0.0);
                }
            }
        }
    }
}

/// Elements of scratch that [`product`] takes for `rows` rows of `k` elements. More rows never need less.
pub(super) fn scratch(cpu: &Cpu, rows: usize, k: usize, n: usize) -> usize {
    if rows == 0 || n == 0 {
        return 0;
    }
    let copied = slab(rows, k).saturating_mul(k.next_multiple_of(K_BLOCK));
    copied.saturating_add(cpu.threads.workers() * (PANELS + rows.min(most_rows(n)) * STRIP))
}

/// Rows that are copied in one go.
fn slab(rows: usize, k: usize) -> usize {
    (SLAB / k.next_multiple_of(K_BLOCK).max(K_BLOCK)).max(ROWS).min(rows)
}

/// Most rows of one piece of work.
fn most_rows(n: usize) -> usize {
    if n.div_ceil(STRIP) < 8 { FEW_ROWS } else { ROWS }
}

/// Elements of a worker's panel and of its converted columns.
const PANELS: usize = 2 * K_BLOCK * MAX_PANEL;

/// Computes the product into `out` (row-major, `n` columns, as many rows as `left`) and finishes it.
pub(super) fn product(
    cpu: &Cpu,
    left: &impl Left,
    right: Right<'_>,
    n: usize,
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let (rows, k) = (left.rows(), left.k());
    if rows == 0 || n == 0 {
        return;
    }
    let slab = slab(rows, k);
    let (copied, scratch) = scratch.split_at_mut(slab * k.next_multiple_of(K_BLOCK));
    for (index, out) in out.chunks_mut(slab * n).enumerate() {
        let first = index * slab;
        let rows = quotient(out.len(), n);
        let copied = &mut copied[..rows * k.next_multiple_of(K_BLOCK)];
        copy_left(cpu, left, first, rows, copied);
        strips(cpu, right, [rows, n, k], copied, first, finish, scratch, out);
    }
}

/// Copies `rows` rows from `first` on into `copied[block][row][K_BLOCK]`.
fn copy_left(cpu: &Cpu, left: &impl Left, first: usize, rows: usize, copied: &mut [f32]) {
    let k = left.k();
    // A tenth of a multiply-add's work per element, as it only moves.
    cpu.threads.rows(1, copied, K_BLOCK, |start, piece| {
        for (i, out) in piece.chunks_exact_mut(K_BLOCK).enumerate() {
            let (block, row) = (quotient(start + i, rows), remainder(start + i, rows));
            let from = block * K_BLOCK;
            left.copy(first + row, from, &mut out[..K_BLOCK.min(k - from)]);
        }
    });
}

#[allow(clippy::too_many_arguments)]
fn strips(
    cpu: &Cpu,
    right: Right<'_>,
    [rows, n, k]: [usize; 3],
    copied: &[f32],
    slab_first: usize,
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let per_piece = rows.div_ceil(rows.div_ceil(most_rows(n).max(1)).max(1));
    let cost = rows.saturating_mul(n).saturating_mul(k.max(1));
    cpu.threads.blocks(cost, out, n, [per_piece, STRIP], scratch, |scratch, [first, col], out| {
        cpu.isa.run(Run { first, col, out, right, rows, k, copied, slab_first, finish, scratch });
    });
}

/// One piece of work: rows `first..` of the slab, columns `col..` of the output.
struct Run<'a, 'b> {
    first: usize,
    col: usize,
    out: Block<'a>,
    right: Right<'b>,
    rows: usize,
    k: usize,
    copied: &'b [f32],
    slab_first: usize,
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { first, col, mut out, right, rows: slab_rows, k, copied, slab_first, finish, scratch } =
            self;
        let (rows, cols) = (out.rows(), out.cols());
        let (panels, sums) = scratch.split_at_mut(PANELS);
        let (panel, converted) = panels.split_at_mut(PANELS / 2);
        let per_tile = rows.div_ceil(rows.div_ceil(L::TILE_ROWS).max(1)).max(1);
        if k == 0 {
            sums.fill(0.0);
        }
        for (block, from) in (0..k).step_by(K_BLOCK).enumerate() {
            let k_here = K_BLOCK.min(k - from);
            let accumulate = if block == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            for panel_col in (0..cols).step_by(L::PANEL) {
                let here = [col + panel_col, L::PANEL.min(cols - panel_col)];
                right.pack(lanes, here, [from, k_here], converted, panel);
                let sums = &mut sums[panel_col * rows..];
                for start in (0..rows).step_by(per_tile) {
                    let tile_rows = per_tile.min(rows - start);
                    let a = &copied[(block * slab_rows + first + start) * K_BLOCK..];
                    let c = &mut sums[start * L::PANEL..];
                    lanes.tile(tile_rows, k_here, a, panel, c, L::PANEL, accumulate);
                }
            }
        }
        for row in 0..rows {
            let out = out.row(row);
            for (panel, cells) in out.chunks_mut(L::PANEL).enumerate() {
                let sums = &sums[(panel * rows + row) * L::PANEL..];
                let sums = &sums[..cells.len()];
                if finish.adds {
                    zip_in_place(lanes, cells, sums, Sum);
                } else {
                    cells.copy_from_slice(sums);
                }
            }
            finish.apply(lanes, slab_first + first + row, col, out);
        }
    }
}
