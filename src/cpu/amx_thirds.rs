//! Products of `f32` by a matrix unit that multiplies `bf16`: every number is the sum of three `bf16`, its thirds.
//!
//! A significand of `f32` has 24 bits, one of `bf16` 8: the first third is the number rounded to `bf16`, the second what is left
//! rounded likewise, the third the rest, exactly. Of the nine products of thirds six count; the three others are below 2^-26
//! of the product. The matrix unit multiplies without rounding, adds sixteen products of even elements and sixteen of odd ones
//! in `f32`, and the two to the sum: six roundings for 32 elements where a chain of multiply-adds has 32, so that a sum is at
//! least as exact, which `tests/ops/linear.rs` measures. Parts below 2^-126 count as 0, and infinities become NaN.

use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::Range;

use super::isa::Avx512Amx;
use super::lanes::{K_BLOCK, LINE};

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Rows of a pair of tiles.
pub(super) const ROWS: usize = 2 * TILE_ROWS;
/// Words of a row of a tile: a step of one third. Elements `i` and `TILE_WORDS + i` of a step are a pair.
pub(super) const TILE_WORDS: usize = STEP / 2;
/// Columns of a panel, two tiles.
pub(super) const PANEL: usize = 32;
/// Elements of `k` in a tile.
pub(super) const STEP: usize = 32;
/// Words of a tile, and of a pair.
pub(super) const TILE: usize = 256;
pub(super) const TWO_TILES: usize = 2 * TILE;
/// Words of the thirds of [`ROWS`] rows, and of a panel: for every step three thirds of two tiles.
pub(super) const THIRDS: usize = words(3, K_BLOCK);
/// Bytes that [`Tiles::multiply`] brings nearer.
pub(super) const AHEAD: usize = K_BLOCK / STEP * 12 * LINE;
/// Pairs of elements of a block of `k`.
pub(super) const PAIRS: usize = K_BLOCK / 2;

/// The high halves of `f32`.
pub(super) const HIGH: i32 = 0xFFFF_0000_u32 as i32;

/// Words of `parts` parts of [`ROWS`] rows or of a panel, `k` elements: for every step as many pairs of tiles.
pub(super) const fn words(parts: usize, k: usize) -> usize {
    k.div_ceil(STEP) * parts * TWO_TILES
}

/// Proof of AMX, and that the tiles have their shapes, which go with it.
pub(super) struct Tiles(());

/// Sixteen rows of 64 bytes for each of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

static SHAPES: Shapes = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        (bytes[16 + 2 * tile], bytes[48 + tile]) = (64, TILE_ROWS as u8);
        tile += 1;
    }
    Shapes(bytes)
};

impl Avx512Amx {
    /// Has the tiles take the shapes of this module.
    #[inline(always)]
    pub(super) fn tiles_of_parts(self) -> Tiles {
        // SAFETY: `self` proves AMX; the shapes are within its limits. They are given up with what is returned.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(readonly, nostack)) }
        Tiles(())
    }

    /// Calls `work` while the tiles have the shapes of this module.
    pub(super) fn with_tiles<R>(self, work: impl FnOnce(&Tiles) -> R) -> R {
        work(&self.tiles_of_parts())
    }

    /// Writes the parts (three thirds, or one: the number rounded) of `k` elements of at most [`ROWS`] rows, and zeros for the rows
    /// that are not there: `out[step][part][row][TILE_WORDS]`.
    pub(super) fn split_rows<'a>(
        self,
        parts: usize,
        rows: usize,
        k: usize,
        row: impl Fn(usize) -> &'a [f32],
        out: &mut [f32],
    ) {
        let out = &mut out[..words(parts, k)];
        for i in 0..ROWS {
            let row = if i < rows { &row(i)[..k] } else { &[] };
            let apart = [TWO_TILES, parts * TWO_TILES];
            self.split_row(parts, row, k.div_ceil(STEP), apart, &mut out[i * TILE_WORDS..]);
        }
    }

    /// Writes the parts, one or three, of the elements of a row over `steps` steps, and zeros behind its end; `apart` are the
    /// words from part to part and from step to step.
    pub(super) fn split_row(
        self,
        parts: usize,
        row: &[f32],
        steps: usize,
        apart: [usize; 2],
        out: &mut [f32],
    ) {
        let last = steps.saturating_sub(1) * apart[1] + (parts - 1) * apart[0];
        assert!(steps == 0 || out.len() >= last + TILE_WORDS);
        // SAFETY: `self` proves AVX-512; the last words that are written are there, and those of one part are if parts are
        // more than one.
        unsafe {
            match parts {
                3 => split_row::<3>(row, steps, apart, out.as_mut_ptr()),
                _ => split_row::<1>(row, steps, apart, out.as_mut_ptr()),
            }
        }
    }

    /// Writes the thirds of the pairs of elements `pairs` of a panel `[k][PANEL]`:
    /// `out[step][third][half][pair][column of the half][element of the pair]`. Elements behind the panel's end are 0.
    pub(super) fn split_panel(self, panel: &[f32], pairs: Range<usize>, out: &mut [f32]) {
        let out = &mut out[..THIRDS];
        assert!(pairs.end <= PAIRS);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { split_pairs(panel, pairs, out.as_mut_ptr()) }
    }
}

