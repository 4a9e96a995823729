//! Keys and values in the types of a cache: written row by row, and read as `f32` by attention, a head of a row at a time.
#![forbid(unsafe_code)]

use half::f16;

use super::Cpu;
use super::lanes::Lanes;
use super::mat::Mat;
use crate::backend::CacheType;
use crate::checked::quotient;
use crate::reference::SMALLEST;
use crate::weights::Dtype;

/// Rounds the rows of `x`, which has `heads` heads, into `out`, rows of [`CacheType::columns`] elements without gaps.
pub(super) fn cache(cpu: &Cpu, x: Mat, heads: usize, kind: CacheType, out: &mut [f32]) {
    let d = quotient(x.cols, heads);
    let columns = kind.head_columns(d);
    if d == 0 {
        return;
    }
    cpu.threads.rows(4, out, heads * columns, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(heads * columns).enumerate() {
            let heads = x.row(first + i).chunks_exact(d).zip(row.chunks_exact_mut(columns));
            heads.for_each(|(x, words)| write(x, kind, words));
        }
    });
}

/// One head of a row.
fn write(x: &[f32], kind: CacheType, words: &mut [f32]) {
    match kind {
        CacheType::F32 => words.copy_from_slice(x),
        CacheType::F16 => {
            let halves: &mut [f16] = bytemuck::cast_slice_mut(words);
            halves.iter_mut().zip(x).for_each(|(half, &x)| *half = f16::from_f32(x));
        }
        CacheType::Int8 => {
            if let Some((scale, words)) = words.split_first_mut() {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
                *scale = eight_bits(x, &mut bytes[..x.len()]);
            }
        }
    }
}

/// Writes the integers of a head and gives their scale.
fn eight_bits(x: &[f32], out: &mut [u8]) -> f32 {
    /// Added to a number below 2^22, leaves its nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Magnitudes compare like their bits, NaN above all.
    let most = x.iter().fold(0, |most, x| most.max(x.to_bits() & (u32::MAX >> 1)));
    let largest = f32::from_bits(most);
    if !largest.is_finite() || largest < SMALLEST {
        out.fill(0);
        return if largest.is_finite() { 0.0 } else { f32::NAN };
    }
    let inverse = 127.0 / largest;
    out.iter_mut().zip(x).for_each(|(out, x)| *out = (x * inverse + ROUND).to_bits() as u8);
    largest / 127.0
}

/// Rows of keys or values in the type of a cache; plain activations are of [`CacheType::F32`].
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    /// [`CacheType::columns`] wide.
    pub(super) mat: Mat<'a>,
    pub(super) kind: CacheType,
    /// Numbers of a head.
    pub(super) d: usize,
}

impl<'a> Held<'a> {
    /// Plain activations.
    pub(super) fn plain(mat: Mat<'a>, heads: usize) -> Held<'a> {
        Held { mat, kind: CacheType::F32, d: quotient(mat.cols, heads) }
    }

    /// Head `head`.
    pub(super) fn head(self, head: usize) -> Held<'a> {
        let columns = self.kind.head_columns(self.d);
        Held { mat: self.mat.columns(head * columns, columns), ..self }
    }

    /// Numbers `first..first + out.len()` of row `row` of a head.
    #[inline(always)]
    pub(super) fn read<L: Lanes>(self, lanes: L, row: usize, first: usize, out: &mut [f32]) {
        let words = self.mat.row(row);
        match self.kind {
            CacheType::F32 => out.copy_from_slice(&words[first..first + out.len()]),
            CacheType::F16 => {
                let halves = &bytemuck::cast_slice::<f32, u8>(words)[2 * first..];
                lanes.convert(Dtype::F16, halves, out);
            }
            CacheType::Int8 => {
                let (scale, words) = words.split_at(1);
                let bytes = &bytemuck::cast_slice::<f32, i8>(words)[first..first + out.len()];
                out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = scale[0] * f32::from(byte));
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
impl<'a> Held<'a> {
    /// `count` rows of a head from row `first` on, in `numbers` where they have to be converted.
    #[inline(always)]
    pub(super) fn rows<'b>(
        self,
        first: usize,
        count: usize,
        numbers: &'b mut [f32],
    ) -> impl Fn(usize) -> &'b [f32]
    where
        'a: 'b,
    {
        if self.kind != CacheType::F32 {
            self.convert(first, count, numbers);
        }
        let numbers = &*numbers;
        move |i| match self.kind {
            CacheType::F32 => self.mat.row(first + i),
            _ => &numbers[i * self.d..][..self.d],
        }
    }

    /// Rows that few callers need, so that size counts more than speed.
    #[inline(never)]
    fn convert(self, first: usize, count: usize, numbers: &mut [f32]) {
        for i in 0..count {
            let Some(out) = numbers.get_mut(i * self.d..(i + 1) * self.d) else { return };
            self.read(super::portable::Portable, first + i, 0, out);
        }
    }
}
