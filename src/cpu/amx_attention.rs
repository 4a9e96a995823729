//! Attention by the matrix unit: products of tiles rounded to `bf16`, keys turned into panels, and the softmax weights of a tile.
//!
//! A tile of scores is 32 rows of 32 keys. Its weights are a left operand as they come out of the vectors: two vectors of a row,
//! keys `i` and 16 + `i`, are the pairs of a tile's row (see [`super::amx_thirds`]).

use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::Range;

use super::amx_thirds::{HIGH, PANEL, ROWS, STEP, TILE, TILE_WORDS, Tiles, next_part, pairs, words};
use super::isa::Avx512Amx;
use super::lanes::LINE;

/// Words of a tile of scores.
pub(super) const SCORES: usize = ROWS * PANEL;

/// What is known of the rows of a tile after some keys.
pub(super) struct State<'a> {
    /// Largest logit of every row, times `log2 e`.
    pub(super) largest: &'a mut [f32],
    /// Sixteen sums of weights for every row.
    pub(super) totals: &'a mut [f32],
    /// By what sums over the keys before have to be multiplied.
    pub(super) factors: &'a mut [f32],
}

impl Avx512Amx {
    /// As [`Avx512Amx::split_rows`], turned into a panel of which the rows are columns.
    pub(super) fn split_columns<'a>(
        self,
        parts: usize,
        columns: usize,
        k: usize,
        column: impl Fn(usize) -> &'a [f32],
        out: &mut [f32],
    ) {
        self.split_rows(parts, columns, k, column, out);
        for tile in out[..words(parts, k)].chunks_exact_mut(TILE) {
            // SAFETY: `self` proves AVX-512; sixteen rows of sixteen words are there.
            unsafe { turn(tile.as_mut_ptr()) }
        }
    }

    /// Writes the parts of a step of values, `count` rows of `e`, as panels `stride` words apart; see
    /// [`Avx512Amx::split_panel`].
    pub(super) fn split_values<'a>(
        self,
        parts: usize,
        count: usize,
        e: usize,
        row: impl Fn(usize) -> &'a [f32],
        stride: usize,
        out: &mut [f32],
    ) {
        let out = &mut out[..e.div_ceil(PANEL).saturating_sub(1) * stride + words(parts, STEP)];
        for pair in 0..TILE_WORDS {
            let low = if pair < count { &row(pair)[..e] } else { &[] };
            let high = if TILE_WORDS + pair < count { &row(TILE_WORDS + pair)[..e] } else { &[] };
            // SAFETY: `self` proves AVX-512; `out` has room for a step of every panel, and the pair is one of a step's.
            unsafe {
                let out = out.as_mut_ptr().add(pair * TILE_WORDS);
                match parts {
                    3 => split_pair::<3>(low, high, e, stride, out),
                    _ => split_pair::<1>(low, high, e, stride, out),
                }
            }
        }
    }

    /// Turns scores `[tile][ROWS][PANEL]` of some rows and all keys of a block into weights `2^(factor score - largest)` in `parts` parts, a
    /// step of a left operand for every tile. `factor` is positive; `keys` are there in the tiles.
    #[inline(never)]
    pub(super) fn weigh(
        self,
        parts: usize,
        rows: Range<usize>,
        (keys, factor): (usize, f32),
        scores: &[f32],
        state: State,
        out: &mut [f32],
    ) {
        let tiles = keys.div_ceil(PANEL);
        let scores = &scores[..tiles * SCORES];
        let State { largest, totals, factors } = state;
        let out = &mut out[..words(parts, tiles * STEP)];
        assert!(rows.end <= largest.len().min(totals.len() / TILE_WORDS).min(factors.len()).min(ROWS));
        for row in rows.clone() {
            // SAFETY: `self` proves AVX-512; the row is one of `ROWS` in the tiles.
            let here = factor * unsafe { largest_of_row(keys, scores.as_ptr().add(row * PANEL)) };
            let before = largest[row];
            if here > before {
                largest[row] = here;
            }
            factors[row] = before - largest[row];
        }
        for row in rows {
            let totals = &mut totals[row * TILE_WORDS..][..TILE_WORDS];
            // SAFETY: `self` proves AVX-512; the row is one of `ROWS` in tiles and steps, and has sixteen sums.
            unsafe {
                let (scores, out) =
                    (scores.as_ptr().add(row * PANEL), out.as_mut_ptr().add(row * TILE_WORDS));
                let (totals, factor_before) = (totals.as_mut_ptr(), &mut factors[row]);
                match parts {
                    3 => weigh_row::<3>(keys, [factor, largest[row]], scores, totals, factor_before, out),
                    _ => weigh_row::<1>(keys, [factor, largest[row]], scores, totals, factor_before, out),
                }
            }
        }
    }

    /// Brings numbers into the second-level cache.
    pub(super) fn bring(self, numbers: &[f32]) {
        for line in numbers.chunks(LINE / size_of::<f32>()) {
            // SAFETY: a prefetch accesses nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }
}

impl Tiles {
    /// As [`Tiles::multiply`] of rows and a panel in one part.
    pub(super) fn multiply_rounded(
        &self,
        rows: usize,
        left: &[f32],
        right: &[f32],
        k: usize,
        out: &mut [f32],
    ) {
        let steps = k.div_ceil(STEP).max(1);
        let all = words(1, steps * STEP);
        let (left, right, out) = (&left[..all], &right[..all], &mut out[..SCORES]);
        // SAFETY: `self` proves AMX and the shapes; the tiles lie inside the slices, whose lengths were checked: there is at
        // least one step.
        unsafe {
            if rows > ROWS / 2 {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{left} + {row}*1]",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {row}*1 + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{left} + {row}*1 + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {left}, 2048",
                    "add {right}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{out} + {line}*1], tmm0",
                    "tilestored [{out} + {line}*1 + 64], tmm1",
                    "tilestored [{out} + {line}*1 + 2048], tmm2",
                    "tilestored [{out} + {line}*1 + 2112], tmm3",
                    left = inout(reg) left.as_ptr() => _,
                    right = inout(reg) right.as_ptr() => _,
                    out = in(reg) out.as_mut_ptr(),
                    steps = inout(reg) steps => _,
                    row = in(reg) 64usize,
                    line = in(reg) 128usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{left} + {row}*1]",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {row}*1 + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {left}, 2048",
                    "add {right}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{out} + {line}*1], tmm0",
                    "tilestored [{out} + {line}*1 + 64], tmm1",
                    left = inout(reg) left.as_ptr() => _,
                    right = inout(reg) right.as_ptr() => _,
                    out = in(reg) out.as_mut_ptr(),
                    steps = inout(reg) steps => _,
                    row = in(reg) 64usize,
                    line = in(reg) 128usize,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

/// The parts of the pairs of two rows, `e` columns; elements behind the ends of the rows are 0.
///
/// # Safety
/// AVX-512; `out` is a row of a step in panels `stride` words apart.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn split_pair<const PARTS: usize>(low: &[f32], high: &[f32], e: usize, stride: usize, out: *mut f32) {
    for first in (0..e).step_by(TILE_WORDS) {
        let out = out.wrapping_add(first / PANEL * stride + first % PANEL / TILE_WORDS * TILE);
        // SAFETY: elements that are not there are not read; the caller's promise.
        unsafe {
            let load = |row: &[f32]| {
                let mask = (1u32 << row.len().saturating_sub(first).min(TILE_WORDS)) - 1;
                _mm512_maskz_loadu_ps(mask as __mmask16, row.as_ptr().wrapping_add(first))
            };
            let (mut x, mut y) = (load(low), load(high));
            for part in 0..PARTS {
                let ((a, of_x), (b, of_y)) = (next_part::<PARTS>(part, x), next_part::<PARTS>(part, y));
                _mm512_storeu_si512(out.add(part * 2 * TILE).cast(), pairs(a, b));
                (x, y) = (of_x, of_y);
            }
        }
    }
}

/// Transposes sixteen rows of sixteen words.
///
/// # Safety
/// AVX-512; room for them.
#[inline(never)]
#[target_feature(enable = "avx512f")]
unsafe fn turn(tile: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let row = |i: usize| _mm512_loadu_si512(tile.add(i * 16).cast());
        let zero = _mm512_setzero_si512();
        // Words `c`, 4 + `c`, 8 + `c` and 12 + `c` of rows `4 i` to `4 i + 3` at `[i][c]`.
        let mut quads = [[zero; 4]; 4];
        for (i, quads) in quads.iter_mut().enumerate() {
            let [a, b, c, d] = [row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3)];
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            (quads[0], quads[1]) = (_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            (quads[2], quads[3]) = (_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        }
        let [q, r, s, t] = quads;
        for (c, (((q, r), s), t)) in q.into_iter().zip(r).zip(s).zip(t).enumerate() {
            let low = [_mm512_shuffle_i32x4::<0x88>(q, r), _mm512_shuffle_i32x4::<0x88>(s, t)];
            let high = [_mm512_shuffle_i32x4::<0xDD>(q, r), _mm512_shuffle_i32x4::<0xDD>(s, t)];
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(low[0], low[1]),
                _mm512_shuffle_i32x4::<0x88>(high[0], high[1]),
                _mm512_shuffle_i32x4::<0xDD>(low[0], low[1]),
                _mm512_shuffle_i32x4::<0xDD>(high[0], high[1]),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm512_storeu_si512(tile.add((4 * i + c) * 16).cast(), column);
            }
        }
    }
}

/// `2^x` for numbers of at most some tens: 0 below -126, a NaN where `x` is one. Relative error 1.4e-8 before rounding, and
/// 8.6e-5 for a weight that is rounded to `bf16`; exactly 1 for 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn power<const PARTS: usize>(x: __m512) -> __m512 {
    /// `(2^r - 1) / r` for `r` from 0 to 1, by powers of `r`.
    const EXACT: [f32; 6] =
        [0.693_147_06, 0.240_229_31, 0.055_485_282, 0.009_675_452, 0.001_246_784_6, 0.000_216_129_16];
    const ROUNDED: [f32; 3] = [0.695_116_8, 0.227_644_98, 0.077_067_055];
    // What is left of `x` after rounding down.
    let r = _mm512_reduce_ps::<1>(x);
    let coefficients: &[f32] = if PARTS == 1 { &ROUNDED } else { &EXACT };
    let mut sum = _mm512_set1_ps(coefficients[coefficients.len() - 1]);
    for &coefficient in coefficients[..coefficients.len() - 1].iter().rev() {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(coefficient));
    }
    let sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0));
    let counts = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(-126.0));
    _mm512_maskz_scalef_ps(counts, sum, x)
}

