//! Softmax attention backwards: probabilities are made again from queries and keys, run by run of queries.
//!
//! One piece of work is a key-value head of a sequence with all its query heads and keys. Its queries are cut into equal runs of at most
//! [`K_BLOCK`], so that the products that sum over queries take one block of a run each and add the runs in order:
//! `S = q k^T`, `O = gradient v^T`, then by rows `P = softmax(S)` and `T = P (O - sum P O) slope`, then `q' = T k`,
//! `k' += T^T q`, `v' += P^T gradient`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::super::Cpu;
use super::super::attention::visible;
use super::super::finish::Product;
use super::super::isa::Op;
use super::super::lanes::{Accumulate, K_BLOCK, Lanes, LeftRows, MAX_PANEL, Map, map_in_place, zip_in_place};
use super::super::layer_norm::{Minus, Times};
use super::super::mat::Mat;
use super::super::maths::tanh;
use super::super::softmax::{Logits, softmax_row};
use super::sums::dot;
use super::turn::turn;
use crate::backend::Attention;

/// A sequence: `q`, `k`, `v` and the gradient, and the rows of the derivatives by `q`, `k` and `v`.
pub(super) struct Sequence<'a> {
    pub(super) operands: [Mat<'a>; 4],
    pub(super) out: [Vec<&'a mut [f32]>; 3],
}

/// Writes the derivatives of every sequence, all of the same shape.
pub(super) fn attention_backward(cpu: &Cpu, attention: &Attention, sequences: Vec<Sequence>) {
    let Attention { heads, kv_heads, .. } = *attention;
    let group = heads / kv_heads;
    let mut items: Vec<Piece> = Vec::new();
    let mut cost = 0usize;
    for Sequence { operands, out } in sequences {
        let [q, k, v, _] = operands;
        let (d, e) = (q.cols / heads, v.cols / kv_heads);
        if q.rows == 0 || k.rows == 0 || e == 0 {
            out.into_iter().flatten().for_each(|row| row.fill(0.0));
            continue;
        }
        let first = items.len();
        let piece = |head| Piece { operands, d, e, head, dq: Vec::new(), dk: Vec::new(), dv: Vec::new() };
        items.extend((0..kv_heads).map(piece));
        let items = &mut items[first..];
        let [dq, dk, dv] = out;
        for row in dq {
            let cells = row.chunks_mut((group * d).max(1));
            cells.zip(&mut *items).for_each(|(cells, piece)| piece.dq.push(cells));
        }
        for row in dk {
            row.chunks_mut(d.max(1)).zip(&mut *items).for_each(|(cells, piece)| piece.dk.push(cells));
        }
        for row in dv {
            row.chunks_mut(e).zip(&mut *items).for_each(|(cells, piece)| piece.dv.push(cells));
        }
        let of_head = q.rows.saturating_mul(k.rows).saturating_mul(3 * d + 2 * e);
        cost = cost.saturating_add(of_head.saturating_mul(heads));
    }
    cpu.threads.each(cost, items, Vec::new, |memory, piece| {
        cpu.isa.run(Run { attention, group, piece, memory });
    });
}

/// Key-value head `head` of a sequence, with heads of `d` (keys) and `e` (values) columns, and its columns of every output
/// row (those of all its query heads together in `dq`).
struct Piece<'a> {
    operands: [Mat<'a>; 4],
    d: usize,
    e: usize,
    head: usize,
    dq: Vec<&'a mut [f32]>,
    dk: Vec<&'a mut [f32]>,
    dv: Vec<&'a mut [f32]>,
}

struct Run<'a, 'b> {
    attention: &'b Attention,
    /// Query heads to a key-value head.
    group: usize,
    piece: Piece<'a>,
    memory: &'b mut Vec<f32>,
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { attention, group, mut piece, memory } = self;
        let Piece { operands: [q, k, v, gradient], d, e, .. } = piece;
        // With a soft cap, what the softmax gets is scaled and capped already.
        let scale = if attention.soft_cap.is_some() { 1.0 } else { attention.scale };
        let logits = Logits { scale, soft_cap: None };
        let keys = k.rows;
        let runs = q.rows.div_ceil(K_BLOCK);
        let per_run = q.rows.div_ceil(runs);

        let panels = |cols: usize| cols.div_ceil(L::PANEL);
        let key_blocks = keys.div_ceil(K_BLOCK);
        let blocks = |k: usize| k.div_ceil(K_BLOCK).max(1);
        let square = key_blocks * per_run * K_BLOCK;
        let mut memory = Memory::new(
            memory,
            [
                panels(keys) * d * L::PANEL,
                panels(keys) * e * L::PANEL,
                panels(d) * keys * L::PANEL,
                panels(d) * keys * L::PANEL,
                panels(e) * keys * L::PANEL,
                blocks(d) * per_run * K_BLOCK,
                blocks(e) * per_run * K_BLOCK,
                panels(d) * per_run * L::PANEL,
                panels(e) * per_run * L::PANEL,
                square,
                square,
                if attention.soft_cap.is_some() { square } else { 0 },
                keys * K_BLOCK,
                K_BLOCK.min(keys) * L::PANEL,
                per_run * MAX_PANEL,
            ],
        );
        // Right operands: keys and values by rows, keys by columns; sums of `k'` and `v'` as panels `[panel][key][PANEL]`.
        let (by_key, by_value, key_cols) = (memory.take(), memory.take(), memory.take());
        let (dk_sums, dv_sums) = (memory.take(), memory.take());
        // A run's queries and gradients as left operands, then as right ones.
        let (q_left, g_left, q_right, g_right) = (memory.take(), memory.take(), memory.take(), memory.take());
        let (p, t, slopes) = (memory.take(), memory.take(), memory.take());
        let (turned, turn_room, sums) = (memory.take(), memory.take(), memory.take());

        let (k_head, v_head) = (k.columns(piece.head * d, d), v.columns(piece.head * e, e));
        pack_rows(lanes, k_head, by_key);
        pack_rows(lanes, v_head, by_value);
        pack_columns::<L>(keys, |key| k_head.row(key), key_cols);
        dk_sums.fill(0.0);
        dv_sums.fill(0.0);

        for first in (0..q.rows).step_by(per_run) {
            let rows = per_run.min(q.rows - first);
            let stride = rows * K_BLOCK;
            for inner in 0..group {
                let head = piece.head * group + inner;
                let query = |i: usize| &q.row(first + i)[head * d..(head + 1) * d];
                let slope = |i: usize| &gradient.row(first + i)[head * e..(head + 1) * e];
                copy_left(rows, query, q_left);
                copy_left(rows, slope, g_left);
                pack_columns::<L>(rows, query, q_right);
                pack_columns::<L>(rows, slope, g_right);
                scores(lanes, rows, d, q_left, by_key, keys, p);
                scores(lanes, rows, e, g_left, by_value, keys, t);

                for i in 0..rows {
                    if let Some(cap) = attention.soft_cap {
                        let capped = Capped { scale: attention.scale, cap };
                        for (slopes, cells) in
                            row_blocks(slopes, i, stride, keys).zip(row_blocks(p, i, stride, keys))
                        {
                            map_in_place(lanes, cells, capped);
                            slopes.copy_from_slice(cells);
                            map_in_place(lanes, slopes, CapSlope);
                            map_in_place(lanes, cells, Times(cap));
                        }
                    }
                    let seen = visible(attention.mask, first + i, keys);
                    let total = softmax_row(lanes, &mut p[i * K_BLOCK..], stride, seen.clone(), logits);
                    let inverse = if seen.is_empty() { 0.0 } else { 1.0 / total };
                    for (block, cells) in row_blocks(p, i, stride, keys).enumerate() {
                        let at = block * K_BLOCK;
                        let start = seen.start.clamp(at, at + cells.len()) - at;
                        let end = seen.end.clamp(at, at + cells.len()) - at;
                        cells[..start].fill(0.0);
                        cells[end.max(start)..].fill(0.0);
                        map_in_place(lanes, cells, Times(inverse));
                    }
                    let mean: f32 = shared_blocks(p, i, stride, keys)
                        .zip(shared_blocks(t, i, stride, keys))
                        .map(|(p, o)| dot(lanes, p, o))
                        .sum();
                    for (block, cells) in row_blocks(t, i, stride, keys).enumerate() {
                        let at = block * stride + i * K_BLOCK;
                        map_in_place(lanes, cells, Minus(mean));
                        zip_in_place(lanes, cells, &p[at..at + cells.len()], Product);
                        if attention.soft_cap.is_some() {
                            zip_in_place(lanes, cells, &slopes[at..at + cells.len()], Product);
                        }
                        map_in_place(lanes, cells, Times(attention.scale));
                    }
                }

                for panel in 0..panels(d) {
                    let packed = &key_cols[panel * keys * L::PANEL..];
                    tiles(lanes, rows, keys, t, packed, sums, L::PANEL, Accumulate::Overwrite);
                    for i in 0..rows {
                        let out = &mut piece.dq[first + i][inner * d..(inner + 1) * d];
                        let out = out.chunks_mut(L::PANEL).nth(panel).unwrap_or_default();
                        out.copy_from_slice(&sums[i * L::PANEL..][..out.len()]);
                    }
                }
                turn_keys(lanes, [rows, keys], p, turn_room, turned);
                for panel in 0..panels(e) {
                    let packed = &g_right[panel * rows * L::PANEL..];
                    let c = &mut dv_sums[panel * keys * L::PANEL..];
                    tiles(lanes, keys, rows, turned, packed, c, L::PANEL, Accumulate::Add);
                }
                turn_keys(lanes, [rows, keys], t, turn_room, turned);
                for panel in 0..panels(d) {
                    let packed = &q_right[panel * rows * L::PANEL..];
                    let c = &mut dk_sums[panel * keys * L::PANEL..];
                    tiles(lanes, keys, rows, turned, packed, c, L::PANEL, Accumulate::Add);
                }
            }
        }
        unpack::<L>(dk_sums, keys, &mut piece.dk);
        unpack::<L>(dv_sums, keys, &mut piece.dv);
    }
}

