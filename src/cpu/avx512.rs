//! Vectors of AVX-512: sixteen `f32`, masks for the tails.
//!
//! Every `unsafe` block calls intrinsics that need AVX-512 F, VL, BW or DQ: a value of [`Avx512`] exists only where the
//! machine has them. Loads and stores are the unaligned ones, inside slices whose lengths were checked.

use core::arch::x86_64::*;

use super::isa::Avx512;
use super::lanes::{AHEAD, Accumulate, K_BLOCK, LINE, Lanes, LeftRows, MAX_TILE_ROWS};
use crate::weights::Dtype;

const N: usize = 16;
const PANEL: usize = 4 * N;
const TILE_ROWS: usize = 6;
/// Steps of `k` between two looks ahead.
const STEPS: usize = 16;

/// A mask whose first `n` lanes are set.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    ((1u32 << n.min(N)) - 1) as __mmask16
}

impl Lanes for Avx512 {
    type V = __m512;
    const N: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;
    const PANEL: usize = PANEL;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x = &x[..N];
        // SAFETY: `self` proves AVX-512; sixteen elements are there.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_integers(self, x: &[i32]) -> __m512 {
        let x = &x[..N];
        // SAFETY: `self` proves AVX-512; sixteen elements are there.
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> __m512 {
        // SAFETY: `self` proves AVX-512; masked lanes are not accessed.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(x.len()), x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        let out = &mut out[..N];
        // SAFETY: `self` proves AVX-512; there is room for sixteen elements.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_partial(self, v: __m512, out: &mut [f32]) {
        // SAFETY: `self` proves AVX-512; masked lanes are not accessed.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), first_lanes(out.len()), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    fn scale2(self, v: __m512, n: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_scalef_ps(v, n) }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512 and AVX2.
        unsafe {
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
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
        // SAFETY: `self` proves AVX-512; both pointers stay inside slices of `whole` elements.
        unsafe {
            for i in (0..whole).step_by(N) {
                let from = bytes.as_ptr().add(i * dtype.size());
                let v = match dtype {
                    Dtype::F32 => _mm512_loadu_ps(from.cast()),
                    Dtype::F16 => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                    Dtype::Bf16 => {
                        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                    }
                };
                _mm512_storeu_ps(head.as_mut_ptr().add(i), v);
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
        // SAFETY: `self` proves AVX-512; row `i < rows` has `k` elements from `bytes[i * stride]`, and the panel has
        // `k * PANEL` elements, checked above.
        unsafe { pack(bytes.as_ptr(), stride, rows, k, panel.as_mut_ptr()) }
    }

    #[inline(always)]
    fn interleave(self, rows: &[f32], k: usize, out: &mut [f32]) {
        assert!(k <= K_BLOCK && rows.len() >= MAX_TILE_ROWS * K_BLOCK && out.len() >= k * TILE_ROWS);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { interleave(rows.as_ptr(), k, out.as_mut_ptr()) }
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
        let ([rows, cols, k], (a, steps)) = (size, a.steps::<Avx512>(size));
        assert!((1..=TILE_ROWS).contains(&rows) && (1..=PANEL).contains(&cols) && k <= K_BLOCK);
        assert!(panel.len() >= k * PANEL && c.len() >= (rows - 1) * c_stride + PANEL);
        let (a, panel, c) = (a.as_ptr(), panel.as_ptr(), c.as_mut_ptr());
        // SAFETY: `self` proves AVX-512; all accesses lie inside the lengths asserted above.
        unsafe {
            match steps {
                [K_BLOCK, 1] => {
                    tiles::<K_BLOCK, 1>([rows, cols, k], a, panel, c, c_stride, accumulate, ahead)
                }
                _ => tiles::<1, TILE_ROWS>([rows, cols, k], a, panel, c, c_stride, accumulate, ahead),
            }
        }
    }
}

/// [`tile`] of every size, for rows whose elements lie `ROW` apart from row to row and `STEP` from `k` to `k + 1`.
///
/// # Safety
/// As [`tile`], for `[rows, cols, k]`.
#[inline(always)]
unsafe fn tiles<const ROW: usize, const STEP: usize>(
    [rows, cols, k]: [usize; 3],
    a: *const f32,
    panel: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: Accumulate,
    ahead: [&[u8]; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match (cols.div_ceil(N), rows) {
            (4, 6) => tile::<6, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (4, 5) => tile::<5, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (4, 4) => tile::<4, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (4, 3) => tile::<3, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (4, 2) => tile::<2, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (4, _) => tile::<1, 4, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, 6) => tile::<6, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, 5) => tile::<5, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, 4) => tile::<4, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, 3) => tile::<3, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, 2) => tile::<2, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (3, _) => tile::<1, 3, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, 6) => tile::<6, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, 5) => tile::<5, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, 4) => tile::<4, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, 3) => tile::<3, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, 2) => tile::<2, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (2, _) => tile::<1, 2, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, 6) => tile::<6, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, 5) => tile::<5, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, 4) => tile::<4, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, 3) => tile::<3, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, 2) => tile::<2, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
            (_, _) => tile::<1, 1, ROW, STEP>(k, a, panel, c, c_stride, accumulate, ahead),
        }
    }
}

