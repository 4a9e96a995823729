//! A few rows times stored numbers, straight from where they lie: what decoding a token does.
//!
//! Every output has the bits that the blocked product ([`super::product`]) gives it: the same chains in the same order.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::dots::{DotOp, Dots, Strip};
use super::finish::Finish;
use super::mat::{Mat, Rows};

/// Rows up to which this is faster than the blocked product.
pub(super) const FEW: usize = 4;

/// Output columns of one piece of work.
const STRIP: usize = 64;

/// Computes `out[r, j] = sum_k x[r, k] * weight[j, k]` (row-major, `n` columns) for at most [`FEW`] rows and finishes it.
pub(super) fn matvec(cpu: &Cpu, x: Mat, weight: Rows, n: usize, finish: &Finish<'_>, out: &mut [f32]) {
    let cost = x.rows.saturating_mul(n).saturating_mul(x.cols.max(1));
    cpu.threads.blocks(cost, out, n, [FEW, STRIP], &mut [], |_, [_, col], mut out| {
        cpu.isa.run_dots(Run { x, weight, col, out: &mut out });
        finish.block(cpu.isa, [0, col], &mut out);
    });
}

/// One piece of work: the columns from `col` on of all rows.
struct Run<'a, 'b, 'c> {
    x: Mat<'b>,
    weight: Rows<'b>,
    col: usize,
    out: &'c mut Block<'a>,
}

impl DotOp for Run<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, dots: D) {
        let Run { x, weight, col, out } = self;
        let k = x.cols;
        let (cols, stride) = (out.cols(), weight.stride * weight.dtype().size());
        for from in (0..cols).step_by(D::DOT_COLS) {
            let bytes = weight.from(col + from, 0);
            let strip = Strip { bytes, stride, cols: D::DOT_COLS.min(cols - from), k, kind: weight.dtype() };
            for i in 0..x.rows {
                dots.dot_floats(strip, x.row(i), &mut out.row(i)[from..from + strip.cols]);
            }
        }
    }
}
