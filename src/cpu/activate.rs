//! Elementwise activation, alone and as the gate of a gated feed-forward.
#![forbid(unsafe_code)]

use super::Cpu;
use super::finish::Product;
use super::isa::Op;
use super::lanes::{Lanes, zip_in_place};
use super::mat::Mat;
use super::maths::activate_in_place;
use crate::backend::Activation;

/// `out = activation(x)`, times `up` where given.
pub(super) fn activate(cpu: &Cpu, x: Mat, up: Option<Mat>, activation: Activation, out: &mut [f32]) {
    cpu.threads.rows(10, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, up, first, activation, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    up: Option<Mat<'a>>,
    first: usize,
    activation: Activation,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.x.cols).enumerate() {
            row.copy_from_slice(self.x.row(self.first + i));
            activate_in_place(lanes, row, self.activation);
            if let Some(up) = self.up {
                zip_in_place(lanes, row, up.row(self.first + i), Product);
            }
        }
    }
}
