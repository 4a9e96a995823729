//! Products by row with AVX-512, with and without VNNI.
//!
//! Sixteen rows of a weight are read side by side. Numbers are transposed in registers, so that every lane runs the chain of
//! one row in the order of the blocked product. Integers are multiplied where they lie and summed across lanes, which is
//! exact.

use core::arch::x86_64::*;

use super::avx512_panels::{pack, tiles_plain, tiles_vnni};
use super::dots::{CHUNK, CHUNK_GROUPS, Dots, Integer, Panel, Row, Strip};
use super::isa::{Avx512, Avx512Vnni};
use super::lanes::{K_BLOCK, LINE};
use crate::weights::{Dtype, GROUP};

/// Rows of a weight that are read side by side.
pub(super) const N: usize = 16;
/// Columns of a panel.
pub(super) const COLS: usize = 2 * N;
const TILE_ROWS: usize = 6;
/// Bytes of a row by which [`Dots::dot_floats`] fetches it ahead.
const AHEAD: usize = 1024;

impl Dots for Avx512 {
    type Lanes = Avx512;
    const DOT_COLS: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        check_floats(&strip, x, out);
        // SAFETY: `self` proves AVX-512; lengths were checked.
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
        check(&strip, x, out);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { dot_plain(strip, x, out) }
    }

    #[inline(always)]
    fn pack(self, strip: Strip<Integer>, first: usize, groups: usize, panel: &mut [u8], scales: &mut [f32]) {
        check_pack(&strip, groups, panel, scales);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { pack::<true>(strip, first, groups, panel, scales) }
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        check_tile(rows, first, panel, c);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { tiles_plain(rows, first, panel, c) }
    }
}

impl Dots for Avx512Vnni {
    type Lanes = Avx512;
    const DOT_COLS: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        self.0.dot_floats(strip, x, out);
    }

    #[inline(always)]
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
        check(&strip, x, out);
        // SAFETY: `self` proves AVX-512 and VNNI; lengths were checked.
        unsafe { dot_vnni(strip, x, out) }
    }

    #[inline(always)]
    fn pack(self, strip: Strip<Integer>, first: usize, groups: usize, panel: &mut [u8], scales: &mut [f32]) {
        self.0.pack(strip, first, groups, panel, scales);
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        check_tile(rows, first, panel, c);
        // SAFETY: `self` proves AVX-512 and VNNI; lengths were checked.
        unsafe { tiles_vnni(rows, first, panel, c) }
    }
}

fn check_floats(strip: &Strip<Dtype>, x: &[f32], out: &[f32]) {
    assert!((1..=N).contains(&strip.cols) && out.len() >= strip.cols && x.len() >= strip.k);
    assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k * strip.kind.size());
}

fn check(strip: &Strip<Integer>, x: Row, out: &[f32]) {
    assert!((1..=N).contains(&strip.cols) && out.len() >= strip.cols);
    check_integers(strip);
    let padded = strip.k.next_multiple_of(CHUNK);
    assert!(x.q.len() >= padded && x.scales.len() >= padded / GROUP && x.fixes.len() >= padded / GROUP);
}

fn check_integers(strip: &Strip<Integer>) {
    assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k / 2);
    assert!(strip.kind.stride >= strip.k / GROUP && strip.k.is_multiple_of(GROUP));
    let scales = (strip.cols - 1) * strip.kind.stride + strip.k / GROUP;
    assert!(strip.kind.scales.len() >= scales * strip.kind.dtype.size());
}

pub(super) fn check_pack(strip: &Strip<Integer>, groups: usize, panel: &[u8], scales: &[f32]) {
    assert!((1..=COLS).contains(&strip.cols) && groups.is_multiple_of(CHUNK_GROUPS));
    check_integers(strip);
    assert!(panel.len() >= groups * GROUP * COLS && scales.len() >= groups * COLS);
}

fn check_tile(rows: &[Row], first: usize, panel: &Panel, c: &[f32]) {
    assert!((1..=TILE_ROWS).contains(&rows.len()) && c.len() >= rows.len() * COLS);
    let end = first + panel.groups;
    assert!(first.is_multiple_of(CHUNK_GROUPS) && panel.groups.is_multiple_of(CHUNK_GROUPS));
    assert!(panel.cells.len() >= panel.groups * GROUP * COLS);
    assert!(panel.scales.len() >= panel.groups * COLS);
    for row in rows {
        assert!(row.q.len() >= end * GROUP && row.scales.len() >= end && row.fixes.len() >= end);
    }
}

