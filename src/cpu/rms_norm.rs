//! Root-mean-square norm over rows.
#![forbid(unsafe_code)]

use super::Cpu;
use super::finish::Product;
use super::isa::Op;
use super::lanes::{Lanes, map_in_place, sum_of, zip_in_place};
use super::layer_norm::{Square, Times};
use super::mat::Mat;

/// Normalises the rows of `x` into `out`.
pub(super) fn rms_norm(cpu: &Cpu, x: Mat, weight: &[f32], eps: f32, out: &mut [f32]) {
    cpu.threads.rows(6, out, x.cols, |first, out| {
        cpu.isa.run(Run { x, first, weight, eps, out });
    });
}

struct Run<'a> {
    x: Mat<'a>,
    first: usize,
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.x.cols).enumerate() {
            row.copy_from_slice(self.x.row(self.first + i));
            let mean = sum_of(lanes, row, Square) / self.x.cols as f32;
            map_in_place(lanes, row, Times(1.0 / libm::sqrtf(mean + self.eps)));
            zip_in_place(lanes, row, self.weight, Product);
        }
    }
}
