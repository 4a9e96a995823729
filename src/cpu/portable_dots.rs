//! Products by row in plain Rust.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::bytes::{self, Bytes, DIGITS, Left, STEP, Sums, Tiles};
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
    fn dot_bytes(self, strip: Strip<()>, x: Left, out: &mut Sums) {
        dot_bytes(strip, x, out);
    }

    #[inline(always)]
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]) {
        bytes::pack::<COLS>(strip, panel);
    }

    type Tiles = Self;
    #[inline(always)]
    fn tiles_of_bytes(self) -> Self {
        self
    }
}

impl Tiles for Portable {
    #[inline(always)]
    fn tile_bytes(&self, rows: usize, x: Left, panel: &[u8], _ahead: &[u8], adds: bool, c: &mut [i32]) {
        tile_bytes(rows, x, panel, adds, c);
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
fn dot_bytes(strip: Strip<()>, x: Left, out: &mut Sums) {
    *out = Sums::default();
    for j in 0..strip.cols {
        let row = &strip.bytes[j * strip.stride..][..strip.k];
        for (w, x) in row.chunks(STEP).zip(x.cells.chunks_exact(DIGITS * STEP)) {
            let digits = x.chunks_exact(STEP);
            for (sums, x) in out.iter_mut().zip(digits) {
                sums[j] +=
                    w.iter().zip(x).map(|(&w, &x)| i32::from(w as i8) * i32::from(x as i8)).sum::<i32>();
            }
        }
    }
}

/// [`Tiles::tile_bytes`].
fn tile_bytes(rows: usize, x: Left, panel: &[u8], adds: bool, c: &mut [i32]) {
    for (i, c) in c.chunks_exact_mut(COLS).take(DIGITS * bytes::TILE_ROWS).enumerate() {
        if i % bytes::TILE_ROWS >= rows {
            continue;
        }
        let mut sums = [0; COLS];
        let steps = x.cells.chunks_exact(DIGITS * bytes::TILE_ROWS * STEP);
        for (x, panel) in steps.zip(panel.chunks_exact(STEP * COLS)) {
            let quads = x[i * STEP..][..STEP].as_chunks::<QUAD>().0;
            for (x, cells) in quads.iter().zip(panel.chunks_exact(COLS * QUAD)) {
                for (sum, w) in sums.iter_mut().zip(cells.as_chunks::<QUAD>().0) {
                    *sum +=
                        w.iter().zip(x).map(|(&w, &x)| i32::from(w as i8) * i32::from(x as i8)).sum::<i32>();
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
