//! Vectors of AVX2: eight `f32`, fused multiply-add, conversions by F16C.
//!
//! Every `unsafe` block calls intrinsics that need AVX2, FMA or F16C: a value of [`Avx2`] exists only where the machine
//! has them. Loads and stores are the unaligned ones, inside slices whose lengths were checked.

use core::arch::x86_64::*;

use super::isa::Avx2;
use super::lanes::{AHEAD, Accumulate, K_BLOCK, LINE, Lanes, LeftRows};
use crate::weights::Dtype;

const N: usize = 8;
const PANEL: usize = 2 * N;
const TILE_ROWS: usize = 6;

/// A mask whose first `n` lanes are set.
#[inline(always)]
fn first_lanes(n: usize) -> __m256i {
    const TABLE: [i32; 2 * N] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window = &TABLE[N - n.min(N)..];
    assert!(window.len() >= N);
    // SAFETY: the window holds at least eight integers.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

impl Lanes for Avx2 {
    type V = __m256;
    const N: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;
    const PANEL: usize = PANEL;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x = &x[..N];
        // SAFETY: `self` proves AVX2; eight elements are there.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_integers(self, x: &[i32]) -> __m256 {
        let x = &x[..N];
        // SAFETY: `self` proves AVX2; eight elements are there.
        unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> __m256 {
        // SAFETY: `self` proves AVX2; masked lanes are not accessed.
        unsafe { _mm256_maskload_ps(x.as_ptr(), first_lanes(x.len())) }
    }

    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32]) {
        let out = &mut out[..N];
        // SAFETY: `self` proves AVX2; there is room for eight elements.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_partial(self, v: __m256, out: &mut [f32]) {
        // SAFETY: `self` proves AVX2; masked lanes are not accessed.
        unsafe { _mm256_maskstore_ps(out.as_mut_ptr(), first_lanes(out.len()), v) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn scale2(self, v: __m256, n: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let n = _mm256_cvtps_epi32(n);
            let n = _mm256_min_epi32(_mm256_max_epi32(n, _mm256_set1_epi32(-252)), _mm256_set1_epi32(254));
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
            _mm256_mul_ps(_mm256_mul_ps(v, power(half)), power(rest))
        }
    }

    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }

    #[inline(always)]
    fn convert(self, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
        let bytes = &bytes[..out.len() * dtype.size()];
        let whole = out.len() / N * N;
        let (head, tail) = out.split_at_mut(whole);
        // SAFETY: `self` proves AVX2 and F16C; both pointers stay inside slices of `whole` elements.
        unsafe {
            for i in (0..whole).step_by(N) {
                let from = bytes.as_ptr().add(i * dtype.size());
                let v = match dtype {
                    Dtype::F32 => _mm256_loadu_ps(from.cast()),
                    Dtype::F16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    Dtype::Bf16 => {
                        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                    }
                };
                _mm256_storeu_ps(head.as_mut_ptr().add(i), v);
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
        // SAFETY: `self` proves AVX2; row `i < rows` has `k` elements from `bytes[i * stride]`, and the panel has
        // `k * PANEL` elements, checked above.
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
        ahead: [&[u8]; 2],
    ) {
        let ([rows, cols, k], (a, [row, step])) = (size, a.steps::<Avx2>(size));
        assert!((1..=TILE_ROWS).contains(&rows) && (1..=PANEL).contains(&cols) && k <= K_BLOCK);
        assert!(panel.len() >= k * PANEL && c.len() >= (rows - 1) * c_stride + PANEL);
        let (depth, a, panel, c) = ([k, row, step], a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
        // SAFETY: `self` proves AVX2 and FMA; all accesses lie inside the lengths asserted above.
        unsafe {
            match (cols.div_ceil(N), rows) {
                (2, 6) => tile::<6, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (2, 5) => tile::<5, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (2, 4) => tile::<4, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (2, 3) => tile::<3, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (2, 2) => tile::<2, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (2, _) => tile::<1, 2>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, 6) => tile::<6, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, 5) => tile::<5, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, 4) => tile::<4, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, 3) => tile::<3, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, 2) => tile::<2, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
                (_, _) => tile::<1, 1>(depth, a, panel, c, c_stride, accumulate, ahead),
            }
        }
    }
}

/// [`Lanes::pack`]: 8 rows by 4 elements at a time, as 4x4 transpositions in both halves of the registers.
///
/// # Safety
/// AVX2; `rows` (1 to 16) rows of `k` floats `stride` bytes apart at `from`; `k * PANEL` floats at `panel`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pack(from: *const u8, stride: usize, rows: usize, k: usize, panel: *mut f32) {
    // SAFETY: the caller's promise; rows that do not exist repeat the last one and are overwritten with zeros at the end.
    unsafe {
        let row = |i: usize| from.add(i.min(rows - 1) * stride).cast::<f32>();
        let whole = k / 4 * 4;
        for base in (0..PANEL).step_by(N) {
            if base >= rows {
                break;
            }
            for k in (0..whole).step_by(4) {
                let pair = |i: usize| {
                    let low = _mm_loadu_ps(row(base + i).add(k));
                    let high = _mm_loadu_ps(row(base + i + 4).add(k));
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
                };
                let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let out = panel.add(k * PANEL + base);
                _mm256_storeu_ps(out, _mm256_shuffle_ps::<0x44>(ab_low, cd_low));
                _mm256_storeu_ps(out.add(PANEL), _mm256_shuffle_ps::<0xEE>(ab_low, cd_low));
                _mm256_storeu_ps(out.add(2 * PANEL), _mm256_shuffle_ps::<0x44>(ab_high, cd_high));
                _mm256_storeu_ps(out.add(3 * PANEL), _mm256_shuffle_ps::<0xEE>(ab_high, cd_high));
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
/// AVX2 and FMA; `ROWS` rows of `k` floats at `a`, rows `row` and elements `apart` from each other, `k * PANEL` floats at
/// `panel`, `ROWS` rows of `COLS * N` floats `c_stride` apart at `c`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const ROWS: usize, const COLS: usize>(
    [k, row, apart]: [usize; 3],
    a: *const f32,
    panel: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: Accumulate,
    ahead: [&[u8]; 2],
) {
    // SAFETY: the caller's promise; a prefetch accesses nothing.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); COLS]; ROWS];
        if accumulate == Accumulate::Continue {
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = core::array::from_fn(|j| _mm256_loadu_ps(c.add(i * c_stride + j * N)));
            }
        }
        let mut step = |k: usize| {
            let right: [_; COLS] = core::array::from_fn(|j| _mm256_loadu_ps(panel.add(k * PANEL + j * N)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i * row + k * apart));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm256_fmadd_ps(x, right, *sum);
                }
            }
        };
        for (half, ahead) in [0..k / 2, k / 2..k].into_iter().zip(ahead) {
            for line in ahead.chunks(LINE).take(k / 2 / AHEAD) {
                _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
            }
            half.for_each(&mut step);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, mut sum) in sums.into_iter().enumerate() {
                let c = c.add(i * c_stride + j * N);
                if accumulate == Accumulate::Add {
                    sum = _mm256_add_ps(_mm256_loadu_ps(c), sum);
                }
                _mm256_storeu_ps(c, sum);
            }
        }
    }
}