/// Sixteen scores of a row in tiles, -inf behind the last of `keys`.
///
/// # Safety
/// AVX-512; the row's cells in tiles of scores for `keys` keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn load(keys: usize, scores: *const f32, tile: usize, half: usize) -> __m512 {
    let here = (keys - tile * PANEL).min(PANEL);
    let mask = (u32::MAX >> (PANEL - here) >> (half * TILE_WORDS)) as __mmask16;
    // SAFETY: the caller's promise.
    unsafe {
        let scores = scores.add(tile * SCORES + half * TILE_WORDS);
        _mm512_mask_loadu_ps(_mm512_set1_ps(f32::NEG_INFINITY), mask, scores)
    }
}

/// The largest score of a row.
///
/// # Safety
/// As [`load`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn largest_of_row(keys: usize, scores: *const f32) -> f32 {
    let mut most = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
    for tile in 0..keys.div_ceil(PANEL) {
        for (half, most) in most.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *most = _mm512_max_ps(unsafe { load(keys, scores, tile, half) }, *most);
        }
    }
    _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]))
}

/// A row of [`Avx512Amx::weigh`]: `again` is by how much the largest logit rose, and becomes the factor for what was summed
/// before.
///
/// # Safety
/// As [`load`]; the row's cells in steps of weights, sixteen sums.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn weigh_row<const PARTS: usize>(
    keys: usize,
    [factor, largest]: [f32; 2],
    scores: *const f32,
    totals: *mut f32,
    again: &mut f32,
    out: *mut f32,
) {
    let (factor, shift) = (_mm512_set1_ps(factor), _mm512_set1_ps(largest));
    let high = _mm512_set1_epi32(HIGH);
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); 2];
        for tile in 0..keys.div_ceil(PANEL) {
            let weight =
                |half| power::<PARTS>(_mm512_fmsub_ps(load(keys, scores, tile, half), factor, shift));
            let (mut x, mut y) = (weight(0), weight(1));
            sums = [_mm512_add_ps(sums[0], x), _mm512_add_ps(sums[1], y)];
            for part in 0..PARTS {
                let cells = out.add((tile * PARTS + part) * 2 * TILE).cast();
                // Cut off, not rounded, where more parts follow: together they are the number either way.
                let bits = |x| match PARTS {
                    1 => _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000)),
                    _ => _mm512_castps_si512(x),
                };
                _mm512_storeu_si512(cells, pairs(bits(x), bits(y)));
                if part + 1 < PARTS {
                    let rest = |x| {
                        let first = _mm512_and_si512(_mm512_castps_si512(x), high);
                        _mm512_sub_ps(x, _mm512_castsi512_ps(first))
                    };
                    (x, y) = (rest(x), rest(y));
                }
            }
        }
        let before = power::<3>(_mm512_set1_ps(*again));
        let sum = _mm512_add_ps(sums[0], sums[1]);
        _mm512_storeu_ps(totals, _mm512_fmadd_ps(_mm512_loadu_ps(totals), before, sum));
        *again = _mm512_cvtss_f32(before);
    }
}
