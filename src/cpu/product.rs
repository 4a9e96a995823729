//! The blocked matrix product behind `linear`, `matmul` and `conv2d`: `out[r, n] = sum_k left[r, k] * right[n, k]`.
//!
//! The left rows are copied once into blocks of [`K_BLOCK`] columns. Then, for every strip of output columns, panels of the
//! right operand (a block of `k` by `PANEL` columns) are converted and transposed into scratch that stays in the first-level
//! cache, and the register tile sweeps all rows over each; meanwhile the stored bytes of the next panel are brought nearer.
//! A block of the rows and the sums of a strip stay in the second-level cache. An output element is the sum of its blocks in
//! order, each a chain of multiply-adds in ascending `k`; neither the tile nor the strip nor the number of rows enters.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::finish::Finish;
use super::isa::{Op, second_level_cache};
use super::lanes::{Accumulate, K_BLOCK, Lanes, MAX_LANES, MAX_PANEL};
#[cfg(feature = "finetune")]
use super::mat::Elements;
use super::mat::{Mat, Rows};
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
                    let from = &matrix.row(first + i)[col..col + cols];
                    if cols == L::PANEL {
                        // A call of `memmove` for so few costs more than the copy.
                        for (from, to) in from.chunks_exact(L::N).zip(cells.chunks_exact_mut(L::N)) {
                            lanes.store(lanes.load(from), to);
                        }
                        continue;
                    }
                    let (head, tail) = cells.split_at_mut(cols);
                    head.copy_from_slice(from);
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

/// How a product of a size is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Rows that are copied in one go.
    slab: usize,
    /// Most rows of a piece.
    rows: usize,
    /// Output columns of a piece.
    cols: usize,
}

impl Plan {
    fn new(rows: usize, k: usize, n: usize) -> Plan {
        // A block of the rows takes at most half of the second-level cache, the sums a third.
        let cache = second_level_cache() / size_of::<f32>();
        let most = (cache / 2 / K_BLOCK).max(FEW_ROWS);
        let slab = even(rows, (SLAB / k.next_multiple_of(K_BLOCK).max(K_BLOCK)).max(most));
        let down = slab.div_ceil(most).max(PIECES.div_ceil(n.div_ceil(MAX_PANEL).max(1)));
        let rows = even(slab, slab.div_ceil(down.max(1)).max(FEW_ROWS));
        let widest = (cache / 3 / rows.max(1)).max(MAX_PANEL);
        let across = match slab.div_ceil(rows.max(1)) {
            0 | 1 => n.div_ceil(widest).next_multiple_of(PIECES),
            down => n.div_ceil(widest).max(PIECES.div_ceil(down)),
        };
        let cols = n.div_ceil(across.max(1)).next_multiple_of(MAX_LANES).max(MAX_PANEL);
        Plan { slab, rows, cols }
    }

    /// Elements of a worker's sums.
    fn sums(&self) -> usize {
        self.rows * self.cols.next_multiple_of(MAX_PANEL)
    }
}

/// The size of equal parts of `whole` that are at most `most`.
fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most.max(1)).max(1))
}

/// Elements of scratch that [`product`] takes for `rows` rows of `k` elements.
pub(super) fn scratch(cpu: &Cpu, rows: usize, k: usize, n: usize) -> usize {
    if rows == 0 || n == 0 {
        return 0;
    }
    let plan = Plan::new(rows, k, n);
    let copied = plan.slab.saturating_mul(k.next_multiple_of(K_BLOCK));
    copied.saturating_add(cpu.threads.workers() * (PANELS + plan.sums()))
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
    let plan = Plan::new(rows, k, n);
    let (copied, scratch) = scratch.split_at_mut(plan.slab * k.next_multiple_of(K_BLOCK));
    for (index, out) in out.chunks_mut(plan.slab * n).enumerate() {
        let first = index * plan.slab;
        let rows = quotient(out.len(), n);
        let copied = &mut copied[..rows * k.next_multiple_of(K_BLOCK)];
        copy_left(cpu, left, first, rows, copied);
        let (copied, workers) = (&*copied, cpu.threads.workers());
        let cost = rows.saturating_mul(n).saturating_mul(k.max(1));
        cpu.threads.blocks(cost, out, n, [plan.rows, plan.cols], scratch, |scratch, [row, col], out| {
            let next = col + plan.cols * workers;
            let next = [next.min(n), plan.cols.min(n.saturating_sub(next))];
            let slab = [first, rows];
            cpu.isa.run(Run { first: row, col, out, right, k, copied, slab, next, finish, scratch });
        });
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

/// One piece of work: rows `first..` of the slab, columns `col..` of the output.
struct Run<'a, 'b> {
    first: usize,
    col: usize,
    out: Block<'a>,
    right: Right<'b>,
    k: usize,
    copied: &'b [f32],
    /// First row of the slab and their number.
    slab: [usize; 2],
    /// First column of the piece that this worker is likely to do next, and their number.
    next: [usize; 2],
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { first, col, mut out, right, k, copied, slab, next, finish, scratch } = self;
        let [slab_first, slab_rows] = slab;
        let (rows, cols) = (out.rows(), out.cols());
        let (panels, sums) = scratch.split_at_mut(PANELS);
        let (panel, converted) = panels.split_at_mut(PANELS / 2);
        let per_tile = even(rows, L::TILE_ROWS).max(1);
        let tiles = rows.div_ceil(per_tile);
        if k == 0 {
            sums.fill(0.0);
        }
        for (block, from) in (0..k).step_by(K_BLOCK).enumerate() {
            let k_here = K_BLOCK.min(k - from);
            let accumulate = if block == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            for panel_col in (0..cols).step_by(L::PANEL) {
                let here = [col + panel_col, L::PANEL.min(cols - panel_col)];
                right.pack(lanes, here, [from, k_here], converted, panel);
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
                    let a = &copied[(block * slab_rows + first + start) * K_BLOCK..];
                    let c = &mut sums[start * L::PANEL..];
                    lanes.tile(size, a, panel, c, L::PANEL, accumulate, ahead.part(tile, tiles));
                }
            }
        }
        for row in 0..rows {
            let out = out.row(row);
            for (panel, out) in out.chunks_mut(L::PANEL).enumerate() {
                let sums = &sums[(panel * rows + row) * L::PANEL..][..out.len()];
                finish.write(lanes, slab_first + first + row, col + panel * L::PANEL, sums, out);
            }
        }
    }
}

/// The stored bytes of the panel that is packed next: runs of equal length.
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
