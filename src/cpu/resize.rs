//! Sampling of a feature map at another size: weights per axis first, then rows of channels.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Cpu;
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Mat;
use crate::backend::{Grid, Resize};

/// Cells of an axis that one output cell reads, with their weights; unused taps weigh 0.
#[derive(Clone, Copy)]
struct Taps {
    cells: [usize; 4],
    weights: [f32; 4],
    count: usize,
}

/// The taps of every output cell of an axis of `from` cells resized to `to`.
fn axis(from: usize, to: usize, resize: Resize) -> Vec<Taps> {
    let last = from.saturating_sub(1);
    let clamp = |cell: i64| cell.clamp(0, last as i64) as usize;
    (0..to)
        .map(|i| match resize {
            Resize::Nearest => {
                let cell = ((i as u128 * from as u128) / to as u128) as usize;
                Taps { cells: [cell.min(last); 4], weights: [1.0, 0.0, 0.0, 0.0], count: 1 }
            }
            Resize::Bilinear => {
                let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
                let centre = if centre < 0.0 { 0.0 } else { centre };
                let cell = centre as i64;
                let part = (centre - cell as f64) as f32;
                let cells = [clamp(cell), clamp(cell + 1), last, last];
                Taps { cells, weights: [1.0 - part, part, 0.0, 0.0], count: 2 }
            }
            Resize::Bicubic => {
                let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
                let cell = libm::floor(centre);
                let part = centre - cell;
                let cell = cell as i64;
                let cells = [clamp(cell - 1), clamp(cell), clamp(cell + 1), clamp(cell + 2)];
                let weights = [cubic(part + 1.0), cubic(part), cubic(1.0 - part), cubic(2.0 - part)];
                Taps { cells, weights: weights.map(|weight| weight as f32), count: 4 }
            }
        })
        .collect()
}

/// Cubic convolution kernel with a = -0.75 at distance `x` (0 to 2).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

/// Samples `x` (a map of `from` cells) into `out` (a map of `to` cells).
pub(super) fn resize(cpu: &Cpu, x: Mat, from: Grid, to: Grid, resize: Resize, out: &mut [f32]) {
    let down = axis(from.height, to.height, resize);
    let across = axis(from.width, to.width, resize);
    let (down, across) = (&down, &across);
    cpu.threads.rows(10, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, from, down, across, first, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    from: Grid,
    down: &'a [Taps],
    across: &'a [Taps],
    first: usize,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { x, from, down, across, first, out } = self;
        for (i, out) in out.chunks_exact_mut(x.cols).enumerate() {
            let cell = first + i;
            let (rows, cols) = (&down[cell / across.len()], &across[cell % across.len()]);
            let mut channel = 0;
            for out in out.chunks_mut(L::N) {
                let mut sum = lanes.splat(0.0);
                for (&row, &row_weight) in rows.cells.iter().zip(&rows.weights).take(rows.count) {
                    let mut line = lanes.splat(0.0);
                    for (&col, &weight) in cols.cells.iter().zip(&cols.weights).take(cols.count) {
                        let cells = &x.row(row * from.width + col)[channel..channel + out.len()];
                        let v =
                            if cells.len() == L::N { lanes.load(cells) } else { lanes.load_partial(cells) };
                        line = lanes.mul_add(v, lanes.splat(weight), line);
                    }
                    sum = lanes.mul_add(line, lanes.splat(row_weight), sum);
                }
                channel += out.len();
                lanes.store_partial(sum, out);
            }
        }
    }
}
