//! Products by row with NEON: sixteen rows of a weight side by side, four to a vector. Bytes are multiplied by the instruction
//! for four neighbours (`sdot`) where the processor has it, else by widening; both are exact and give the same sums.
//!
//! Everything is inlined into the function that enters the instruction set (`isa.rs`), which may enable `sdot`.

use core::arch::aarch64::*;
use core::arch::asm;

use super::bytes::{self, ByteLanes, Bytes, Digits, Left, Sums, Tiles};
use super::dots::{CHUNK, CHUNK_GROUPS, Dots, Integer, Panel, QUAD, QUADS, Row, Strip};
use super::isa::{Neon, NeonDot};
use super::lanes::K_BLOCK;
use super::neon::{load, transpose};
use crate::weights::{Dtype, GROUP};

/// Rows of a weight that share a vector.
const N: usize = 4;
/// Rows of a weight that are read side by side.
const DOT_COLS: usize = 4 * N;
/// Columns of a panel.
const COLS: usize = 4 * N;
const TILE_ROWS: usize = 4;

/// How an instruction set multiplies bytes; the rest of its products is the same.
pub(super) trait Quads: Copy {
    /// The vectors.
    fn neon(self) -> Neon;
    /// `sum[j] + a[4 j] b[4 j] + .. + a[4 j + 3] b[4 j + 3]`
    fn quads(self, sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;
}

impl Quads for Neon {
    #[inline(always)]
    fn neon(self) -> Neon {
        self
    }

    #[inline(always)]
    fn quads(self, sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe {
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            let high = vpaddlq_s16(vmull_high_s8(a, b));
            vaddq_s32(sum, vpaddq_s32(low, high))
        }
    }
}

impl Quads for NeonDot {
    #[inline(always)]
    fn neon(self) -> Neon {
        self.0
    }

