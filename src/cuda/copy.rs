//! Rectangles of matrices, and stored tensors as matrices.
#![forbid(unsafe_code)]

use super::driver::DevicePointer;
use super::kernel::Kernel;
use super::operand::{ELEMENT, Elements, Operand, elements, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use super::{Block, Cuda};
use crate::backend::{Matrix, View};
use crate::error::Result;

/// `cuda/copy.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_copy",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U32, "x_type"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "out_stride"),
        (U32, "x_stride"),
    ],
    threads: 256,
};

/// Writes `x` into `out`, whose rows are `out_cols` long, with its upper left element at (`row`, `col`).
pub(super) fn copy(
    cuda: &Cuda,
    x: View<Cuda>,
    out: &Block,
    out_cols: usize,
    [row, col]: [usize; 2],
) -> Result<()> {
    let from = Operand::new(cuda, x)?;
    let to = out.pointer().offset(((row * out_cols + col) * ELEMENT) as u64);
    start(cuda, to, out_cols, from.pointer, Argument::U32(0), from.stride, [x.rows(), x.cols()])
}

/// The elements of a stored tensor, whose rows are `stride` apart, as a new matrix.
pub(super) fn read(
    cuda: &Cuda,
    from: Elements,
    stride: usize,
    [rows, cols]: [usize; 2],
) -> Result<Matrix<Cuda>> {
    let out = cuda.matrix("read", rows, cols)?;
    let stride = size(stride)?;
    start(cuda, out.buffer().pointer(), cols, from.pointer, from.dtype, stride, [rows, cols])?;
    Ok(out)
}

fn start(
    cuda: &Cuda,
    out: DevicePointer,
    out_stride: usize,
    x: Argument,
    dtype: Argument,
    x_stride: Argument,
    [rows, cols]: [usize; 2],
) -> Result<()> {
    let count = elements(rows, cols)?;
    if count == 0 {
        return Ok(());
    }
    let arguments = [Argument::Pointer(out), x, dtype, size(rows)?, size(cols)?, size(out_stride)?, x_stride];
    cuda.launch(Kernel::Copy, one_each(count)?, 0, &arguments)
}
