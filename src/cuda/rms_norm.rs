//! Normalisation by the root of the mean square.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Elements, Operand, narrow, size};
use super::signature::Parameter::{F32, U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Matrix, View, Weight};
use crate::error::Result;

/// `cuda/rms_norm.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_rms_norm",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "weight"),
        (U32, "weight_type"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "x_stride"),
        (F32, "eps"),
    ],
    threads: 256,
};

/// `x / sqrt(mean(x^2) + eps) * weight` by rows.
pub(super) fn rms_norm(cuda: &Cuda, x: View<Cuda>, weight: &Weight<Cuda>, eps: f32) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (x.rows(), x.cols());
    let out = cuda.matrix("rms_norm", rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let (from, weight) = (Operand::new(cuda, x)?, Elements::new(cuda, weight)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        from.pointer,
        weight.pointer,
        weight.dtype,
        size(rows)?,
        size(cols)?,
        from.stride,
        Argument::F32(eps),
    ];
    let threads = if cols <= 256 { 32 } else { 256 };
    cuda.launch(Kernel::RmsNorm, [[narrow(rows)?, 1, 1], [threads, 1, 1]], 0, &arguments)?;
    Ok(out)
}
