//! Products by row with AVX2: as with AVX-512, but eight rows of a weight side by side.

use core::arch::x86_64::*;

use super::bytes::{self, ByteLanes, Bytes, Digits, Left, Sums, Tiles};
use super::dots::{CHUNK, CHUNK_GROUPS, Dots, Integer, Panel, QUAD, QUADS, Row, Strip};
use super::isa::Avx2;
use super::lanes::{K_BLOCK, LINE};
use crate::weights::{Dtype, GROUP};

/// Rows of a weight that are read side by side.
const N: usize = 8;
/// Columns of a panel.
const COLS: usize = 2 * N;
const TILE_ROWS: usize = 3;

impl ByteLanes for Avx2 {
    type Quads = __m256i;
    type Sums = __m256i;
    const N: usize = N;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn load_quads(self, bytes: &[u8]) -> __m256i {
        assert!(bytes.len() >= N * QUAD);
        // SAFETY: `self` proves AVX2; the length was checked.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn offset(self, stored: __m256i) -> __m256i {
        stored
    }

    #[inline(always)]
    fn splat_quad(self, bytes: [u8; QUAD]) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi32(i32::from_le_bytes(bytes)) }
    }

    #[inline(always)]
    fn add_quads(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2. The sign of a weight goes to the activation.
        unsafe { _mm256_add_epi32(sums, quads(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))) }
    }

    #[inline(always)]
    fn store_sums(self, sums: __m256i, out: &mut [i32]) {
        assert!(out.len() >= N);
        // SAFETY: `self` proves AVX2; the length was checked.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        let mut cells = [0; N];
        self.store_sums(sums, &mut cells);
        cells.iter().fold(0, |total, &sum| total.wrapping_add(sum))
    }

    #[inline(always)]
    fn fetch(self, bytes: &[u8], distance: usize) {
        // SAFETY: `self` proves AVX2; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().wrapping_add(distance).cast()) }
    }
}

impl Bytes for Avx2 {
    const COLS: usize = COLS;
    const SIDE: usize = N / 2;
    const TOTALS: bool = false;

    #[inline(always)]
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums) {
        bytes::dot::<Self, { N / 2 }>(self, strip, x, out);
    }

    #[inline(always)]
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]) {
        bytes::pack::<COLS>(strip, panel);
    }

    type Tiles = Self;
    #[inline(always)]
    fn matrix_unit(self) -> Self {
        self
    }
}

impl Tiles for Avx2 {
    #[inline(always)]
    fn tiles_of_bytes(
        &self,
        rows: usize,
        x: [Left; 2],
        [panel, ahead]: [&[u8]; 2],
        adds: bool,
        sums: (&mut [i32], usize),
        beside: impl FnMut(&[i32]) -> bool,
    ) {
        bring(ahead);
        bytes::tiles::<Self, 4, 2>(*self, rows, x, panel, adds, sums, beside);
    }
}

impl Dots for Avx2 {
    type Lanes = Avx2;
    const DOT_COLS: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Avx2 {
        self
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        assert!((1..=N).contains(&strip.cols) && out.len() >= strip.cols && x.len() >= strip.k);
        assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k * strip.kind.size());
        // SAFETY: `self` proves AVX2, FMA and F16C; lengths were checked.
        unsafe {
            match strip.kind {
                Dtype::F32 => dot_floats::<4, false>(strip, x, out),
                Dtype::F16 => dot_floats::<2, false>(strip, x, out),
                Dtype::Bf16 => dot_floats::<2, true>(strip, x, out),
            }
        }
    }

    #[inline(always)]
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
        let padded = strip.k.next_multiple_of(CHUNK);
        assert!((1..=N).contains(&strip.cols) && out.len() >= strip.cols);
        assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k / 2);
        assert!(x.q.len() >= padded && x.scales.len() >= padded / GROUP && x.fixes.len() >= padded / GROUP);
        // SAFETY: `self` proves AVX2; lengths were checked.
        unsafe { dot(strip, x, out) }
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        let end = first + panel.groups;
        assert!((1..=TILE_ROWS).contains(&rows.len()) && c.len() >= rows.len() * COLS);
        assert!(first.is_multiple_of(CHUNK_GROUPS) && panel.groups.is_multiple_of(CHUNK_GROUPS));
        assert!(panel.cells.len() >= panel.groups * GROUP * COLS);
        assert!(panel.scales.len() >= panel.groups * COLS);
        for row in rows {
            assert!(row.q.len() >= end * GROUP && row.scales.len() >= end && row.fixes.len() >= end);
        }
        // SAFETY: `self` proves AVX2; lengths were checked.
        unsafe {
            match rows.len() {
                3 => tile::<3>(rows, first, panel, c),
                2 => tile::<2>(rows, first, panel, c),
                _ => tile::<1>(rows, first, panel, c),
            }
        }
    }
}

