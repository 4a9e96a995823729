//! The product with weights of eight bits, `out[r, n] = sum_k x[r, k] * weight[n, k]`, in integers: activations are split into
//! two digits ([`super::digits`]), weights stay as they are stored, and sums over a whole row are exact.
//!
//! A few rows go over the weights where they lie; more rows share panels, which are packed while computing. Both give the
//! same bits, and so does every instruction set: `(255 high + low) * scale of the row * scale of the column` in `f32`, where
//! `high` and `low` are the sums of either digit.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::bytes::{DIGITS, Left, STEP, TILE_ROWS, Tiles};
use super::digits::{BASE, FEW, LINE, Layout, quantise};
use super::dots::{DotOp, Dots, MAX_COLS, Strip};
use super::finish::Finish;
use super::isa::{Isa, second_level_cache};
use super::lanes::Lanes;
use super::mat::Mat;
use crate::checked::quotient;
use crate::weights::Quantised;

/// Output columns of one piece of work; a multiple of every width of panels and dots.
const STRIP: usize = 64;
/// Words of the sums of a tile.
const SUMS: usize = DIGITS * TILE_ROWS * MAX_COLS;
/// Steps of `k` over which all tiles of a piece pass before the next ones: a panel of 32 KB stays in the nearest cache.
const BLOCK: usize = 16;

/// Words of scratch for one worker: scales of columns, a panel and its sums.
fn share(rows: usize, k: usize) -> usize {
    if rows <= FEW {
        return STRIP;
    }
    let steps = k.div_ceil(STEP);
    let tiles = if steps > BLOCK { rows.min(fit(k)).div_ceil(TILE_ROWS) } else { 1 };
    STRIP + steps * LINE * MAX_COLS + tiles * SUMS
}

/// Elements of scratch that [`product`] takes for `rows` rows of `k` elements. More rows never need less.
pub(super) fn scratch(cpu: &Cpu, rows: usize, k: usize) -> usize {
    let Layout { words, tiles, .. } = Layout::new(rows, k);
    let left = words.saturating_mul(tiles);
    left.saturating_add(cpu.threads.workers() * share(rows, k)).saturating_add(LINE)
}

/// Computes the product into `out` (row-major) and finishes it; `k` is at most [`LONGEST`](crate::reference::LONGEST). `packed`
/// are all panels of the weight, where they were packed before.
pub(super) fn product(
    cpu: &Cpu,
    x: Mat,
    (weight, packed): (&Quantised, Option<&[u8]>),
    finish: &Finish<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let [n, k] = weight.sizes();
    if x.rows == 0 || n == 0 {
        return;
    }
    let layout = Layout::new(x.rows, k);
    // Tiles begin with a cache line.
    let skip = scratch.as_ptr().addr().wrapping_neg() / size_of::<f32>() % LINE;
    let (left, scratch) = scratch[skip..].split_at_mut(layout.words * layout.tiles);
    quantise(cpu, x, layout, left);
    let left = &*left;
    let scratch = &mut scratch[..cpu.threads.workers() * share(x.rows, k)];
    // A product of integers counts half.
    let cost = x.rows.saturating_mul(n).saturating_mul(k.max(1)) / 2;
    let height = height(x.rows, n, k);
    cpu.threads.blocks(cost, out, n, [height, STRIP], scratch, |scratch, [first, col], out| {
        cpu.isa.run_dots(Run {
            isa: cpu.isa,
            weight,
            packed,
            layout,
            left,
            first,
            col,
            out,
            finish,
            scratch,
        });
    });
}

/// Rows of one piece of work, whole tiles: as many as stay in the second-level cache while panels pass, and not so many that
/// there are only a few pieces.
fn height(rows: usize, n: usize, k: usize) -> usize {
    const PIECES: usize = 8;
    let most = fit(k).min(rows.saturating_mul(n.div_ceil(STRIP)) / PIECES).max(1);
    let pieces = quotient(rows + most - 1, most).max(1);
    quotient(rows + pieces - 1, pieces).next_multiple_of(TILE_ROWS)
}

/// Rows in digits that stay in the second-level cache.
fn fit(k: usize) -> usize {
    quotient(second_level_cache() / 8 * 5, DIGITS * k.next_multiple_of(STEP)).max(TILE_ROWS)
}

/// One piece of work: the columns from `col` on of the rows from `first` on.
struct Run<'a, 'b> {
    isa: Isa,
    weight: &'b Quantised,
    /// Its panels, packed before.
    packed: Option<&'b [u8]>,
    layout: Layout,
    /// All rows, in digits.
    left: &'b [f32],
    first: usize,
    col: usize,
    out: Block<'a>,
    finish: &'b Finish<'b>,
    scratch: &'b mut [f32],
}

