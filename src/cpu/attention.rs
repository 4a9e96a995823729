//! Softmax attention, exact: all scores of a tile of query rows, their softmax, then the weighted sum of the values.
//!
//! One piece of work is a key-value head and a run of queries. Its keys are packed as panels of the product's right
//! operand once, its values likewise; the query heads that share the key-value head are rows of the same tiles. Every
//! score is a chain over the head's columns and every output a chain over the keys of its row in ascending order, so a
//! row's bits depend on its own query and keys alone; a masked key is never multiplied, whatever its value holds.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Cpu;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use super::attention_tiles;
use super::blocks::Block;
use super::cache::Held;
use super::isa::Op;
use super::lanes::{Accumulate, K_BLOCK, Lanes, LeftRows, MAX_PANEL};
use super::mat::Mat;
use super::softmax::{Logits, softmax_row};
use crate::arena::Room;
use crate::backend::{Attention, AttentionMask, CacheType};
use crate::checked::{quotient, remainder};

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

/// Most queries of one piece of work.
fn most_queries(kv_heads: usize) -> usize {
    if kv_heads >= 8 { QUERIES } else { FEW_QUERIES }
}

/// Elements of scratch that [`attention`] takes for `queries` queries of `heads * d` and keys of that number, values of
/// `kv_heads * e` columns, both held as `kind`. More queries or keys never need less.
pub(super) fn scratch(
    cpu: &Cpu,
    [queries, keys]: [usize; 2],
    [d, e]: [usize; 2],
    kind: CacheType,
    attention: &Attention,
) -> usize {
    if queries == 0 || e == 0 {
        return 0;
    }
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    if attention_tiles::unit(cpu, keys, d, attention).is_some() {
        return attention_tiles::scratch(cpu, [queries, keys], [d, e], kind, attention);
    }
    let keys = match attention.mask {
        AttentionMask::Full | AttentionMask::Causal { window: None, .. } => keys,
        AttentionMask::Causal { window: Some(window), .. } => {
            let most = queries.min(most_queries(attention.kv_heads)) + K_BLOCK;
            keys.min(window.saturating_add(most))
        }
    };
    cpu.isa.run(Need { keys, d, e, kind }).saturating_mul(cpu.threads.workers())
}

/// [`sizes`] together.
struct Need {
    keys: usize,
    d: usize,
    e: usize,
    kind: CacheType,
}

impl Op for Need {
    type Out = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> usize {
        sizes::<L>(self.keys, self.d, self.e, self.kind).into_iter().fold(0, usize::saturating_add)
    }
}

/// Elements of packed keys `[panel][d][PANEL]`, packed values `[panel][key][PANEL]`, a tile's queries
/// `[block of d][row][K_BLOCK]`, its scores `[block of keys][row][K_BLOCK]`, its output `[row][PANEL]`, and the keys of a
/// panel `[key][d]` where they have to be converted first.
fn sizes<L: Lanes>(keys: usize, d: usize, e: usize, kind: CacheType) -> [usize; 6] {
    let block_stride = L::TILE_ROWS * K_BLOCK;
    [
        keys.div_ceil(L::PANEL).saturating_mul(d * L::PANEL),
        e.div_ceil(L::PANEL).saturating_mul(keys).saturating_mul(L::PANEL),
        d.div_ceil(K_BLOCK).max(1) * block_stride,
        keys.div_ceil(K_BLOCK) * block_stride,
        L::TILE_ROWS * MAX_PANEL,
        if kind == CacheType::F32 { 0 } else { d * L::PANEL },
    ]
}

/// Attention of checked operands into `out [q.rows, heads * e]`; keys and values are held alike.
pub(super) fn attention(
    cpu: &Cpu,
    q: Mat,
    k: Held,
    v: Held,
    attention: &Attention,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let Attention { heads, kv_heads, .. } = *attention;
    let (d, e, group) = (quotient(q.cols, heads), v.d, quotient(heads, kv_heads));
    if q.rows == 0 || e == 0 {
        return;
    }
    let shape = Shape { q, k, v, d, e, group, attention };
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    if let Some(unit) = attention_tiles::unit(cpu, k.mat.rows, d, attention) {
        return attention_tiles::attention(cpu, unit, &shape, scratch, out);
    }
    let queries = q.rows.div_ceil(q.rows.div_ceil(most_queries(kv_heads).max(1)).max(1));
    let cost = q.rows.saturating_mul(k.mat.rows).saturating_mul(heads).saturating_mul(d + e);
    cpu.threads.blocks(cost, out, heads * e, [queries, group * e], scratch, |scratch, [first, col], out| {
        cpu.isa.run(Run { shape: &shape, head: quotient(col, group * e), first, out, scratch });
    });
}

