//! Whether a matrix has a NaN or an infinity.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, elements, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::View;
use crate::error::Result;

/// `cuda/is_finite.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_is_finite",
    parameters: &[(U64, "flag"), (U64, "x"), (U32, "rows"), (U32, "cols"), (U32, "x_stride")],
    threads: 256,
};

/// Whether every element is finite; waits for the answer.
pub(super) fn is_finite(cuda: &Cuda, x: View<Cuda>) -> Result<bool> {
    let count = elements(x.rows(), x.cols())?;
    if count == 0 {
        return Ok(true);
    }
    let from = Operand::new(cuda, x)?;
    let flag = cuda.shared.pool.take("is_finite", size_of::<u32>())?;
    cuda.fill(&flag, 0)?;
    let arguments =
        [Argument::Pointer(flag.pointer()), from.pointer, size(x.rows())?, size(x.cols())?, from.stride];
    cuda.launch(Kernel::IsFinite, one_each(count)?, 0, &arguments)?;
    let mut found = [0; size_of::<u32>()];
    cuda.downloaded(&flag, 0, &mut found)?;
    Ok(found == [0; size_of::<u32>()])
}