/// [`Lanes::pack`]: 16 rows by 4 elements at a time, as 4x4 transpositions in the four quarters of the registers.
///
/// # Safety
/// AVX-512; `rows` (1 to 64) rows of `k` floats `stride` bytes apart at `from`; `k * PANEL` floats at `panel`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn pack(from: *const u8, stride: usize, rows: usize, k: usize, panel: *mut f32) {
    // SAFETY: the caller's promise; rows that do not exist repeat the last one and are overwritten with zeros at the end.
    unsafe {
        let row = |i: usize| from.add(i.min(rows - 1) * stride).cast::<f32>();
        let whole = k / 4 * 4;
        for base in (0..PANEL).step_by(N) {
            if base >= rows {
                break;
            }
            let starts: [*const f32; N] = core::array::from_fn(|i| row(base + i));
            for k in (0..whole).step_by(4) {
                let four = |i: usize| {
                    let v = _mm512_castps128_ps512(_mm_loadu_ps(starts[i].add(k)));
                    let v = _mm512_insertf32x4::<1>(v, _mm_loadu_ps(starts[i + 4].add(k)));
                    let v = _mm512_insertf32x4::<2>(v, _mm_loadu_ps(starts[i + 8].add(k)));
                    _mm512_insertf32x4::<3>(v, _mm_loadu_ps(starts[i + 12].add(k)))
                };
                let (a, b, c, d) = (four(0), four(1), four(2), four(3));
                let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let out = panel.add(k * PANEL + base);
                _mm512_storeu_ps(out, _mm512_shuffle_ps::<0x44>(ab_low, cd_low));
                _mm512_storeu_ps(out.add(PANEL), _mm512_shuffle_ps::<0xEE>(ab_low, cd_low));
                _mm512_storeu_ps(out.add(2 * PANEL), _mm512_shuffle_ps::<0x44>(ab_high, cd_high));
                _mm512_storeu_ps(out.add(3 * PANEL), _mm512_shuffle_ps::<0xEE>(ab_high, cd_high));
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

/// [`Lanes::interleave`], 4 elements at a time.
///
/// # Safety
/// AVX-512; [`MAX_TILE_ROWS`] rows of [`K_BLOCK`] floats at `rows`, `k * TILE_ROWS` floats at `out`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn interleave(rows: *const f32, k: usize, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        // Each store writes two elements too many, which the next one overwrites; the last ones are written alone.
        let whole = k.saturating_sub(1) / 4 * 4;
        for k in (0..whole).step_by(4) {
            let pair = |i: usize| {
                let low = _mm_loadu_ps(rows.add(i * K_BLOCK + k));
                let high = _mm_loadu_ps(rows.add((i + 4) * K_BLOCK + k));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
            let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let out = out.add(k * TILE_ROWS);
            _mm256_storeu_ps(out, _mm256_shuffle_ps::<0x44>(ab_low, cd_low));
            _mm256_storeu_ps(out.add(TILE_ROWS), _mm256_shuffle_ps::<0xEE>(ab_low, cd_low));
            _mm256_storeu_ps(out.add(2 * TILE_ROWS), _mm256_shuffle_ps::<0x44>(ab_high, cd_high));
            _mm256_storeu_ps(out.add(3 * TILE_ROWS), _mm256_shuffle_ps::<0xEE>(ab_high, cd_high));
        }
        for k in whole..k {
            for i in 0..TILE_ROWS {
                *out.add(k * TILE_ROWS + i) = *rows.add(i * K_BLOCK + k);
            }
        }
    }
}

/// [`Lanes::tile`] for a fixed number of rows and of vectors in a row.
///
/// # Safety
/// AVX-512; `ROWS` rows of `k` floats at `a`, `ROW` and `STEP` apart, `k * PANEL` floats at `panel`, `ROWS` rows of `COLS * N` floats
/// `c_stride` apart at `c`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn tile<const ROWS: usize, const COLS: usize, const ROW: usize, const STEP: usize>(
    k: usize,
    a: *const f32,
    panel: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: Accumulate,
    ahead: [&[u8]; 2],
) {
    // SAFETY: the caller's promise; a prefetch accesses nothing.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); COLS]; ROWS];
        if accumulate == Accumulate::Continue {
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = core::array::from_fn(|j| _mm512_loadu_ps(c.add(i * c_stride + j * N)));
            }
        }
        let mut step = |k: usize| {
            let right: [_; COLS] = core::array::from_fn(|j| _mm512_loadu_ps(panel.add(k * PANEL + j * N)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i * ROW + k * STEP));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(x, right, *sum);
                }
            }
        };
        let mut ahead = ahead.into_iter().flat_map(|run| run.chunks(LINE));
        for from in (0..k).step_by(STEPS) {
            if STEP == TILE_ROWS {
                // These rows lie in the second-level cache, one line after the other.
                let next = a.wrapping_add((from + STEPS) * TILE_ROWS);
                for line in 0..STEPS * TILE_ROWS * size_of::<f32>() / LINE {
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_byte_add(line * LINE).cast());
                }
            }
            for line in ahead.by_ref().take(STEPS / AHEAD) {
                _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
            }
            (from..k.min(from + STEPS)).for_each(&mut step);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, mut sum) in sums.into_iter().enumerate() {
                let c = c.add(i * c_stride + j * N);
                if accumulate == Accumulate::Add {
                    sum = _mm512_add_ps(_mm512_loadu_ps(c), sum);
                }
                _mm512_storeu_ps(c, sum);
            }
        }
    }
}
