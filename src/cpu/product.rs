//! The blocked matrix product behind `linear`, `matmul` and `conv2d`: `out[r, n] = sum_k left[r, k] * right[n, k]`.
//!
//! The left rows are copied once into blocks of [`K_BLOCK`] columns, the rows of a tile interleaved, so that a tile reads them
//! one cache line after the other. Then, for every strip of output columns, panels of the right operand (a block of `k` by
//! `PANEL` columns), which stay in the first-level cache, are swept by the register tile over all rows; meanwhile the bytes of
//! the next panel are brought nearer. Panels are packed when a weight is loaded ([`super::packed`]), or converted and
//! transposed into scratch here. A block of the rows and the sums of a strip stay in the second-level cache. An output element
//! is the sum of its blocks in order, each a chain of multiply-adds in ascending `k`; neither the tile nor the strip nor the
//! number of rows enters.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::finish::Finish;
use super::isa::{Isa, Op, second_level_cache};
use super::lanes::{Accumulate, K_BLOCK, Lanes, LeftRows, MAX_PANEL, MAX_TILE_ROWS, copy};
#[cfg(feature = "finetune")]
use super::mat::Elements;
use super::mat::{Mat, Rows};
use super::packed::Packed;
use super::quantise::dequantise;
use crate::checked::{quotient, remainder};
use crate::weights::Quantised;

/// Pieces of work that are worth having, so that threads end at about the same time.
const PIECES: usize = 8;
/// Fewest rows of a piece where rows are cut for that reason: each piece packs the right operand for itself.
const FEW_ROWS: usize = 96;
/// Most floats of the copied left rows.
const SLAB: usize = 1 << 22;

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
    /// A stored `[n, k]`, packed for the instruction set in use.
    Packed(&'a Packed),
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
    /// A panel, in its place or made in scratch: `cols` output columns from `col` on, `k` elements from `first` on.
    #[inline(always)]
    fn panel<'b, L: Lanes>(
        self,
        lanes: L,
        cols: [usize; 2],
        k: [usize; 2],
        scratch: &'b mut [f32],
    ) -> &'b [f32]
    where
        Self: 'b,
    {
        let ([col, cols], [first, k]) = (cols, k);
        let (panel, scratch) = scratch.split_at_mut(PANELS / 2);
        match self {
            Right::Packed(packed) => return packed.panel(col, [first, k]),
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
                    let from = &matrix.row(first + i)[col..col + cols];
                    let (head, tail) = cells.split_at_mut(cols);
                    copy(lanes, from, head);
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
        panel
    }
}

/// How a product of a size is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Rows that are copied in one go.
    slab: usize,
    /// Rows of a tile, and of its copy.
    tile: [usize; 2],
    /// Most rows of a piece, whole tiles.
    rows: usize,
    /// Output columns of a piece, whole panels.
    cols: usize,
}

impl Plan {
    fn new(isa: Isa, rows: usize, k: usize, n: usize) -> Plan {
        let tile_rows = isa.run(TileRows);
        // A block of the rows takes at most half of the second-level cache, the sums a third.
        let cache = second_level_cache() / size_of::<f32>();
        let most = (cache / 2 / K_BLOCK).max(FEW_ROWS);
        let slab = even(rows, (SLAB / k.next_multiple_of(K_BLOCK).max(K_BLOCK)).max(most));
        let tile = even(slab, tile_rows).max(1);
        let panels = n.div_ceil(MAX_PANEL).max(1);
        let down = slab.div_ceil(most).max(PIECES.div_ceil(panels));
        let rows = even(slab, slab.div_ceil(down.max(1)).max(FEW_ROWS)).next_multiple_of(tile);
        let widest = (cache / 3 / rows.max(1) / MAX_PANEL).max(1);
        let across = match slab.div_ceil(rows.max(1)) {
            0 | 1 => panels.div_ceil(widest).next_multiple_of(PIECES),
            down => panels.div_ceil(widest).max(PIECES.div_ceil(down)),
        };
        let cols = panels.div_ceil(across.max(1)) * MAX_PANEL;
        Plan { slab, tile: [tile, tile_rows], rows, cols }
    }

