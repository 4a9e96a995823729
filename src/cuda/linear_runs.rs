//! Products of so few rows and columns that their blocks leave most of a device idle: the inputs are cut in runs, each with
//! blocks of its own, whose sums are then added up in order.
//!
//! Into how many runs follows from the device and the weight's shape and, but for very many rows, from nothing else: a row's
//! bits do not depend on how many others there are.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::linear::Product;
use super::operand::{elements, narrow, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::Matrix;
use crate::checked::quotient;
use crate::error::Result;

/// `cuda/linear_merge.ptx`
pub(super) const MERGE: Signature = Signature {
    entry: "triplet_linear_merge",
    parameters: &[
        (U64, "out"),
        (U64, "partial"),
        (U64, "bias"),
        (U64, "scale"),
        (U64, "residual"),
        (U32, "bias_type"),
        (U32, "scale_type"),
        (U32, "rows"),
        (U32, "n"),
        (U32, "residual_stride"),
        (U32, "activation"),
        (U32, "runs"),
    ],
    threads: 256,
};

/// Most rows of a product whose inputs are cut: more of them keep any device busy.
const MOST_ROWS: usize = 2048;

/// Rows for which the cut is made: those of a picture of 336 pixels in patches of 14.
const ROWS: usize = 577;

/// Most runs, fewest inputs of one, and the inputs that kernels take at a time.
const MOST_RUNS: usize = 4;
const LEAST: usize = 256;
const PIECE: usize = 64;

/// In how many runs the `k` inputs of a product are summed, `tile` rows and columns a block, where `resident` blocks keep a
/// multiprocessor busy. None of them is empty.
pub(super) fn runs(cuda: &Cuda, [rows, k, n]: [usize; 3], tile: usize, resident: usize) -> usize {
    if rows > MOST_ROWS || n == 0 || !cuda.uses(Kernel::LinearMerge) {
        return 1;
    }
    let multiprocessors = usize::try_from(cuda.info().multiprocessors).unwrap_or(usize::MAX);
    count(multiprocessors.saturating_mul(resident), [k, n], tile)
}

/// As [`runs`] for `busy` blocks that keep the device busy.
fn count(busy: usize, [k, n]: [usize; 2], tile: usize) -> usize {
    let blocks = ROWS.div_ceil(tile).saturating_mul(n.div_ceil(tile));
    let wanted = quotient(busy, blocks).min(k / LEAST).clamp(1, MOST_RUNS);
    // Runs are of whole pieces, so that some cuts come out in fewer.
    let pieces = k.div_ceil(PIECE);
    pieces.div_ceil(pieces.div_ceil(wanted).max(1)).max(1)
}

/// What a kernel with a grid of `runs` layers left, `[runs * rows, n]`, joined and finished.
pub(super) fn merged(
    cuda: &Cuda,
    what: &'static str,
    partial: &Matrix<Cuda>,
    product: &Product,
    runs: usize,
) -> Result<Matrix<Cuda>> {
    let Product { finish, sizes: [rows, _, n], .. } = product;
    let out = cuda.matrix(what, *rows, *n)?;
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        Argument::Pointer(partial.buffer().pointer()),
        finish.bias.pointer,
        finish.scale.pointer,
        finish.residual.pointer,
        finish.bias.dtype,
        finish.scale.dtype,
        size(*rows)?,
        size(*n)?,
        finish.residual.stride,
        finish.activation,
        Argument::U32(narrow(runs)?),
    ];
    cuda.launch(Kernel::LinearMerge, one_each(elements(*rows, *n)?)?, 0, &arguments)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_products_are_cut_and_no_run_is_empty() {
        // On 132 multiprocessors: the projections of a ViT-L, its first layer, the language model's head.
        assert_eq!(count(132, [1024, 1024], 128), 3);
        assert_eq!(count(132, [4096, 1024], 128), 3);
        assert_eq!(count(132, [1024, 3072], 128), 1);
        assert_eq!(count(132, [1024, 4096], 128), 1);
        assert_eq!(count(108 * 3, [1024, 1024], 64), 2);
        assert_eq!(count(132, [2048, 32000], 128), 1);
        assert_eq!(count(0, [1024, 1024], 64), 1);
        for busy in [1, 16, 108, 396, 10_000] {
            for k in 1..3000 {
                let runs = count(busy, [k, 70], 64);
                let pieces = k.div_ceil(PIECE);
                let each = pieces.div_ceil(runs);
                assert!((1..=MOST_RUNS).contains(&runs) && (runs - 1) * each < pieces, "{busy} {k}: {runs}");
            }
        }
    }
}
