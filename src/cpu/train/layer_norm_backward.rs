//! The layer norm backwards: one piece of work is a fixed number of rows, with its own sums for the parameters.
#![forbid(unsafe_code)]

use alloc::vec;

use super::super::Cpu;
use super::super::finish::{Product, Sum};
use super::super::isa::Op;
use super::super::lanes::{Lanes, map_in_place, sum_of, zip_in_place};
use super::super::layer_norm::{Itself, Minus, Square, Times};
use super::super::mat::Mat;
use super::sums::{add_product, add_scaled, dot};
use crate::error::Result;

/// Rows of one piece of work.
const ROWS: usize = 32;

/// A norm of runs of `part` columns, and the derivative by its output.
pub(super) struct Norm<'a> {
    pub(super) x: Mat<'a>,
    pub(super) part: usize,
    pub(super) weight: Option<&'a [f32]>,
    pub(super) eps: f32,
    pub(super) gradient: Mat<'a>,
    pub(super) residual: Option<Mat<'a>>,
}

/// Writes the derivative by `x`, plus the residual; adds the derivatives by weight and bias to `into`.
pub(super) fn layer_norm_backward(
    cpu: &Cpu,
    norm: &Norm,
    into: Option<[&mut [f32]; 2]>,
    out: &mut [f32],
) -> Result<()> {
    let (cols, part) = (norm.x.cols, norm.part);
    if out.is_empty() {
        return Ok(());
    }
    // The sums of a piece: of `gradient * z`, then of `gradient`.
    let width = if into.is_some() { 2 * part } else { 0 };
    let pieces = norm.x.rows.div_ceil(ROWS);
    let mut sums = vec![0.0f32; pieces * width];
    let mut rest = sums.as_mut_slice();
    let mut items = alloc::vec::Vec::with_capacity(pieces);
    for (index, out) in out.chunks_mut(ROWS * cols).enumerate() {
        let (sums, others) = rest.split_at_mut(width);
        rest = others;
        items.push((index * ROWS, out, sums));
    }
    let cost = norm.x.rows.saturating_mul(cols).saturating_mul(20);
    let scratch = || vec![0.0f32; 2 * part];
    cpu.threads.each(cost, items, scratch, |scratch, (first, out, sums)| {
        cpu.isa.run(Run { norm, first, scratch, sums, out });
    });
    if let Some([weight, bias]) = into {
        for sums in sums.chunks_exact(width) {
            weight.iter_mut().zip(&sums[..part]).for_each(|(total, sum)| *total += sum);
            bias.iter_mut().zip(&sums[part..]).for_each(|(total, sum)| *total += sum);
        }
    }
    Ok(())
}

struct Run<'a> {
    norm: &'a Norm<'a>,
    first: usize,
    scratch: &'a mut [f32],
    sums: &'a mut [f32],
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { norm, first, scratch, sums, out } = self;
        let part = norm.part;
        let (z, g) = scratch.split_at_mut(part);
        for (i, row) in out.chunks_exact_mut(norm.x.cols).enumerate() {
            let (x, gradient) = (norm.x.row(first + i), norm.gradient.row(first + i));
            for (run, out) in row.chunks_exact_mut(part).enumerate() {
                z.copy_from_slice(&x[run * part..(run + 1) * part]);
                let mean = sum_of(lanes, z, Itself) / part as f32;
                map_in_place(lanes, z, Minus(mean));
                let variance = sum_of(lanes, z, Square) / part as f32;
                let inverse = 1.0 / libm::sqrtf(variance + norm.eps);
                map_in_place(lanes, z, Times(inverse));

                let gradient = &gradient[run * part..(run + 1) * part];
                if !sums.is_empty() {
                    add_product(lanes, &mut sums[..part], gradient, z);
                    zip_in_place(lanes, &mut sums[part..], gradient, Sum);
                }
                g.copy_from_slice(gradient);
                if let Some(weight) = norm.weight {
                    zip_in_place(lanes, g, weight, Product);
                }
                let mean = sum_of(lanes, g, Itself) / part as f32;
                let along = dot(lanes, g, z) / part as f32;
                map_in_place(lanes, g, Minus(mean));
                add_scaled(lanes, g, z, -along);
                map_in_place(lanes, g, Times(inverse));
                if let Some(residual) = norm.residual {
                    let residual = &residual.row(first + i)[run * part..(run + 1) * part];
                    zip_in_place(lanes, g, residual, Sum);
                }
                out.copy_from_slice(g);
            }
        }
    }
}