/// Scratch that is dealt out part by part.
struct Memory<'a, const PARTS: usize> {
    rest: &'a mut [f32],
    sizes: core::array::IntoIter<usize, PARTS>,
}

impl<'a, const PARTS: usize> Memory<'a, PARTS> {
    fn new(memory: &'a mut Vec<f32>, sizes: [usize; PARTS]) -> Self {
        memory.resize(sizes.iter().sum::<usize>().max(memory.len()), 0.0);
        Memory { rest: memory, sizes: sizes.into_iter() }
    }

    fn take(&mut self) -> &'a mut [f32] {
        let (part, rest) = core::mem::take(&mut self.rest).split_at_mut(self.sizes.next().unwrap_or(0));
        self.rest = rest;
        part
    }
}

/// `tanh(scale * score / cap)`, rounded as in the forward pass.
#[derive(Clone, Copy)]
struct Capped {
    scale: f32,
    cap: f32,
}

impl Map for Capped {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, x: L::V) -> L::V {
        tanh(lanes, lanes.div(lanes.mul(x, lanes.splat(self.scale)), lanes.splat(self.cap)))
    }
}

/// The slope of the soft cap where it is `t` of its cap, `1 - t^2`.
#[derive(Clone, Copy)]
struct CapSlope;

impl Map for CapSlope {
    #[inline(always)]
    fn apply<L: Lanes>(self, lanes: L, t: L::V) -> L::V {
        let one = lanes.splat(1.0);
        lanes.mul(lanes.sub(one, t), lanes.add(one, t))
    }
}

