//! Softmax attention, exact: all scores of a tile of query rows, their softmax, then the weighted sum of the values.
//!
//! One piece of work is a key-value head and a run of queries. Its keys are packed as panels of the product's right
//! operand once, its values likewise; the query heads that share the key-value head are rows of the same tiles. Every
//! score is a chain over the head's columns and every output a chain over the keys of its row in ascending order, so a
//! row's bits depend on its own query and keys alone; a masked key is never multiplied, whatever its value holds.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::ops::Range;

use super::Cpu;
use super::isa::Op;
use super::lanes::{Accumulate, K_BLOCK, Lanes, MAX_PANEL};
use super::mat::Mat;
use super::softmax::{Logits, softmax_row};
use crate::backend::{Attention, AttentionMask};

/// Most queries of one piece where the heads alone give enough pieces.
const QUERIES: usize = 256;
/// Most queries of one piece where heads are few.
const FEW_QUERIES: usize = 48;

/// Keys that query `i` of `keys` may attend to.
pub(super) fn visible(mask: AttentionMask, i: usize, keys: usize) -> Range<usize> {
    match mask {
        AttentionMask::Full => 0..keys,
        AttentionMask::Causal { first, window } => {
            let position = first.saturating_add(i);
            let end = position.saturating_add(1).min(keys);
            let start = window.map_or(0, |window| position.saturating_add(1).saturating_sub(window));
            start.min(end)..end
        }
    }
}

/// Attention of checked operands into `out [q.rows, heads * e]`.
pub(super) fn attention(cpu: &Cpu, q: Mat, k: Mat, v: Mat, attention: &Attention, out: &mut [f32]) {
    let Attention { heads, kv_heads, .. } = *attention;
    let (d, e, group) = (q.cols / heads, v.cols / kv_heads, heads / kv_heads);
    if q.rows == 0 || e == 0 {
        return;
    }
    let most = if kv_heads >= 8 { QUERIES } else { FEW_QUERIES };
    let queries = q.rows.div_ceil(q.rows.div_ceil(most));
    let mut items = Vec::new();
    for (index, rows) in out.chunks_mut(queries * heads * e).enumerate() {
        let base = items.len();
        let count = rows.len() / (heads * e);
        for head in 0..kv_heads {
            let out = Vec::with_capacity(count * group);
            items.push(Piece { head, first: index * queries, count, out });
        }
        for row in rows.chunks_mut(heads * e) {
            for (h, cells) in row.chunks_mut(e).enumerate() {
                items[base + h / group].out.push(cells);
            }
        }
    }
    let cost = q.rows.saturating_mul(k.rows).saturating_mul(heads).saturating_mul(d + e);
    let shape = Shape { q, k, v, d, e, group, attention };
    cpu.threads.each(cost, items, Vec::new, |memory, piece| {
        cpu.isa.run(Run { shape: &shape, piece, memory });
    });
}

/// Operands, head widths of keys (`d`) and values (`e`), and query heads to a key-value head.
struct Shape<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    d: usize,
    e: usize,
    group: usize,
    attention: &'a Attention,
}

/// Key-value head `head`, `count` queries from `first` on; `out` holds their rows, head by head within a query.
struct Piece<'a> {
    head: usize,
    first: usize,
    count: usize,
    out: Vec<&'a mut [f32]>,
}

struct Run<'a, 'b> {
    shape: &'b Shape<'b>,
    piece: Piece<'a>,
    memory: &'b mut Vec<f32>,
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { shape, mut piece, memory } = self;
        let Shape { q, k, v, d, e, group, attention } = *shape;
        let logits = Logits { scale: attention.scale, soft_cap: attention.soft_cap };
        let seen = |query: usize| visible(attention.mask, query, k.rows);
        let first_key = seen(piece.first).start / K_BLOCK * K_BLOCK;
        let end_key = seen(piece.first + piece.count - 1).end;
        if first_key >= end_key {
            return piece.out.iter_mut().for_each(|row| row.fill(0.0));
        }

        // Memory: packed keys [panel][d][PANEL], packed values [panel][key][PANEL], a tile's queries [block of d][row][K_BLOCK],
        // its scores [block of keys][row][K_BLOCK] and its output [row][PANEL].
        let keys = end_key - first_key;
        let key_panels = keys.div_ceil(L::PANEL);
        let value_panels = e.div_ceil(L::PANEL);
        let d_blocks = d.div_ceil(K_BLOCK).max(1);
        let key_blocks = keys.div_ceil(K_BLOCK);
        let block_stride = L::TILE_ROWS * K_BLOCK;
        let sizes = [
            key_panels * d * L::PANEL,
            value_panels * keys * L::PANEL,
            d_blocks * block_stride,
            key_blocks * block_stride,
            L::TILE_ROWS * MAX_PANEL,
        ];
        memory.resize(sizes.iter().sum::<usize>().max(memory.len()), 0.0);
        let (packed_keys, rest) = memory.split_at_mut(sizes[0]);
        let (packed_values, rest) = rest.split_at_mut(sizes[1]);
        let (queries, rest) = rest.split_at_mut(sizes[2]);
        let (scores, rest) = rest.split_at_mut(sizes[3]);
        let sums = &mut rest[..sizes[4]];

