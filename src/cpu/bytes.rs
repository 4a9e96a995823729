//! The vocabulary of products of bytes: rows of signed bytes times the rows of a weight in eight bits. Sums are exact over a
//! whole row, so that any order gives the same ones, on any instruction set.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::dots::{MAX_COLS, QUAD, Strip};

/// Bytes of a row that lie together: a cache line.
pub(super) const STEP: usize = 64;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Rows of bytes that a row of activations is split into: see [`super::digits`].
pub(super) const DIGITS: usize = 2;

/// Sums of some columns, for the low digit and the high one.
pub(super) type Sums = [[i32; MAX_COLS]; DIGITS];

/// One digit of rows of activations: `[k / STEP][rows][STEP]`, zeros behind the end of a row.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) cells: &'a [u8],
    /// The sum of every row, where the instruction set needs it.
    pub(super) totals: &'a [i32],
}

impl Left<'_> {
    /// Some steps, each of `size` bytes, of the same rows.
    #[inline(always)]
    pub(super) fn steps(self, steps: Range<usize>, size: usize) -> Self {
        Left { cells: &self.cells[steps.start * size..steps.end * size], ..self }
    }
}

/// Rows of activations.
#[derive(Clone, Copy)]
pub(super) struct Digits<'a> {
    pub(super) low: Left<'a>,
    /// Anything in steps without a mark.
    pub(super) high: Left<'a>,
    /// For each step, 1 where any row has a high digit that is not zero, else 0.
    pub(super) marks: &'a [u8],
}

impl Digits<'_> {
    /// Whether any step of the range has a mark.
    #[inline(always)]
    pub(super) fn any(self, steps: Range<usize>) -> bool {
        self.marks[steps].iter().any(|&mark| mark != 0)
    }
}

/// Vectors of bytes of one instruction set. Every method must be `#[inline(always)]`.
pub(super) trait ByteLanes: Copy {
    /// `4 N` bytes.
    type Quads: Copy;
    /// `N` sums.
    type Sums: Copy;
    /// Sums of a vector.
    const N: usize;
    /// What is added to stored integers before they are multiplied, 0 or 128.
    const OFFSET: i32;

    /// Zeros.
    fn zero(self) -> Self::Sums;
    /// The first `4 N` bytes; panics where there are fewer.
    fn load_quads(self, bytes: &[u8]) -> Self::Quads;
    /// `4 N` stored bytes with [`ByteLanes::OFFSET`].
    fn offset(self, stored: Self::Quads) -> Self::Quads;
    /// Four bytes again and again.
    fn splat_quad(self, bytes: [u8; QUAD]) -> Self::Quads;
    /// `sums[j] + w[4 j] x[4 j] + .. + w[4 j + 3] x[4 j + 3]`; `w` has the offset, and `x` is -127 to 127, so that the sum of
    /// two products fits into 16 bits.
    fn add_quads(self, sums: Self::Sums, w: Self::Quads, x: Self::Quads) -> Self::Sums;
    /// Writes `N` sums; panics where there is room for fewer.
    fn store_sums(self, sums: Self::Sums, out: &mut [i32]);
    /// The sum of all.
    fn total(self, sums: Self::Sums) -> i32;

    /// Brings nearer what lies `distance` bytes behind the start of `bytes`; nothing is read from there.
    #[inline(always)]
    fn fetch(self, _bytes: &[u8], _distance: usize) {}
}

/// Products of bytes of one instruction set. Every method must be `#[inline(always)]`.
pub(super) trait Bytes: Copy {
    /// Columns of a panel, at most [`MAX_COLS`].
    const COLS: usize;
    /// Columns of [`Bytes::dot_bytes`], at most [`MAX_COLS`].
    const SIDE: usize;
    /// Whether [`Tiles::tile_bytes`] reads [`Left::totals`].
    const TOTALS: bool;

    /// `out[d][j] = sum_k strip[j, k] * x[d, k]` for the strip's columns, at most [`Bytes::SIDE`], and one row.
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums);

    /// Fills a panel `[k / QUAD][COLS][QUAD]` with the strip's columns, at most `COLS`; other columns, and what lies behind
    /// the end of a row, become anything.
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]);

    /// What multiplies tiles.
    type Tiles: Tiles;
    /// Sets it up.
    fn matrix_unit(self) -> Self::Tiles;
}

/// Tiles of sums of one instruction set, as long as it lives. Every method must be `#[inline(always)]`.
pub(super) trait Tiles {
    /// `c[i][j] (+)= sum_k panel[k, j] * x[i, k]` for the first `rows` rows of up to two tiles of [`TILE_ROWS`], one below the
    /// other; `c` are the `[rows][COLS]` sums from `at` on, for whole tiles. Added where `adds` says so, by calls after the
    /// first for these sums.
    ///
    /// `cells` are the panel and what comes after it: some or all of that may be brought nearer. Meanwhile `beside` is called
    /// with all sums as they were, again and again until it says that nothing is left to do.
    fn tiles_of_bytes(
        &self,
        rows: usize,
        x: [Left; 2],
        cells: [&[u8]; 2],
        adds: bool,
        sums: (&mut [i32], usize),
        beside: impl FnMut(&[i32]) -> bool,
    );
}

