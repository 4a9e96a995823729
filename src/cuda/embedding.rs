//! Rows of a stored table, or of a matrix.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::Matrix;
use crate::error::Result;

/// `cuda/embedding.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_embedding",
    parameters: &[
        (U64, "out"),
        (U64, "table"),
        (U64, "ids"),
        (U32, "table_type"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "table_stride"),
    ],
    threads: 256,
};

/// The rows `ids` of a table of `cols` columns that starts at `table`; they exist. `what` is the operation.
pub(super) fn embedding(
    cuda: &Cuda,
    what: &'static str,
    [table, dtype, stride]: [Argument; 3],
    ids: &[u32],
    cols: usize,
) -> Result<Matrix<Cuda>> {
    let out = cuda.matrix(what, ids.len(), cols)?;
    if ids.is_empty() || cols == 0 {
        return Ok(out);
    }
    let rows = cuda.uploaded(what, bytemuck::cast_slice(ids))?;
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        table,
        Argument::Pointer(rows.pointer()),
        dtype,
        size(ids.len())?,
        size(cols)?,
        stride,
    ];
    cuda.launch(Kernel::Embedding, one_each(ids.len() * cols)?, 0, &arguments)?;
    Ok(out)
}
