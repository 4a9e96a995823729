//! Layer normalisation.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Elements, Operand, elements, narrow, size};
use super::signature::Parameter::{F32, U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Matrix, View, Weight};
use crate::checked::quotient;
use crate::error::Result;

/// `cuda/layer_norm.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_layer_norm",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "weight"),
        (U64, "bias"),
        (U32, "weight_type"),
        (U32, "bias_type"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "x_stride"),
        (U32, "parts"),
        (F32, "eps"),
    ],
    threads: 256,
};

/// Every one of `parts` runs of a row gets mean 0 and variance 1.
pub(super) fn layer_norm(
    cuda: &Cuda,
    x: View<Cuda>,
    parts: usize,
    weight: Option<&Weight<Cuda>>,
    bias: Option<&Weight<Cuda>>,
    eps: f32,
) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (x.rows(), x.cols());
    let out = cuda.matrix("layer_norm", rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let from = Operand::new(cuda, x)?;
    let (weight, bias) = (Elements::optional(cuda, weight)?, Elements::optional(cuda, bias)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        from.pointer,
        weight.pointer,
        bias.pointer,
        weight.dtype,
        bias.dtype,
        size(rows)?,
        size(cols)?,
        from.stride,
        size(parts)?,
        Argument::F32(eps),
    ];
    let threads = if quotient(cols, parts) <= 256 { 32 } else { 256 };
    let grid = [narrow(elements(rows, parts)?)?, 1, 1];
    cuda.launch(Kernel::LayerNorm, [grid, [threads, 1, 1]], 0, &arguments)?;
    Ok(out)
}