/// [`Bytes::dot_bytes`] with `SIDE` rows of the weight side by side.
#[inline(always)]
pub(super) fn dot<B: ByteLanes, const SIDE: usize>(bytes: B, strip: Strip<()>, x: Digits, out: &mut Sums) {
    let width = B::N * QUAD;
    let rows: [&[u8]; SIDE] =
        core::array::from_fn(|j| &strip.bytes[j.min(strip.cols - 1) * strip.stride..][..strip.k]);
    let mut lows = [bytes.zero(); SIDE];
    let mut highs = [bytes.zero(); SIDE];
    let digits = x.low.cells.chunks_exact(STEP).zip(x.high.cells.chunks_exact(STEP));
    for (step, ((low, high), &mark)) in digits.zip(x.marks).enumerate() {
        let from = step * STEP;
        let mut last = [[0; STEP]; SIDE];
        let whole = from + STEP <= strip.k;
        if !whole {
            for (last, row) in last.iter_mut().zip(rows) {
                last[..strip.k - from].copy_from_slice(&row[from..]);
            }
        }
        for at in (0..STEP).step_by(width) {
            let (low, high) = (bytes.load_quads(&low[at..]), bytes.load_quads(&high[at..]));
            for j in 0..SIDE {
                let w = if whole { &rows[j][from + at..] } else { &last[j][at..] };
                bytes.fetch(w, SIDE * strip.stride);
                let w = bytes.offset(bytes.load_quads(w));
                lows[j] = bytes.add_quads(lows[j], w, low);
                if mark != 0 {
                    highs[j] = bytes.add_quads(highs[j], w, high);
                }
            }
        }
    }
    for (d, (sums, left)) in [(lows, x.low), (highs, x.high)].into_iter().enumerate() {
        let fix = B::OFFSET.wrapping_mul(left.totals[0]);
        for (out, sum) in out[d].iter_mut().zip(sums) {
            *out = bytes.total(sum).wrapping_sub(fix);
        }
    }
}

/// [`Bytes::pack_bytes`] where no offset is needed.
#[inline(always)]
pub(super) fn pack<const COLS: usize>(strip: Strip<()>, panel: &mut [u8]) {
    for j in 0..strip.cols {
        let (quads, tail) = strip.bytes[j * strip.stride..][..strip.k].as_chunks::<QUAD>();
        let mut last = [0; QUAD];
        last[..tail.len()].copy_from_slice(tail);
        for (quad, cells) in quads.iter().chain([&last]).zip(panel.chunks_exact_mut(COLS * QUAD)) {
            cells[j * QUAD..][..QUAD].copy_from_slice(quad);
        }
    }
}

/// [`Tiles::tiles_of_bytes`], `ROWS` rows of bytes and `VECTORS` vectors of columns at a time.
#[inline(always)]
pub(super) fn tiles<B: ByteLanes, const ROWS: usize, const VECTORS: usize>(
    bytes: B,
    rows: usize,
    x: [Left; 2],
    panel: &[u8],
    adds: bool,
    (c, at): (&mut [i32], usize),
    mut beside: impl FnMut(&[i32]) -> bool,
) {
    const { assert!(TILE_ROWS.is_multiple_of(ROWS)) };
    while beside(c) {}
    let cols = VECTORS * B::N;
    let c = &mut c[at..];
    for start in (0..rows).step_by(ROWS) {
        let (x, first) = (x[start / TILE_ROWS], start % TILE_ROWS);
        let mut sums = [[bytes.zero(); VECTORS]; ROWS];
        let steps = x.cells.chunks_exact(TILE_ROWS * STEP);
        for (x, panel) in steps.zip(panel.chunks_exact(STEP * cols)) {
            let x: &[[[u8; QUAD]; STEP / QUAD]; ROWS] = quads_of(&x[first * STEP..]);
            for (quad, panel) in panel.chunks_exact(cols * QUAD).enumerate() {
                let mut w = [bytes.load_quads(panel); VECTORS];
                for v in 1..VECTORS {
                    w[v] = bytes.load_quads(&panel[v * B::N * QUAD..]);
                }
                for i in 0..ROWS {
                    let x = bytes.splat_quad(x[i][quad]);
                    for v in 0..VECTORS {
                        sums[i][v] = bytes.add_quads(sums[i][v], w[v], x);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let out = &mut c[(start + i) * cols..][..cols];
            // The offset of all elements is taken off with the first ones.
            // Totals of rows that are not there are anything.
            let fix = B::OFFSET.wrapping_mul(x.totals[first + i]);
            let mut cells = [0; MAX_COLS];
            for (v, &sums) in sums.iter().enumerate() {
                bytes.store_sums(sums, &mut cells[v * B::N..]);
            }
            for (out, &sum) in out.iter_mut().zip(&cells) {
                *out = if adds { out.wrapping_add(sum) } else { sum.wrapping_sub(fix) };
            }
        }
    }
}

/// The first `ROWS` rows of [`STEP`] bytes; panics where there are fewer.
#[inline(always)]
fn quads_of<const ROWS: usize>(bytes: &[u8]) -> &[[[u8; QUAD]; STEP / QUAD]; ROWS] {
    let (quads, _) = bytes.as_chunks::<QUAD>();
    let (rows, _) = quads.as_chunks::<{ STEP / QUAD }>();
    let (tiles, _) = rows.as_chunks::<ROWS>();
    &tiles[0]
}