/// Sixteen vectors as rows of a matrix to its columns.
#[inline(always)]
pub(super) unsafe fn transpose(rows: [__m512i; N]) -> [__m512i; N] {
    // SAFETY: the caller's promise of AVX-512.
    unsafe {
        let mut pairs = rows;
        for i in (0..N).step_by(2) {
            pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // `fours[4 q + c]`: column `c` of every quarter, rows `4 q` to `4 q + 3`.
        let mut fours = pairs;
        for q in (0..N).step_by(4) {
            fours[q] = _mm512_unpacklo_epi64(pairs[q], pairs[q + 2]);
            fours[q + 1] = _mm512_unpackhi_epi64(pairs[q], pairs[q + 2]);
            fours[q + 2] = _mm512_unpacklo_epi64(pairs[q + 1], pairs[q + 3]);
            fours[q + 3] = _mm512_unpackhi_epi64(pairs[q + 1], pairs[q + 3]);
        }
        let mut columns = fours;
        for c in 0..4 {
            let quarters = quarters([fours[c], fours[4 + c], fours[8 + c], fours[12 + c]]);
            for (q, &column) in quarters.iter().enumerate() {
                columns[4 * q + c] = column;
            }
        }
        columns
    }
}

/// Four vectors of four quarters: the first quarters of all, the second ones, and so on.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller's promise of AVX-512.
    unsafe {
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xDD>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xDD>(c, d));
        [
            _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even),
            _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd),
            _mm512_shuffle_i32x4::<0xDD>(ab_even, cd_even),
            _mm512_shuffle_i32x4::<0xDD>(ab_odd, cd_odd),
        ]
    }
}

/// A mask of the bytes that are left of `width` from `at` on.
#[inline(always)]
pub(super) fn left(width: usize, at: usize) -> __mmask64 {
    match width.saturating_sub(at) {
        left @ 0..64 => (1u64 << left) - 1,
        _ => u64::MAX,
    }
}

/// [`Dots::dot_floats`] for elements of `SIZE` bytes.
///
/// # Safety
/// AVX-512; `check_floats`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn dot_floats<const SIZE: usize, const BF16: bool>(strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
    let Strip { bytes, stride, cols, k, .. } = strip;
    // SAFETY: the caller's promise; rows that do not exist repeat the last one, and masked bytes are not accessed.
    unsafe {
        let row = |i: usize| bytes.as_ptr().add(i.min(cols - 1) * stride);
        let rows: [*const u8; N] = core::array::from_fn(row);
        // Behind these rows lie the ones that come next.
        let (width, next_rows, line) = (k * SIZE, N * stride, LINE / SIZE);
        let mut total = _mm512_setzero_ps();
        for block in (0..k).step_by(K_BLOCK) {
            let end = k.min(block + K_BLOCK);
            let mut sum = _mm512_setzero_ps();
            for from in (block..end).step_by(line) {
                if end - from >= line {
                    let within = from * SIZE + AHEAD < width;
                    let ahead = if within { AHEAD } else { (AHEAD + next_rows).wrapping_sub(width) };
                    // A line is read at once: rows that are pages apart drive each other out of the nearest cache.
                    let lines = line_elements::<SIZE, BF16>(&rows, from, ahead);
                    for (i, cells) in lines.into_iter().take(line / N).enumerate() {
                        sum = chain(cells, x.as_ptr().add(from + i * N), sum);
                    }
                    continue;
                }
                for from in (from..end).step_by(N) {
                    let count = N.min(end - from);
                    let columns = last_elements::<SIZE, BF16>(&rows, from, count);
                    for (&column, &x) in columns.iter().zip(&x[from..from + count]) {
                        sum = _mm512_fmadd_ps(_mm512_set1_ps(x), _mm512_castsi512_ps(column), sum);
                    }
                }
            }
            total = if block == 0 { sum } else { _mm512_add_ps(total, sum) };
        }
        _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1u32 << cols) - 1) as __mmask16, total);
    }
}

