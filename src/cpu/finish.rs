//! What follows a product: `out = residual + scale * activation(y + bias)`, one row (or part of a row) at a time.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Cpu;
use super::activate::in_place_of;
use super::blocks::Block;
use super::isa::{Isa, Op};
use super::lanes::{Lanes, Zip, zip_in_place};
use super::mat::Mat;
use super::room::vector;
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
        vector(bias) + vector(epilogue.scale)
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

    /// What is added to output row `row` from column `col` on; empty where nothing is.
    pub(super) fn residual(&self, row: usize, col: usize, cols: usize) -> &'a [f32] {
        self.residual.map_or(&[], |residual| &residual.row(row)[col..col + cols])
    }

    /// Finishes all rows of a block, the products of output from row and column `[row, col]` on.
    pub(super) fn block(&self, isa: Isa, from: [usize; 2], out: &mut Block) {
        let all = [0..out.rows(), 0..out.cols()];
        self.tile(isa, from, all, out);
    }

    /// As [`Finish::block`], some rows and columns of it.
    pub(super) fn tile(&self, isa: Isa, from: [usize; 2], of: [Range<usize>; 2], out: &mut Block) {
        if let Some(bias) = self.bias {
            isa.run(Bias { bias, from, of: of.clone(), out });
        }
        in_place_of(isa, self.activation, of.clone(), out);
        if self.scale.is_some() || self.residual.is_some() {
            isa.run(After { finish: self, from, of, out });
        }
    }
}

/// Adds the bias.
struct Bias<'a, 'b, 'c> {
    bias: &'b [f32],
    from: [usize; 2],
    of: [Range<usize>; 2],
    out: &'c mut Block<'a>,
}

impl Op for Bias<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Bias { bias, from: [_, col], of: [rows, cols], out } = self;
        let bias = &bias[col + cols.start..col + cols.end];
        for i in rows {
            zip_in_place(lanes, &mut out.row(i)[cols.clone()], bias, Sum);
        }
    }
}

/// What follows the activation.
struct After<'a, 'b, 'c> {
    finish: &'c Finish<'b>,
    from: [usize; 2],
    of: [Range<usize>; 2],
    out: &'c mut Block<'a>,
}

impl Op for After<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let After { finish, from: [row, col], of: [rows, cols], out } = self;
        let of_output = col + cols.start..col + cols.end;
        for i in rows {
            let out = &mut out.row(i)[cols.clone()];
            if let Some(scale) = finish.scale {
                zip_in_place(lanes, out, &scale[of_output.clone()], Product);
            }
            if let Some(residual) = finish.residual {
                zip_in_place(lanes, out, &residual.row(row + i)[of_output.clone()], Sum);
            }
        }
    }
}