    /// Elements of the copied rows of a slab, `k` to a row.
    fn copied(&self, rows: usize, k: usize) -> usize {
        let [tile, of_copy] = self.tile;
        (rows.div_ceil(tile.max(1)) * of_copy).saturating_mul(k.next_multiple_of(K_BLOCK))
    }

    /// Elements of a worker's sums.
    fn sums(&self) -> usize {
        self.rows * self.cols
    }
}

/// [`Lanes::TILE_ROWS`].
struct TileRows;

impl Op for TileRows {
    type Out = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> usize {
        L::TILE_ROWS
    }
}

/// The size of equal parts of `whole` that are at most `most`.
pub(super) fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most.max(1)).max(1))
}

/// Elements of scratch that [`product`] takes for `rows` rows of `k` elements.
pub(super) fn scratch(cpu: &Cpu, rows: usize, k: usize, n: usize) -> usize {
    if rows == 0 || n == 0 {
        return 0;
    }
    let plan = Plan::new(cpu.isa, rows, k, n);
    plan.copied(plan.slab, k).saturating_add(cpu.threads.workers() * (PANELS + plan.sums()))
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
    let plan = Plan::new(cpu.isa, rows, k, n);
    let (copied, scratch) = scratch.split_at_mut(plan.copied(plan.slab, k));
    for (index, out) in out.chunks_mut(plan.slab * n).enumerate() {
        let slab = [index * plan.slab, quotient(out.len(), n)];
        let copied = &mut copied[..plan.copied(slab[1], k)];
        copy_left(cpu, left, slab, plan.tile, copied);
        let (copied, workers) = (&*copied, cpu.threads.workers());
        let cost = slab[1].saturating_mul(n).saturating_mul(k.max(1));
        cpu.threads.blocks(cost, out, n, [plan.rows, plan.cols], scratch, |scratch, [row, col], out| {
            let next = col + plan.cols * workers;
            let next = [next.min(n), plan.cols.min(n.saturating_sub(next))];
            let tile = plan.tile[0];
            let isa = cpu.isa;
            isa.run(Run { isa, first: row, col, out, right, k, copied, slab, tile, next, finish, scratch });
        });
    }
}

/// Copies the rows `first..first + rows` into `copied[block][tile][K_BLOCK][row]`, `tile` rows to a tile.
fn copy_left<T: Left>(
    cpu: &Cpu,
    left: &T,
    [first, rows]: [usize; 2],
    [tile, of_copy]: [usize; 2],
    copied: &mut [f32],
) {
    let (k, tiles, size) = (left.k(), rows.div_ceil(tile.max(1)), of_copy * K_BLOCK);
    // A tenth of a multiply-add's work per element, as it only moves.
    cpu.threads.rows(1, copied, size, |start, out| {
        let mut apart = [0.0; MAX_TILE_ROWS * K_BLOCK];
        for (i, out) in out.chunks_exact_mut(size).enumerate() {
            let (from, start) = (quotient(start + i, tiles) * K_BLOCK, remainder(start + i, tiles) * tile);
            let k = K_BLOCK.min(k - from);
            for (i, row) in apart.chunks_exact_mut(K_BLOCK).enumerate().take(tile.min(rows - start)) {
                left.copy(first + start + i, from, &mut row[..k]);
            }
            cpu.isa.run(Interleave { rows: &apart, k, out });
        }
    });
}

/// [`Lanes::interleave`].
struct Interleave<'a> {
    rows: &'a [f32],
    k: usize,
    out: &'a mut [f32],
}

impl Op for Interleave<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.interleave(self.rows, self.k, self.out);
    }
}

