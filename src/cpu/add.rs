//! Sum of two matrices, the second repeated over the rows of the first.
#![forbid(unsafe_code)]

use super::Cpu;
use super::finish::Sum;
use super::isa::Op;
use super::lanes::{Lanes, zip_in_place};
use super::mat::Mat;
use crate::checked::remainder;

/// `out[i] = a[i] + b[i mod b.rows]`
pub(super) fn add(cpu: &Cpu, a: Mat, b: Mat, out: &mut [f32]) {
    cpu.threads.rows(2, out, a.cols, |first, out| cpu.isa.run(Run { a, b, first, out }));
}

struct Run<'a> {
    a: Mat<'a>,
    b: Mat<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.a.cols).enumerate() {
            row.copy_from_slice(self.a.row(self.first + i));
            zip_in_place(lanes, row, self.b.row(remainder(self.first + i, self.b.rows)), Sum);
        }
    }
}
