//! Activations in integers of eight bits, for weights of four: every row in groups of [`GROUP`] elements with a scale of
//! their own.
//!
//! The scale of a group is its largest magnitude over 127, each element the nearest integer, so that an outlier costs
//! precision in its own group alone. A row depends on nothing but itself. A group that holds a NaN or an infinity gets NaN
//! as its scale. The definition is `crate::reference::quantise_row`.
#![forbid(unsafe_code)]

use super::Cpu;
use super::dots::{CHUNK, CHUNK_GROUPS, Row};
use super::lanes::{K_BLOCK, Lanes};
use super::mat::Mat;
use super::portable::Portable;
use crate::checked::quotient;
use crate::reference::SMALLEST;
use crate::weights::{self, GROUP, Quantised, Scheme};

// Blocks of the product begin with a group.
const _: () = assert!(K_BLOCK.is_multiple_of(GROUP) && K_BLOCK / GROUP <= MAX_GROUPS);

/// Most groups that [`dequantise`] takes.
const MAX_GROUPS: usize = 16;

/// Words (of four bytes) of scratch that a row of `k` elements takes: its integers, then scales, then fixes.
pub(super) fn words(k: usize) -> usize {
    let padded = k.next_multiple_of(CHUNK);
    padded / 4 + 2 * (padded / GROUP)
}

/// The integers of a row in [`words`] of scratch.
pub(super) fn row(words: &[f32], k: usize) -> Row<'_> {
    let padded = k.next_multiple_of(CHUNK);
    let (q, rest) = words.split_at(padded / 4);
    let (scales, fixes) = rest.split_at(padded / GROUP);
    Row { q: bytemuck::cast_slice(q), scales, fixes: bytemuck::cast_slice(fixes) }
}

/// Writes all rows of `x`, [`words`] each.
pub(super) fn quantise(cpu: &Cpu, x: Mat, out: &mut [f32]) {
    let words = words(x.cols);
    cpu.threads.rows(2, out, words, |first, out| {
        for (i, out) in out.chunks_exact_mut(words.max(1)).enumerate() {
            quantise_row(x.row(first + i), out);
        }
    });
}

fn quantise_row(x: &[f32], words: &mut [f32]) {
    let padded = x.len().next_multiple_of(CHUNK);
    let (q, rest) = words.split_at_mut(padded / 4);
    let (scales, fixes) = rest.split_at_mut(padded / GROUP);
    let (q, fixes): (&mut [u8], &mut [i32]) = (bytemuck::cast_slice_mut(q), bytemuck::cast_slice_mut(fixes));
    for (group, (scale, fix)) in scales.iter_mut().zip(fixes).enumerate() {
        let mut cells = [0.0f32; GROUP];
        let from = x.get(group * GROUP..).unwrap_or(&[]);
        let count = from.len().min(GROUP);
        cells[..count].copy_from_slice(&from[..count]);
        let (integers, its_scale) = quantise_group(&cells);
        let sum: i32 = integers.iter().map(|&q| i32::from(q)).sum();
        (*scale, *fix) = (its_scale, -8 * sum);
        let chunk = &mut q[quotient(group, CHUNK_GROUPS) * CHUNK..][..CHUNK];
        let (even, odd) = chunk.split_at_mut(CHUNK / 2);
        let at = group % CHUNK_GROUPS * (GROUP / 2);
        let cells = even[at..].iter_mut().zip(&mut odd[at..]);
        for ((even, odd), &[low, high]) in cells.zip(integers.as_chunks::<2>().0) {
            (*even, *odd) = (low as u8, high as u8);
        }
    }
}

/// The integers of one group and their scale.
#[inline]
fn quantise_group(x: &[f32; GROUP]) -> ([i8; GROUP], f32) {
    /// Added to a number below 2^22, leaves its nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const INFINITY: u32 = f32::INFINITY.to_bits();
    // Magnitudes compare like their bits, NaN above all.
    let most = x.iter().fold(0, |most, x| most.max(x.to_bits() & (u32::MAX >> 1)));
    let largest = f32::from_bits(most);
    if most >= INFINITY {
        return ([0; GROUP], f32::NAN);
    }
    if largest < SMALLEST {
        return ([0; GROUP], 0.0);
    }
    let inverse = 127.0 / largest;
    (x.map(|x| (x * inverse + ROUND).to_bits() as i8), largest / 127.0)
}

/// The numbers that row `row` of a weight stands for from element `first` on, a multiple of [`GROUP`].
pub(super) fn dequantise(weight: &Quantised, row: usize, first: usize, out: &mut [f32]) {
    let ([_, k], scheme, scales) = (weight.sizes(), weight.scheme(), weight.scales());
    let bytes = &weight.bytes()[row * scheme.row_bytes(k) + scheme.row_bytes(first)..];
    let at = match scheme {
        Scheme::Int8 => row,
        Scheme::Int4 => row * scheme.row_scales(k) + first / GROUP,
    };
    let mut numbers = [0.0f32; MAX_GROUPS];
    let count = out.len().div_ceil(GROUP).min(scheme.row_scales(k)).min(numbers.len());
    let numbers = &mut numbers[..count];
    let size = scales.dtype().size();
    Portable.convert(scales.dtype(), &scales.bytes()[at * size..], numbers);
    weights::dequantise(bytes, numbers, scheme, out);
}
