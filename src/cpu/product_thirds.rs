//! The product of packed weights in `f32` by the matrix unit: see [`super::amx_thirds`] for what it computes.
//!
//! As in [`super::product`] the left rows are copied once, here split into thirds, and panels of the right operand stay in the
//! first-level cache while all rows pass. [`super::conv2d_thirds`] has the windows of a map as rows, which overlap. The thirds of
//! a panel would take half as much memory again as its numbers, so it is split when its turn comes: piece by piece between the
//! tiles of the panel before, while the matrix unit works. An output element is the sum of its blocks of `k` in ascending order,
//! whatever the number of rows, so few rows take the same way.
#![forbid(unsafe_code)]

use super::Cpu;
use super::amx_thirds::{AHEAD, Left, PAIRS, PANEL, ROWS, THIRDS};
use super::blocks::Block;
use super::finish::{Finish, Sum};
use super::isa::{Avx512Amx, Isa, Op, second_level_cache};
use super::lanes::{K_BLOCK, Lanes, copy, zip_in_place};
use super::mat::Mat;
use super::packed::Packed;
use crate::checked::{quotient, remainder};

/// Pieces of work that are worth having: few, as every column of pieces reads all split rows.
const PIECES: usize = 4;
/// Most pairs of tiles of a piece: a quarter of a megabyte of split rows for every block.
const PAIRS_OF_PIECE: usize = 10;
/// Most words of the split left rows.
const SLAB: usize = 1 << 23;
/// Words of a cache line, at which scratch begins.
const ALIGNED: usize = 16;

/// How a product of a size is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Rows that are split in one go, whole pairs of tiles.
    slab: usize,
    /// Most rows of a piece, whole pairs of tiles.
    rows: usize,
    /// Output columns of a piece, whole panels.
    cols: usize,
}

impl Plan {
    fn new(rows: usize, [n, k]: [usize; 2]) -> Plan {
        let slab = even(rows, (SLAB / THIRDS / k.div_ceil(K_BLOCK).max(1)).max(1));
        let rows = even(slab, PAIRS_OF_PIECE);
        let cols = columns(rows, slab.div_ceil(rows.max(1)), n);
        Plan { slab, rows, cols }
    }

    /// Words of the split rows of a slab.
    fn split(&self, k: usize) -> usize {
        (self.slab / ROWS).saturating_mul(k.div_ceil(K_BLOCK)).saturating_mul(THIRDS)
    }

    /// Words of a worker: two panels, the products of a pair of tiles, and the sums of a piece.
    fn worker(&self) -> usize {
        worker(self.rows, self.cols)
    }
}

/// Words of scratch of a worker for pieces of `lines` lines, whole pairs of tiles, and `cols` columns, whole panels.
pub(super) fn worker(lines: usize, cols: usize) -> usize {
    2 * THIRDS + ROWS * PANEL + lines * cols
}

/// Columns of a piece of `lines` lines where there are `down` of them one below the other: the sums take at most half of the
/// second-level cache, and there are some pieces.
pub(super) fn columns(lines: usize, down: usize, n: usize) -> usize {
    let widest = (second_level_cache() / size_of::<f32>() / 2 / lines.max(1) / PANEL).max(1);
    let panels = n.div_ceil(PANEL);
    let across = panels.div_ceil(widest).max(PIECES.div_ceil(down.max(1)));
    panels.div_ceil(across.max(1)).max(1) * PANEL
}

/// The rows, a multiple of [`ROWS`], of equal parts of `rows` that have at most `most` pairs of tiles.
fn even(rows: usize, most: usize) -> usize {
    let pairs = rows.div_ceil(ROWS);
    pairs.div_ceil(pairs.div_ceil(most.max(1)).max(1)) * ROWS
}

/// Elements of scratch that [`product`] takes for `rows` rows.
pub(super) fn scratch(cpu: &Cpu, rows: usize, right: &Packed) -> usize {
    let [n, k] = right.sizes();
    if rows == 0 || n == 0 {
        return 0;
    }
    let plan = Plan::new(rows, [n, k]);
    plan.split(k).saturating_add(cpu.threads.workers() * plan.worker() + ALIGNED)
}

/// Computes the product into `out` (row-major) and finishes it.
pub(super) fn product(
    cpu: &Cpu,
    unit: Avx512Amx,
    left: Mat,
    right: &Packed,
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let [n, k] = right.sizes();
    if left.rows == 0 || n == 0 {
        return;
    }
    let plan = Plan::new(left.rows, [n, k]);
    let skip = scratch.as_ptr().align_offset(ALIGNED * size_of::<f32>()).min(ALIGNED);
    let (split, scratch) = scratch[skip..].split_at_mut(plan.split(k));
    let scratch = &mut scratch[..cpu.threads.workers() * plan.worker()];
    for (index, out) in out.chunks_mut(plan.slab.max(1) * n).enumerate() {
        let slab = [index * plan.slab, quotient(out.len(), n)];
        let pairs = slab[1].div_ceil(ROWS);
        let split = &mut split[..k.div_ceil(K_BLOCK) * pairs * THIRDS];
        split_rows(cpu, unit, left, slab, split);
        let words = &*split;
        let lines = Lines {
            left: Left::pair(words),
            line: THIRDS / ROWS,
            block: pairs * THIRDS,
            taps: [1, 0],
            width: [slab[1], slab[1]],
        };
        pieces(cpu, unit, lines, right, (finish, slab[0]), [plan.rows, plan.cols], scratch, out);
    }
}

