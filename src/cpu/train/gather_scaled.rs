//! Rows taken with factors, and the sum of their gradients.
#![forbid(unsafe_code)]

use alloc::vec;

use super::super::Cpu;
use super::super::isa::Op;
use super::super::lanes::{Lanes, map_in_place};
use super::super::layer_norm::Times;
use super::super::mat::Mat;
use super::sums::add_scaled;

/// `out[i] = factors[i] * x[rows[i]]`
pub(super) fn gather_scaled(cpu: &Cpu, x: Mat, rows: &[usize], factors: &[f32], out: &mut [f32]) {
    cpu.threads.rows(2, out, x.cols, |first, out| {
        cpu.isa.run(Gather { x, rows: &rows[first..], factors: &factors[first..], out });
    });
}

struct Gather<'a> {
    x: Mat<'a>,
    rows: &'a [usize],
    factors: &'a [f32],
    out: &'a mut [f32],
}

impl Op for Gather<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let taken = self.rows.iter().zip(self.factors);
        for (out, (&row, &factor)) in self.out.chunks_exact_mut(self.x.cols).zip(taken) {
            if factor == 0.0 {
                out.fill(0.0);
            } else {
                out.copy_from_slice(self.x.row(row));
                map_in_place(lanes, out, Times(factor));
            }
        }
    }
}

/// `out[j]` is the sum of `factors[i] * gradient[i]` over the `i` with `rows[i] = j`, in ascending order.
pub(super) fn gather_scaled_backward(
    cpu: &Cpu,
    gradient: Mat,
    rows: &[usize],
    factors: &[f32],
    out: &mut [f32],
) {
    let Some(count) = out.len().checked_div(gradient.cols) else { return };
    // `taken[starts[j]..starts[j + 1]]` are the places of row `j`.
    let mut starts = vec![0usize; count + 1];
    rows.iter().for_each(|&row| starts[row + 1] += 1);
    for row in 0..count {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut taken = vec![0usize; rows.len()];
    for (i, &row) in rows.iter().enumerate() {
        taken[next[row]] = i;
        next[row] += 1;
    }
    let (starts, taken) = (&starts, &taken);
    cpu.threads.rows(4, out, gradient.cols, |first, out| {
        cpu.isa.run(Scatter { gradient, starts: &starts[first..], taken, factors, out });
    });
}

struct Scatter<'a> {
    gradient: Mat<'a>,
    starts: &'a [usize],
    taken: &'a [usize],
    factors: &'a [f32],
    out: &'a mut [f32],
}

impl Op for Scatter<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (out, range) in self.out.chunks_exact_mut(self.gradient.cols).zip(self.starts.windows(2)) {
            out.fill(0.0);
            for &i in &self.taken[range[0]..range[1]] {
                if self.factors[i] != 0.0 {
                    add_scaled(lanes, out, self.gradient.row(i), self.factors[i]);
                }
            }
        }
    }
}
