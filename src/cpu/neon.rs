//! Vectors of aarch64: four `f32`, which every processor of that architecture has.
//!
//! Every `unsafe` block calls intrinsics that need NEON: a value of [`Neon`] exists only where the target has it. Loads and
//! stores lie inside slices whose lengths were checked, and may have any alignment.

use core::arch::aarch64::*;

use super::isa::Neon;
use super::lanes::{Accumulate, K_BLOCK, Lanes, LeftRows};
use crate::weights::Dtype;

const N: usize = 4;
const PANEL: usize = 4 * N;
const TILE_ROWS: usize = 6;

/// Four little-endian elements of `SIZE` bytes.
///
/// # Safety
/// NEON; they are there.
#[inline(always)]
pub(super) unsafe fn load<const SIZE: usize, const BF16: bool>(from: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        match (SIZE, BF16) {
            (4, _) => vreinterpretq_f32_u8(vld1q_u8(from)),
            (_, true) => vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(from)))),
            _ => vcvt_f32_f16(vreinterpret_f16_u16(vreinterpret_u16_u8(vld1_u8(from)))),
        }
    }
}

/// Four vectors as rows of a matrix to its columns.
///
/// # Safety
/// NEON.
#[inline(always)]
pub(super) unsafe fn transpose([a, b, c, d]: [float32x4_t; N]) -> [float32x4_t; N] {
    // SAFETY: the caller's promise.
    unsafe {
        // a0 b0 a2 b2, a1 b1 a3 b3, and the same of c and d; then halves of those.
        let (ab_even, ab_odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
        let (cd_even, cd_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
        [
            vcombine_f32(vget_low_f32(ab_even), vget_low_f32(cd_even)),
            vcombine_f32(vget_low_f32(ab_odd), vget_low_f32(cd_odd)),
            vcombine_f32(vget_high_f32(ab_even), vget_high_f32(cd_even)),
            vcombine_f32(vget_high_f32(ab_odd), vget_high_f32(cd_odd)),
        ]
    }
}

impl Lanes for Neon {
    type V = float32x4_t;
    const N: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;
    const PANEL: usize = PANEL;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> float32x4_t {
        let x = &x[..N];
        // SAFETY: four elements are there.
        unsafe { vld1q_f32(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_integers(self, x: &[i32]) -> float32x4_t {
        let x = &x[..N];
        // SAFETY: `self` proves NEON; four elements are there.
        unsafe { vcvtq_f32_s32(vld1q_s32(x.as_ptr())) }
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> float32x4_t {
        let mut whole = [0.0; N];
        whole.iter_mut().zip(x).for_each(|(to, &from)| *to = from);
        self.load(&whole)
    }

    #[inline(always)]
    fn store(self, v: float32x4_t, out: &mut [f32]) {
        let out = &mut out[..N];
        // SAFETY: there is room for four elements.
        unsafe { vst1q_f32(out.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_partial(self, v: float32x4_t, out: &mut [f32]) {
        let mut whole = [0.0; N];
        self.store(v, &mut whole);
        out.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vcltq_f32(a, b), yes, no) }
    }

    #[inline(always)]
    fn scale2(self, v: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe {
            let bias = vdupq_n_s32(127);
            // A NaN becomes 0 here; `v` is NaN as well then and stays so.
            let n = vminq_s32(vmaxq_s32(vcvtq_s32_f32(n), vdupq_n_s32(-252)), vdupq_n_s32(254));
            let half = vshrq_n_s32::<1>(n);
            let rest = vsubq_s32(n, half);
            let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, bias)));
            vmulq_f32(vmulq_f32(v, power(half)), power(rest))
        }
    }

    #[inline(always)]
    fn sum(self, v: float32x4_t) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe {
            let pair = vadd_f32(vget_low_f32(v), vget_high_f32(v));
            vget_lane_f32::<0>(pair) + vget_lane_f32::<1>(pair)
        }
    }

    #[inline(always)]
    fn convert(self, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
        let bytes = &bytes[..out.len() * dtype.size()];
        let whole = out.len() / N * N;
        let (head, tail) = out.split_at_mut(whole);
        for (i, out) in head.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            let from = &bytes[i * N * dtype.size()..][..N * dtype.size()];
            // SAFETY: four elements are at both places.
            unsafe {
                let from = from.as_ptr();
                let v = match dtype {
                    Dtype::F32 => load::<4, false>(from),
                    Dtype::F16 => load::<2, false>(from),
                    Dtype::Bf16 => load::<2, true>(from),
                };
                vst1q_f32(out.as_mut_ptr(), v);
            }
        }
        super::portable::Portable.convert(dtype, &bytes[whole * dtype.size()..], tail);
    }

    #[inline(always)]
    fn pack(self, bytes: &[u8], stride: usize, rows: usize, k: usize, panel: &mut [f32]) {
        let panel = &mut panel[..k * PANEL];
        let rows = rows.min(PANEL);
        if rows == 0 || k == 0 {
            return panel.fill(0.0);
        }
        // The last row must end inside `bytes`; the others end before it.
        let bytes = &bytes[..(rows - 1) * stride + k * 4];
        // SAFETY: row `i < rows` has `k` elements from `bytes[i * stride]`, and the panel has `k * PANEL` elements, checked
        // above.
        unsafe { pack(bytes.as_ptr(), stride, rows, k, panel.as_mut_ptr()) }
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
        let ([rows, cols, k], (a, [row, apart])) = (size, a.steps::<Neon>(size));
        assert!((1..=TILE_ROWS).contains(&rows) && (1..=PANEL).contains(&cols) && k <= K_BLOCK);
        assert!(panel.len() >= k * PANEL && c.len() >= (rows - 1) * c_stride + PANEL);
        let (depth, a, panel, c) = ([k, row, apart], a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
        // SAFETY: all accesses lie inside the lengths asserted above.
        unsafe {
            match (cols.div_ceil(N), rows) {
                (3 | 4, 6) => tile::<6, 4>(depth, a, panel, c, c_stride, accumulate),
                (3 | 4, 5) => tile::<5, 4>(depth, a, panel, c, c_stride, accumulate),
                (3 | 4, 4) => tile::<4, 4>(depth, a, panel, c, c_stride, accumulate),
                (3 | 4, 3) => tile::<3, 4>(depth, a, panel, c, c_stride, accumulate),
                (3 | 4, 2) => tile::<2, 4>(depth, a, panel, c, c_stride, accumulate),
                (3 | 4, _) => tile::<1, 4>(depth, a, panel, c, c_stride, accumulate),
                (_, 6) => tile::<6, 2>(depth, a, panel, c, c_stride, accumulate),
                (_, 5) => tile::<5, 2>(depth, a, panel, c, c_stride, accumulate),
                (_, 4) => tile::<4, 2>(depth, a, panel, c, c_stride, accumulate),
                (_, 3) => tile::<3, 2>(depth, a, panel, c, c_stride, accumulate),
                (_, 2) => tile::<2, 2>(depth, a, panel, c, c_stride, accumulate),
                (_, _) => tile::<1, 2>(depth, a, panel, c, c_stride, accumulate),
            }
        }
    }
}

/// [`Lanes::pack`]: 4 rows by 4 elements at a time.
///
/// # Safety
/// NEON; `rows` (1 to 16) rows of `k` floats `stride` bytes apart at `from`; `k * PANEL` floats at `panel`.
#[inline(always)]
unsafe fn pack(from: *const u8, stride: usize, rows: usize, k: usize, panel: *mut f32) {
    // SAFETY: the caller's promise; rows that do not exist repeat the last one and are overwritten with zeros at the end.
    unsafe {
        let row = |i: usize| from.add(i.min(rows - 1) * stride).cast::<f32>();
        let four = |i: usize, k: usize| load::<4, false>(row(i).add(k).cast());
        let whole = k / 4 * 4;
        for base in (0..PANEL).step_by(N).take_while(|&base| base < rows) {
            for k in (0..whole).step_by(4) {
                let rows = [four(base, k), four(base + 1, k), four(base + 2, k), four(base + 3, k)];
                for (i, column) in transpose(rows).into_iter().enumerate() {
                    vst1q_f32(panel.add((k + i) * PANEL + base), column);
                }
            }
        }
        for k in whole..k {
            for i in 0..rows {
                *panel.add(k * PANEL + i) = row(i).add(k).read_unaligned();
            }
        }
        if rows < PANEL {
            for k in 0..k {
                for i in rows..PANEL {
                    *panel.add(k * PANEL + i) = 0.0;
                }
            }
        }
    }
}

/// [`Lanes::tile`] for a fixed number of rows and of vectors in a row.
///
/// # Safety
/// NEON; `ROWS` rows of `k` floats at `a`, rows `row` and elements `apart` from each other, `k * PANEL` floats at `panel`,
/// `ROWS` rows of `COLS * N` floats `c_stride` apart at `c`.
#[inline(always)]
unsafe fn tile<const ROWS: usize, const COLS: usize>(
    [k, row, apart]: [usize; 3],
    a: *const f32,
    panel: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: Accumulate,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); COLS]; ROWS];
        if accumulate == Accumulate::Continue {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = vld1q_f32(c.add(i * c_stride + j * N));
                }
            }
        }
        for k in 0..k {
            let mut right = [vdupq_n_f32(0.0); COLS];
            for (j, right) in right.iter_mut().enumerate() {
                *right = vld1q_f32(panel.add(k * PANEL + j * N));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = vld1q_dup_f32(a.add(i * row + k * apart));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = vfmaq_f32(*sum, x, right);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, mut sum) in sums.into_iter().enumerate() {
                let c = c.add(i * c_stride + j * N);
                if accumulate == Accumulate::Add {
                    sum = vaddq_f32(vld1q_f32(c), sum);
                }
                vst1q_f32(c, sum);
            }
        }
    }
}
