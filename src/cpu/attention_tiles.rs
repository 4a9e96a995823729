//! Softmax attention without a mask by the matrix unit: exact, by thirds of numbers ([`super::amx_thirds`]), or with operands
//! rounded to `bf16`. Sums are `f32` either way.
//!
//! One piece of work is a key-value head and a run of queries. Keys come in blocks of a fixed number: a block's keys and values
//! are split once, then pass all queries in tiles of [`ROWS`], so that the block stays in the second-level cache and a tile's
//! scores in the first, of two tiles: the matrix unit works on one while vectors weigh the other. A row keeps its largest logit
//! so far, the sum of its weights and its output, which are scaled where a block raises the largest logit; blocks come in
//! ascending order. So a row's bits depend on its query and on all keys alone. Where a row does not come out finite (its operands
//! are not, or sums of theirs left the range), it is computed again from the definition, number by number.
#![forbid(unsafe_code)]

use super::Cpu;
use super::amx_attention::{SCORES, State};
use super::amx_thirds::{Left, PANEL, ROWS, STEP, TILE_WORDS, words};
use super::attention::Shape;
use super::blocks::Block;
use super::cache::Held;
use super::isa::{Avx512Amx, Op};
use super::lanes::{K_BLOCK, Lanes, copy, map_in_place};
use super::softmax::Logits;
use crate::arena::Room;
use crate::backend::{Attention, AttentionMask, CacheType, Operands};
use crate::checked::{quotient, remainder};

/// Widest head of keys.
const WIDEST: usize = 128;
/// Fewest keys that fill enough of a tile.
const FEWEST: usize = 16;
/// Most rows of a piece of work where the heads alone give enough pieces, and where heads are few.
const MOST_ROWS: [usize; 2] = [1024, 128];

/// The matrix unit, where this way is taken. That depends on what every row is computed from and not on the number of rows.
pub(super) fn unit(cpu: &Cpu, keys: usize, d: usize, attention: &Attention) -> Option<Avx512Amx> {
    let all = matches!(attention.mask, AttentionMask::Full);
    cpu.isa.matrix_unit().filter(|_| all && (1..=WIDEST).contains(&d) && keys >= FEWEST)
}

/// Most queries of one piece of work.
fn most_queries(attention: &Attention) -> usize {
    let rows = MOST_ROWS[usize::from(attention.kv_heads < 8)];
    (rows / (attention.heads / attention.kv_heads.max(1)).max(1)).max(1)
}

/// How a piece of work is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Parts of every number.
    parts: usize,
    /// Keys of a block: a tile's scores and weights for them stay in the first-level cache or near it.
    block: usize,
}

impl Plan {
    fn new(cpu: &Cpu, attention: &Attention) -> Plan {
        match attention.operands {
            Operands::Rounded if !cpu.exact => Plan { parts: 1, block: 256 },
            _ => Plan { parts: 3, block: 128 },
        }
    }

    /// Words, in whole cache lines, of: the split queries `[tile]`, a block's split keys `[step of keys]` and values
    /// `[panel of e]`, two tiles' scores `[step of keys]`, a tile's weights, its products; all sums `[tile][panel of e][row][PANEL]`,
    /// largest logits `[row]` and sums of weights `[row][16]`; a tile's factors; what one row takes that is computed by the
    /// definition; and the numbers of a step of keys or values where they have to be converted.
    fn sizes(&self, rows: usize, keys: usize, [d, e]: [usize; 2], kind: CacheType) -> [usize; 12] {
        let &Plan { parts, block } = self;
        let (tiles, panels) = (rows.div_ceil(ROWS), e.div_ceil(PANEL));
        [
            tiles.saturating_mul(words(parts, d)),
            block / STEP * words(parts, d),
            panels.saturating_mul(words(parts, block)),
            block / STEP * SCORES,
            block / STEP * SCORES,
            words(parts, block),
            SCORES,
            tiles.saturating_mul(panels).saturating_mul(SCORES),
            tiles * ROWS,
            tiles * ROWS * TILE_WORDS,
            ROWS,
            keys.div_ceil(K_BLOCK).saturating_mul(K_BLOCK)
                + if kind == CacheType::F32 { 0 } else { STEP * d },
        ]
    }
}

