//! Sum of two matrices, the second repeated.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Matrix, View};
use crate::error::Result;

/// `cuda/add.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_add",
    parameters: &[
        (U64, "out"),
        (U64, "a"),
        (U64, "b"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "a_stride"),
        (U32, "b_stride"),
        (U32, "b_rows"),
    ],
    threads: 256,
};

/// `out[i] = a[i] + b[i mod b.rows]`
pub(super) fn add(cuda: &Cuda, a: View<Cuda>, b: View<Cuda>) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (a.rows(), a.cols());
    let out = cuda.matrix("add", rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let (left, right) = (Operand::new(cuda, a)?, Operand::new(cuda, b)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        left.pointer,
        right.pointer,
        size(rows)?,
        size(cols)?,
        left.stride,
        right.stride,
        size(b.rows())?,
    ];
    cuda.launch(Kernel::Add, one_each(rows * cols)?, 0, &arguments)?;
    Ok(out)
}
