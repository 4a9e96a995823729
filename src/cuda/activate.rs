//! Elementwise functions, alone or times another matrix.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, activation, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Activation, Matrix, View};
use crate::error::Result;

/// `cuda/activate.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_activate",
    parameters: &[
        (U64, "out"),
        (U64, "gate"),
        (U64, "up"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "gate_stride"),
        (U32, "up_stride"),
        (U32, "activation"),
    ],
    threads: 256,
};

/// `activation(gate) * up`, without `up` where there is none. `what` is the operation.
pub(super) fn activate(
    cuda: &Cuda,
    what: &'static str,
    gate: View<Cuda>,
    up: Option<View<Cuda>>,
    function: Activation,
) -> Result<Matrix<Cuda>> {
    let (rows, cols) = (gate.rows(), gate.cols());
    let out = cuda.matrix(what, rows, cols)?;
    if rows * cols == 0 {
        return Ok(out);
    }
    let (left, right) = (Operand::new(cuda, gate)?, Operand::optional(cuda, up)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        left.pointer,
        right.pointer,
        size(rows)?,
        size(cols)?,
        left.stride,
        right.stride,
        activation(function),
    ];
    cuda.launch(Kernel::Activate, one_each(rows * cols)?, 0, &arguments)?;
    Ok(out)
}
