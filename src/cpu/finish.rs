//! What follows a product: `out = residual + scale * activation(y + bias)`, one row (or part of a row) at a time.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Cpu;
use super::activate::in_place_of;
use super::blocks::Block;
use super::digits::BASE;
use super::isa::{Isa, Op};
use super::lanes::{Lanes, Zip};
use super::mat::Mat;
use super::room;
use crate::arena::Room;
use crate::backend::{Activation, Epilogue, Weight};
use crate::error::Result;

/// Bias and epilogue with their small vectors converted to `f32`.
pub(super) struct Finish<'a> {
    bias: Option<&'a [f32]>,
    activation: Activation,
    scale: Option<&'a [f32]>,
    residual: Option<Mat<'a>>,
}

/// `a + b`
#[derive(Clone, Copy)]
pub(super) struct Sum;

impl Zip for Sum {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, a: L::V, b: L::V) -> L::V {
        lanes.add(a, b)
    }
}

/// `a * b`
#[derive(Clone, Copy)]
pub(super) struct Product;

impl Zip for Product {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, a: L::V, b: L::V) -> L::V {
        lanes.mul(a, b)
    }
}

impl<'a> Finish<'a> {
    /// Nothing.
    pub(super) const NONE: Finish<'static> =
        Finish { bias: None, activation: Activation::Identity, scale: None, residual: None };

    /// Elements of scratch that [`Finish::new`] takes.
    pub(super) fn scratch(bias: Option<&Weight<Cpu>>, epilogue: &Epilogue<'_, Cpu>) -> usize {
        room::vector(bias) + room::vector(epilogue.scale)
    }

    /// Takes operands whose shapes were checked.
    pub(super) fn new(
        isa: Isa,
        bias: Option<&Weight<Cpu>>,
        epilogue: &Epilogue<'a, Cpu>,
        room: &mut Room<'a>,
    ) -> Result<Finish<'a>> {
        Ok(Finish {
            bias: room.vector(bias, isa)?,
            activation: epilogue.activation,
            scale: room.vector(epilogue.scale, isa)?,
            residual: epilogue.residual.map(Mat::new).transpose()?,
        })
    }

    /// Finishes all rows of a block, the products of output from row and column `[row, col]` on.
    pub(super) fn block(&self, isa: Isa, from: [usize; 2], out: &mut Block) {
        let all = [0..out.rows(), 0..out.cols()];
        self.tile(isa, from, all, out);
    }

    /// As [`Finish::block`], some rows and columns of it.
    pub(super) fn tile(&self, isa: Isa, from: [usize; 2], of: [Range<usize>; 2], out: &mut Block) {
        self.products(isa, from, of, None, out);
    }

    /// As [`Finish::tile`]; `out` gets products of integers, where there are some.
    pub(super) fn products(
        &self,
        isa: Isa,
        from: [usize; 2],
        of: [Range<usize>; 2],
        integers: Option<Integers>,
        out: &mut Block,
    ) {
        let Finish { bias, activation, scale, residual } = *self;
        let before = Tile { from, of: of.clone(), integers, bias, scale: None, residual: None };
        if activation == Activation::Identity {
            return Tile { scale, residual, ..before }.run(isa, out);
        }
        before.run(isa, out);
        in_place_of(isa, activation, of.clone(), out);
        Tile { from, of, integers: None, bias: None, scale, residual }.run(isa, out);
    }
}

/// Products `(255 high + low) * rows[i] * columns[j]` of some rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Integers<'a> {
    /// Whole vectors, also where there are fewer columns.
    pub(super) low: &'a [i32],
    /// Zeros where there are none.
    pub(super) high: Option<&'a [i32]>,
    /// From row to row of `low` and `high`.
    pub(super) stride: usize,
    pub(super) rows: &'a [f32],
    pub(super) columns: &'a [f32],
}

/// What stands before an activation, or after it, or all where there is none: `out = (integers or out + bias) * scale + residual`.
struct Tile<'a> {
    from: [usize; 2],
    of: [Range<usize>; 2],
    integers: Option<Integers<'a>>,
    bias: Option<&'a [f32]>,
    scale: Option<&'a [f32]>,
    residual: Option<Mat<'a>>,
}

impl Tile<'_> {
    fn run(self, isa: Isa, out: &mut Block) {
        if self.integers.is_some() || self.bias.is_some() || self.scale.is_some() || self.residual.is_some() {
            isa.run(RunTile { tile: self, out });
        }
    }
}

/// [`Tile::run`].
struct RunTile<'a, 'b, 'c> {
    tile: Tile<'a>,
    out: &'b mut Block<'c>,
}

impl Op for RunTile<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let RunTile {
            tile: Tile { from: [row, col], of: [rows, cols], integers, bias, scale, residual },
            out,
        } = self;
        // Vectors of the columns are read once for all rows.
        for from in cols.clone().step_by(L::N) {
            let (width, start, to) = (L::N.min(cols.end - from), from - cols.start, col + from);
            let columns = vector(lanes, integers.map(|x| x.columns), start, width);
            let (bias, scale) = (vector(lanes, bias, to, width), vector(lanes, scale, to, width));
            for i in rows.clone() {
                let residual = vector(lanes, residual.map(|residual| residual.row(row + i)), to, width);
                let out = &mut out.row(i)[from..from + width];
                let mut y = match (integers, columns) {
                    (Some(Integers { low, high, stride, rows: scales, .. }), Some(columns)) => {
                        let i = i - rows.start;
                        let mut y = lanes.load_integers(&low[i * stride + start..]);
                        if let Some(high) = high {
                            let high = lanes.load_integers(&high[i * stride + start..]);
                            y = lanes.add(lanes.mul(high, lanes.splat(BASE)), y);
                        }
                        lanes.mul(lanes.mul(y, lanes.splat(scales[i])), columns)
                    }
                    _ if width == L::N => lanes.load(out),
                    _ => lanes.load_partial(out),
                };
                if let Some(bias) = bias {
                    y = lanes.add(y, bias);
                }
                if let Some(scale) = scale {
                    y = lanes.mul(y, scale);
                }
                if let Some(residual) = residual {
                    y = lanes.add(y, residual);
                }
                if width == L::N { lanes.store(y, out) } else { lanes.store_partial(y, out) }
            }
        }
    }
}

/// At most `N` elements from `from` on.
#[inline(always)]
fn vector<L: Lanes>(lanes: L, x: Option<&[f32]>, from: usize, width: usize) -> Option<L::V> {
    match x {
        Some(x) if width == L::N => Some(lanes.load(&x[from..])),
        Some(x) => Some(lanes.load_partial(&x[from..from + width])),
        None => None,
    }
}
