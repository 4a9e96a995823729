//! Products by row in plain Rust.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::dots::{Dots, Integer, Panel, QUAD, QUADS, Row, Strip};
use super::lanes::K_BLOCK;
use super::portable::Portable;
use crate::weights::{Dtype, Scheme};

const DOT_COLS: usize = 4;
const COLS: usize = 8;
const TILE_ROWS: usize = 4;

impl Dots for Portable {
    type Lanes = Portable;
    const DOT_COLS: usize = DOT_COLS;
    const COLS: usize = COLS;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Portable {
        self
    }

    #[inline(always)]
    fn offset(self, scheme: Scheme) -> i32 {
        match scheme {
            Scheme::Int8 => 0,
            Scheme::Int4 => 8,
        }
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
        let scheme = strip.kind.scheme;
        for (i, out) in out[..strip.cols].iter_mut().enumerate() {
            *out = 0.0;
            for (group, (&scale, &fix)) in x.scales.iter().zip(x.fixes).enumerate() {
                let mut sum = fix;
                for quad in 0..QUADS {
                    let q = &x.q[Row::at(scheme, group, quad)..][..QUAD];
                    sum += quad_product(scheme, strip.quad(i, group, quad), q);
                }
                *out += scaled(scheme, sum, strip.scale(i, group)) * scale;
            }
        }
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        for (row, c) in rows.iter().zip(c.chunks_exact_mut(COLS)) {
            for group in 0..panel.groups {
                let mut sums = [row.fixes[first + group]; COLS];
                for quad in 0..QUADS {
                    let q = &row.q[Row::at(panel.scheme, first + group, quad)..][..QUAD];
                    let cells = &panel.cells[(group * QUADS + quad) * COLS * QUAD..][..COLS * QUAD];
                    for (sum, &cell) in sums.iter_mut().zip(cells.as_chunks::<QUAD>().0) {
                        *sum += quad_product(panel.scheme, cell, q);
                    }
                }
                for (j, (c, &sum)) in c.iter_mut().zip(&sums).enumerate() {
                    let scale = panel.scales.get(group * COLS + j).copied().unwrap_or(0.0);
                    *c += scaled(panel.scheme, sum, scale) * row.scales[first + group];
                }
            }
        }
    }
}

/// The sum of four products.
#[inline(always)]
fn quad_product(scheme: Scheme, cell: [u8; QUAD], q: &[u8]) -> i32 {
    let stored = |byte: u8| match scheme {
        Scheme::Int8 => i32::from(byte as i8),
        Scheme::Int4 => i32::from(byte),
    };
    cell.iter().zip(q).map(|(&w, &q)| stored(w) * i32::from(q as i8)).sum()
}

/// A group's sum as a number, with its own scale where it has one.
#[inline(always)]
fn scaled(scheme: Scheme, sum: i32, scale: f32) -> f32 {
    match scheme {
        Scheme::Int8 => sum as f32,
        Scheme::Int4 => sum as f32 * scale,
    }
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