/// One piece of work: rows `first..` of the slab, columns `col..` of the output.
struct Run<'a, 'b> {
    isa: Isa,
    first: usize,
    col: usize,
    out: Block<'a>,
    right: Right<'b>,
    k: usize,
    copied: &'b [f32],
    /// First row of the slab and their number.
    slab: [usize; 2],
    /// Rows of a tile.
    tile: usize,
    /// First column of the piece that this worker is likely to do next, and their number.
    next: [usize; 2],
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { isa, first, col, mut out, right, k, copied, slab, tile: per_tile, next, finish, scratch } =
            self;
        let [slab_first, slab_rows] = slab;
        let (rows, cols) = (out.rows(), out.cols());
        let (panels, sums) = scratch.split_at_mut(PANELS);
        let per_tile = per_tile.max(1);
        let (first_tile, tiles) = (quotient(first, per_tile), rows.div_ceil(per_tile));
        let slab_tiles = slab_rows.div_ceil(per_tile);
        if k == 0 {
            sums.fill(0.0);
        }
        for (block, from) in (0..k).step_by(K_BLOCK).enumerate() {
            let k_here = K_BLOCK.min(k - from);
            let accumulate = if block == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            for panel_col in (0..cols).step_by(L::PANEL) {
                let here = [col + panel_col, L::PANEL.min(cols - panel_col)];
                let panel = right.panel(lanes, here, [from, k_here], panels);
                let ahead = if panel_col + L::PANEL < cols {
                    let panel_col = panel_col + L::PANEL;
                    Ahead::new(right, [col + panel_col, L::PANEL.min(cols - panel_col)], [from, k_here])
                } else if from + K_BLOCK < k {
                    let from = from + K_BLOCK;
                    Ahead::new(right, [col, L::PANEL.min(cols)], [from, K_BLOCK.min(k - from)])
                } else {
                    Ahead::new(right, [next[0], L::PANEL.min(next[1])], [0, K_BLOCK.min(k)])
                };
                let sums = &mut sums[panel_col * rows..];
                for tile in 0..tiles {
                    let start = tile * per_tile;
                    let size = [per_tile.min(rows - start), here[1], k_here];
                    let a = (block * slab_tiles + first_tile + tile) * L::TILE_ROWS * K_BLOCK;
                    let a = LeftRows::Interleaved(&copied[a..]);
                    let c = &mut sums[start * L::PANEL..];
                    lanes.tile(size, a, panel, c, L::PANEL, accumulate, ahead.part(tile, tiles));
                }
            }
        }
        for row in 0..rows {
            for (panel, out) in out.row(row).chunks_mut(L::PANEL).enumerate() {
                copy(lanes, &sums[(panel * rows + row) * L::PANEL..][..out.len()], out);
            }
            finish.tile(isa, [slab_first + first, col], [row..row + 1, 0..cols], &mut out);
        }
    }
}

/// The bytes of the next panel: runs of equal length.
struct Ahead<'a> {
    bytes: &'a [u8],
    runs: usize,
    /// Bytes of a run, and from run to run.
    run: [usize; 2],
}

impl<'a> Ahead<'a> {
    /// `cols` columns of the output from `col` on, `k` elements from `first` on.
    fn new(right: Right<'a>, [col, cols]: [usize; 2], [first, k]: [usize; 2]) -> Ahead<'a> {
        match right {
            Right::Weight(rows) if cols > 0 => {
                let size = rows.dtype().size();
                Ahead { bytes: rows.from(col, first), runs: cols, run: [k * size, rows.stride * size] }
            }
            Right::Packed(packed) if cols > 0 => {
                let (panel, run) = (packed.panel(col, [first, k]), k * size_of::<f32>());
                Ahead { bytes: bytemuck::cast_slice(panel), runs: panel.len() / k.max(1), run: [run; 2] }
            }
            _ => Ahead { bytes: &[], runs: 0, run: [0, 0] },
        }
    }

    /// What tile `tile` of `tiles` brings nearer: two runs, or one where there are enough tiles.
    fn part(&self, tile: usize, tiles: usize) -> [&'a [u8]; 2] {
        let run = |index: usize| {
            let start = index * self.run[1];
            self.bytes.get(start..start + self.run[0]).filter(|_| index < self.runs).unwrap_or(&[])
        };
        if tiles < self.runs { [run(2 * tile), run(2 * tile + 1)] } else { [run(tile), &[]] }
    }
}
