//! Sums that several backward passes share.
#![forbid(unsafe_code)]

use alloc::vec;

use super::super::Cpu;
use super::super::lanes::{Lanes, Zip, zip_in_place};
use super::super::mat::Mat;

/// `sum_i a[i] * b[i]` over the shorter length: lane `i mod N` adds its products in order, then the lanes are added.
#[inline(always)]
pub(super) fn dot<L: Lanes>(lanes: L, a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, b_chunks) = (a.chunks_exact(L::N), b.chunks_exact(L::N));
    let (a_tail, b_tail) = (a_chunks.remainder(), b_chunks.remainder());
    let mut total = lanes.splat(0.0);
    for (a, b) in a_chunks.zip(b_chunks) {
        total = lanes.mul_add(lanes.load(a), lanes.load(b), total);
    }
    total = lanes.mul_add(lanes.load_partial(a_tail), lanes.load_partial(b_tail), total);
    lanes.sum(total)
}

/// `a + .0 * b`
#[derive(Clone, Copy)]
struct Scaled(f32);

impl Zip for Scaled {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, a: L::V, b: L::V) -> L::V {
        lanes.mul_add(lanes.splat(self.0), b, a)
    }
}

/// `sums += factor * x`
#[inline(always)]
pub(super) fn add_scaled<L: Lanes>(lanes: L, sums: &mut [f32], x: &[f32], factor: f32) {
    zip_in_place(lanes, sums, x, Scaled(factor));
}

/// `sums += a * b` by elements.
#[inline(always)]
pub(super) fn add_product<L: Lanes>(lanes: L, sums: &mut [f32], a: &[f32], b: &[f32]) {
    let ab = a.chunks(L::N).zip(b.chunks(L::N));
    for (sums, (a, b)) in sums.chunks_mut(L::N).zip(ab) {
        if sums.len() == L::N {
            lanes.store(lanes.mul_add(lanes.load(a), lanes.load(b), lanes.load(sums)), sums);
        } else {
            let old = lanes.load_partial(sums);
            lanes.store_partial(lanes.mul_add(lanes.load_partial(a), lanes.load_partial(b), old), sums);
        }
    }
}

/// Sum of squares in f64: every row on its own, by 8 interleaved sums, then the rows in order.
pub(super) fn sum_of_squares(cpu: &Cpu, x: Mat) -> f64 {
    /// Elements of one piece of work.
    const PIECE: usize = 1 << 14;
    let block = (PIECE / x.cols.max(1)).max(1);
    let mut rows = vec![0.0f64; x.rows];
    let items = rows.chunks_mut(block).enumerate().collect();
    let cost = x.rows.saturating_mul(x.cols);
    cpu.threads.each(
        cost,
        items,
        || (),
        |(), (index, sums): (usize, &mut [f64])| {
            for (i, sum) in sums.iter_mut().enumerate() {
                let (chunks, tail) = x.row(index * block + i).as_chunks::<8>();
                let mut totals = [0.0f64; 8];
                for chunk in chunks {
                    totals
                        .iter_mut()
                        .zip(chunk)
                        .for_each(|(total, &x)| *total += f64::from(x) * f64::from(x));
                }
                totals.iter_mut().zip(tail).for_each(|(total, &x)| *total += f64::from(x) * f64::from(x));
                *sum = totals.iter().sum();
            }
        },
    );
    rows.iter().sum()
}
