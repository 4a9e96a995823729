//! Group normalisation.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Elements, Operand, activation, narrow, size};
use super::signature::Parameter::{F32, U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Activation, Matrix, View, Weight};
use crate::error::Result;

/// `cuda/group_norm.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_group_norm",
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
        (U32, "groups"),
        (F32, "eps"),
        (U32, "activation"),
    ],
    threads: 256,
};

/// Every one of `groups` runs of columns gets mean 0 and variance 1 over all rows; then the function.
pub(super) fn group_norm(
    cuda: &Cuda,
    x: View<Cuda>,
    groups: usize,
    [weight, bias]: [&Weight<Cuda>; 2],
    eps: f32,
    function: Activation,
) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (x.rows(), x.cols());
    let out = cuda.matrix("group_norm", rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let from = Operand::new(cuda, x)?;
    let (weight, bias) = (Elements::new(cuda, weight)?, Elements::new(cuda, bias)?);
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
        size(groups)?,
        Argument::F32(eps),
        activation(function),
    ];
    cuda.launch(Kernel::GroupNorm, [[narrow(groups)?, 1, 1], [256, 1, 1]], 0, &arguments)?;
    Ok(out)
}