/// Brings all cells nearer.
#[inline(always)]
pub(super) fn bring(cells: &[u8]) {
    for line in cells.chunks(LINE) {
        // SAFETY: every processor of this kind has the instruction, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// Eight vectors as rows of a matrix to its columns.
#[inline(always)]
unsafe fn transpose(rows: [__m256; N]) -> [__m256; N] {
    // SAFETY: the caller's promise of AVX2.
    unsafe {
        // `fours[4 q + c]`: column `c` of both halves, rows `4 q` to `4 q + 3`.
        let mut fours = rows;
        for q in [0, 4] {
            let [a, b, c, d] = [rows[q], rows[q + 1], rows[q + 2], rows[q + 3]];
            let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            fours[q] = _mm256_shuffle_ps::<0x44>(ab_low, cd_low);
            fours[q + 1] = _mm256_shuffle_ps::<0xEE>(ab_low, cd_low);
            fours[q + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
            fours[q + 3] = _mm256_shuffle_ps::<0xEE>(ab_high, cd_high);
        }
        let mut columns = fours;
        for c in 0..4 {
            columns[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
            columns[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
        }
        columns
    }
}

/// [`Dots::dot_floats`] for elements of `SIZE` bytes.
///
/// # Safety
/// AVX2, FMA and F16C; the lengths that the caller checked.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_floats<const SIZE: usize, const BF16: bool>(strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
    let Strip { bytes, stride, cols, k, .. } = strip;
    // SAFETY: the caller's promise; rows that do not exist repeat the last one.
    unsafe {
        let rows: [*const u8; N] = core::array::from_fn(|i| bytes.as_ptr().add(i.min(cols - 1) * stride));
        let mut total = _mm256_setzero_ps();
        for block in (0..k).step_by(K_BLOCK) {
            let end = k.min(block + K_BLOCK);
            let mut sum = _mm256_setzero_ps();
            for from in (block..end).step_by(N) {
                let count = N.min(end - from);
                let mut cells = [_mm256_setzero_ps(); N];
                for (cell, row) in cells.iter_mut().zip(rows) {
                    let at = row.add(from * SIZE);
                    if count == N {
                        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(N * stride).cast());
                        *cell = load::<SIZE, BF16>(at);
                    } else {
                        let mut bytes = [0u8; 4 * N];
                        core::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), count * SIZE);
                        *cell = load::<SIZE, BF16>(bytes.as_ptr());
                    }
                }
                let columns = transpose(cells);
                for (&column, &x) in columns.iter().zip(&x[from..from + count]) {
                    sum = _mm256_fmadd_ps(_mm256_set1_ps(x), column, sum);
                }
            }
            total = if block == 0 { sum } else { _mm256_add_ps(total, sum) };
        }
        let mut cells = [0.0f32; N];
        _mm256_storeu_ps(cells.as_mut_ptr(), total);
        out[..cols].copy_from_slice(&cells[..cols]);
    }
}

/// Eight elements of `SIZE` bytes.
#[inline(always)]
unsafe fn load<const SIZE: usize, const BF16: bool>(from: *const u8) -> __m256 {
    // SAFETY: the caller's promise of AVX2 and F16C, and of eight elements.
    unsafe {
        match (SIZE, BF16) {
            (4, _) => _mm256_loadu_ps(from.cast()),
            (_, true) => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
            _ => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
        }
    }
}

/// The products of four neighbours, `w` unsigned and `x` signed. No sum of two products leaves 16 bits.
#[inline(always)]
unsafe fn quads(w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's promise of AVX2.
    unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)) }
}

/// Up to 32 bytes of a row of `width` bytes from byte `at` on, then zeros; those `ahead` bytes behind are fetched.
#[inline(always)]
unsafe fn bytes(row: *const u8, at: usize, width: usize, ahead: usize) -> __m256i {
    // SAFETY: the caller's promise of AVX2, and of `width` bytes.
    unsafe {
        if at + 32 <= width {
            let from = row.add(at);
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(ahead).cast());
            return _mm256_loadu_si256(from.cast());
        }
        let mut cells = [0u8; 32];
        core::ptr::copy_nonoverlapping(row.add(at.min(width)), cells.as_mut_ptr(), width.saturating_sub(at));
        _mm256_loadu_si256(cells.as_ptr().cast())
    }
}

