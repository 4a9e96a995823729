//! Feature maps at another size.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{Operand, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Grid, Matrix, Resize, View};
use crate::error::Result;

/// `cuda/resize.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_resize",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U32, "from_height"),
        (U32, "from_width"),
        (U32, "to_height"),
        (U32, "to_width"),
        (U32, "cols"),
        (U32, "x_stride"),
        (U32, "mode"),
    ],
    threads: 256,
};

/// The map `x` of `from` cells at `to` cells, `rows` in number.
pub(super) fn resize(
    cuda: &Cuda,
    x: View<Cuda>,
    [from, to]: [Grid; 2],
    rows: usize,
    how: Resize,
) -> Result<Matrix<Cuda>> {
    let out = cuda.matrix("resize", rows, x.cols())?;
    if rows * x.cols() == 0 {
        return Ok(out);
    }
    let map = Operand::new(cuda, x)?;
    let mode = match how {
        Resize::Nearest => 0,
        Resize::Bilinear => 1,
        Resize::Bicubic => 2,
    };
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        map.pointer,
        size(from.height)?,
        size(from.width)?,
        size(to.height)?,
        size(to.width)?,
        size(x.cols())?,
        map.stride,
        Argument::U32(mode),
    ];
    cuda.launch(Kernel::Resize, one_each(rows * x.cols())?, 0, &arguments)?;
    Ok(out)
}