/// Row `i` of `[block of keys][row][K_BLOCK]`, block by block; `stride` elements to a block.
fn row_blocks(x: &mut [f32], i: usize, stride: usize, keys: usize) -> impl Iterator<Item = &mut [f32]> {
    x.chunks_mut(stride).enumerate().take(keys.div_ceil(K_BLOCK)).map(move |(block, cells)| {
        let len = K_BLOCK.min(keys - block * K_BLOCK);
        &mut cells[i * K_BLOCK..i * K_BLOCK + len]
    })
}

/// As [`row_blocks`], to read.
fn shared_blocks(x: &[f32], i: usize, stride: usize, keys: usize) -> impl Iterator<Item = &[f32]> {
    x.chunks(stride).enumerate().take(keys.div_ceil(K_BLOCK)).map(move |(block, cells)| {
        let len = K_BLOCK.min(keys - block * K_BLOCK);
        &cells[i * K_BLOCK..i * K_BLOCK + len]
    })
}

/// Packs the rows of `x` as columns of a right operand: `[panel][column of x][PANEL]`.
#[inline(always)]
fn pack_rows<L: Lanes>(lanes: L, x: Mat, packed: &mut [f32]) {
    for (panel, packed) in packed.chunks_exact_mut((x.cols * L::PANEL).max(1)).enumerate() {
        let (bytes, stride) = x.bytes(panel * L::PANEL);
        lanes.pack(bytes, stride, L::PANEL.min(x.rows - panel * L::PANEL), x.cols, packed);
    }
}