/// Split rows, one after the other; tiles read [`ROWS`] of them from the first on.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// `[step][third][row][TILE_WORDS]`
    pub(super) words: &'a [f32],
    /// Words from third to third.
    pub(super) third: usize,
    /// Words from step to step.
    pub(super) step: usize,
}

impl<'a> Left<'a> {
    /// Rows as [`Avx512Amx::split_rows`] writes them.
    pub(super) fn pair(words: &'a [f32]) -> Left<'a> {
        Left { words, third: TWO_TILES, step: 3 * TWO_TILES }
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `self` proves AMX; no tile is in use.
        unsafe { asm!("tilerelease", options(nomem, nostack)) }
    }
}

impl Tiles {
    /// Products of `rows` split rows, at most [`ROWS`], and a split panel, `k` elements: `out[row][PANEL]`. There is room for
    /// [`ROWS`] rows, and as many are read; those that are not there may be written. Meanwhile the first [`AHEAD`] bytes of `ahead` and of what follows
    /// it are brought into the second-level cache.
    pub(super) fn multiply(
        &self,
        rows: usize,
        left: Left,
        right: &[f32],
        k: usize,
        out: &mut [f32],
        ahead: &[u8],
    ) {
        let (steps, ahead) = (k.div_ceil(STEP).max(1), ahead.as_ptr());
        let (right, out) = (&right[..words(3, steps * STEP)], &mut out[..ROWS * PANEL]);
        let Left { words, third, step } = left;
        assert!(words.len() >= (steps - 1) * step + 2 * third + TWO_TILES);
        let (left, step) = (words.as_ptr(), step * size_of::<f32>());
        let (middle, last) = (left.wrapping_add(third), left.wrapping_add(2 * third));
        // SAFETY: `self` proves AMX and the shapes; the tiles lie inside the slices, whose lengths were checked: there is at
        // least one step. What is brought nearer is not read.
        unsafe {
            if rows > TILE_ROWS {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    // First third of the rows, with every third of the panel.
                    "tileloaddt1 tmm4, [{left} + {row}*1]",
                    "tileloaddt1 tmm5, [{left} + {row}*1 + 1024]",
                    "tileloadd tmm6, [{right} + {row}*1 + 4096]",
                    "tileloadd tmm7, [{right} + {row}*1 + 5120]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead}]",
                    "prefetcht1 [{ahead} + 64]",
                    "tileloadd tmm6, [{right} + {row}*1 + 2048]",
                    "tileloadd tmm7, [{right} + {row}*1 + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead} + 128]",
                    "prefetcht1 [{ahead} + 192]",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tileloadd tmm7, [{right} + {row}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead} + 256]",
                    "prefetcht1 [{ahead} + 320]",
                    // Third and second third, with the panel's first.
                    "tileloaddt1 tmm4, [{last} + {row}*1]",
                    "tileloaddt1 tmm5, [{last} + {row}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead} + 384]",
                    "prefetcht1 [{ahead} + 448]",
                    "tileloaddt1 tmm4, [{middle} + {row}*1]",
                    "tileloaddt1 tmm5, [{middle} + {row}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead} + 512]",
                    "prefetcht1 [{ahead} + 576]",
                    // Second third with second.
                    "tileloadd tmm6, [{right} + {row}*1 + 2048]",
                    "tileloadd tmm7, [{right} + {row}*1 + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead} + 640]",
                    "prefetcht1 [{ahead} + 704]",
                    "add {left}, {step}",
                    "add {middle}, {step}",
                    "add {last}, {step}",
                    "add {right}, 6144",
                    "add {ahead}, 768",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{out} + {line}*1], tmm0",
                    "tilestored [{out} + {line}*1 + 64], tmm1",
                    "tilestored [{out} + {line}*1 + 2048], tmm2",
                    "tilestored [{out} + {line}*1 + 2112], tmm3",
                    left = inout(reg) left => _,
                    middle = inout(reg) middle => _,
                    last = inout(reg) last => _,
                    step = in(reg) step,
                    right = inout(reg) right.as_ptr() => _,
                    ahead = inout(reg) ahead => _,
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
                    // First third of the rows, with every third of the panel.
                    "tileloaddt1 tmm4, [{left} + {row}*1]",
                    "tileloadd tmm6, [{right} + {row}*1 + 4096]",
                    "tileloadd tmm7, [{right} + {row}*1 + 5120]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead}]",
                    "prefetcht1 [{ahead} + 64]",
                    "tileloadd tmm6, [{right} + {row}*1 + 2048]",
                    "tileloadd tmm7, [{right} + {row}*1 + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead} + 128]",
                    "prefetcht1 [{ahead} + 192]",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tileloadd tmm7, [{right} + {row}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead} + 256]",
                    "prefetcht1 [{ahead} + 320]",
                    // Third and second third, with the panel's first.
                    "tileloaddt1 tmm4, [{last} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead} + 384]",
                    "prefetcht1 [{ahead} + 448]",
                    "tileloaddt1 tmm4, [{middle} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead} + 512]",
                    "prefetcht1 [{ahead} + 576]",
                    // Second third with second.
                    "tileloadd tmm6, [{right} + {row}*1 + 2048]",
                    "tileloadd tmm7, [{right} + {row}*1 + 3072]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "prefetcht1 [{ahead} + 640]",
                    "prefetcht1 [{ahead} + 704]",
                    "add {left}, {step}",
                    "add {middle}, {step}",
                    "add {last}, {step}",
                    "add {right}, 6144",
                    "add {ahead}, 768",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{out} + {line}*1], tmm0",
                    "tilestored [{out} + {line}*1 + 64], tmm1",
                    left = inout(reg) left => _,
                    middle = inout(reg) middle => _,
                    last = inout(reg) last => _,
                    step = in(reg) step,
                    right = inout(reg) right.as_ptr() => _,
                    ahead = inout(reg) ahead => _,
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

/// The number rounded to `bf16`, in the high halves; a NaN stays one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn round(x: __m512) -> __m512i {
    // The sum is `x`, but a NaN whose digits are all low has a high one then.
    let bits = _mm512_castps_si512(_mm512_add_ps(x, _mm512_setzero_ps()));
    // NaN and infinities, to which rounding would add.
    let special = _mm512_fpclass_ps_mask::<0x99>(x);
    let bits = _mm512_mask_add_epi32(bits, !special, bits, _mm512_set1_epi32(0x8000));
    _mm512_and_si512(bits, _mm512_set1_epi32(HIGH))
}

