//! Group norm over a whole map: every group of channels is normalised over all cells, two passes, sums of rows in f64.
#![forbid(unsafe_code)]

use super::Cpu;
use super::finish::{Product, Sum};
use super::isa::Op;
use super::lanes::{Lanes, map_in_place, sum_of, zip_in_place};
use super::layer_norm::{Itself, Minus, Square, Times};
use super::mat::Mat;
use super::maths::activate_in_place;
use crate::backend::Activation;
use crate::checked::quotient;

/// Elements of scratch that [`group_norm`] takes: mean and deviation of every group, and for every worker a row of one.
pub(super) fn scratch(cpu: &Cpu, cols: usize, groups: usize) -> usize {
    (2 * groups).saturating_add((cols / groups.max(1)).saturating_mul(cpu.threads.workers()))
}

/// Normalises `x` by `groups` groups of columns into `out`.
#[allow(clippy::too_many_arguments)]
pub(super) fn group_norm(
    cpu: &Cpu,
    x: Mat,
    groups: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    activation: Activation,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    if x.rows == 0 || x.cols == 0 {
        return;
    }
    let width = quotient(x.cols, groups);
    let (statistics, scratch) = scratch.split_at_mut(2 * groups);
    let cost = x.rows.saturating_mul(x.cols).saturating_mul(6);
    cpu.threads.blocks(cost, statistics, 2, [1, 2], scratch, |scratch, [group, _], mut out| {
        let found = cpu.isa.run(Statistics { x: x.columns(group * width, width), eps, scratch });
        out.row(0).copy_from_slice(&found);
    });
    let statistics = statistics.as_chunks().0;
    cpu.threads.rows(6, out, x.cols, |first, out| {
        cpu.isa.run(Apply { x, first, width, statistics, weight, bias, activation, out });
    });
}

/// Mean and inverse standard deviation of a group.
struct Statistics<'a> {
    x: Mat<'a>,
    eps: f32,
    scratch: &'a mut [f32],
}

impl Op for Statistics<'_> {
    type Out = [f32; 2];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [f32; 2] {
        let count = self.x.rows as f64 * self.x.cols as f64;
        let mut total = 0.0f64;
        for row in self.x.iter() {
            total += f64::from(sum_of(lanes, row, Itself));
        }
        let mean = (total / count) as f32;
        let mut squares = 0.0f64;
        for row in self.x.iter() {
            self.scratch.copy_from_slice(row);
            map_in_place(lanes, self.scratch, Minus(mean));
            squares += f64::from(sum_of(lanes, self.scratch, Square));
        }
        let variance = (squares / count) as f32;
        [mean, 1.0 / libm::sqrtf(variance + self.eps)]
    }
}

struct Apply<'a> {
    x: Mat<'a>,
    first: usize,
    width: usize,
    statistics: &'a [[f32; 2]],
    weight: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
    out: &'a mut [f32],
}

impl Op for Apply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, row) in self.out.chunks_exact_mut(self.x.cols).enumerate() {
            row.copy_from_slice(self.x.row(self.first + i));
            for (run, &[mean, inverse]) in row.chunks_exact_mut(self.width).zip(self.statistics) {
                map_in_place(lanes, run, Minus(mean));
                map_in_place(lanes, run, Times(inverse));
            }
            zip_in_place(lanes, row, self.weight, Product);
            zip_in_place(lanes, row, self.bias, Sum);
            activate_in_place(lanes, row, self.activation);
        }
    }
}