/// A cache line of elements of sixteen rows from element `from` on as `f32`, sixteen elements at a time (sixteen in all where
/// an element has four bytes), while the lines `ahead` bytes behind are fetched.
#[inline(always)]
unsafe fn line_elements<const SIZE: usize, const BF16: bool>(
    rows: &[*const u8; N],
    from: usize,
    ahead: usize,
) -> [[__m512i; N]; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut cells = [[_mm512_setzero_si512(); N]; 2];
        for (i, row) in rows.iter().enumerate() {
            let at = row.add(from * SIZE);
            _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(ahead).cast());
            for (part, cells) in cells.iter_mut().take(LINE / SIZE / N).enumerate() {
                let at = at.add(part * N * SIZE);
                cells[i] = match (SIZE, BF16) {
                    (4, _) => _mm512_loadu_si512(at.cast()),
                    (_, true) => widen(_mm256_loadu_si256(at.cast())),
                    _ => _mm512_castps_si512(load_halves(at)),
                };
            }
        }
        cells
    }
}

/// Sixteen `f16` from memory to `f32`. The intrinsic takes them from a register, which costs a shuffle more.
///
/// # Safety
/// AVX-512; 32 bytes at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_halves(from: *const u8) -> __m512 {
    let v: __m512;
    // SAFETY: the caller's promise; the instruction reads those and writes `v` alone.
    unsafe {
        core::arch::asm!(
            "vcvtph2ps {v}, ymmword ptr [{from}]",
            v = lateout(zmm_reg) v,
            from = in(reg) from,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    v
}

/// The last `count` elements of sixteen rows, from element `from` on, as columns.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn last_elements<const SIZE: usize, const BF16: bool>(
    rows: &[*const u8; N],
    from: usize,
    count: usize,
) -> [__m512i; N] {
    // SAFETY: the caller's promise; masked bytes are not accessed.
    unsafe {
        let mut cells = [_mm512_setzero_si512(); N];
        for (cell, row) in cells.iter_mut().zip(rows) {
            let v = _mm512_maskz_loadu_epi8(left(count * SIZE, 0), row.add(from * SIZE).cast());
            *cell = match (SIZE, BF16) {
                (4, _) => v,
                (_, true) => widen(_mm512_castsi512_si256(v)),
                _ => _mm512_castps_si512(_mm512_cvtph_ps(_mm512_castsi512_si256(v))),
            };
        }
        transpose(cells)
    }
}

/// Continues the chains of sixteen rows over sixteen elements.
#[inline(always)]
unsafe fn chain(cells: [__m512i; N], x: *const f32, mut sum: __m512) -> __m512 {
    // SAFETY: the caller's promise; sixteen numbers at `x`.
    unsafe {
        let columns = transpose(cells);
        for (i, &column) in columns.iter().enumerate() {
            sum = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(i)), _mm512_castsi512_ps(column), sum);
        }
        sum
    }
}

/// `bf16` to the bits of `f32`.
#[inline(always)]
unsafe fn widen(v: __m256i) -> __m512i {
    // SAFETY: the caller's promise of AVX-512.
    unsafe { _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v)) }
}

/// `sum` plus the products of four neighbours, `w` unsigned and `x` signed; without VNNI, no sum of two products may leave 16
/// bits.
#[inline(always)]
pub(super) unsafe fn add_quads<const VNNI: bool>(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
    // SAFETY: the caller's promise of AVX-512, and of VNNI where it is set.
    unsafe {
        if VNNI {
            return _mm512_dpbusd_epi32(sum, w, x);
        }
        let pairs = _mm512_maddubs_epi16(w, x);
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
}

/// [`Dots::dot`].
///
/// # Safety
/// AVX-512; `check`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn dot_plain(strip: Strip<Integer>, x: Row, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { dot::<false>(strip, x, out) }
}

/// [`Dots::dot`].
///
/// # Safety
/// AVX-512 with VNNI; `check`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn dot_vnni(strip: Strip<Integer>, x: Row, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { dot::<true>(strip, x, out) }
}