/// Part `part` of `PARTS` of a vector, in the high halves of the result, and what is left. The last of three has no more digits
/// than fit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn next_part<const PARTS: usize>(part: usize, x: __m512) -> (__m512i, __m512) {
    let high = match (PARTS, part) {
        (1, _) => return (round(x), x),
        (_, 2) => _mm512_castps_si512(x),
        _ => _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000)),
    };
    let high = _mm512_and_si512(high, _mm512_set1_epi32(HIGH));
    (high, _mm512_sub_ps(x, _mm512_castsi512_ps(high)))
}

/// The high halves of two vectors as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pairs(low: __m512i, high: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_srli_epi32::<16>(low), high)
}

/// [`Avx512Amx::split_row`].
///
/// # Safety
/// AVX-512; `out` has room for `steps` steps, `step_apart` words apart, of `PARTS` parts, `part_apart` words apart.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn split_row<const PARTS: usize>(
    row: &[f32],
    steps: usize,
    [part_apart, step_apart]: [usize; 2],
    out: *mut f32,
) {
    // SAFETY: 32 words are a vector; the caller's promise.
    unsafe {
        for step in 0..steps {
            let rest = row.get(step * STEP..).unwrap_or(&[]);
            let (mut x, mut y) = if rest.len() >= STEP {
                (_mm512_loadu_ps(rest.as_ptr()), _mm512_loadu_ps(rest.as_ptr().add(TILE_WORDS)))
            } else {
                let mask = (1u32 << rest.len()) - 1;
                let after = rest.as_ptr().wrapping_add(TILE_WORDS);
                (
                    _mm512_maskz_loadu_ps(mask as u16, rest.as_ptr()),
                    _mm512_maskz_loadu_ps((mask >> 16) as u16, after),
                )
            };
            for part in 0..PARTS {
                let ((a, of_x), (b, of_y)) = (next_part::<PARTS>(part, x), next_part::<PARTS>(part, y));
                _mm512_storeu_si512(out.add(step * step_apart + part * part_apart).cast(), pairs(a, b));
                (x, y) = (of_x, of_y);
            }
        }
    }
}

/// Splits pairs of elements of a panel; elements behind its end are 0.
///
/// # Safety
/// AVX-512; `pairs` ends at [`PAIRS`] at most, `out` has [`THIRDS`] words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn split_pairs(panel: &[f32], range: Range<usize>, out: *mut f32) {
    const N: usize = PANEL / 2;
    for pair in range {
        let (step, pair) = (pair / TILE_WORDS, pair % TILE_WORDS);
        let first = step * STEP + pair;
        for half in 0..2 {
            // SAFETY: a row that is read is there; the caller's promise.
            unsafe {
                let load = |row: usize| match panel.len() >= (row + 1) * PANEL {
                    true => _mm512_loadu_ps(panel.as_ptr().add(row * PANEL + half * N)),
                    false => _mm512_setzero_ps(),
                };
                let (mut x, mut y) = (load(first), load(first + TILE_WORDS));
                for part in 0..3 {
                    let ((a, of_x), (b, of_y)) = (next_part::<3>(part, x), next_part::<3>(part, y));
                    let at = ((step * 3 + part) * 2 + half) * TILE + pair * N;
                    _mm512_storeu_si512(out.add(at).cast(), pairs(a, b));
                    (x, y) = (of_x, of_y);
                }
            }
        }
    }
}