/// Packs `rows` rows as rows of a right operand: `[panel][row][PANEL]`.
#[inline(always)]
fn pack_columns<'a, L: Lanes>(rows: usize, row: impl Fn(usize) -> &'a [f32], packed: &mut [f32]) {
    for i in 0..rows {
        for (panel, cells) in row(i).chunks(L::PANEL).enumerate() {
            let (head, tail) = packed[(panel * rows + i) * L::PANEL..][..L::PANEL].split_at_mut(cells.len());
            head.copy_from_slice(cells);
            tail.fill(0.0);
        }
    }
}

/// Copies `rows` rows as a left operand: `[block][row][K_BLOCK]`.
#[inline(always)]
fn copy_left<'a>(rows: usize, row: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    for i in 0..rows {
        for (block, cells) in row(i).chunks(K_BLOCK).enumerate() {
            out[(block * rows + i) * K_BLOCK..][..cells.len()].copy_from_slice(cells);
        }
    }
}

/// `left [rows, k]` times the packed rows, into `out [block of keys][row][K_BLOCK]`.
#[inline(always)]
fn scores<L: Lanes>(
    lanes: L,
    rows: usize,
    k: usize,
    left: &[f32],
    packed: &[f32],
    keys: usize,
    out: &mut [f32],
) {
    for panel in 0..keys.div_ceil(L::PANEL) {
        let key = panel * L::PANEL;
        let c = &mut out[key / K_BLOCK * rows * K_BLOCK + key % K_BLOCK..];
        tiles(lanes, rows, k, left, &packed[panel * k * L::PANEL..], c, K_BLOCK, Accumulate::Overwrite);
    }
}

/// One panel of a product: `left [rows, k]` in blocks, `packed [k][PANEL]`, `c` with `c_stride` elements to a row. The
/// first block does what `first` says, the others are added in order.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tiles<L: Lanes>(
    lanes: L,
    rows: usize,
    k: usize,
    left: &[f32],
    packed: &[f32],
    c: &mut [f32],
    c_stride: usize,
    first: Accumulate,
) {
    if k == 0 && first == Accumulate::Overwrite {
        return c.chunks_mut(c_stride).take(rows).for_each(|row| row[..L::PANEL].fill(0.0));
    }
    let per_tile = rows.div_ceil(rows.div_ceil(L::TILE_ROWS).max(1)).max(1);
    for start in (0..rows).step_by(per_tile) {
        let tile_rows = per_tile.min(rows - start);
        for (block, from) in (0..k).step_by(K_BLOCK).enumerate() {
            let accumulate = if block == 0 { first } else { Accumulate::Add };
            let a = &left[(block * rows + start) * K_BLOCK..];
            let packed = &packed[from * L::PANEL..];
            let c = &mut c[start * c_stride..];
            let size = [tile_rows, L::PANEL, K_BLOCK.min(k - from)];
            lanes.tile(size, LeftRows::Apart(a), packed, c, c_stride, accumulate, [&[]; 2]);
        }
    }
}

/// `[block of keys][row][K_BLOCK]` to `[key][K_BLOCK]`, a row to a column.
#[inline(always)]
fn turn_keys<L: Lanes>(lanes: L, [rows, keys]: [usize; 2], from: &[f32], room: &mut [f32], to: &mut [f32]) {
    let blocks = from.chunks(rows * K_BLOCK).zip(to.chunks_mut(K_BLOCK * K_BLOCK));
    for (block, (from, to)) in blocks.take(keys.div_ceil(K_BLOCK)).enumerate() {
        let here = K_BLOCK.min(keys - block * K_BLOCK);
        turn(lanes, (bytemuck::cast_slice(from), K_BLOCK * 4), [rows, here], room, to);
    }
}

/// Panels `[panel][row][PANEL]` to rows.
fn unpack<L: Lanes>(sums: &[f32], rows: usize, out: &mut [&mut [f32]]) {
    for (i, out) in out.iter_mut().enumerate() {
        for (panel, cells) in out.chunks_mut(L::PANEL).enumerate() {
            cells.copy_from_slice(&sums[(panel * rows + i) * L::PANEL..][..cells.len()]);
        }
    }
}
