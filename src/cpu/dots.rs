//! The vocabulary of products in which weights meet activations row by row: a few rows of activations times stored
//! weights, and the panels and tiles of the product with weights of four bits; `bytes.rs` has those of eight.
//!
//! Products of four bits are exact inside a group of [`GROUP`] elements, so that any order of the additions gives the same sum;
//! across groups every output is one chain of `f32` multiply-adds in ascending order, `sum = sum + group * scale`. Products of
//! `f32`, `f16` and `bf16` follow the blocked product: chains over [`K_BLOCK`](super::lanes::K_BLOCK) elements in ascending
//! order, then the sum of the blocks. A row therefore has the bits here that it has in a large batch.
#![forbid(unsafe_code)]

use super::bytes::Bytes;
use super::lanes::Lanes;
use crate::weights::{Dtype, GROUP};

/// Elements of a row that are read in one go; quantised rows are padded with zeros to a multiple.
pub(super) const CHUNK: usize = 4 * GROUP;
/// Groups of a [`CHUNK`].
pub(super) const CHUNK_GROUPS: usize = CHUNK / GROUP;
/// Bytes of a column of a panel that are multiplied at once.
pub(super) const QUAD: usize = 4;
/// [`QUAD`]s of a group.
pub(super) const QUADS: usize = GROUP / QUAD;
/// Most columns that a panel has on any instruction set.
pub(super) const MAX_COLS: usize = 32;

/// Some rows of a stored weight, which are columns of the output.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a, T> {
    /// From the first row on.
    pub(super) bytes: &'a [u8],
    /// Bytes from row to row.
    pub(super) stride: usize,
    /// Rows.
    pub(super) cols: usize,
    /// Elements of a row.
    pub(super) k: usize,
    /// Type of the elements.
    pub(super) kind: T,
}

impl<'a> Strip<'a, Integer<'a>> {
    /// The same columns from `col` on, at most `cols` of them.
    pub(super) fn columns(self, col: usize, cols: usize) -> Self {
        let Integer { scales, stride, dtype, .. } = self.kind;
        Strip {
            bytes: &self.bytes[col * self.stride..],
            cols: cols.min(self.cols - col),
            kind: Integer { scales: &scales[col * stride * dtype.size()..], stride, dtype },
            ..self
        }
    }

    /// Scale of group `group` of row `i`; 0 behind the last group.
    pub(super) fn scale(self, i: usize, group: usize) -> f32 {
        let Integer { scales, stride, dtype, .. } = self.kind;
        let at = (i * stride + group) * dtype.size();
        match (dtype, scales.get(at..at + dtype.size())) {
            (Dtype::F32, Some(&[a, b, c, d])) if group < stride => f32::from_le_bytes([a, b, c, d]),
            (Dtype::F16, Some(&[a, b])) if group < stride => half::f16::from_le_bytes([a, b]).to_f32(),
            _ => 0.0,
        }
    }

    /// Byte `j` of row `i`, 0 behind its end.
    fn byte(self, i: usize, j: usize) -> u8 {
        if j < self.k / 2 { self.bytes[i * self.stride + j] } else { 0 }
    }

    /// Four stored elements of row `i` as a panel holds them, with the offset 8.
    #[inline(always)]
    pub(super) fn quad(self, i: usize, group: usize, quad: usize) -> [u8; QUAD] {
        // The even elements of a group lie in the low halves, the odd ones in the high halves.
        let (shift, quad) = if quad < QUADS / 2 { (0, quad) } else { (4, quad - QUADS / 2) };
        core::array::from_fn(|j| self.byte(i, group * GROUP / 2 + quad * QUAD + j) >> shift & 15)
    }
}

/// What a [`Strip`] of integers of four bits has besides.
#[derive(Clone, Copy)]
pub(super) struct Integer<'a> {
    /// Scales of the groups from the first row on.
    pub(super) scales: &'a [u8],
    /// Scales from row to row.
    pub(super) stride: usize,
    /// Type of the scales.
    pub(super) dtype: Dtype,
}