#[inline(always)]
unsafe fn dot<const VNNI: bool>(strip: Strip<Integer>, x: Row, out: &mut [f32]) {
    let Strip { bytes, stride, cols, k, kind } = strip;
    let (width, step) = (k / 2, CHUNK / 2);
    // SAFETY: the caller's promise; rows that do not exist repeat the last one, and masked bytes are not accessed.
    unsafe {
        let zero = _mm512_setzero_si512();
        let row = |i: usize| bytes.as_ptr().add(i.min(cols - 1) * stride);
        let rows: [*const u8; N] = core::array::from_fn(row);
        let mut total = _mm512_setzero_ps();
        for chunk in 0..k.div_ceil(CHUNK) {
            let (at, q) = (chunk * step, x.q.as_ptr().add(chunk * CHUNK));
            let (x0, x1) = (_mm512_loadu_si512(q.cast()), _mm512_loadu_si512(q.add(CHUNK / 2).cast()));
            let mask = left(width, at);
            let mut fours = [zero; 4];
            for (quarter, four) in fours.iter_mut().enumerate() {
                let mut sums = [zero; 4];
                for (sum, row) in sums.iter_mut().zip(&rows[4 * quarter..]) {
                    *sum = partial::<VNNI>(row.wrapping_add(at), N * stride, mask, x0, x1);
                }
                let [a, b, c, d] = sums;
                let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                *four = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            }
            let groups = quarters(fours);
            let scales = columns_scales(&strip, chunk * CHUNK_GROUPS, kind.dtype.size());
            for (i, &sums) in groups.iter().enumerate() {
                let group = chunk * CHUNK_GROUPS + i;
                let fix = _mm512_set1_epi32(*x.fixes.get_unchecked(group));
                let sums = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, fix)), scales[i]);
                total = _mm512_fmadd_ps(sums, _mm512_set1_ps(*x.scales.get_unchecked(group)), total);
            }
        }
        _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1u32 << cols) - 1) as __mmask16, total);
    }
}

/// Sums of four products of one row and one chunk; its four groups are the quarters. What lies `ahead` bytes behind is
/// fetched.
#[inline(always)]
unsafe fn partial<const VNNI: bool>(
    from: *const u8,
    ahead: usize,
    mask: __mmask64,
    x0: __m512i,
    x1: __m512i,
) -> __m512i {
    // SAFETY: the caller's promise; masked bytes are not accessed.
    unsafe {
        let (zero, low) = (_mm512_setzero_si512(), _mm512_set1_epi8(15));
        _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(ahead).cast());
        let w = _mm512_maskz_loadu_epi8(mask, from.cast());
        let sum = add_quads::<VNNI>(zero, _mm512_and_si512(w, low), x0);
        add_quads::<VNNI>(sum, _mm512_and_si512(_mm512_srli_epi16::<4>(w), low), x1)
    }
}

/// The scales of sixteen columns for the four groups from `first` on; 0 behind the last group.
#[inline(always)]
pub(super) unsafe fn columns_scales(
    strip: &Strip<Integer>,
    first: usize,
    size: usize,
) -> [__m512; CHUNK_GROUPS] {
    let Integer { scales, stride, .. } = strip.kind;
    let count = (strip.k / GROUP).saturating_sub(first);
    // SAFETY: the caller's promise; where fewer than four groups are left, they are read one by one.
    unsafe {
        let mut rows = [_mm_setzero_ps(); N];
        for (i, row) in rows.iter_mut().enumerate() {
            let i = i.min(strip.cols - 1);
            let at = scales.as_ptr().wrapping_add((i * stride + first) * size);
            *row = if count < CHUNK_GROUPS {
                let mut four = [0.0f32; CHUNK_GROUPS];
                four.iter_mut().enumerate().for_each(|(j, scale)| *scale = strip.scale(i, first + j));
                _mm_loadu_ps(four.as_ptr())
            } else if size == 2 {
                _mm_cvtph_ps(_mm_loadl_epi64(at.cast()))
            } else {
                _mm_loadu_ps(at.cast())
            };
        }
        let mut fours = [_mm512_setzero_ps(); 4];
        for (i, four) in fours.iter_mut().enumerate() {
            let v = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(rows[i]), rows[i + 4]);
            let v = _mm512_insertf32x4::<2>(v, rows[i + 8]);
            *four = _mm512_insertf32x4::<3>(v, rows[i + 12]);
        }
        let [a, b, c, d] = fours;
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        [
            _mm512_shuffle_ps::<0x44>(ab_low, cd_low),
            _mm512_shuffle_ps::<0xEE>(ab_low, cd_low),
            _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm512_shuffle_ps::<0xEE>(ab_high, cd_high),
        ]
    }
}
