//! The linear layer by its input, a blocked product with the gradient on the left, and by the parameters of one with a scale.
#![forbid(unsafe_code)]

use super::super::Cpu;
use super::super::finish::Finish;
use super::super::isa::Op;
use super::super::lanes::Lanes;
use super::super::mat::{Convert, Elements, Mat};
use super::super::product::{Left, Right, product};
use super::add_backward::add_backward;
use super::outer::outer;
use super::sums::{add_scaled, dot};
use crate::error::Result;
use alloc::vec;

/// The gradient's rows, every column times its factor.
struct ScaledRows<'a> {
    rows: Mat<'a>,
    scale: Option<&'a [f32]>,
}

impl Left for ScaledRows<'_> {
    fn rows(&self) -> usize {
        self.rows.rows
    }

    fn k(&self) -> usize {
        self.rows.cols
    }

    fn copy(&self, row: usize, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.rows.row(row)[first..first + out.len()]);
        if let Some(scale) = self.scale {
            out.iter_mut().zip(&scale[first..]).for_each(|(x, scale)| *x *= scale);
        }
    }
}

/// `out = (gradient * scale) weight`, weight `[gradient.cols, k]`; `scratch` is that of the product.
pub(super) fn linear_backward(
    cpu: &Cpu,
    weight: Elements,
    scale: Option<&[f32]>,
    gradient: Mat,
    k: usize,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let left = ScaledRows { rows: gradient, scale };
    product(cpu, &left, Right::WeightColumns(weight, k), k, &Finish::NONE, scratch, out);
}

/// The parameters of a layer with a scale, and where the gradients of bias and scale are summed.
pub(super) struct Scaled<'a> {
    pub(super) weight: Elements<'a>,
    pub(super) bias: Option<(&'a [f32], &'a mut [f32])>,
    pub(super) scale: &'a [f32],
    pub(super) scale_sum: &'a mut [f32],
}

/// Adds to the gradients of a layer with a scale: the gradient of the unscaled weight serves both.
pub(super) fn scaled_gradients(
    cpu: &Cpu,
    x: Mat,
    gradient: Mat,
    layer: Scaled,
    weight_sum: &mut [f32],
) -> Result<()> {
    /// Rows of one piece of work.
    const ROWS: usize = 16;
    let Scaled { weight, bias, scale, scale_sum } = layer;
    let (n, k) = (gradient.cols, x.cols);
    let mut unscaled = cpu.take("linear_gradients", n, k)?;
    outer(cpu, gradient, x, false, &mut unscaled[..n * k])?;
    if let Some((bias, bias_sum)) = bias {
        let mut sums = vec![0.0; n];
        add_backward(cpu, gradient, 1, &mut sums);
        for i in 0..n {
            bias_sum[i] += scale[i] * sums[i];
            scale_sum[i] += bias[i] * sums[i];
        }
    }
    if k == 0 {
        return Ok(());
    }
    let items = weight_sum.chunks_mut(ROWS * k).zip(scale_sum.chunks_mut(ROWS)).enumerate().collect();
    let row = || vec![0.0f32; k];
    cpu.threads.each(n.saturating_mul(k), items, row, |row, (index, (weight_sum, scale_sum))| {
        let first = index * ROWS;
        let unscaled = &unscaled[first * k..];
        cpu.isa.run(Run { weight, scale: &scale[first..], unscaled, first, row, weight_sum, scale_sum });
    });
    Ok(())
}

struct Run<'a> {
    weight: Elements<'a>,
    scale: &'a [f32],
    unscaled: &'a [f32],
    first: usize,
    row: &'a mut [f32],
    weight_sum: &'a mut [f32],
    scale_sum: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let k = self.row.len();
        let rows = self.weight_sum.chunks_exact_mut(k).zip(self.unscaled.chunks_exact(k));
        for (i, (sums, unscaled)) in rows.enumerate() {
            let from = self.weight.from((self.first + i) * k);
            Convert { from, dtype: self.weight.dtype, out: self.row }.run(lanes);
            self.scale_sum[i] += dot(lanes, unscaled, self.row);
            add_scaled(lanes, sums, unscaled, self.scale[i]);
        }
    }
}