/// As [`super::attention::scratch`], where there is a [`unit`].
#[inline(never)]
pub(super) fn scratch(
    cpu: &Cpu,
    [queries, keys]: [usize; 2],
    widths: [usize; 2],
    kind: CacheType,
    attention: &Attention,
) -> usize {
    let rows =
        queries.min(most_queries(attention)).saturating_mul(attention.heads / attention.kv_heads.max(1));
    let sizes = Plan::new(cpu, attention).sizes(rows, keys, widths, kind);
    sizes.into_iter().fold(0, usize::saturating_add).saturating_mul(cpu.threads.workers())
}

/// As [`super::attention::attention`], where there is a [`unit`].
pub(super) fn attention(cpu: &Cpu, unit: Avx512Amx, shape: &Shape, scratch: &mut [f32], out: &mut [f32]) {
    let &Shape { q, k, d, e, group, attention, .. } = shape;
    let queries = q.rows.div_ceil(q.rows.div_ceil(most_queries(attention)).max(1));
    let cost = q.rows.saturating_mul(k.mat.rows).saturating_mul(attention.heads).saturating_mul(d + e);
    let (width, plan) = (group * e, Plan::new(cpu, attention));
    cpu.threads.blocks(
        cost,
        out,
        attention.heads * e,
        [queries, width],
        scratch,
        |scratch, [first, col], out| {
            unit.run(Run { unit, plan, shape, head: quotient(col, width), first, out, scratch });
        },
    );
}

/// Key-value head `head` and the queries from `first` on; `out` holds the columns of their query heads.
struct Run<'a, 'b> {
    unit: Avx512Amx,
    plan: Plan,
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
        let Run { unit, plan, shape, head, first, mut out, scratch } = self;
        let &Shape { q, k, v, d, e, group, attention } = shape;
        let (keys, rows, panels) = (k.mat.rows, out.rows() * group, e.div_ceil(PANEL));
        let Plan { parts, block } = plan;
        let mut room = Room::new(scratch);
        let sizes = plan.sizes(rows, keys, [d, e], k.kind);
        let [
            queries,
            keys_split,
            values,
            mut scores,
            mut next_scores,
            weights,
            products,
            sums,
            largest,
            totals,
            factors,
            numbers,
        ] = sizes.map(|size| room.take(size));
        // A division takes as long as splitting a vector.
        let place =
            |row: usize| if group == 1 { (row, 0) } else { (quotient(row, group), remainder(row, group)) };
        let query = |row: usize| {
            let (query, inner) = place(row);
            &q.row(first + query)[(head * group + inner) * d..][..d]
        };
        let (k, v) = (k.head(head), v.head(head));

        let of_tile = words(parts, d);
        // What comes next is fetched while something else is split.
        let bring_keys = |first: usize| {
            for key in first..keys.min(first + STEP) {
                unit.bring(k.mat.row(key));
                unit.bring(v.mat.row(key));
            }
        };
        bring_keys(0);
        (0..rows.min(ROWS)).for_each(|row| unit.bring(query(row)));
        for (tile, out) in queries.chunks_exact_mut(of_tile).enumerate() {
            let here = ROWS.min(rows - tile * ROWS);
            let row = |i: usize| query(tile * ROWS + i);
            let next = (tile + 1) * ROWS;
            (next..rows.min(next + ROWS)).for_each(|row| unit.bring(query(row)));
            unit.split_rows(parts, here, d, row, out);
        }
        largest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        let logits = Logits { scale: attention.scale, soft_cap: attention.soft_cap };
        // Where a logit is more than a positive multiple of the score it is computed apart.
        let direct = attention.soft_cap.is_none() && attention.scale > 0.0;
        let factor = core::f32::consts::LOG2_E * if direct { attention.scale } else { 1.0 };

