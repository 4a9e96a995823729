//! The vocabulary that every kernel is written in: a vector of `f32` and some 20 operations on it, plus the two hooks of
//! the blocked product (packing and the register tile), which each instruction set writes by hand.
#![forbid(unsafe_code)]

use crate::weights::Dtype;

/// Elements of `k` that one panel holds: a panel of 64 columns then takes two thirds of a first-level cache of 48 KB and
/// leaves room for the rows that stream past it. Sums over `k` run in blocks of this size: fused multiply-adds in ascending
/// `k` inside a block, then the blocks' sums are added in order. A constant, so that the bits of an output depend on nothing
/// but its row and its column.
pub(super) const K_BLOCK: usize = 128;

/// Most columns that a panel has on any instruction set.
pub(super) const MAX_PANEL: usize = 64;

/// Most rows of a register tile on any instruction set, and rows that [`Lanes::interleave`] may read.
pub(super) const MAX_TILE_ROWS: usize = 8;

/// Steps of `k` for each cache line that [`Lanes::tile`] brings nearer.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(super) const AHEAD: usize = 8;

/// Bytes of a cache line.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub(super) const LINE: usize = 64;

/// What [`Lanes::tile`] does with what lies in `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accumulate {
    /// `c = sum`
    Overwrite,
    /// `c = c + sum`
    Add,
    /// The sum starts from `c`: one unbroken chain over several calls.
    Continue,
}

/// Vectors of `f32` of one instruction set. Every method must be `#[inline(always)]`.
///
/// Slices may have any alignment. Methods named `partial` take at most [`Lanes::N`] elements.
pub(super) trait Lanes: Copy {
    /// `N` numbers.
    type V: Copy;
    /// Lanes of a vector.
    const N: usize;
    /// Most rows of a register tile.
    const TILE_ROWS: usize;
    /// Columns of a panel and of a register tile.
    const PANEL: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The first `N` elements of `x`; panics where there are fewer.
    fn load(self, x: &[f32]) -> Self::V;
    /// The elements of `x`, then zeros.
    fn load_partial(self, x: &[f32]) -> Self::V;
    /// Writes `N` elements; panics where `out` has fewer.
    fn store(self, v: Self::V, out: &mut [f32]);
    /// Writes the first `out.len()` lanes.
    fn store_partial(self, v: Self::V, out: &mut [f32]);

    /// The first `N` integers of `x` as numbers, to the nearest; panics where there are fewer.
    fn load_integers(self, x: &[i32]) -> Self::V;

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b` by lanes, so `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b` by lanes, so `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? yes : no` by lanes.
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `v * 2^n`, `n` integral and within -252..=254; rounds once more where the result is subnormal.
    fn scale2(self, v: Self::V, n: Self::V) -> Self::V;
    /// Sum of all lanes, in a fixed order.
    fn sum(self, v: Self::V) -> f32;

    /// Converts `out.len()` little-endian elements to `f32`; panics where `bytes` is shorter.
    fn convert(self, dtype: Dtype, bytes: &[u8], out: &mut [f32]);

    /// Writes `panel[k * PANEL + i] = row i at k`: transposes `rows` rows of `f32` (little-endian bytes, row `i` starting
    /// `i * stride` bytes in, `k` elements each) into a panel; columns from `rows` to `PANEL` become 0.
    fn pack(self, bytes: &[u8], stride: usize, rows: usize, k: usize, panel: &mut [f32]);

    /// Interleaves rows: `out[k * TILE_ROWS + i] = rows[i * K_BLOCK + k]` for `TILE_ROWS` rows and the first `k` elements.
    /// `rows` has room for [`MAX_TILE_ROWS`] rows.
    #[inline(always)]
    fn interleave(self, rows: &[f32], k: usize, out: &mut [f32]) {
        for (k, cells) in out[..k * Self::TILE_ROWS].chunks_exact_mut(Self::TILE_ROWS).enumerate() {
            for (i, cell) in cells.iter_mut().enumerate() {
                *cell = rows[i * K_BLOCK + k];
            }
        }
    }

    /// The register tile: `c[i * c_stride + j] (+)= sum_k a[i, k] * panel[k * PANEL + j]` for `size = [rows, cols, k]`: 1 to
    /// `TILE_ROWS` rows and the first `cols` columns, each sum one chain of multiply-adds in ascending `k`, `k` at most
    /// [`K_BLOCK`]. `c` has room for `PANEL` columns; those from `cols` on hold anything afterwards. Meanwhile cache lines
    /// of the two runs `ahead`, at most one for 8 steps of `k`, may be brought nearer; nothing is read from them.
    #[allow(clippy::too_many_arguments)]
    fn tile(
        self,
        size: [usize; 3],
        a: LeftRows,
        panel: &[f32],
        c: &mut [f32],
        c_stride: usize,
        accumulate: Accumulate,
        ahead: [&[u8]; 2],
    );
}

/// The rows of a register tile.
#[derive(Clone, Copy)]
pub(super) enum LeftRows<'a> {
    /// Element `k` of row `i` at `i * K_BLOCK + k`.
    Apart(&'a [f32]),
    /// As [`Lanes::interleave`] writes them.
    Interleaved(&'a [f32]),
}

impl<'a> LeftRows<'a> {
    /// The elements, and the steps from row to row and from `k` to `k + 1`; panics where a row of `size` is not there.
    #[inline(always)]
    pub(super) fn steps<L: Lanes>(self, [rows, _, k]: [usize; 3]) -> (&'a [f32], [usize; 2]) {
        let (a, steps) = match self {
            LeftRows::Apart(a) => (a, [K_BLOCK, 1]),
            LeftRows::Interleaved(a) => (a, [1, L::TILE_ROWS]),
        };
        assert!(k == 0 || a.len() > (rows - 1) * steps[0] + (k - 1) * steps[1]);
        (a, steps)
    }
}

/// An elementwise function of one vector.
pub(super) trait Map: Copy {
    /// The function; must be `#[inline(always)]`.
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V;
}

