//! Panels and tiles of the product with weights of four bits with AVX-512, with and without VNNI.

use core::arch::x86_64::*;

use super::avx512_dots::{COLS, N, add_quads, columns_scales, left, transpose};
use super::dots::{CHUNK, CHUNK_GROUPS, Integer, Panel, QUAD, QUADS, Row, Strip};
use crate::weights::GROUP;

/// [`Dots::pack`](super::dots::Dots::pack); without `OFFSET`, integers are signed.
///
/// # Safety
/// AVX-512; `check_pack`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack<const OFFSET: bool>(
    strip: Strip<Integer>,
    first: usize,
    groups: usize,
    panel: &mut [u8],
    scales: &mut [f32],
) {
    let width = strip.k / 2;
    for half in 0..COLS / N {
        if half * N >= strip.cols {
            break;
        }
        let strip = strip.columns(half * N, N);
        for chunk in 0..groups / CHUNK_GROUPS {
            let at = (first / CHUNK_GROUPS + chunk) * 64;
            // SAFETY: the caller's promise; rows that do not exist repeat the last one, and masked bytes are not accessed.
            // A chunk takes `CHUNK * COLS` bytes of the panel.
            unsafe {
                let cells = panel.as_mut_ptr().add(chunk * CHUNK * COLS + half * N * QUAD);
                let low = _mm512_set1_epi8(15);
                let mut rows = [_mm512_setzero_si512(); N];
                for (i, row) in rows.iter_mut().enumerate() {
                    let from = strip.bytes.as_ptr().add(i.min(strip.cols - 1) * strip.stride);
                    *row = _mm512_maskz_loadu_epi8(left(width, at), from.wrapping_add(at).cast());
                }
                let mut halves = [rows, rows];
                for i in 0..N {
                    halves[0][i] = _mm512_and_si512(rows[i], low);
                    halves[1][i] = _mm512_and_si512(_mm512_srli_epi16::<4>(rows[i]), low);
                }
                for (half, rows) in halves.into_iter().enumerate() {
                    let columns = transpose(rows);
                    for (i, &v) in columns.iter().enumerate() {
                        let v = if OFFSET { v } else { _mm512_sub_epi8(v, _mm512_set1_epi8(8)) };
                        let quad = i / 4 * QUADS + half * QUADS / 2 + i % 4;
                        _mm512_storeu_si512(cells.add(quad * COLS * QUAD).cast(), v);
                    }
                }
            }
            let group = first + chunk * CHUNK_GROUPS;
            // SAFETY: the caller's promise; a chunk takes `CHUNK_GROUPS * COLS` scales.
            unsafe {
                let out = scales.as_mut_ptr().add(chunk * CHUNK_GROUPS * COLS + half * N);
                let size = strip.kind.dtype.size();
                for (i, v) in columns_scales(&strip, group, size).into_iter().enumerate() {
                    _mm512_storeu_ps(out.add(i * COLS), v);
                }
            }
        }
    }
}

/// [`Dots::tile`](super::dots::Dots::tile).
///
/// # Safety
/// AVX-512; `check_tile`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn tiles_plain(rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { tiles::<false>(rows, first, panel, c) }
}

/// [`Dots::tile`](super::dots::Dots::tile).
///
/// # Safety
/// AVX-512 with VNNI; `check_tile`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn tiles_vnni(rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { tiles::<true>(rows, first, panel, c) }
}

#[inline(always)]
unsafe fn tiles<const VNNI: bool>(rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows.len() {
            6 => tile::<VNNI, 6>(rows, first, panel, c),
            5 => tile::<VNNI, 5>(rows, first, panel, c),
            4 => tile::<VNNI, 4>(rows, first, panel, c),
            3 => tile::<VNNI, 3>(rows, first, panel, c),
            2 => tile::<VNNI, 2>(rows, first, panel, c),
            _ => tile::<VNNI, 1>(rows, first, panel, c),
        }
    }
}

#[inline(always)]
unsafe fn tile<const VNNI: bool, const ROWS: usize>(
    rows: &[Row],
    first: usize,
    panel: &Panel,
    c: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let c = c.as_mut_ptr();
        let mut q = [core::ptr::null::<u8>(); ROWS];
        let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
        for i in 0..ROWS {
            q[i] = rows[i].q.as_ptr();
            totals[i] = [_mm512_loadu_ps(c.add(i * COLS)), _mm512_loadu_ps(c.add(i * COLS + N))];
        }
        for group in 0..panel.groups {
            let cells = panel.cells.as_ptr().add(group * GROUP * COLS);
            let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = [_mm512_set1_epi32(*row.fixes.get_unchecked(first + group)); 2];
            }
            for quad in 0..QUADS {
                let cells = cells.add(quad * COLS * QUAD);
                let (left, right) =
                    (_mm512_loadu_si512(cells.cast()), _mm512_loadu_si512(cells.add(64).cast()));
                let at = Row::at(first + group, quad);
                for (sums, q) in sums.iter_mut().zip(q) {
                    let x = _mm512_set1_epi32(q.add(at).cast::<i32>().read_unaligned());
                    sums[0] = add_quads::<VNNI>(sums[0], left, x);
                    sums[1] = add_quads::<VNNI>(sums[1], right, x);
                }
            }
            let scales = panel.scales.as_ptr().wrapping_add(group * COLS);
            for (i, totals) in totals.iter_mut().enumerate() {
                let scale = _mm512_set1_ps(*rows[i].scales.get_unchecked(first + group));
                for j in 0..2 {
                    let scales = _mm512_loadu_ps(scales.add(j * N));
                    let sums = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][j]), scales);
                    totals[j] = _mm512_fmadd_ps(sums, scale, totals[j]);
                }
            }
        }
        for (i, totals) in totals.iter().enumerate() {
            _mm512_storeu_ps(c.add(i * COLS), totals[0]);
            _mm512_storeu_ps(c.add(i * COLS + N), totals[1]);
        }
    }
}
