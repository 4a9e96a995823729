//! Products of warp groups: weights laid out for them at their first product of many rows.
#![forbid(unsafe_code)]

use alloc::sync::Arc;

use super::kernel::Kernel;
use super::operand::{Elements, Operand, narrow, size};
use super::pool::Block;
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use super::{Cuda, Stored, linear};
use crate::backend::Weight;
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::weights::Dtype;

/// `cuda/linear_sm90a.ptx`
pub(super) const SIGNATURE: Signature =
    Signature { entry: "triplet_linear_sm90a", threads: 288, ..linear::SIGNATURE };

/// `cuda/linear_pack.ptx`
pub(super) const PACK: Signature = Signature {
    entry: "triplet_linear_pack",
    parameters: &[(U64, "out"), (U64, "weight"), (U32, "weight_type"), (U32, "rows"), (U32, "cols")],
    threads: 256,
};

/// Bytes of dynamic shared memory of a block: mbarriers, then three stages of 128 rows of x (320 bytes each) and a tile of the
/// weight in two parts.
pub(super) const SHARED: u32 = 1024 + 3 * (128 * 320 + 32768);

/// Rows and columns of a block's part of the output, and what `k` is a multiple of.
pub(super) const TILE: usize = 128;
const CHUNK: usize = 64;

/// The weight as products of warp groups read it, where the device has them and the operands suit them.
///
/// # Errors
/// [`Error::Limit`]; those of the device.
pub(super) fn laid_out(
    cuda: &Cuda,
    x: &Operand,
    weight: &Weight<Cuda>,
    [n, k]: [usize; 2],
) -> Result<Option<Elements>> {
    let suits = cuda.uses(Kernel::LinearGroup)
        && cuda.uses(Kernel::LinearPack)
        && n > 0
        && k.is_multiple_of(CHUNK)
        && x.stride.is_multiple_of(4)
        && x.pointer.is_multiple_of(16);
    if !suits {
        return Ok(None);
    }
    let elements = Elements::new(cuda, weight)?;
    let stored = weight.stored();
    let block = match stored.laid_out.get() {
        Some(block) => block.as_ref(),
        None => {
            let block = lay_out(cuda, stored, elements, [n, k])?;
            stored.laid_out.get_or_init(|| block).as_ref()
        }
    };
    Ok(block.map(|block| Elements { pointer: Argument::Pointer(block.pointer()), dtype: elements.dtype }))
}

/// Lays a weight out; `None` where memory for it is lacking.
fn lay_out(
    cuda: &Cuda,
    stored: &Stored,
    elements: Elements,
    [n, k]: [usize; 2],
) -> Result<Option<Arc<Block>>> {
    let rows = n.next_multiple_of(TILE);
    // A unit for every row, then one number of f16 or, of f32, two.
    let number = if stored.dtype == Dtype::F32 { 4 } else { 2 };
    let bytes = Size::new(k).times(number)?.plus(4)?.times(rows)?.get();
    let block = match cuda.shared.weights.take("weights", bytes) {
        Ok(block) => block,
        Err(Error::Memory { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let out = Argument::Pointer(block.pointer());
    let arguments = [out, elements.pointer, elements.dtype, size(n)?, size(k)?];
    cuda.launch(Kernel::LinearPack, [[narrow(rows)?, 1, 1], [256, 1, 1]], 0, &arguments)?;
    Ok(Some(Arc::new(block)))
}
