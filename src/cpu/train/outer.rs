//! `gradient^T x`, by which the weight of a linear layer gets its gradient: a blocked product whose operands both lie with the
//! summed rows outside.
//!
//! One piece of work is a rectangle of the output. For every [`K_BLOCK`] rows it turns its columns of the gradient into left
//! rows of the register tile and copies its columns of `x` into panels; both, and its sums, stay in the second-level cache,
//! and nothing is turned in memory. Sums are those of [`product`](super::super::product): a chain of multiply-adds for every
//! block, then the blocks in order, so the cut changes no bit.
#![forbid(unsafe_code)]

use super::super::Cpu;
use super::super::blocks::Block;
use super::super::finish::Sum;
use super::super::isa::Op;
use super::super::lanes::{Accumulate, K_BLOCK, Lanes, LeftRows, MAX_PANEL, zip_in_place};
use super::super::mat::Mat;
use super::turn::turn;
use crate::arena::Room;
use crate::error::Result;

/// Most rows (columns of the gradient) and columns (of `x`) of a piece.
const PIECE: [usize; 2] = [192, 384];
/// Fewest columns that are cut for the sake of more pieces.
const FEW: usize = 96;
/// Pieces that are worth having, so that threads end at about the same time.
const PIECES: usize = 4;

/// Rows and columns of a piece of `n x k`.
fn cut(n: usize, k: usize) -> [usize; 2] {
    let part = |whole: usize, most: usize, step: usize| {
        whole.div_ceil(whole.div_ceil(most).max(1)).next_multiple_of(step)
    };
    let mut most = PIECE;
    loop {
        let [rows, cols] = [part(n, most[0], 8), part(k, most[1], MAX_PANEL)];
        if n.div_ceil(rows) * k.div_ceil(cols) >= PIECES || most[1] <= FEW {
            return [rows, cols];
        }
        let longer = usize::from(most[1] > most[0]);
        most[longer] /= 2;
    }
}

/// Writes `gradient^T x`, `[gradient.cols, x.cols]`, or adds it to what `out` holds.
pub(super) fn outer(cpu: &Cpu, gradient: Mat, x: Mat, adds: bool, out: &mut [f32]) -> Result<()> {
    let (n, k) = (gradient.cols, x.cols);
    if n == 0 || k == 0 {
        return Ok(());
    }
    let [rows, cols] = cut(n, k);
    let panels = cols.next_multiple_of(MAX_PANEL);
    let sizes = [rows * K_BLOCK, rows * MAX_PANEL, panels * K_BLOCK, rows * panels];
    let share: usize = sizes.iter().sum();
    let workers = cpu.threads.workers();
    let mut scratch = cpu.take("linear_gradients", workers, share)?;
    let scratch = &mut scratch[..workers * share];
    let cost = gradient.rows.saturating_mul(n).saturating_mul(k);
    cpu.threads.blocks(cost, out, k, [rows, cols], scratch, |scratch, [row, col], out| {
        let (gradient, x) = (gradient.columns(row, out.rows()), x.columns(col, out.cols()));
        cpu.isa.run(Run { gradient, x, adds, sizes, scratch, out });
    });
    Ok(())
}

/// One piece of work, with its columns of the operands.
struct Run<'a, 'b> {
    gradient: Mat<'b>,
    x: Mat<'b>,
    adds: bool,
    sizes: [usize; 4],
    scratch: &'b mut [f32],
    out: Block<'a>,
}

impl Op for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { gradient, x, adds, sizes, scratch, mut out } = self;
        let (rows, cols) = (out.rows(), out.cols());
        let mut room = Room::new(scratch);
        let [left, turned, panels, sums] = sizes.map(|size| room.take(size));
        if gradient.rows == 0 {
            sums.fill(0.0);
        }
        let per_tile = rows.div_ceil(rows.div_ceil(L::TILE_ROWS).max(1)).max(1);
        for first in (0..gradient.rows).step_by(K_BLOCK) {
            let k = K_BLOCK.min(gradient.rows - first);
            let accumulate = if first == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            turn(lanes, gradient.bytes(first), [k, rows], turned, left);
            for i in 0..k {
                for (panel, cells) in x.row(first + i).chunks(L::PANEL).enumerate() {
                    let to = &mut panels[(panel * k + i) * L::PANEL..][..L::PANEL];
                    if cells.len() == L::PANEL {
                        let to = to.chunks_exact_mut(L::N);
                        cells
                            .chunks_exact(L::N)
                            .zip(to)
                            .for_each(|(from, to)| lanes.store(lanes.load(from), to));
                    } else {
                        let (head, tail) = to.split_at_mut(cells.len());
                        head.copy_from_slice(cells);
                        tail.fill(0.0);
                    }
                }
            }
            for (panel, col) in (0..cols).step_by(L::PANEL).enumerate() {
                let packed = &panels[panel * k * L::PANEL..];
                for start in (0..rows).step_by(per_tile) {
                    let size = [per_tile.min(rows - start), L::PANEL.min(cols - col), k];
                    let sums = &mut sums[(panel * rows + start) * L::PANEL..];
                    let left = LeftRows::Apart(&left[start * K_BLOCK..]);
                    lanes.tile(size, left, packed, sums, L::PANEL, accumulate, [&[]; 2]);
                }
            }
        }
        for row in 0..rows {
            for (panel, out) in out.row(row).chunks_mut(L::PANEL).enumerate() {
                let sums = &sums[(panel * rows + row) * L::PANEL..][..out.len()];
                if adds {
                    zip_in_place(lanes, out, sums, Sum);
                } else {
                    out.copy_from_slice(sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_panels_and_enough() {
        for n in [1, 8, 100, 384, 1152, 1536, 3072] {
            for k in [1, 48, 130, 384, 768, 1536] {
                let [rows, cols] = cut(n, k);
                assert!(rows % 8 == 0 && cols % MAX_PANEL == 0 && rows <= PIECE[0] && cols <= PIECE[1]);
                let pieces = n.div_ceil(rows) * k.div_ceil(cols);
                assert!(pieces >= PIECES || n < PIECE[0] || k < PIECE[0], "{n}x{k} {rows}x{cols}");
            }
        }
        assert_eq!([cut(384, 384), cut(1536, 384), cut(1152, 384)], [[192, 192], [192, 384], [192, 384]]);
    }
}