/// Operands, head widths of keys (`d`) and values (`e`), and query heads to a key-value head.
pub(super) struct Shape<'a> {
    pub(super) q: Mat<'a>,
    pub(super) k: Held<'a>,
    pub(super) v: Held<'a>,
    pub(super) d: usize,
    pub(super) e: usize,
    pub(super) group: usize,
    pub(super) attention: &'a Attention,
}

/// Key-value head `head` and the queries from `first` on; `out` holds the columns of their query heads.
struct Run<'a, 'b> {
    shape: &'b Shape<'b>,
    head: usize,
    first: usize,
    out: Block<'a>,
    scratch: &'b mut [f32],
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { shape, head, first, mut out, scratch } = self;
        let count = out.rows();
        let Shape { q, k, v, d, e, group, attention } = *shape;
        let logits = Logits { scale: attention.scale, soft_cap: attention.soft_cap };
        let seen = |query: usize| visible(attention.mask, query, k.mat.rows);
        let first_key = seen(first).start / K_BLOCK * K_BLOCK;
        let end_key = seen(first + count - 1).end;
        if first_key >= end_key {
            return (0..count).for_each(|query| out.row(query).fill(0.0));
        }

        let keys = end_key - first_key;
        let key_panels = keys.div_ceil(L::PANEL);
        let value_panels = e.div_ceil(L::PANEL);
        let block_stride = L::TILE_ROWS * K_BLOCK;
        let mut room = Room::new(scratch);
        let [packed_keys, packed_values, queries, scores, sums, converted] =
            sizes::<L>(keys, d, e, k.kind).map(|size| room.take(size));

        let k_head = k.head(head);
        for panel in 0..key_panels {
            let key = first_key + panel * L::PANEL;
            let rows = L::PANEL.min(end_key - key);
            let packed = &mut packed_keys[panel * d * L::PANEL..(panel + 1) * d * L::PANEL];
            let (bytes, stride) = match k.kind {
                CacheType::F32 => k_head.mat.bytes(key),
                _ => {
                    for (i, out) in converted.chunks_exact_mut(d.max(1)).take(rows).enumerate() {
                        k_head.read(lanes, key + i, 0, out);
                    }
                    (bytemuck::cast_slice(converted), d * 4)
                }
            };
            lanes.pack(bytes, stride, rows, d, packed);
        }
        let v_head = v.head(head);
        for key in 0..keys {
            for panel in 0..value_panels {
                let first = panel * L::PANEL;
                let cells = packed_values[(panel * keys + key) * L::PANEL..][..L::PANEL]
                    .split_at_mut(L::PANEL.min(e - first));
                v_head.read(lanes, first_key + key, first, cells.0);
                cells.1.fill(0.0);
            }
        }

        let rows = count * group;
        let per_tile = rows.div_ceil(rows.div_ceil(L::TILE_ROWS).max(1)).max(1);
        for start in (0..rows).step_by(per_tile) {
            let tile_rows = per_tile.min(rows - start);
            // Keys of the tile's rows, counted from `first_key`.
            let of_row = |i: usize| {
                let keys = seen(first + quotient(start + i, group));
                keys.start.max(first_key) - first_key..keys.end.max(first_key) - first_key
            };
            let widest = of_row(0).start..of_row(tile_rows - 1).end;
            let shared = of_row(tile_rows - 1).start..of_row(0).end;
            let shared = shared.start..shared.end.max(shared.start);

            for i in 0..tile_rows {
                let (query, head) = (quotient(start + i, group), head * group + remainder(start + i, group));
                let row = &q.row(first + query)[head * d..(head + 1) * d];
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
                    let size = [tile_rows, L::PANEL.min(keys - key), K_BLOCK.min(d - from)];
                    lanes.tile(size, LeftRows::Apart(a), packed, c, K_BLOCK, accumulate, [&[]; 2]);
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
                let cols = L::PANEL.min(e - panel * L::PANEL);
                let weighted = WeightedSum { scores: &*scores, packed, cols, block_stride };
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
                    let (query, inner) = (quotient(start + i, group), remainder(start + i, group));
                    let cells = &mut out.row(query)[inner * e..(inner + 1) * e][panel * L::PANEL..];
                    let inverse = if of_row(i).is_empty() { 0.0 } else { 1.0 / totals[i] };
                    for (out, sum) in cells.iter_mut().zip(&sums[i * L::PANEL..(i + 1) * L::PANEL]) {
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
    cols: usize,
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
            let size = [rows, self.cols, end - key];
            lanes.tile(size, LeftRows::Apart(a), panel, c, L::PANEL, Accumulate::Continue, [&[]; 2]);
            key = end;
        }
    }
}
