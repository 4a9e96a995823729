//! Products of two matrices.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, blocks, narrow, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Matrix, View};
use crate::error::Result;

/// `cuda/matmul.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_matmul",
    parameters: &[
        (U64, "out"),
        (U64, "a"),
        (U64, "b"),
        (U32, "rows"),
        (U32, "k"),
        (U32, "n"),
        (U32, "a_stride"),
        (U32, "b_stride"),
        (U32, "transpose_b"),
    ],
    threads: 128,
};

/// `a` times `b`, or times its transpose; `n` columns.
pub(super) fn matmul(
    cuda: &Cuda,
    a: View<Cuda>,
    b: View<Cuda>,
    transpose_b: bool,
    n: usize,
) -> Result<Matrix<Cuda>> {
    let (rows, k) = (a.rows(), a.cols());
    let out = cuda.matrix("matmul", rows, n)?;
    if rows * n == 0 {
        return Ok(out);
    }
    if k == 0 {
        cuda.fill(out.buffer(), 0)?;
        return Ok(out);
    }
    let (left, right) = (Operand::new(cuda, a)?, Operand::new(cuda, b)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        left.pointer,
        right.pointer,
        size(rows)?,
        size(k)?,
        size(n)?,
        left.stride,
        right.stride,
        Argument::U32(transpose_b.into()),
    ];
    let grid = [narrow(rows.div_ceil(64))?, blocks(n, 64)?, 1];
    cuda.launch(Kernel::Matmul, [grid, [128, 1, 1]], 0, &arguments)?;
    Ok(out)
}
