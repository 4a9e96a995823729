//! Whether a matrix has a NaN or an infinity.
#![forbid(unsafe_code)]

use super::Cuda;
use super::driver::DevicePointer;
use super::kernel::Kernel;
use super::operand::{Operand, elements, one_each, size};
use super::queue::Item;
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
    let flag = cuda.shared.pool.take("is_finite", FLAG)?;
    look(cuda, flag.pointer(), x)?;
    let mut found = [0; FLAG];
    cuda.downloaded(&flag, 0, &mut found)?;
    Ok(found == [0; FLAG])
}

/// Bytes of a flag.
pub(super) const FLAG: usize = size_of::<u32>();

/// Makes a flag on the device 0, or 1 where an element is not finite.
pub(super) fn look(cuda: &Cuda, flag: DevicePointer, x: View<Cuda>) -> Result<()> {
    cuda.push(Item::Fill(flag, FLAG, 0))?;
    let count = elements(x.rows(), x.cols())?;
    if count == 0 {
        return Ok(());
    }
    let from = Operand::new(cuda, x)?;
    let arguments = [Argument::Pointer(flag), from.pointer, size(x.rows())?, size(x.cols())?, from.stride];
    cuda.launch(Kernel::IsFinite, one_each(count)?, 0, &arguments)
}