        let k_head = k.columns(piece.head * d, d);
        for panel in 0..key_panels {
            let key = first_key + panel * L::PANEL;
            let (bytes, stride) = k_head.bytes(key);
            let packed = &mut packed_keys[panel * d * L::PANEL..(panel + 1) * d * L::PANEL];
            lanes.pack(bytes, stride, L::PANEL.min(end_key - key), d, packed);
        }
        let v_head = v.columns(piece.head * e, e);
        for key in 0..keys {
            let row = v_head.row(first_key + key);
            for (panel, cells) in row.chunks(L::PANEL).enumerate() {
                let (head, tail) =
                    packed_values[(panel * keys + key) * L::PANEL..][..L::PANEL].split_at_mut(cells.len());
                head.copy_from_slice(cells);
                tail.fill(0.0);
            }
        }

        let rows = piece.count * group;
        let per_tile = rows.div_ceil(rows.div_ceil(L::TILE_ROWS));
        for start in (0..rows).step_by(per_tile) {
            let tile_rows = per_tile.min(rows - start);
            // Keys of the tile's rows, counted from `first_key`.
            let of_row = |i: usize| {
                let keys = seen(piece.first + (start + i) / group);
                keys.start.max(first_key) - first_key..keys.end.max(first_key) - first_key
            };
            let widest = of_row(0).start..of_row(tile_rows - 1).end;
            let shared = of_row(tile_rows - 1).start..of_row(0).end;
            let shared = shared.start..shared.end.max(shared.start);

            for i in 0..tile_rows {
                let (query, head) = ((start + i) / group, piece.head * group + (start + i) % group);
                let row = &q.row(piece.first + query)[head * d..(head + 1) * d];
                for (block, cells) in row.chunks(K_BLOCK).enumerate() {
                    queries[block * block_stride + i * K_BLOCK..][..cells.len()].copy_from_slice(cells);
                }
            }
            for panel in widest.start / L::PANEL..widest.end.div_ceil(L::PANEL) {
                let key = panel * L::PANEL;
                let c = &mut scores[key / K_BLOCK * block_stride + key % K_BLOCK..];
                if d == 0 {
                    c.chunks_mut(K_BLOCK).take(tile_rows).for_each(|row| row[..L::PANEL].fill(0.0));
                }
                for (block, from) in (0..d).step_by(K_BLOCK).enumerate() {
                    let accumulate = if block == 0 { Accumulate::Overwrite } else { Accumulate::Add };
                    let packed = &packed_keys[(panel * d + from) * L::PANEL..];
                    let a = &queries[block * block_stride..];
                    lanes.tile(tile_rows, K_BLOCK.min(d - from), a, packed, c, K_BLOCK, accumulate);
                }
            }
            let mut totals = [0.0f32; 32];
            for i in 0..tile_rows {
                let row = &mut scores[i * K_BLOCK..];
                totals[i] = softmax_row(lanes, row, block_stride, of_row(i), logits);
            }
            for panel in 0..value_panels {
                sums.fill(0.0);
                let packed = &packed_values[panel * keys * L::PANEL..];
                let weighted = WeightedSum { scores, packed, block_stride };
                for i in 0..tile_rows {
                    let keys = of_row(i);
                    weighted.add(lanes, i, 1, keys.start..shared.start.min(keys.end), sums);
                }
                weighted.add(lanes, 0, tile_rows, shared.clone(), sums);
                for i in 0..tile_rows {
                    let keys = of_row(i);
                    weighted.add(lanes, i, 1, shared.end.max(keys.start)..keys.end, sums);
                }
                for i in 0..tile_rows {
                    let out = &mut piece.out[start + i][panel * L::PANEL..];
                    let inverse = if of_row(i).is_empty() { 0.0 } else { 1.0 / totals[i] };
                    for (out, sum) in out.iter_mut().zip(&sums[i * L::PANEL..(i + 1) * L::PANEL]) {
                        *out = sum * inverse;
                    }
                }
            }
        }
    }
}

/// A tile's softmax weights and a panel of values.
struct WeightedSum<'a> {
    scores: &'a [f32],
    packed: &'a [f32],
    block_stride: usize,
}

impl WeightedSum<'_> {
    /// Continues the chains of `rows` rows from row `row` on over `keys`.
    #[inline(always)]
    fn add<L: Lanes>(&self, lanes: L, row: usize, rows: usize, keys: Range<usize>, sums: &mut [f32]) {
        let mut key = keys.start;
        while key < keys.end {
            let end = ((key / K_BLOCK + 1) * K_BLOCK).min(keys.end);
            let a = &self.scores[key / K_BLOCK * self.block_stride + row * K_BLOCK + key % K_BLOCK..];
            let panel = &self.packed[key * L::PANEL..];
            let c = &mut sums[row * L::PANEL..];
            lanes.tile(rows, end - key, a, panel, c, L::PANEL, Accumulate::Continue);
            key = end;
        }
    }
}
