//! Sums of rows: the gradients of biases, positions and tokens that are repeated.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::super::Cpu;
use super::super::finish::Sum;
use super::super::isa::Op;
use super::super::lanes::{Lanes, zip_in_place};
use super::super::mat::Mat;

/// Columns of one piece of work.
const STRIP: usize = 256;
/// Rows whose sum is made before it is added to the whole.
const RUN: usize = 64;

/// `b[j] += sum of gradient[i] over i mod rows = j`; `b` has `rows` rows.
pub(super) fn add_backward(cpu: &Cpu, gradient: Mat, rows: usize, b: &mut [f32]) {
    if b.is_empty() || gradient.rows == 0 {
        return;
    }
    let mut items = Vec::new();
    for (row, cells) in b.chunks_mut(gradient.cols).enumerate() {
        items.extend(cells.chunks_mut(STRIP).enumerate().map(|(strip, out)| (row, strip * STRIP, out)));
    }
    let cost = gradient.rows.saturating_mul(gradient.cols);
    cpu.threads.each(
        cost,
        items,
        || (),
        |(), (row, col, out)| {
            cpu.isa.run(Run { gradient, rows, row, col, out });
        },
    );
}

struct Run<'a> {
    gradient: Mat<'a>,
    rows: usize,
    row: usize,
    col: usize,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { gradient, rows, row, col, out } = self;
        let (mut total, mut part) = ([0.0f32; STRIP], [0.0f32; STRIP]);
        let (total, part) = (&mut total[..out.len()], &mut part[..out.len()]);
        for first in (row..gradient.rows).step_by(rows * RUN) {
            part.fill(0.0);
            for i in (first..gradient.rows).step_by(rows).take(RUN) {
                zip_in_place(lanes, part, &gradient.row(i)[col..col + part.len()], Sum);
            }
            zip_in_place(lanes, total, part, Sum);
        }
        zip_in_place(lanes, out, total, Sum);
    }
}