/// Split left rows, lines: more than there are output rows where a map's rows have padding.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    /// The first line of the first block.
    pub(super) left: Left<'a>,
    /// Words from line to line, where lines are whole pairs of tiles apart.
    pub(super) line: usize,
    /// Words from block to block of channels.
    pub(super) block: usize,
    /// Columns of the kernel, and lines from one of its rows to the next: a tap is so many lines further.
    pub(super) taps: [usize; 2],
    /// Output rows that lie side by side, and lines from the first of them to that of the next.
    pub(super) width: [usize; 2],
}

impl<'a> Lines<'a> {
    /// The line of an output row.
    fn of_row(&self, row: usize) -> usize {
        let [rows, lines] = self.width;
        quotient(row, rows) * lines + remainder(row, rows)
    }

    /// The lines from `line` on under tap `tap` of a block of channels.
    fn at(&self, [block, tap]: [usize; 2], line: usize) -> Left<'a> {
        let [width, down] = self.taps;
        let shift = quotient(tap, width) * down + remainder(tap, width);
        let start = block * self.block + (line + shift) * self.line;
        Left { words: &self.left.words[start..], ..self.left }
    }
}

/// The product of lines into `out`, whose first row is that row of all, in pieces of some rows and columns.
#[allow(clippy::too_many_arguments)]
pub(super) fn pieces(
    cpu: &Cpu,
    unit: Avx512Amx,
    lines: Lines,
    right: &Packed,
    (finish, first): (&Finish, usize),
    size: [usize; 2],
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let [n, k] = right.sizes();
    let cost = out.len().saturating_mul(k.max(1));
    cpu.threads.blocks(cost, out, n, size, scratch, |scratch, [row, col], out| {
        unit.run(Run { isa: cpu.isa, unit, first: [first, row, col], out, right, lines, finish, scratch });
    });
}

/// Splits the rows `first..first + rows` into `split[block][pair of tiles]`.
fn split_rows(cpu: &Cpu, unit: Avx512Amx, left: Mat, [first, rows]: [usize; 2], split: &mut [f32]) {
    let pairs = rows.div_ceil(ROWS);
    // As much work as two multiply-adds an element: it moves.
    cpu.threads.rows(2, split, THIRDS, |start, out| {
        for (i, out) in out.chunks_exact_mut(THIRDS).enumerate() {
            let (from, row) = (quotient(start + i, pairs) * K_BLOCK, remainder(start + i, pairs) * ROWS);
            let (here, k) = (ROWS.min(rows - row), K_BLOCK.min(left.cols - from));
            unit.split_rows(3, here, k, |i| &left.row(first + row + i)[from..], out);
        }
    });
}

/// One piece of work.
struct Run<'a, 'b> {
    isa: Isa,
    unit: Avx512Amx,
    /// The row of all at which the lines begin, the piece's first row from there on, and its first column.
    first: [usize; 3],
    out: Block<'a>,
    right: &'b Packed,
    lines: Lines<'b>,
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { isa, unit, first: [first, row, col], mut out, right, lines, finish, scratch } = self;
        let (rows, cols) = (out.rows(), out.cols());
        let line = lines.of_row(row);
        let count = lines.of_row(row + rows - 1) + 1 - line;
        let (panels, pairs) = (cols.div_ceil(PANEL), count.div_ceil(ROWS));
        let padded = pairs * ROWS;
        let (mut panel, rest) = scratch.split_at_mut(THIRDS);
        let (mut next, rest) = rest.split_at_mut(THIRDS);
        let (products, sums) = rest.split_at_mut(ROWS * PANEL);
        let sums = &mut sums[..panels * padded * PANEL];
        // All panels, block after block.
        let order = right.order();
        let turns = panels * order.blocks();
        let cells = |turn: usize| match turn < turns {
            true => {
                let (block, at) = (quotient(turn, panels), remainder(turn, panels) * PANEL);
                right.panel(col + at, order.elements(block))
            }
            false => &[],
        };
        match turns {
            0 => sums.fill(0.0),
            _ => unit.split_panel(cells(0), 0..PAIRS, panel),
        }
        let share = |pair: usize| quotient(PAIRS * pair, pairs)..quotient(PAIRS * (pair + 1), pairs);
        unit.with_tiles(|tiles| {
            for turn in 0..turns {
                let (block, at) = (quotient(turn, panels), remainder(turn, panels));
                let [_, k] = order.elements(block);
                let sums = &mut sums[at * padded * PANEL..][..padded * PANEL];
                let (after, later): (_, &[u8]) = (cells(turn + 1), bytemuck::cast_slice(cells(turn + 2)));
                for (pair, sums) in sums.chunks_exact_mut(ROWS * PANEL).enumerate() {
                    let target = if block == 0 { &mut *sums } else { &mut *products };
                    let ahead = later.get(pair * AHEAD..).unwrap_or(&[]);
                    let left = lines.at(order.place(block), line + pair * ROWS);
                    tiles.multiply(count - pair * ROWS, left, panel, k, target, ahead);
                    if !after.is_empty() {
                        unit.split_panel(after, share(pair), next);
                    }
                    if block > 0 {
                        zip_in_place(lanes, sums, products, Sum);
                    }
                }
                core::mem::swap(&mut panel, &mut next);
            }
        });
        for i in 0..rows {
            let line = lines.of_row(row + i) - line;
            for (panel, out) in out.row(i).chunks_mut(PANEL).enumerate() {
                copy(lanes, &sums[(panel * padded + line) * PANEL..][..out.len()], out);
            }
            finish.tile(isa, [first + row, col], [i..i + 1, 0..cols], &mut out);
        }
    }
}
