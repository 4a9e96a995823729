//! The product with weights of eight bits, `out[r, n] = sum_k x[r, k] * weight[n, k]`, in integers: activations are split into
//! two digits ([`super::digits`]), weights stay as they are stored, and sums over a whole row are exact.
//!
//! A few rows go over the weights where they lie; more rows share panels, which are packed once or while computing. Both give
//! the same bits, and so does every instruction set: `(255 high + low) * scale of the row * scale of the column` in `f32`,
//! where `high` and `low` are the sums of either digit. Where all high digits are zero, their products are left out.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Cpu;
use super::blocks::Block;
use super::bytes::{DIGITS, Digits, STEP, Sums, TILE_ROWS, Tiles};
use super::digits::{FEW, LINE, Layout, quantise};
use super::dots::{DotOp, Dots, MAX_COLS, Strip};
use super::finish::{Finish, Integers};
use super::isa::{Isa, second_level_cache};
use super::lanes::Lanes;
use super::mat::Mat;
use crate::checked::quotient;
use crate::weights::Quantised;

/// Output columns of one piece of work; a multiple of every width of panels and dots.
const STRIP: usize = 64;
/// Words of the sums of a tile, of one digit.
const SUMS: usize = TILE_ROWS * MAX_COLS;
/// Rows of two tiles, which are multiplied together.
const PAIR: usize = 2 * TILE_ROWS;
/// Rows that are finished in one go, while two tiles are multiplied over one step.
const CHUNK: usize = 4;
/// Steps of `k` over which all tiles of a piece pass before the next ones: a panel of 32 KB stays in the nearest cache.
const BLOCK: usize = 16;

/// Words of scratch for one worker: scales of columns, a panel and its sums.
fn share(rows: usize, k: usize) -> usize {
    if rows <= FEW {
        return STRIP;
    }
    let steps = k.div_ceil(STEP);
    let pairs = if steps > BLOCK { rows.min(fit(k)).div_ceil(PAIR) } else { 1 };
    STRIP + steps * LINE * MAX_COLS + 2 * pairs * DIGITS * SUMS
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
    quotient(rows + pieces - 1, pieces).next_multiple_of(PAIR)
}

/// Rows of one digit that stay in the second-level cache.
fn fit(k: usize) -> usize {
    quotient(second_level_cache() / 8 * 5, k.next_multiple_of(STEP)).max(PAIR)
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
        let tile = |row: usize| {
            let index = quotient(first + row, layout.height);
            layout.tile(&left[index * layout.words..][..layout.words])
        };
        let steps = layout.steps;
        let corner = [first, col];
        // Rows that are tiles of their own go over the weight where it lies.
        if layout.height == 1 {
            for from in (0..cols).step_by(D::SIDE) {
                let strip = strip(from, D::SIDE);
                let range = from..from + strip.cols;
                for i in 0..count {
                    let (x, rows) = tile(i);
                    let mut sums = Sums::default();
                    dots.dot_bytes(strip, x, &mut sums);
                    let (high, columns) = (x.any(0..steps).then_some(&sums[1][..]), &factors[range.clone()]);
                    let integers = Integers { low: &sums[0], high, stride: MAX_COLS, rows, columns };
                    finish.products(isa, corner, [i..i + 1, range.clone()], Some(integers), &mut out);
                }
            }
            return;
        }
        let (panel, sums) = scratch.split_at_mut(steps * LINE * MAX_COLS);
        let (panel, sums): (&mut [u8], &mut [i32]) =
            (bytemuck::cast_slice_mut(panel), bytemuck::cast_slice_mut(sums));
        let (low, high) = sums.split_at_mut(sums.len() / DIGITS);
        let tiles = dots.matrix_unit();
        // Rows whose sums are there, from which on they are to be finished, and their columns.
        let (mut done, mut todo, mut columns) = (0, 0, 0..0);
        // Where the sums of a row begin.
        let at = |row: usize| if steps > BLOCK { row * D::COLS } else { row % PAIR * D::COLS };
        let mut finish_rows = |[row, end]: [usize; 2], columns: Range<usize>, low: &[i32], high: &[i32]| {
            let (x, scales) = tile(row);
            let integers = Integers {
                low: &low[at(row)..],
                high: x.any(0..steps).then(|| &high[at(row)..]),
                stride: D::COLS,
                rows: &scales[row % TILE_ROWS..],
                columns: &factors[columns.clone()],
            };
            finish.products(isa, corner, [row..end, columns], Some(integers), &mut out);
        };
        for from in (0..cols).step_by(D::COLS) {
            let strip = strip(from, D::COLS);
            // What comes next is brought nearer, some of it beside each pair of tiles.
            let size = steps * STEP * D::COLS;
            let (panel, next) = match packed {
                Some(packed) => packed[quotient(col + from, D::COLS) * size..].split_at(size),
                None => {
                    dots.pack_bytes(strip, panel);
                    (&*panel, strip.bytes.get(strip.cols * k..).unwrap_or(&[]))
                }
            };
            let next = &next[..next.len().min(size)];
            let calls = count.div_ceil(PAIR) * steps.div_ceil(BLOCK);
            let mut next = next.chunks(quotient(next.len() + calls, calls).max(1));
            for begin in (0..steps.max(1)).step_by(BLOCK) {
                let end = steps.min(begin + BLOCK);
                for start in (0..count).step_by(PAIR) {
                    let rows = PAIR.min(count - start);
                    let x = |row: usize| tile(row.min(count - 1)).0.low.steps(begin..end, TILE_ROWS * STEP);
                    let part = &panel[begin * STEP * D::COLS..end * STEP * D::COLS];
                    let ahead = next.next().unwrap_or(&[]);
                    let x = [x(start), x(start + TILE_ROWS)];
                    tiles.tiles_of_bytes(rows, x, [part, ahead], begin > 0, (low, at(start)), |low| {
                        let row = todo;
                        todo = done.min(row + CHUNK);
                        if row < todo {
                            finish_rows([row, todo], columns.clone(), low, high);
                        }
                        todo < done
                    });
                    for row in (start..start + rows).step_by(TILE_ROWS) {
                        let (high, rows) = (&mut high[at(row)..], TILE_ROWS.min(count - row));
                        high_digits::<D>(&tiles, rows, tile(row).0, begin..end, panel, high);
                    }
                    if end == steps {
                        (todo, done, columns) = (start, start + rows, from..from + strip.cols);
                    }
                }
            }
        }
        for row in (todo..done).step_by(CHUNK) {
            finish_rows([row, done.min(row + CHUNK)], columns.clone(), low, high);
        }
    }
}

/// Continues the sums of the high digits of a tile over those of the steps that have some.
#[inline(always)]
fn high_digits<D: Dots>(
    tiles: &D::Tiles,
    rows: usize,
    x: Digits,
    steps: Range<usize>,
    panel: &[u8],
    sums: &mut [i32],
) {
    let mut adds = x.any(0..steps.start);
    let mut from = steps.start;
    for step in steps.start..=steps.end {
        if step < steps.end && x.marks[step] != 0 {
            continue;
        }
        if from < step {
            let panel = &panel[from * STEP * D::COLS..step * STEP * D::COLS];
            let x = x.high.steps(from..step, TILE_ROWS * STEP);
            tiles.tiles_of_bytes(rows, [x, x], [panel, &[]], adds, (&mut *sums, 0), |_| false);
            adds = true;
        }
        from = step + 1;
    }
}
