//! Sampling of a feature map at another size: weights per axis first, then rows of channels.
#![forbid(unsafe_code)]

use super::Cpu;
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Mat;
use crate::arena::Room;
use crate::backend::{Grid, Resize};
use crate::checked::{quotient, remainder};

/// Elements of scratch that one output cell of an axis takes: four cells that it reads, and their weights.
const TAPS: usize = 8;

/// The taps of the output cells of an axis.
#[derive(Clone, Copy)]
struct Axis<'a> {
    cells: &'a [[u32; 4]],
    weights: &'a [[f32; 4]],
    /// Taps that count.
    count: usize,
}

impl Axis<'_> {
    fn taps(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        let cells = self.cells[i].iter().map(|&cell| cell as usize);
        cells.zip(self.weights[i]).take(self.count)
    }
}

/// The taps of every output cell of an axis of `from` cells resized to `to`.
fn axis<'a>(from: usize, to: usize, resize: Resize, room: &mut Room<'a>) -> Axis<'a> {
    let last = from.saturating_sub(1);
    let clamp = |cell: i64| cell.clamp(0, last as i64) as usize;
    let cells = room.take_as::<[u32; 4]>(to);
    let weights = room.take(4 * to).as_chunks_mut().0;
    for (i, (cells, weights)) in cells.iter_mut().zip(weights.iter_mut()).enumerate() {
        let (at, weighing) = match resize {
            Resize::Nearest => {
                let cell = ((i as u128 * from as u128) / (to as u128).max(1)) as usize;
                ([cell.min(last); 4], [1.0, 0.0, 0.0, 0.0])
            }
            Resize::Bilinear => {
                let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
                let centre = if centre < 0.0 { 0.0 } else { centre };
                let cell = centre as i64;
                let part = (centre - cell as f64) as f32;
                let cells = [clamp(cell), clamp(cell + 1), last, last];
                (cells, [1.0 - part, part, 0.0, 0.0])
            }
            Resize::Bicubic => {
                let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
                let cell = libm::floor(centre);
                let part = centre - cell;
                let cell = cell as i64;
                let cells = [clamp(cell - 1), clamp(cell), clamp(cell + 1), clamp(cell + 2)];
                let weights = [cubic(part + 1.0), cubic(part), cubic(1.0 - part), cubic(2.0 - part)];
                (cells, weights.map(|weight| weight as f32))
            }
        };
        *cells = at.map(|cell| cell as u32);
        *weights = weighing;
    }
    let count = match resize {
        Resize::Nearest => 1,
        Resize::Bilinear => 2,
        Resize::Bicubic => 4,
    };
    Axis { cells, weights, count }
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

/// Elements of scratch that [`resize`] takes.
pub(super) fn scratch(to: Grid) -> usize {
    to.height.saturating_add(to.width).saturating_mul(TAPS)
}

/// Samples `x` (a map of `from` cells) into `out` (a map of `to` cells).
pub(super) fn resize(
    cpu: &Cpu,
    x: Mat,
    from: Grid,
    to: Grid,
    resize: Resize,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let mut room = Room::new(scratch);
    let down = axis(from.height, to.height, resize, &mut room);
    let across = axis(from.width, to.width, resize, &mut room);
    cpu.threads.rows(10, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, from, down, across, first, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    from: Grid,
    down: Axis<'a>,
    across: Axis<'a>,
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
            let (line, column) = (quotient(cell, across.cells.len()), remainder(cell, across.cells.len()));
            let mut channel = 0;
            for out in out.chunks_mut(L::N) {
                let mut sum = lanes.splat(0.0);
                for (row, row_weight) in down.taps(line) {
                    let mut mixed = lanes.splat(0.0);
                    for (col, weight) in across.taps(column) {
                        let cells = &x.row(row * from.width + col)[channel..channel + out.len()];
                        let v =
                            if cells.len() == L::N { lanes.load(cells) } else { lanes.load_partial(cells) };
                        mixed = lanes.mul_add(v, lanes.splat(weight), mixed);
                    }
                    sum = lanes.mul_add(mixed, lanes.splat(row_weight), sum);
                }
                channel += out.len();
                lanes.store_partial(sum, out);
            }
        }
    }
}
