//! Maps of a picture's square as bits of its pixels.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, elements, one_each, size};
use super::signature::Parameter::{F32, U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Grid, View};
use crate::checked::Size;
use crate::error::Result;
use crate::image::Square;

/// `cuda/mask_pixels.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_mask_pixels",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U32, "maps"),
        (U32, "from_height"),
        (U32, "from_width"),
        (U32, "side"),
        (U32, "height"),
        (U32, "width"),
        (U32, "left"),
        (U32, "top"),
        (U32, "x_stride"),
        (F32, "threshold"),
    ],
    threads: 256,
};

/// As [`Backend::mask_pixels`](crate::backend::Backend::mask_pixels): every row of `maps` has the cells of `grid`, one at least.
pub(super) fn mask_pixels(
    cuda: &Cuda,
    maps: View<Cuda>,
    grid: Grid,
    square: &Square,
    threshold: f32,
) -> Result<Vec<u32>> {
    let words = Size::new(square.width()).times(square.height())?.get().div_ceil(u32::BITS as usize);
    let count = elements(maps.rows(), words)?;
    let mut bits = vec![0u32; count];
    if count == 0 {
        return Ok(bits);
    }
    let from = Operand::new(cuda, maps)?;
    let out = cuda.matrix("mask_pixels", maps.rows(), words)?;
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        from.pointer,
        size(maps.rows())?,
        size(grid.height)?,
        size(grid.width)?,
        size(square.side())?,
        size(square.height())?,
        size(square.width())?,
        size(square.left())?,
        size(square.top())?,
        from.stride,
        Argument::F32(threshold),
    ];
    cuda.launch(Kernel::MaskPixels, one_each(count)?, 0, &arguments)?;
    cuda.downloaded(out.buffer(), 0, bytemuck::cast_slice_mut(&mut bits))?;
    Ok(bits)
}