        let tiles = unit.tiles_of_parts();
        for from in (0..keys).step_by(block) {
            let here = block.min(keys - from);
            let steps = here.div_ceil(STEP);
            for step in 0..steps {
                let from = from + step * STEP;
                let count = STEP.min(keys - from);
                bring_keys(from + STEP);
                let columns = &mut keys_split[step * of_tile..][..of_tile];
                let row = k.rows(from, count, numbers);
                unit.split_columns(parts, count, d, row, columns);
                let values = &mut values[step * words(parts, STEP)..];
                let row = v.rows(from, count, numbers);
                unit.split_values(parts, count, e, row, words(parts, block), values);
            }
            let multiply = |rows: usize, left: &[f32], right: &[f32], k: usize, out: &mut [f32]| match parts {
                3 => tiles.multiply(rows, Left::pair(left), right, k, out, bytemuck::cast_slice(right)),
                _ => tiles.multiply_rounded(rows, left, right, k, out),
            };
            let all_tiles = rows.div_ceil(ROWS);
            let score = |tile: usize, step: usize, scores: &mut [f32]| {
                let (left, right) = (&queries[tile * of_tile..], &keys_split[step * of_tile..]);
                multiply(ROWS.min(rows - tile * ROWS), left, right, d, &mut scores[step * SCORES..]);
            };
            (0..steps).for_each(|step| score(0, step, scores));
            for tile in 0..all_tiles {
                let count = ROWS.min(rows - tile * ROWS);
                if !direct {
                    map_in_place(lanes, &mut scores[..steps * SCORES], logits);
                }
                // The matrix unit works on the next tile's scores while vectors turn those of this one into weights.
                for step in 0..steps {
                    if tile + 1 < all_tiles {
                        score(tile + 1, step, next_scores);
                    }
                    let state = State {
                        largest: &mut largest[tile * ROWS..][..count],
                        totals: &mut totals[tile * ROWS * TILE_WORDS..][..count * TILE_WORDS],
                        factors: &mut *factors,
                    };
                    let share = quotient(count * step, steps)..quotient(count * (step + 1), steps);
                    unit.weigh(parts, share, (here, factor), scores, state, weights);
                }
                core::mem::swap(&mut scores, &mut next_scores);
                let sums = sums[tile * panels * SCORES..].chunks_exact_mut(SCORES);
                for (values, sums) in values.chunks_exact(words(parts, block)).zip(sums) {
                    if from == 0 {
                        multiply(count, weights, values, here, sums);
                        continue;
                    }
                    multiply(count, weights, values, here, products);
                    let rows = sums.chunks_exact_mut(PANEL).zip(products.chunks_exact(PANEL));
                    for ((sums, products), &factor) in rows.zip(&factors[..count]) {
                        for (sums, products) in sums.chunks_exact_mut(L::N).zip(products.chunks_exact(L::N)) {
                            let sum =
                                lanes.mul_add(lanes.load(sums), lanes.splat(factor), lanes.load(products));
                            lanes.store(sum, sums);
                        }
                    }
                }
            }
        }
        drop(tiles);
        for row in 0..rows {
            let (at, inner) = place(row);
            let out = &mut out.row(at)[inner * e..(inner + 1) * e];
            let total = lanes.sum(lanes.load(&totals[row * TILE_WORDS..]));
            let factor = lanes.splat(1.0 / total);
            let (tile, row_of_tile) = (row / ROWS, row % ROWS);
            let mut check = lanes.splat(0.0);
            for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                let sums = &mut sums[(tile * panels + panel) * SCORES + row_of_tile * PANEL..][..PANEL];
                for sums in sums.chunks_exact_mut(L::N).take(out.len().div_ceil(L::N)) {
                    let sum = lanes.mul(lanes.load(sums), factor);
                    check = lanes.mul_add(sum, lanes.splat(0.0), check);
                    lanes.store(sum, sums);
                }
                copy(lanes, &sums[..out.len()], out);
            }
            // 0 for finite numbers, and a NaN where the weights have no sum.
            if lanes.sum(check) != 0.0 {
                define(query(row), k, v, logits, numbers, out);
            }
        }
    }
}

/// Attention of one query and all keys by chains of products, with `scores` for those of all keys and what [`Held::rows`] takes.
#[inline(never)]
fn define(q: &[f32], k: Held, v: Held, logits: Logits, scratch: &mut [f32], out: &mut [f32]) {
    let keys = k.mat.rows;
    let (numbers, scores) = scratch.split_at_mut(scratch.len() - keys.next_multiple_of(K_BLOCK));
    let scores = &mut scores[..keys];
    let mut largest = f32::NEG_INFINITY;
    for (key, score) in scores.iter_mut().enumerate() {
        *score = q.iter().zip(k.rows(key, 1, numbers)(0)).fold(0.0, |sum, (q, k)| sum + q * k) * logits.scale;
        if let Some(cap) = logits.soft_cap {
            *score = libm::tanhf(*score / cap) * cap;
        }
        largest = largest.max(*score);
    }
    let mut total = 0.0;
    out.fill(0.0);
    for (key, &score) in scores.iter().enumerate() {
        let weight = libm::expf(score - largest);
        total += weight;
        let row = v.rows(key, 1, numbers)(0);
        out.iter_mut().zip(row).for_each(|(out, v)| *out += weight * v);
    }
    out.iter_mut().for_each(|out| *out /= total);
}
