//! The product with weights of four bits, `out[r, n] = sum_k x[r, k] * weight[n, k]`, in integers: activations are quantised
//! row by row ([`super::quantise`]), weights stay as they are stored.
//!
//! A few rows go over the weights where they lie; more rows share panels, which are packed while computing. Both give
//! the same bits: see [`super::dots`].
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::digits::FEW;
use super::dots::{CHUNK, CHUNK_GROUPS, DotOp, Dots, Integer, MAX_COLS, Panel, Row, Strip};
use super::finish::Finish;
use super::mat::Mat;
use super::quantise::{quantise, row, words};
use crate::weights::{GROUP, Quantised, Scheme};

/// Output columns of one piece of work; a multiple of every width of panels and dots.
const STRIP: usize = 64;
/// Most rows of one piece of work, whole tiles of any instruction set's.
const ROWS: usize = 192;
/// Rows of the highest tile.
const TILE_ROWS: usize = 16;
/// Groups of one panel: sixteen kilobytes at most.
const PANEL_GROUPS: usize = 16;
/// Words of a panel's cells, and as many at most of its scales.
const CELLS: usize = PANEL_GROUPS * GROUP * MAX_COLS / 4;
/// Words of a panel's scales.
const SCALES: usize = PANEL_GROUPS * MAX_COLS;

/// Elements of scratch that [`product`] takes for `rows` rows of `k` elements. More rows never need less.
pub(super) fn scratch(cpu: &Cpu, rows: usize, k: usize) -> usize {
    let sums = if rows <= FEW { 0 } else { CELLS + SCALES + rows.min(ROWS) * MAX_COLS };
    rows.saturating_mul(words(k)).saturating_add(cpu.threads.workers() * sums)
}

/// Computes the product into `out` (row-major) and finishes it.
pub(super) fn product(
    cpu: &Cpu,
    x: Mat,
    weight: &Quantised,
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let [n, k] = weight.sizes();
    if x.rows == 0 || n == 0 {
        return;
    }
    let (rows, scratch) = scratch.split_at_mut(x.rows * words(k));
    quantise(cpu, x, rows);
    let rows = &*rows;
    let height = x.rows.div_ceil(x.rows.div_ceil(ROWS).max(1)).next_multiple_of(TILE_ROWS);
    // A product of integers counts half.
    let cost = x.rows.saturating_mul(n).saturating_mul(k.max(1)) / 2;
    cpu.threads.blocks(cost, out, n, [height, STRIP], scratch, |scratch, [first, col], mut out| {
        cpu.isa.run_dots(Run { weight, rows, first, col, out: &mut out, scratch });
        finish.block(cpu.isa, [first, col], &mut out);
    });
}

/// One piece of work: the columns from `col` on of the rows from `first` on.
struct Run<'a, 'b, 'c> {
    weight: &'b Quantised,
    /// All rows, quantised.
    rows: &'b [f32],
    first: usize,
    col: usize,
    out: &'c mut Block<'a>,
    scratch: &'b mut [f32],
}

impl DotOp for Run<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, dots: D) {
        let Run { weight, rows, first, col, out, scratch } = self;
        let [_, k] = weight.sizes();
        let (count, cols) = (out.rows(), out.cols());
        let strip = strip(weight, col, cols);
        let of_row = |i: usize| row(&rows[(first + i) * words(k)..][..words(k)], k);
        if rows.len() <= FEW * words(k) {
            for from in (0..cols).step_by(D::DOT_COLS) {
                let strip = strip.columns(from, D::DOT_COLS);
                for i in 0..count {
                    dots.dot(strip, of_row(i), &mut out.row(i)[from..from + strip.cols]);
                }
            }
        } else {
            for from in (0..cols).step_by(D::COLS) {
                panels(dots, strip.columns(from, D::COLS), of_row, from, scratch, out);
            }
        }
    }
}

/// The columns `from..from + strip.cols` of a block, panel by panel.
#[inline(always)]
fn panels<'a, D: Dots>(
    dots: D,
    strip: Strip<Integer>,
    row: impl Fn(usize) -> Row<'a>,
    from: usize,
    scratch: &mut [f32],
    out: &mut Block,
) {
    let count = out.rows();
    let (cells, rest) = scratch.split_at_mut(CELLS);
    let (scales, sums) = rest.split_at_mut(SCALES);
    let cells: &mut [u8] = bytemuck::cast_slice_mut(cells);
    let sums = &mut sums[..count * D::COLS];
    sums.fill(0.0);
    let total = strip.k.div_ceil(CHUNK) * CHUNK_GROUPS;
    for first in (0..total).step_by(PANEL_GROUPS) {
        let groups = PANEL_GROUPS.min(total - first);
        dots.pack(strip, first, groups, cells, scales);
        let panel = Panel { groups, cells, scales };
        dots.tiles(count, &row, first, &panel, sums);
    }
    for (i, sums) in sums.chunks_exact(D::COLS).enumerate() {
        out.row(i)[from..from + strip.cols].copy_from_slice(&sums[..strip.cols]);
    }
}

/// The rows `col..col + cols` of a weight.
fn strip(weight: &Quantised, col: usize, cols: usize) -> Strip<'_, Integer<'_>> {
    let ([_, k], scales) = (weight.sizes(), weight.scales());
    let (stride, dtype) = (Scheme::Int4.row_scales(k), scales.dtype());
    let kind = Integer { scales: &scales.bytes()[col * stride * dtype.size()..], stride, dtype };
    let stride = Scheme::Int4.row_bytes(k);
    Strip { bytes: &weight.bytes()[col * stride..], stride, cols, k, kind }
}
