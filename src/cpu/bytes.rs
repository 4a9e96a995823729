//! The vocabulary of products of bytes: rows of signed bytes times the rows of a weight in eight bits. Sums are exact over a
//! whole row, so that any order gives the same ones, on any instruction set.
#![forbid(unsafe_code)]

use super::dots::{MAX_COLS, QUAD, Strip};

/// Bytes of a row that lie together: a cache line.
pub(super) const STEP: usize = 64;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Rows of bytes that a row of activations is split into: see [`super::digits`].
pub(super) const DIGITS: usize = 2;

/// Sums of some columns, for either digit.
pub(super) type Sums = [[i32; MAX_COLS]; DIGITS];

/// Rows of activations as two digits: `[k / STEP][DIGITS][rows][STEP]`, zeros behind the end of a row.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) cells: &'a [u8],
    /// The sum of either digit of every row, `[DIGITS][rows]`, where the instruction set needs it.
    pub(super) totals: &'a [i32],
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

    /// `out[d][j] = sum_k strip[j, k] * x[d, k]` for the strip's columns, at most [`Bytes::SIDE`], and a [`Left`] of one row.
    fn dot_bytes(self, strip: Strip<()>, x: Left, out: &mut Sums);

    /// Fills a panel `[k / QUAD][COLS][QUAD]` with the strip's columns, at most `COLS`; other columns, and what lies behind
    /// the end of a row, become anything.
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]);

    /// Sets up what multiplies tiles.
    type Tiles: Tiles;
    /// Sets up [`Bytes::Tiles`].
    fn tiles_of_bytes(self) -> Self::Tiles;
}

/// Tiles of sums of one instruction set, as long as it lives. Every method must be `#[inline(always)]`.
pub(super) trait Tiles {
    /// `c[d][i][j] (+)= sum_k panel[k, j] * x[d, i, k]` (`[DIGITS][TILE_ROWS][COLS]`) for the first `rows` rows of a [`Left`] of
    /// [`TILE_ROWS`]; added where `adds` says so, by calls after the first for one tile. Meanwhile some or all of `ahead` may be brought nearer.
    fn tile_bytes(&self, rows: usize, x: Left, panel: &[u8], ahead: &[u8], adds: bool, c: &mut [i32]);

    /// Brings all of `cells` nearer.
    #[inline(always)]
    fn bring(&self, _cells: &[u8]) {}
}

/// [`Bytes::dot_bytes`] with `SIDE` rows of the weight side by side.
#[inline(always)]
pub(super) fn dot<B: ByteLanes, const SIDE: usize>(bytes: B, strip: Strip<()>, x: Left, out: &mut Sums) {
    let width = B::N * QUAD;
    let rows: [&[u8]; SIDE] =
        core::array::from_fn(|j| &strip.bytes[j.min(strip.cols - 1) * strip.stride..][..strip.k]);
    let mut sums = [[bytes.zero(); DIGITS]; SIDE];
    for (step, x) in x.cells.chunks_exact(DIGITS * STEP).enumerate() {
        let from = step * STEP;
        let mut last = [[0; STEP]; SIDE];
        let whole = from + STEP <= strip.k;
        if !whole {
            for (last, row) in last.iter_mut().zip(rows) {
                last[..strip.k - from].copy_from_slice(&row[from..]);
            }
        }
        for at in (0..STEP).step_by(width) {
            let (high, low) = (bytes.load_quads(&x[at..]), bytes.load_quads(&x[STEP + at..]));
            for j in 0..SIDE {
                let w = if whole { &rows[j][from + at..] } else { &last[j][at..] };
                bytes.fetch(w, SIDE * strip.stride);
                let w = bytes.offset(bytes.load_quads(w));
                sums[j] = [bytes.add_quads(sums[j][0], w, high), bytes.add_quads(sums[j][1], w, low)];
            }
        }
    }
    for (j, sums) in sums.iter().enumerate() {
        for d in 0..DIGITS {
            out[d][j] = bytes.total(sums[d]).wrapping_sub(B::OFFSET * x.totals[d]);
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

/// [`Bytes::tile_bytes`], `ROWS` rows of bytes and `VECTORS` vectors of columns at a time.
#[inline(always)]
pub(super) fn tile<B: ByteLanes, const ROWS: usize, const VECTORS: usize>(
    bytes: B,
    rows: usize,
    x: Left,
    panel: &[u8],
    adds: bool,
    c: &mut [i32],
) {
    const { assert!(TILE_ROWS.is_multiple_of(ROWS)) };
    let cols = VECTORS * B::N;
    for first in (0..DIGITS * TILE_ROWS).step_by(ROWS).filter(|first| first % TILE_ROWS < rows) {
        let mut sums = [[bytes.zero(); VECTORS]; ROWS];
        let steps = x.cells.chunks_exact(DIGITS * TILE_ROWS * STEP);
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
            let out = &mut c[(first + i) * cols..][..cols];
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
