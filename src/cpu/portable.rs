//! Vectors in plain Rust: four `f32`, which the compiler maps to whatever the target has.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::lanes::{Accumulate, Lanes, LeftRows};
use crate::weights::Dtype;

/// Needs nothing of the processor.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const N: usize = 4;
const PANEL: usize = 2 * N;
const TILE_ROWS: usize = 4;

/// `f(lane)` for every lane.
#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; N] {
    [f(0), f(1), f(2), f(3)]
}

/// `2^n` for `n` in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

impl Lanes for Portable {
    type V = [f32; N];
    const N: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;
    const PANEL: usize = PANEL;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> [f32; N] {
        [x[0], x[1], x[2], x[3]]
    }

    #[inline(always)]
    fn load_integers(self, x: &[i32]) -> [f32; N] {
        core::array::from_fn(|i| x[i] as f32)
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> [f32; N] {
        each(|i| x.get(i).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn store(self, v: [f32; N], out: &mut [f32]) {
        out[..N].copy_from_slice(&v);
    }

    #[inline(always)]
    fn store_partial(self, v: [f32; N], out: &mut [f32]) {
        out.iter_mut().zip(v).for_each(|(out, v)| *out = v);
    }

    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        each(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn select_less(self, a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        each(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn scale2(self, v: [f32; N], n: [f32; N]) -> [f32; N] {
        each(|i| {
            // A NaN becomes 0 here; `v` is NaN as well then and stays so.
            let n = (n[i] as i32).clamp(-252, 254);
            let half = n >> 1;
            v[i] * power_of_two(half) * power_of_two(n - half)
        })
    }

    #[inline(always)]
    fn sum(self, v: [f32; N]) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }

    #[inline(always)]
    fn convert(self, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
        let bytes = &bytes[..out.len() * dtype.size()];
        match dtype {
            Dtype::F32 => {
                let (elements, _) = bytes.as_chunks();
                out.iter_mut().zip(elements).for_each(|(out, &x)| *out = f32::from_le_bytes(x));
            }
            Dtype::F16 => {
                let (elements, _) = bytes.as_chunks();
                out.iter_mut().zip(elements).for_each(|(out, &x)| *out = f16::from_le_bytes(x).to_f32());
            }
            Dtype::Bf16 => {
                let (elements, _) = bytes.as_chunks();
                out.iter_mut().zip(elements).for_each(|(out, &x)| *out = bf16::from_le_bytes(x).to_f32());
            }
        }
    }

    #[inline(always)]
    fn pack(self, bytes: &[u8], stride: usize, rows: usize, k: usize, panel: &mut [f32]) {
        let panel = &mut panel[..k * PANEL];
        if rows < PANEL {
            panel.fill(0.0);
        }
        for i in 0..rows.min(PANEL) {
            let (elements, _) = bytes[i * stride..i * stride + k * 4].as_chunks();
            for (cells, &x) in panel.chunks_exact_mut(PANEL).zip(elements) {
                cells[i] = f32::from_le_bytes(x);
            }
        }
    }

    #[inline(always)]
    fn tile(
        self,
        size: [usize; 3],
        a: LeftRows,
        panel: &[f32],
        c: &mut [f32],
        c_stride: usize,
        accumulate: Accumulate,
        _ahead: [&[u8]; 2],
    ) {
        let ([rows, _, k], (a, steps)) = (size, a.steps::<Portable>(size));
        match rows {
            4 => tile::<4>(k, a, steps, panel, c, c_stride, accumulate),
            3 => tile::<3>(k, a, steps, panel, c, c_stride, accumulate),
            2 => tile::<2>(k, a, steps, panel, c, c_stride, accumulate),
            _ => tile::<1>(k, a, steps, panel, c, c_stride, accumulate),
        }
    }
}

/// [`Lanes::tile`] for a fixed number of rows.
fn tile<const ROWS: usize>(
    k: usize,
    a: &[f32],
    steps: [usize; 2],
    panel: &[f32],
    c: &mut [f32],
    c_stride: usize,
    accumulate: Accumulate,
) {
    let mut sums = [[0.0f32; PANEL]; ROWS];
    if accumulate == Accumulate::Continue {
        for (i, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&c[i * c_stride..i * c_stride + PANEL]);
        }
    }
    for (k, panel) in panel[..k * PANEL].as_chunks::<PANEL>().0.iter().enumerate() {
        for i in 0..ROWS {
            let x = a[i * steps[0] + k * steps[1]];
            for j in 0..PANEL {
                sums[i][j] += x * panel[j];
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let c = &mut c[i * c_stride..i * c_stride + PANEL];
        if accumulate == Accumulate::Add {
            c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
        } else {
            c.copy_from_slice(sums);
        }
    }
}
