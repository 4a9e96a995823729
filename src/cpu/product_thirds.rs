//! The product of packed weights in `f32` by the matrix unit: see [`super::amx_thirds`] for what it computes.
//!
//! As in [`super::product`] the left rows are copied once, here split into thirds, and panels of the right operand stay in the
//! first-level cache while all rows pass. The thirds of a panel would take half as much memory again as its numbers, so it is
//! split when its turn comes: piece by piece between the tiles of the panel before, while the matrix unit works. An output
//! element is the sum of its blocks of `k` in ascending order, whatever the number of rows, so few rows take the same way.
#![forbid(unsafe_code)]

use super::Cpu;
use super::amx_thirds::{AHEAD, PAIRS, PANEL, ROWS, THIRDS};
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
        // The sums of a piece take at most half of the second-level cache.
        let widest = (second_level_cache() / size_of::<f32>() / 2 / rows.max(1) / PANEL).max(1);
        let panels = n.div_ceil(PANEL);
        let across = panels.div_ceil(widest).max(PIECES.div_ceil(slab.div_ceil(rows.max(1)).max(1)));
        Plan { slab, rows, cols: panels.div_ceil(across.max(1)).max(1) * PANEL }
    }

    /// Words of the split rows of a slab.
    fn split(&self, k: usize) -> usize {
        (self.slab / ROWS).saturating_mul(k.div_ceil(K_BLOCK)).saturating_mul(THIRDS)
    }

    /// Words of a worker: two panels, the products of a pair of tiles, and the sums of a piece.
    fn worker(&self) -> usize {
        2 * THIRDS + ROWS * PANEL + self.rows * self.cols
    }
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
        let split = &*split;
        let cost = slab[1].saturating_mul(n).saturating_mul(k.max(1));
        cpu.threads.blocks(cost, out, n, [plan.rows, plan.cols], scratch, |scratch, [row, col], out| {
            let pairs = [row / ROWS, pairs];
            let isa = cpu.isa;
            unit.run(Run { isa, unit, first: slab[0] + row, col, out, right, split, pairs, finish, scratch });
        });
    }
}

/// Splits the rows `first..first + rows` into `split[block][pair of tiles]`.
fn split_rows(cpu: &Cpu, unit: Avx512Amx, left: Mat, [first, rows]: [usize; 2], split: &mut [f32]) {
    let pairs = rows.div_ceil(ROWS);
    // As much work as two multiply-adds an element: it moves.
    cpu.threads.rows(2, split, THIRDS, |start, out| {
        for (i, out) in out.chunks_exact_mut(THIRDS).enumerate() {
            let (from, row) = (quotient(start + i, pairs) * K_BLOCK, remainder(start + i, pairs) * ROWS);
            let (here, k) = (ROWS.min(rows - row), K_BLOCK.min(left.cols - from));
            unit.split_rows(here, k, |i| &left.row(first + row + i)[from..], out);
        }
    });
}

/// One piece of work.
struct Run<'a, 'b> {
    isa: Isa,
    unit: Avx512Amx,
    /// First row and column of the output.
    first: usize,
    col: usize,
    out: Block<'a>,
    right: &'b Packed,
    split: &'b [f32],
    /// The piece's first pair of tiles, and those of the slab.
    pairs: [usize; 2],
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run {
            isa,
            unit,
            first,
            col,
            mut out,
            right,
            split,
            pairs: [first_pair, of_slab],
            finish,
            scratch,
        } = self;
        let (rows, cols, [_, k]) = (out.rows(), out.cols(), right.sizes());
        let (panels, pairs) = (cols.div_ceil(PANEL), rows.div_ceil(ROWS));
        let padded = pairs * ROWS;
        let (mut panel, rest) = scratch.split_at_mut(THIRDS);
        let (mut next, rest) = rest.split_at_mut(THIRDS);
        let (products, sums) = rest.split_at_mut(ROWS * PANEL);
        let sums = &mut sums[..panels * padded * PANEL];
        // All panels, block after block.
        let turns = panels * k.div_ceil(K_BLOCK);
        let cells = |turn: usize| match turn < turns {
            true => {
                let (from, at) = (quotient(turn, panels) * K_BLOCK, remainder(turn, panels) * PANEL);
                right.panel(col + at, [from, K_BLOCK.min(k - from)])
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
                let (k, left) =
                    (K_BLOCK.min(k - block * K_BLOCK), &split[(block * of_slab + first_pair) * THIRDS..]);
                let sums = &mut sums[at * padded * PANEL..][..padded * PANEL];
                let (after, later): (_, &[u8]) = (cells(turn + 1), bytemuck::cast_slice(cells(turn + 2)));
                for (pair, sums) in sums.chunks_exact_mut(ROWS * PANEL).enumerate() {
                    let target = if block == 0 { &mut *sums } else { &mut *products };
                    let ahead = later.get(pair * AHEAD..).unwrap_or(&[]);
                    tiles.multiply(rows - pair * ROWS, &left[pair * THIRDS..], panel, k, target, ahead);
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
        for row in 0..rows {
            for (panel, out) in out.row(row).chunks_mut(PANEL).enumerate() {
                copy(lanes, &sums[(panel * padded + row) * PANEL..][..out.len()], out);
            }
            finish.tile(isa, [first, col], [row..row + 1, 0..cols], &mut out);
        }
    }
}
