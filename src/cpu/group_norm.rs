//! Group norm over a whole map: every group of channels is normalised over all cells.
//!
//! One pass finds the moments: pieces of [`ROWS`] rows, which stay in the nearest caches, are read twice, column by column, for
//! the mean of each column and what its elements are away from it. Moments of pieces and columns are put together in f64, so that
//! a large mean costs no precision.
#![forbid(unsafe_code)]

use super::Cpu;
use super::activate::in_place;
use super::blocks::Block;
use super::finish::{Product, Sum};
use super::isa::Op;
use super::lanes::{Lanes, Zip, zip_in_place};
use super::mat::Mat;
use crate::arena::Room;
use crate::backend::Activation;
use crate::checked::quotient;

/// Rows of a piece.
const ROWS: usize = 64;
/// Moments of a column: its mean, then the sums of differences from it and of their squares.
const MOMENTS: usize = 3;

/// `a - b`
#[derive(Clone, Copy)]
struct Difference;

impl Zip for Difference {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, a: L::V, b: L::V) -> L::V {
        lanes.sub(a, b)
    }
}

/// Elements of scratch that [`group_norm`] takes: moments of pieces, mean and factor of every column.
pub(super) fn scratch(rows: usize, cols: usize) -> usize {
    rows.div_ceil(ROWS).saturating_mul(MOMENTS).saturating_add(2).saturating_mul(cols)
}

/// Normalises `x` by `groups` groups of columns into `out`.
#[allow(clippy::too_many_arguments)]
pub(super) fn group_norm(
    cpu: &Cpu,
    x: Mat,
    groups: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    activation: Activation,
    mut room: Room,
    out: &mut [f32],
) {
    if x.rows == 0 || x.cols == 0 {
        return;
    }
    let (means, factors) = (room.take(x.cols), room.take(x.cols));
    let moments = room.take(x.rows.div_ceil(ROWS) * MOMENTS * x.cols);
    cpu.threads.rows(4 * ROWS / MOMENTS, moments, MOMENTS * x.cols, |first, moments| {
        cpu.isa.run(Moments { x, first, moments });
    });
    let width = quotient(x.cols, groups);
    for group in 0..groups {
        let columns = group * width..(group + 1) * width;
        let (mean, variance) = together(moments, x, columns.clone());
        means[columns.clone()].fill(mean);
        let inverse = 1.0 / libm::sqrtf(variance + eps);
        factors[columns.clone()].iter_mut().zip(&weight[columns]).for_each(|(out, w)| *out = w * inverse);
    }
    let (means, factors) = (&*means, &*factors);
    cpu.threads.rows(6, out, x.cols, |first, out| {
        cpu.isa.run(Apply { x, first, means, factors, bias, out: &mut *out });
        in_place(cpu.isa, activation, &mut Block::of(out, x.cols));
    });
}

/// Mean and variance of some columns from the moments of pieces.
fn together(moments: &[f32], x: Mat, columns: core::ops::Range<usize>) -> (f32, f32) {
    // Elements, their mean, and the sum of squared differences from it, of every column of every piece.
    let parts = || {
        moments.chunks_exact(MOMENTS * x.cols).enumerate().flat_map(|(piece, moments)| {
            let count = ROWS.min(x.rows - piece * ROWS) as f64;
            columns.clone().map(move |column| {
                let [mean, sum, squares] = [0, 1, 2].map(|i| f64::from(moments[i * x.cols + column]));
                (count, mean + sum / count, squares - sum * sum / count)
            })
        })
    };
    let count = x.rows as f64 * columns.len() as f64;
    let mean = parts().map(|(count, mean, _)| count * mean).sum::<f64>() / count;
    let around = |of_part: f64| (of_part - mean) * (of_part - mean);
    let squares: f64 = parts().map(|(count, of_part, squares)| squares + count * around(of_part)).sum();
    (mean as f32, (squares / count).max(0.0) as f32)
}

/// The moments `[MOMENTS][column]` of pieces from `first` on.
struct Moments<'a> {
    x: Mat<'a>,
    first: usize,
    moments: &'a mut [f32],
}

impl Op for Moments<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Moments { x, first, moments } = self;
        for (piece, moments) in moments.chunks_exact_mut(MOMENTS * x.cols).enumerate() {
            let first = (first + piece) * ROWS;
            let rows = [first, ROWS.min(x.rows - first)];
            let whole = x.cols / (4 * L::N) * (4 * L::N);
            for col in (0..whole).step_by(4 * L::N) {
                columns::<L, 4>(lanes, x, rows, col, moments);
            }
            for col in (whole..x.cols).step_by(L::N) {
                columns::<L, 1>(lanes, x, rows, col, moments);
            }
        }
    }
}

/// The moments of `U` vectors of columns from `col` on, as far as there are columns.
#[inline(always)]
fn columns<L: Lanes, const U: usize>(
    lanes: L,
    x: Mat,
    [first, rows]: [usize; 2],
    col: usize,
    moments: &mut [f32],
) {
    let load = |row: usize, v: usize| {
        let cells = &x.row(first + row)[col + v * L::N..];
        if cells.len() >= L::N { lanes.load(cells) } else { lanes.load_partial(cells) }
    };
    let mut totals = [lanes.splat(0.0); U];
    for row in 0..rows {
        for (v, total) in totals.iter_mut().enumerate() {
            *total = lanes.add(*total, load(row, v));
        }
    }
    let means = totals.map(|total| lanes.mul(total, lanes.splat(1.0 / rows as f32)));
    let (mut sums, mut squares) = ([lanes.splat(0.0); U], [lanes.splat(0.0); U]);
    for row in 0..rows {
        for v in 0..U {
            let away = lanes.sub(load(row, v), means[v]);
            sums[v] = lanes.add(sums[v], away);
            squares[v] = lanes.mul_add(away, away, squares[v]);
        }
    }
    for (moments, found) in moments.chunks_exact_mut(x.cols).zip([means, sums, squares]) {
        for (cells, found) in moments[col..].chunks_mut(L::N).zip(found) {
            lanes.store_partial(found, cells);
        }
    }
}

struct Apply<'a> {
    x: Mat<'a>,
    first: usize,
    means: &'a [f32],
    /// Weight over standard deviation.
    factors: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl Op for Apply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.x.cols).enumerate() {
            row.copy_from_slice(self.x.row(self.first + i));
            zip_in_place(lanes, row, self.means, Difference);
            zip_in_place(lanes, row, self.factors, Product);
            zip_in_place(lanes, row, self.bias, Sum);
        }
    }
}
