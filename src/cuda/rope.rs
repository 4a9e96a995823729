//! Rotary positions.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Matrix, View};
use crate::error::Result;

/// `cuda/rope.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_rope",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "frequencies"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "x_stride"),
        (U32, "half"),
        (U32, "first"),
    ],
    threads: 256,
};

/// Turns the pairs `(i, i + d/2)` of every head.
pub(super) fn rope(cuda: &Cuda, x: View<Cuda>, first: usize, frequencies: &[f32]) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (x.rows(), x.cols());
    let out = cuda.matrix("rope", rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let from = Operand::new(cuda, x)?;
    let turns = cuda.constant("rope", bytemuck::cast_slice(frequencies))?;
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        from.pointer,
        Argument::Pointer(turns.pointer()),
        size(rows)?,
        size(cols)?,
        from.stride,
        size(frequencies.len())?,
        size(first)?,
    ];
    cuda.launch(Kernel::Rope, one_each(rows * cols / 2)?, 0, &arguments)?;
    Ok(out)
}
