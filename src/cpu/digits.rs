//! Activations in integers of sixteen bits, split into two digits of eight: for weights of eight bits.
//!
//! A row has one scale, its largest magnitude over [`MOST`]; each element is the nearest integer, `255 high + low` with digits of
//! -127 to 127. Either digit is a row of bytes whose products are summed exactly ([`super::bytes`]); an outlier costs the other
//! elements of its row what is beyond fifteen bits. A row depends on nothing but itself. A row that holds a NaN or an infinity
//! gets NaN as its scale. The definition is `crate::reference::quantise_row`.
#![forbid(unsafe_code)]

use super::Cpu;
use super::bytes::{DIGITS, Left, STEP, TILE_ROWS};
use super::dots::{DotOp, Dots};
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Mat;
use crate::reference::{MOST, SMALLEST};

/// Worth of the high digit; an odd number leaves no ties.
pub(super) const BASE: f32 = 255.0;
/// Words (of four bytes) of a cache line.
pub(super) const LINE: usize = 16;
/// Rows up to which every row is a tile of its own.
pub(super) const FEW: usize = 4;

/// How rows lie in scratch: tile after tile, in each the digits as [`Left`] has them, then scales, then sums of digits.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Rows of a tile: 1 or [`TILE_ROWS`].
    pub(super) height: usize,
    /// Words of a tile's digits.
    digits: usize,
    /// Words of a tile.
    pub(super) words: usize,
    /// Tiles.
    pub(super) tiles: usize,
}

impl Layout {
    /// Of `rows` rows of `k` elements.
    pub(super) fn new(rows: usize, k: usize) -> Layout {
        let height = if rows <= FEW { 1 } else { TILE_ROWS };
        let digits = DIGITS * height * k.div_ceil(STEP) * LINE;
        let words = digits + ((1 + DIGITS) * height).next_multiple_of(LINE);
        Layout { height, digits, words, tiles: rows.div_ceil(height) }
    }

    /// The digits and the scales of a tile.
    pub(super) fn tile(self, words: &[f32]) -> (Left<'_>, &[f32]) {
        let (cells, rest) = words.split_at(self.digits);
        let (scales, rest) = rest.split_at(self.height);
        let totals = bytemuck::cast_slice(&rest[..DIGITS * self.height]);
        (Left { cells: bytemuck::cast_slice(cells), totals }, scales)
    }
}

/// Writes all rows of `x`, tile after tile.
pub(super) fn quantise(cpu: &Cpu, x: Mat, layout: Layout, out: &mut [f32]) {
    let totals = layout.height == 1 || cpu.isa.run_dots(Totals);
    cpu.threads
        .rows(8, out, layout.words, |first, out| cpu.isa.run(Quantise { x, layout, totals, first, out }));
}

/// [`Bytes::TOTALS`](super::bytes::Bytes::TOTALS).
struct Totals;

impl DotOp for Totals {
    type Out = bool;

    #[inline(always)]
    fn run<D: Dots>(self, _dots: D) -> bool {
        D::TOTALS
    }
}

/// The tiles from `first` on.
struct Quantise<'a> {
    x: Mat<'a>,
    layout: Layout,
    totals: bool,
    first: usize,
    out: &'a mut [f32],
}

impl Op for Quantise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Quantise { x, layout: Layout { height, digits, words, .. }, totals: wanted, first, out } = self;
        for (tile, out) in out.chunks_exact_mut(words).enumerate() {
            let (cells, rest) = out.split_at_mut(digits);
            let (scales, totals) = rest.split_at_mut(height);
            let (cells, totals): (&mut [u8], &mut [i32]) =
                (bytemuck::cast_slice_mut(cells), bytemuck::cast_slice_mut(totals));
            let from = (first + tile) * height;
            // Rows of a tile that do not exist hold anything, and nobody reads their sums.
            for i in 0..height.min(x.rows - from) {
                let row = x.row(from + i);
                let (scale, inverse) = scale(row);
                scales[i] = scale;
                let mut sums = [0; DIGITS];
                for (step, cells) in cells.chunks_exact_mut(DIGITS * height * STEP).enumerate() {
                    let mut last = [0.0; STEP];
                    let x = &row[step * STEP..];
                    let x = match x.first_chunk() {
                        Some(x) => x,
                        None => {
                            last[..x.len()].copy_from_slice(x);
                            &last
                        }
                    };
                    let (highs, lows) = cells.split_at_mut(height * STEP);
                    let digits = [&mut highs[i * STEP..][..STEP], &mut lows[i * STEP..][..STEP]];
                    split(x, inverse, digits);
                    if wanted {
                        let total = |d: usize| cells[(d * height + i) * STEP..][..STEP].iter();
                        for (d, sum) in sums.iter_mut().enumerate() {
                            *sum += total(d).map(|&digit| i32::from(digit as i8)).sum::<i32>();
                        }
                    }
                }
                (totals[i], totals[height + i]) = (sums[0], sums[1]);
            }
        }
    }
}

/// The scale of a row, and what its elements are multiplied by; 0 where all are taken as zeros.
#[inline(always)]
fn scale(row: &[f32]) -> (f32, f32) {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    // Magnitudes compare like their bits, NaN above all.
    let most = row.iter().fold(0, |most, x| most.max(x.to_bits() & (u32::MAX >> 1)));
    let largest = f32::from_bits(most);
    match most >= INFINITY {
        true => (f32::NAN, 0.0),
        false if largest < SMALLEST => (0.0, 0.0),
        false => (largest / MOST, MOST / largest),
    }
}

/// Writes the digits of some elements, the high ones first.
#[inline(always)]
fn split(x: &[f32; STEP], inverse: f32, [highs, lows]: [&mut [u8]; DIGITS]) {
    /// Added to a number below 2^22, leaves its nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    if inverse == 0.0 {
        highs.fill(0);
        lows.fill(0);
        return;
    }
    for ((&x, high), low) in x.iter().zip(highs).zip(lows) {
        let whole = x * inverse + ROUND - ROUND;
        let of_high = whole * (1.0 / BASE) + ROUND;
        *high = of_high.to_bits() as u8;
        *low = (whole - BASE * (of_high - ROUND) + ROUND).to_bits() as u8;
    }
}
