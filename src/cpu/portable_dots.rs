//! Products by row in plain Rust.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::bytes::{self, Bytes, Digits, Left, STEP, Sums, Tiles};
use super::dots::{Dots, Integer, Panel, QUAD, QUADS, Row, Strip};
use super::lanes::K_BLOCK;
use super::portable::Portable;
use crate::weights::Dtype;

const DOT_COLS: usize = 4;
const COLS: usize = 8;
const TILE_ROWS: usize = 4;

impl Bytes for Portable {
    const COLS: usize = COLS;
    const SIDE: usize = DOT_COLS;
    const TOTALS: bool = false;

    #[inline(always)]
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums) {
        dot_bytes(strip, x, out);
    }

    #[inline(always)]
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]) {
        bytes::pack::<COLS>(strip, panel);
    }

    type Tiles = Self;
    #[inline(always)]
    fn matrix_unit(self) -> Self {
        self
    }
}

impl Tiles for Portable {
    #[inline(always)]
    fn tiles_of_bytes(
        &self,
        rows: usize,
        x: [Left; 2],
        [panel, _ahead]: [&[u8]; 2],
        adds: bool,
        sums: (&mut [i32], usize),
        beside: impl FnMut(&[i32]) -> bool,
    ) {
        tiles_of_bytes(rows, x, panel, adds, sums, beside);
    }
}

impl Dots for Portable {
    type Lanes = Portable;
    const DOT_COLS: usize = DOT_COLS;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Portable {
        self
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        match strip.kind {
            Dtype::F32 => chains(strip, x, out, f32::from_le_bytes),
            Dtype::F16 => chains(strip, x, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => chains(strip, x, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }

    #[inline(always)]
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
        for (i, out) in out[..strip.cols].iter_mut().enumerate() {
            *out = 0.0;
            for (group, (&scale, &fix)) in x.scales.iter().zip(x.fixes).enumerate() {
                let mut sum = fix;
                for quad in 0..QUADS {
                    let q = &x.q[Row::at(group, quad)..][..QUAD];
                    sum += quad_product(strip.quad(i, group, quad), q);
                }
                *out += sum as f32 * strip.scale(i, group) * scale;
            }
        }
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        for (row, c) in rows.iter().zip(c.chunks_exact_mut(COLS)) {
            for group in 0..panel.groups {
                let mut sums = [row.fixes[first + group]; COLS];
                for quad in 0..QUADS {
                    let q = &row.q[Row::at(first + group, quad)..][..QUAD];
                    let cells = &panel.cells[(group * QUADS + quad) * COLS * QUAD..][..COLS * QUAD];
                    for (sum, &cell) in sums.iter_mut().zip(cells.as_chunks::<QUAD>().0) {
                        *sum += quad_product(cell, q);
                    }
                }
                for ((c, &sum), scale) in c.iter_mut().zip(&sums).zip(&panel.scales[group * COLS..]) {
                    *c += sum as f32 * scale * row.scales[first + group];
                }
            }
        }
    }
}

/// [`Bytes::dot_bytes`].
fn dot_bytes(strip: Strip<()>, x: Digits, out: &mut Sums) {
    *out = Sums::default();
    let [lows, highs] = out;
    let cols = lows.iter_mut().zip(highs).take(strip.cols);
    for (row, (out_low, out_high)) in strip.bytes.chunks(strip.stride.max(1)).zip(cols) {
        let digits = x.low.cells.chunks_exact(STEP).zip(x.high.cells.chunks_exact(STEP));
        for (w, ((low, high), &mark)) in row[..strip.k].chunks(STEP).zip(digits.zip(x.marks)) {
            *out_low += products(w, low);
            *out_high += if mark != 0 { products(w, high) } else { 0 };
        }
    }
}

/// The sum of the products of bytes with a sign.
#[inline(always)]
fn products(w: &[u8], x: &[u8]) -> i32 {
    w.iter().zip(x).map(|(&w, &x)| i32::from(w as i8) * i32::from(x as i8)).sum()
}

/// [`Tiles::tiles_of_bytes`].
fn tiles_of_bytes(
    rows: usize,
    x: [Left; 2],
    panel: &[u8],
    adds: bool,
    (sums, at): (&mut [i32], usize),
    mut beside: impl FnMut(&[i32]) -> bool,
) {
    while beside(sums) {}
    for (i, c) in sums[at..].chunks_exact_mut(COLS).take(rows).enumerate() {
        let (x, i) = (x[i / bytes::TILE_ROWS], i % bytes::TILE_ROWS);
        let mut sums = [0; COLS];
        let steps = x.cells.chunks_exact(bytes::TILE_ROWS * STEP);
        for (x, panel) in steps.zip(panel.chunks_exact(STEP * COLS)) {
            let quads = x[i * STEP..][..STEP].as_chunks::<QUAD>().0;
            for (x, cells) in quads.iter().zip(panel.chunks_exact(COLS * QUAD)) {
                for (sum, w) in sums.iter_mut().zip(cells.as_chunks::<QUAD>().0) {
                    *sum += products(w, x);
                }
            }
        }
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if adds { *c + sum } else { sum };
        }
    }
}

/// The sum of four products.
#[inline(always)]
fn quad_product(cell: [u8; QUAD], q: &[u8]) -> i32 {
    cell.iter().zip(q).map(|(&w, &q)| i32::from(w) * i32::from(q as i8)).sum()
}

/// [`Dots::dot_floats`] for elements of `SIZE` bytes: the chains of all columns side by side.
#[inline(always)]
fn chains<const SIZE: usize>(
    strip: Strip<Dtype>,
    x: &[f32],
    out: &mut [f32],
    read: impl Fn([u8; SIZE]) -> f32 + Copy,
) {
    let Strip { bytes, stride, cols, .. } = strip;
    let row = |i: usize| bytes[i.min(cols - 1) * stride..].as_chunks::<SIZE>().0;
    let rows: [&[[u8; SIZE]]; DOT_COLS] = core::array::from_fn(|i| &row(i)[..x.len()]);
    let mut totals = [0.0f32; DOT_COLS];
    for (block, x) in x.chunks(K_BLOCK).enumerate() {
        let first = block * K_BLOCK;
        let rows = rows.map(|row| &row[first..first + x.len()]);
        let mut sums = [0.0f32; DOT_COLS];
        for (k, x) in x.iter().enumerate() {
            for i in 0..DOT_COLS {
                sums[i] += x * read(rows[i][k]);
            }
        }
        for i in 0..DOT_COLS {
            totals[i] = if block == 0 { sums[i] } else { totals[i] + sums[i] };
        }
    }
    out[..cols].copy_from_slice(&totals[..cols]);
}
