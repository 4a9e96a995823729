//! Activations in integers of two digits of eight bits, of which most rows need the low one alone: for weights of eight bits.
//!
//! A row has one scale; each element is the nearest integer, `255 high + low` with digits of -127 to 127. The scale is such
//! that 127 stands for the largest magnitude, or, where a row has outliers, for the largest of the rest; then the outliers
//! have a high digit. Either digit is a row of bytes whose products are summed exactly ([`super::bytes`]), high ones only
//! where there are some. A row depends on nothing but itself. A row that holds a NaN or an infinity gets NaN as its scale.
//! The definition is `crate::reference::quantise_row`.
#![forbid(unsafe_code)]

use super::Cpu;
use super::bytes::{DIGITS, Digits, Left, STEP, TILE_ROWS};
use super::dots::{DotOp, Dots};
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Mat;
use crate::reference::{MOST, RARE, SMALLEST};

/// Worth of the high digit; an odd number leaves no ties.
pub(super) const BASE: f32 = 255.0;
/// Words (of four bytes) of a cache line.
pub(super) const LINE: usize = 16;
/// Rows up to which every row is a tile of its own.
pub(super) const FEW: usize = 4;

/// How rows lie in scratch: tile after tile, in each the low digits as [`Left`] has them, the high ones, scales, sums of low
/// digits and of high ones, and marks.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Rows of a tile: 1 or [`TILE_ROWS`].
    pub(super) height: usize,
    /// Steps of a row.
    pub(super) steps: usize,
    /// Words of a tile.
    pub(super) words: usize,
    /// Tiles.
    pub(super) tiles: usize,
}

impl Layout {
    /// Of `rows` rows of `k` elements.
    pub(super) fn new(rows: usize, k: usize) -> Layout {
        let (height, steps) = (if rows <= FEW { 1 } else { TILE_ROWS }, k.div_ceil(STEP));
        let rest = (1 + DIGITS) * height + steps.div_ceil(size_of::<f32>());
        let words = DIGITS * height * steps * LINE + rest.next_multiple_of(LINE);
        Layout { height, steps, words, tiles: rows.div_ceil(height) }
    }

    /// Words of one digit of a tile.
    fn digit(self) -> usize {
        self.height * self.steps * LINE
    }

    /// The digits and the scales of a tile.
    pub(super) fn tile(self, words: &[f32]) -> (Digits<'_>, &[f32]) {
        let (low, rest) = words.split_at(self.digit());
        let (high, rest) = rest.split_at(self.digit());
        let (scales, rest) = rest.split_at(self.height);
        let (of_low, rest) = rest.split_at(self.height);
        let (of_high, marks) = rest.split_at(self.height);
        let left =
            |cells, totals| Left { cells: bytemuck::cast_slice(cells), totals: bytemuck::cast_slice(totals) };
        let marks: &[u8] = bytemuck::cast_slice(marks);
        (Digits { low: left(low, of_low), high: left(high, of_high), marks: &marks[..self.steps] }, scales)
    }
}

/// Writes all rows of `x`, tile after tile.
pub(super) fn quantise(cpu: &Cpu, x: Mat, layout: Layout, out: &mut [f32]) {
    let totals = layout.height == 1 || cpu.isa.run_dots(Totals);
    let cost = out.len().saturating_mul(8);
    cpu.threads.blocks(cost, out, layout.words, [1, layout.words], &mut [], |_, [tile, _], mut out| {
        cpu.isa.run(Quantise { x, layout, totals, tile, out: out.whole() });
    });
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

/// One tile.
struct Quantise<'a> {
    x: Mat<'a>,
    layout: Layout,
    totals: bool,
    tile: usize,
    out: &'a mut [f32],
}