/// `x = map(x)` in place.
#[inline(always)]
pub(super) fn map_in_place<L: Lanes, M: Map>(lanes: L, x: &mut [f32], map: M) {
    let mut chunks = x.chunks_exact_mut(L::N);
    for chunk in &mut chunks {
        lanes.store(map.apply(lanes, lanes.load(chunk)), chunk);
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        lanes.store_partial(map.apply(lanes, lanes.load_partial(tail)), tail);
    }
}

/// Copies a few vectors, for which a call of `memmove` would cost more than the copy; lengths are equal.
#[inline(always)]
pub(super) fn copy<L: Lanes>(lanes: L, from: &[f32], to: &mut [f32]) {
    let (mut from, mut to) = (from.chunks_exact(L::N), to.chunks_exact_mut(L::N));
    for (from, to) in (&mut from).zip(&mut to) {
        lanes.store(lanes.load(from), to);
    }
    let (from, to) = (from.remainder(), to.into_remainder());
    if !to.is_empty() {
        lanes.store_partial(lanes.load_partial(from), to);
    }
}

/// A function of two vectors.
pub(super) trait Zip: Copy {
    /// The function; must be `#[inline(always)]`.
    fn apply<L: Lanes>(self, lanes: L, a: L::V, b: L::V) -> L::V;
}

/// `a = zip(a, b)` in place, over the shorter length.
#[inline(always)]
pub(super) fn zip_in_place<L: Lanes, Z: Zip>(lanes: L, a: &mut [f32], b: &[f32], zip: Z) {
    let mut a_chunks = a.chunks_exact_mut(L::N);
    let mut b_chunks = b.chunks_exact(L::N);
    for (a, b) in (&mut a_chunks).zip(&mut b_chunks) {
        lanes.store(zip.apply(lanes, lanes.load(a), lanes.load(b)), a);
    }
    let (a, b) = (a_chunks.into_remainder(), b_chunks.remainder());
    if !a.is_empty() {
        lanes.store_partial(zip.apply(lanes, lanes.load_partial(a), lanes.load_partial(b)), a);
    }
}

/// Sum over `x` of `map(x)`; `map(0)` must be 0. Lane `i mod N` adds its elements in order, then the lanes are added.
#[inline(always)]
pub(super) fn sum_of<L: Lanes, M: Map>(lanes: L, x: &[f32], map: M) -> f32 {
    let chunks = x.chunks_exact(L::N);
    let tail = chunks.remainder();
    let mut total = lanes.splat(0.0);
    for chunk in chunks {
        total = lanes.add(total, map.apply(lanes, lanes.load(chunk)));
    }
    total = lanes.add(total, map.apply(lanes, lanes.load_partial(tail)));
    lanes.sum(total)
}