    #[inline(always)]
    fn quads(self, mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves `sdot`, which touches registers only.
        unsafe {
            asm!("sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }
}

impl<Q: Quads> ByteLanes for Q {
    type Quads = int8x16_t;
    type Sums = int32x4_t;
    const N: usize = N;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn zero(self) -> int32x4_t {
        // SAFETY: the target has NEON, or this would not be compiled.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    fn load_quads(self, bytes: &[u8]) -> int8x16_t {
        assert!(bytes.len() >= N * QUAD);
        // SAFETY: as above; the length was checked.
        unsafe { vld1q_s8(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn offset(self, stored: int8x16_t) -> int8x16_t {
        stored
    }

    #[inline(always)]
    fn splat_quad(self, bytes: [u8; QUAD]) -> int8x16_t {
        // SAFETY: the target has NEON.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(bytes))) }
    }

    #[inline(always)]
    fn add_quads(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        Quads::quads(self, sums, w, x)
    }

    #[inline(always)]
    fn store_sums(self, sums: int32x4_t, out: &mut [i32]) {
        assert!(out.len() >= N);
        // SAFETY: the target has NEON; the length was checked.
        unsafe { vst1q_s32(out.as_mut_ptr(), sums) }
    }

    #[inline(always)]
    fn total(self, sums: int32x4_t) -> i32 {
        // SAFETY: the target has NEON.
        unsafe { vaddvq_s32(sums) }
    }
}

impl<Q: Quads> Bytes for Q {
    const COLS: usize = COLS;
    const SIDE: usize = 2 * N;
    const TOTALS: bool = false;

    #[inline(always)]
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums) {
        bytes::dot::<Self, { 2 * N }>(self, strip, x, out);
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

impl<Q: Quads> Tiles for Q {
    #[inline(always)]
    fn tiles_of_bytes(
        &self,
        rows: usize,
        x: [Left; 2],
        [panel, _ahead]: [&[u8]; 2],
        adds: bool,
        sums: (&mut [i32], usize),
        beside: impl FnMut(&[i32]) -> bool,
    ) {
        bytes::tiles::<Self, 4, { COLS / N }>(*self, rows, x, panel, adds, sums, beside);
    }
}

impl<Q: Quads> Dots for Q {
    type Lanes = Neon;
    const DOT_COLS: usize = DOT_COLS;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Neon {
        self.neon()
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        dot_floats(strip, x, out);
    }

    #[inline(always)]
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
        dot(self, strip, x, out);
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        tile(self, rows, first, panel, c);
    }
}

#[inline(always)]
fn dot_floats(strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
    assert!((1..=DOT_COLS).contains(&strip.cols) && out.len() >= strip.cols && x.len() >= strip.k);
    assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k * strip.kind.size());
    // SAFETY: the target has NEON, or this would not be compiled; lengths were checked.
    unsafe {
        match strip.kind {
            Dtype::F32 => chains::<4, false>(strip, x, out),
            Dtype::F16 => chains::<2, false>(strip, x, out),
            Dtype::Bf16 => chains::<2, true>(strip, x, out),
        }
    }
}

/// [`Dots::dot_floats`] for elements of `SIZE` bytes.
///
/// # Safety
/// NEON; the lengths that the caller checked.
#[inline(always)]
unsafe fn chains<const SIZE: usize, const BF16: bool>(strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
    let Strip { bytes, stride, cols, k, .. } = strip;
    let fours = cols.div_ceil(N);
    // SAFETY: the caller's promise; fewer than four elements are copied before they are loaded.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        let mut totals = [zero; DOT_COLS / N];
        for block in (0..k).step_by(K_BLOCK) {
            let end = k.min(block + K_BLOCK);
            let mut sums = [zero; DOT_COLS / N];
            for from in (block..end).step_by(N) {
                let x = &x[from..end.min(from + N)];
                for (four, sum) in sums[..fours].iter_mut().enumerate() {
                    let mut rows = [zero; N];
                    for (i, row) in rows.iter_mut().enumerate() {
                        // Rows that do not exist repeat the last one.
                        let at = bytes.as_ptr().add((four * N + i).min(cols - 1) * stride + from * SIZE);
                        *row = if x.len() == N {
                            load::<SIZE, BF16>(at)
                        } else {
                            let mut few = [0u8; 4 * N];
                            core::ptr::copy_nonoverlapping(at, few.as_mut_ptr(), x.len() * SIZE);
                            load::<SIZE, BF16>(few.as_ptr())
                        };
                    }
                    for (column, &x) in transpose(rows).into_iter().zip(x) {
                        *sum = vfmaq_n_f32(*sum, column, x);
                    }
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = if block == 0 { sum } else { vaddq_f32(*total, sum) };
            }
        }
        for (out, &total) in out[..cols].chunks_mut(N).zip(&totals) {
            store(total, out);
        }
    }
}

/// Writes the first lanes.
///
/// # Safety
/// NEON.
#[inline(always)]
unsafe fn store(v: float32x4_t, out: &mut [f32]) {
    let mut cells = [0.0f32; N];
    // SAFETY: there is room for four elements.
    unsafe { vst1q_f32(cells.as_mut_ptr(), v) };
    out.iter_mut().zip(cells).for_each(|(to, from)| *to = from);
}

/// Sixteen bytes of a row of `width` bytes from byte `at` on, zeros behind its end.
///
/// # Safety
/// NEON; the row is there.
#[inline(always)]
unsafe fn bytes(row: *const u8, at: usize, width: usize) -> uint8x16_t {
    // SAFETY: the caller's promise; of a row that ends here, what is left is copied first.
    unsafe {
        if at + 16 <= width {
            return vld1q_u8(row.add(at));
        }
        let mut cells = [0u8; 16];
        core::ptr::copy_nonoverlapping(row.add(at.min(width)), cells.as_mut_ptr(), width.saturating_sub(at));
        vld1q_u8(cells.as_ptr())
    }
}

#[inline(always)]
fn dot<Q: Quads>(quads: Q, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
    let Strip { bytes: stored, stride, cols, k, .. } = strip;
    let (padded, width) = (k.next_multiple_of(CHUNK), k / 2);
    assert!((1..=DOT_COLS).contains(&cols) && out.len() >= cols);
    assert!(stored.len() >= (cols - 1) * stride + width);
    assert!(x.q.len() >= padded && x.scales.len() >= padded / GROUP && x.fixes.len() >= padded / GROUP);
    // SAFETY: `quads` proves NEON; lengths were checked.
    unsafe {
        for (four, out) in out[..cols].chunks_mut(N).enumerate() {
            let mut total = vdupq_n_f32(0.0);
            for group in 0..padded / GROUP {
                let low = x.q.as_ptr().add(Row::at(group, 0));
                let high = x.q.as_ptr().add(Row::at(group, QUADS / 2));
                let (low, high) = (vld1q_s8(low.cast()), vld1q_s8(high.cast()));
                let mut sums = [vdupq_n_s32(0); N];
                let mut scales = [0.0f32; N];
                for (i, (sum, scale)) in sums.iter_mut().zip(&mut scales).enumerate() {
                    // Rows that do not exist repeat the last one.
                    let col = (four * N + i).min(cols - 1);
                    let row = stored.as_ptr().add(col * stride);
                    *scale = strip.scale(col, group);
                    let pairs = bytes(row, group * GROUP / 2, width);
                    let (a, b) = (vandq_u8(pairs, vdupq_n_u8(15)), vshrq_n_u8::<4>(pairs));
                    *sum = quads.quads(*sum, vreinterpretq_s8_u8(a), low);
                    *sum = quads.quads(*sum, vreinterpretq_s8_u8(b), high);
                }
                let [a, b, c, d] = sums;
                let sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
                let sums = vcvtq_f32_s32(vaddq_s32(sums, vdupq_n_s32(x.fixes[group])));
                let sums = vmulq_f32(sums, vld1q_f32(scales.as_ptr()));
                total = vfmaq_n_f32(total, sums, x.scales[group]);
            }
            store(total, out);
        }
    }
}

#[inline(always)]
fn tile<Q: Quads>(quads: Q, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
    let end = first + panel.groups;
    assert!((1..=TILE_ROWS).contains(&rows.len()) && c.len() >= rows.len() * COLS);
    assert!(first.is_multiple_of(CHUNK_GROUPS) && panel.groups.is_multiple_of(CHUNK_GROUPS));
    assert!(panel.cells.len() >= panel.groups * GROUP * COLS);
    assert!(panel.scales.len() >= panel.groups * COLS);
    for row in rows {
        assert!(row.q.len() >= end * GROUP && row.scales.len() >= end && row.fixes.len() >= end);
    }
    // SAFETY: `quads` proves NEON; lengths were checked.
    unsafe {
        match rows.len() {
            4 => tile_of::<Q, 4>(quads, rows, first, panel, c),
            3 => tile_of::<Q, 3>(quads, rows, first, panel, c),
            2 => tile_of::<Q, 2>(quads, rows, first, panel, c),
            _ => tile_of::<Q, 1>(quads, rows, first, panel, c),
        }
    }
}

/// [`Dots::tile`] for a fixed number of rows.
///
/// # Safety
/// NEON; the lengths that the caller checked.
#[inline(always)]
unsafe fn tile_of<Q: Quads, const ROWS: usize>(
    quads: Q,
    rows: &[Row],
    first: usize,
    panel: &Panel,
    c: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for group in 0..panel.groups {
            let mut cells = panel.cells.as_ptr().add(group * GROUP * COLS);
            let mut sums = [[vdupq_n_s32(0); COLS / N]; ROWS];
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = [vdupq_n_s32(*row.fixes.get_unchecked(first + group)); COLS / N];
            }
            for quad in 0..QUADS {
                let mut right = [vdupq_n_s8(0); COLS / N];
                for right in &mut right {
                    *right = vld1q_s8(cells.cast());
                    cells = cells.add(N * QUAD);
                }
                let at = Row::at(first + group, quad);
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let x = row.q.as_ptr().add(at).cast::<i32>().read_unaligned();
                    let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = quads.quads(*sum, right, x);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let scale = *rows[i].scales.get_unchecked(first + group);
                for (j, &sums) in sums.iter().enumerate() {
                    let c = c.as_mut_ptr().add(i * COLS + j * N);
                    let scales = vld1q_f32(panel.scales.as_ptr().add(group * COLS + j * N));
                    let sums = vmulq_f32(vcvtq_f32_s32(sums), scales);
                    vst1q_f32(c, vfmaq_n_f32(vld1q_f32(c), sums, scale));
                }
            }
        }
    }
}