impl DotOp for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, dots: D) {
        let Run { isa, weight, packed, layout, left, first, col, mut out, finish, scratch } = self;
        let [_, k] = weight.sizes();
        let (count, cols) = (out.rows(), out.cols());
        let (factors, scratch) = scratch.split_at_mut(STRIP);
        let scales = weight.scales();
        let bytes = &scales.bytes()[col * scales.dtype().size()..];
        dots.lanes().convert(scales.dtype(), bytes, &mut factors[..cols]);
        let strip = |from: usize, most: usize| {
            let bytes = &weight.bytes()[(col + from) * k..];
            Strip { bytes, stride: k, cols: most.min(cols - from), k, kind: () }
        };
        let tile = |i: usize| layout.tile(&left[i * layout.words..][..layout.words]);
        let steps = k.div_ceil(STEP);
        // Rows that are tiles of their own go over the weight where it lies.
        let few = layout.height == 1;
        let (width, block) = if few { (D::SIDE, steps.max(1)) } else { (D::COLS, BLOCK) };
        let (panel, sums) = scratch.split_at_mut(if few { 0 } else { steps * LINE * MAX_COLS });
        let (panel, sums): (&mut [u8], &mut [i32]) =
            (bytemuck::cast_slice_mut(panel), bytemuck::cast_slice_mut(sums));
        let tiles = dots.tiles_of_bytes();
        for from in (0..cols).step_by(width) {
            let strip = strip(from, width);
            let factors = &factors[from..from + strip.cols];
            // What comes next is brought nearer, some of it beside each tile.
            let size = k.next_multiple_of(STEP) * D::COLS;
            let (panel, next) = match packed {
                _ if few => (&*panel, &[][..]),
                Some(packed) => packed[quotient(col + from, D::COLS) * size..].split_at(size),
                None => {
                    dots.pack_bytes(strip, panel);
                    (&*panel, strip.bytes.get(strip.cols * k..).unwrap_or(&[]))
                }
            };
            let next = &next[..next.len().min(size)];
            let calls = count.div_ceil(TILE_ROWS) * steps.div_ceil(BLOCK);
            let mut next = next.chunks(quotient(next.len() + calls, calls).max(1));
            for begin in (0..steps.max(1)).step_by(block) {
                let end = begin + block;
                for start in (0..count).step_by(layout.height) {
                    let rows = layout.height.min(count - start);
                    let (x, scales) = tile(quotient(first + start, layout.height));
                    let mut of_row = [[0; MAX_COLS]; DIGITS];
                    let (high, low) = if few {
                        dots.dot_bytes(strip, x, &mut of_row);
                        (&of_row[0][..], &of_row[1][..])
                    } else {
                        let part = |step: usize| begin * step..end.min(steps) * step;
                        let x = Left { cells: &x.cells[part(DIGITS * TILE_ROWS * STEP)], ..x };
                        let at = if steps > BLOCK { start / TILE_ROWS * SUMS } else { 0 };
                        let sums = &mut sums[at..at + SUMS];
                        for i in 0..if end >= steps { rows } else { 0 } {
                            let (row, cells) =
                                (first + start + i, &out.row(start + i)[from..from + strip.cols]);
                            tiles.bring(bytemuck::cast_slice(cells));
                            tiles.bring(bytemuck::cast_slice(finish.residual(row, col + from, strip.cols)));
                        }
                        let ahead = next.next().unwrap_or(&[]);
                        tiles.tile_bytes(rows, x, &panel[part(STEP * D::COLS)], ahead, begin > 0, sums);
                        let (high, low) = sums.split_at(TILE_ROWS * D::COLS);
                        (high, low)
                    };
                    if end < steps {
                        continue;
                    }
                    for i in 0..rows {
                        let (high, low) = (&high[i * D::COLS..], &low[i * D::COLS..]);
                        scale(
                            high,
                            low,
                            scales[i],
                            factors,
                            &mut out.row(start + i)[from..from + strip.cols],
                        );
                    }
                    finish.tile(isa, [first, col], [start..start + rows, from..from + strip.cols], &mut out);
                }
            }
        }
    }
}

/// `out[j] = (255 high[j] + low[j]) * row * columns[j]`
#[inline(always)]
fn scale(high: &[i32], low: &[i32], row: f32, columns: &[f32], out: &mut [f32]) {
    for (((&high, &low), column), out) in high.iter().zip(low).zip(columns).zip(out) {
        *out = (high as f32 * BASE + low as f32) * row * column;
    }
}
