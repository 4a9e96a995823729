//! Elementwise activation, alone and as the gate of a gated feed-forward.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Cpu;
use super::blocks::Block;
use super::finish::Product;
use super::isa::{Isa, Op};
use super::lanes::{Lanes, zip_in_place};
use super::mat::Mat;
use super::maths::activate_in_place;
use crate::backend::Activation;

/// `out = activation(x)`, times `up` where given.
pub(super) fn activate(cpu: &Cpu, x: Mat, up: Option<Mat>, activation: Activation, out: &mut [f32]) {
    cpu.threads.rows(10, out, x.cols, |first, out| {
        let rows = out.chunks_exact_mut(x.cols).enumerate();
        rows.for_each(|(i, row)| row.copy_from_slice(x.row(first + i)));
        in_place(cpu.isa, activation, &mut Block::of(out, x.cols));
        if let Some(up) = up {
            cpu.isa.run(Times { up, first, out });
        }
    });
}

/// `x = activation(x)` for all of a block.
pub(super) fn in_place(isa: Isa, activation: Activation, x: &mut Block) {
    let all = [0..x.rows(), 0..x.cols()];
    in_place_of(isa, activation, all, x);
}

/// `x = activation(x)` for some rows and columns of a block. The one place where activations are compiled: they are large.
#[inline(never)]
pub(super) fn in_place_of(isa: Isa, activation: Activation, of: [Range<usize>; 2], x: &mut Block) {
    if activation != Activation::Identity {
        isa.run(InPlace { activation, of, x });
    }
}

struct InPlace<'a, 'b> {
    activation: Activation,
    of: [Range<usize>; 2],
    x: &'b mut Block<'a>,
}

impl Op for InPlace<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let InPlace { activation, of: [rows, cols], x } = self;
        for i in rows {
            activate_in_place(lanes, &mut x.row(i)[cols.clone()], activation);
        }
    }
}

/// `out *= up`
struct Times<'a> {
    up: Mat<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Op for Times<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.up.cols).enumerate() {
            zip_in_place(lanes, row, self.up.row(self.first + i), Product);
        }
    }
}