impl Op for Quantise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Quantise { x, layout, totals: wanted, tile, out } = self;
        let height = layout.height;
        let (low, rest) = out.split_at_mut(layout.digit());
        let (high, rest) = rest.split_at_mut(layout.digit());
        let (scales, rest) = rest.split_at_mut(height);
        let (totals, marks) = rest.split_at_mut(DIGITS * height);
        let totals: &mut [i32] = bytemuck::cast_slice_mut(totals);
        let marks: &mut [u8] = bytemuck::cast_slice_mut(marks);
        let mut digits: [&mut [u8]; DIGITS] = [bytemuck::cast_slice_mut(low), bytemuck::cast_slice_mut(high)];
        // Rows of a tile that do not exist hold anything, and nobody reads their sums.
        let rows = height.min(x.rows - tile * height);
        marks.fill(0);
        totals.fill(0);
        let mut factors = [0.0; TILE_ROWS];
        let mut outliers = false;
        for i in 0..rows {
            let row = x.row(tile * height + i);
            let (scale, factor, most) = scale(row);
            (scales[i], factors[i]) = (scale, factor);
            outliers |= most > LOW;
            for step in 0..layout.steps {
                let low = &mut digits[0][(step * height + i) * STEP..][..STEP];
                low_digits(&step_of(row, step), factor, low);
                totals[i] += if wanted { sum(low) } else { 0 };
            }
        }
        for i in 0..if outliers { rows } else { 0 } {
            totals[i] = 0;
            for (step, mark) in marks.iter_mut().enumerate().take(layout.steps) {
                let at = (step * height + i) * STEP;
                let [low, high] = digits.each_mut().map(|cells| &mut cells[at..at + STEP]);
                *mark |= both_digits(&step_of(x.row(tile * height + i), step), factors[i], low, high);
                if wanted {
                    totals[i] += sum(low);
                    totals[height + i] += sum(high);
                }
            }
        }
    }
}

/// The elements of a step, then zeros.
#[inline(always)]
fn step_of(row: &[f32], step: usize) -> [f32; STEP] {
    let x = &row[step * STEP..];
    match x.first_chunk() {
        Some(x) => *x,
        None => {
            let mut last = [0.0; STEP];
            last[..x.len()].copy_from_slice(x);
            last
        }
    }
}

/// The sum of digits.
#[inline(always)]
fn sum(digits: &[u8]) -> i32 {
    digits.iter().map(|&digit| i32::from(digit as i8)).sum()
}

/// What the low digit alone can hold.
const LOW: f32 = 127.0;

/// The scale of a row, what its elements are multiplied by (0 where all are taken as zeros), and what the largest becomes.
#[inline(always)]
fn scale(row: &[f32]) -> (f32, f32, f32) {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    // Magnitudes compare like their bits, NaN above all.
    let bits = |x: f32| x.to_bits() & (u32::MAX >> 1);
    let largest = row.iter().fold(0, |most, &x| most.max(bits(x)));
    if largest >= INFINITY {
        return (f32::NAN, 0.0, LOW);
    }
    let largest = f32::from_bits(largest);
    if largest < SMALLEST {
        return (0.0, 0.0, LOW);
    }
    let (mut most, mut next) = (LOW, 4.0 * LOW);
    while next <= MOST {
        let bound = (largest * (LOW / next)).to_bits();
        let mut beyond = 0;
        for x in row.chunks(2 * STEP) {
            beyond += x.iter().map(|&x| u32::from(bits(x) > bound)).sum::<u32>() as usize;
            if beyond > row.len().div_ceil(RARE) {
                return (largest / most, most / largest, most);
            }
        }
        (most, next) = (next, 2.0 * next);
    }
    (largest / most, most / largest, most)
}

/// Added to a number below 2^22, leaves its nearest integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// Writes the low digits of elements that have no high ones.
#[inline(always)]
fn low_digits(x: &[f32; STEP], factor: f32, low: &mut [u8]) {
    if factor == 0.0 {
        return low.fill(0);
    }
    for (&x, low) in x.iter().zip(low) {
        *low = (x * factor + ROUND).to_bits() as u8;
    }
}

/// Writes both digits. Whether a high one is not zero: 1 or 0.
#[inline(always)]
fn both_digits(x: &[f32; STEP], factor: f32, low: &mut [u8], high: &mut [u8]) -> u8 {
    if factor == 0.0 {
        low.fill(0);
        high.fill(0);
        return 0;
    }
    let mut any = 0;
    for ((&x, low), high) in x.iter().zip(low).zip(high) {
        let whole = x * factor + ROUND - ROUND;
        let of_high = whole * (1.0 / BASE) + ROUND;
        *high = of_high.to_bits() as u8;
        *low = (whole - BASE * (of_high - ROUND) + ROUND).to_bits() as u8;
        any |= *high;
    }
    u8::from(any != 0)
}