/// Sums of four products of one row and two groups, which are the halves: its bytes from `at` on, and the activations at `q`.
#[inline(always)]
unsafe fn partial(row: *const u8, at: usize, [width, ahead]: [usize; 2], q: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let (w, low) = (bytes(row, at, width, ahead), _mm256_set1_epi8(15));
        let even = quads(_mm256_and_si256(w, low), _mm256_loadu_si256(q.cast()));
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), low);
        _mm256_add_epi32(even, quads(high, _mm256_loadu_si256(q.add(CHUNK / 2).cast())))
    }
}

/// [`Dots::dot`].
///
/// # Safety
/// AVX2; the lengths that the caller checked.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot(strip: Strip<Integer>, x: Row, out: &mut [f32]) {
    let Strip { bytes, stride, cols, k, .. } = strip;
    let (width, step) = (k / 2, CHUNK / 2);
    // SAFETY: the caller's promise; rows that do not exist repeat the last one.
    unsafe {
        let rows: [*const u8; N] = core::array::from_fn(|i| bytes.as_ptr().add(i.min(cols - 1) * stride));
        let mut total = _mm256_setzero_ps();
        for chunk in 0..k.div_ceil(CHUNK) {
            let (at, q) = (chunk * step, x.q.as_ptr().add(chunk * CHUNK));
            // Sums of the groups, a lane for each row.
            let mut groups = [_mm256_setzero_si256(); CHUNK_GROUPS];
            for pair in 0..CHUNK_GROUPS / 2 {
                let at = at + pair * step / 2;
                let mut fours = [_mm256_setzero_si256(); 2];
                for (half, four) in fours.iter_mut().enumerate() {
                    let mut sums = [_mm256_setzero_si256(); 4];
                    for (sum, &row) in sums.iter_mut().zip(&rows[4 * half..]) {
                        *sum = partial(row, at, [width, N * stride], q.add(pair * 32));
                    }
                    let [a, b, c, d] = sums;
                    *four = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
                }
                let [first, second] = fours;
                groups[2 * pair] = _mm256_permute2x128_si256::<0x20>(first, second);
                groups[2 * pair + 1] = _mm256_permute2x128_si256::<0x31>(first, second);
            }
            for (i, &sums) in groups.iter().enumerate() {
                let group = chunk * CHUNK_GROUPS + i;
                let fix = _mm256_set1_epi32(*x.fixes.get_unchecked(group));
                let mut scales = [0.0f32; N];
                scales.iter_mut().enumerate().for_each(|(i, x)| *x = strip.scale(i.min(cols - 1), group));
                let sums = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, fix));
                let sums = _mm256_mul_ps(sums, _mm256_loadu_ps(scales.as_ptr()));
                total = _mm256_fmadd_ps(sums, _mm256_set1_ps(*x.scales.get_unchecked(group)), total);
            }
        }
        let mut cells = [0.0f32; N];
        _mm256_storeu_ps(cells.as_mut_ptr(), total);
        out[..cols].copy_from_slice(&cells[..cols]);
    }
}

/// [`Dots::tile`].
///
/// # Safety
/// AVX2; the lengths that the caller checked.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const ROWS: usize>(rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        let c = c.as_mut_ptr();
        let mut q = [core::ptr::null::<u8>(); ROWS];
        q.iter_mut().zip(rows).for_each(|(q, row)| *q = row.q.as_ptr());
        for group in 0..panel.groups {
            let cells = panel.cells.as_ptr().add(group * GROUP * COLS);
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = [_mm256_set1_epi32(*row.fixes.get_unchecked(first + group)); 2];
            }
            for quad in 0..QUADS {
                let cells = cells.add(quad * COLS * QUAD);
                let (left, right) =
                    (_mm256_loadu_si256(cells.cast()), _mm256_loadu_si256(cells.add(32).cast()));
                let at = Row::at(first + group, quad);
                for (sums, q) in sums.iter_mut().zip(q) {
                    let x = _mm256_set1_epi32(q.add(at).cast::<i32>().read_unaligned());
                    sums[0] = _mm256_add_epi32(sums[0], quads(left, x));
                    sums[1] = _mm256_add_epi32(sums[1], quads(right, x));
                }
            }
            let scales = panel.scales.as_ptr().wrapping_add(group * COLS);
            for (i, sums) in sums.iter().enumerate() {
                let scale = _mm256_set1_ps(*rows[i].scales.get_unchecked(first + group));
                for (j, &sums) in sums.iter().enumerate() {
                    let c = c.add(i * COLS + j * N);
                    let sums = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scales.add(j * N)));
                    _mm256_storeu_ps(c, _mm256_fmadd_ps(sums, scale, _mm256_loadu_ps(c)));
                }
            }
        }
    }
}