/// One row of activations in integers of eight bits, for weights of four: `x[j] = scales[j / GROUP] * q[j]`.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// A multiple of [`CHUNK`]; every chunk holds its even elements, then its odd ones.
    pub(super) q: &'a [u8],
    /// One for each group.
    pub(super) scales: &'a [f32],
    /// One for each group: what the offset of the stored integers, 8, adds to its sum, negated.
    pub(super) fixes: &'a [i32],
}

impl Row<'_> {
    /// Where the four activations begin that meet [`Strip::quad`].
    #[inline(always)]
    pub(super) fn at(group: usize, quad: usize) -> usize {
        let half = if quad < QUADS / 2 { 0 } else { CHUNK / 2 - GROUP / 2 };
        group / CHUNK_GROUPS * CHUNK + group % CHUNK_GROUPS * (GROUP / 2) + half + quad * QUAD
    }
}

/// Products of one instruction set. Every method must be `#[inline(always)]`.
pub(super) trait Dots: Bytes {
    /// The vectors of the same instruction set.
    type Lanes: Lanes;
    /// Most columns of [`Dots::dot`] and [`Dots::dot_floats`].
    const DOT_COLS: usize;
    /// Most rows of a tile.
    const TILE_ROWS: usize;

    /// The vectors.
    fn lanes(self) -> Self::Lanes;

    /// `out[j] = sum_k strip[j, k] * x[k]` for the strip's columns.
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]);

    /// `out[j] = sum_g x.scales[g] * (strip.scale(j, g) * sum_(k in g) strip[j, k] * x.q[k])` for the strip's columns.
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]);

    /// Fills a panel `[group][quad][COLS][QUAD]` with `groups` groups (whole chunks) of the strip's columns from group
    /// `first` on, and their scales `[group][COLS]`. Columns and groups that do not exist become
    /// anything in the panel, but finite in the scales.
    fn pack(self, strip: Strip<Integer>, first: usize, groups: usize, panel: &mut [u8], scales: &mut [f32]) {
        for group in 0..groups {
            for quad in 0..QUADS {
                let cells = &mut panel[(group * QUADS + quad) * Self::COLS * QUAD..][..Self::COLS * QUAD];
                for (i, cell) in cells.as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
                    *cell = strip.quad(i.min(strip.cols - 1), first + group, quad);
                }
            }
            for (i, scale) in scales[group * Self::COLS..][..Self::COLS].iter_mut().enumerate() {
                *scale = strip.scale(i.min(strip.cols - 1), first + group);
            }
        }
    }

    /// Continues the sums `c[i * COLS + j]` of [`Dots::dot`] over the groups of a panel, the first of which is `first`, for
    /// 1 to `TILE_ROWS` rows.
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]);

    /// As [`Dots::tile`] for any number of rows, equally far apart.
    #[inline(always)]
    fn tiles<'a>(
        self,
        count: usize,
        row: impl Fn(usize) -> Row<'a>,
        first: usize,
        panel: &Panel,
        c: &mut [f32],
    ) {
        for start in (0..count).step_by(Self::TILE_ROWS) {
            let rows = Self::TILE_ROWS.min(count - start);
            let tile: [Row; MAX_TILE] = core::array::from_fn(|i| row(start + i.min(rows - 1)));
            self.tile(&tile[..rows], first, panel, &mut c[start * Self::COLS..]);
        }
    }
}

/// Most rows that a tile of [`Dots::tiles`] has where it is not written by hand.
const MAX_TILE: usize = 8;

/// A packed panel.
pub(super) struct Panel<'a> {
    pub(super) groups: usize,
    pub(super) cells: &'a [u8],
    pub(super) scales: &'a [f32],
}

/// A piece of work that is compiled once for every [`Dots`]; the rules of [`Op`](super::isa::Op) hold.
pub(super) trait DotOp {
    /// What the work returns.
    type Out;

    /// Does the work with the products of one instruction set.
    fn run<D: Dots>(self, dots: D) -> Self::Out;
}
