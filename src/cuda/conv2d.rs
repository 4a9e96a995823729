//! Convolutions.
#![forbid(unsafe_code)]

use super::Cuda;
use super::kernel::Kernel;
use super::linear::without_inputs;
use super::operand::{Elements, Finish, Operand, blocks, narrow, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::check::ConvSizes;
use crate::backend::{Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::error::{Error, Result};

/// `cuda/conv2d.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_conv2d",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "weight"),
        (U64, "bias"),
        (U64, "scale"),
        (U64, "residual"),
        (U32, "weight_type"),
        (U32, "bias_type"),
        (U32, "scale_type"),
        (U32, "height"),
        (U32, "width"),
        (U32, "channels"),
        (U32, "out_height"),
        (U32, "out_width"),
        (U32, "out_channels"),
        (U32, "kernel_height"),
        (U32, "kernel_width"),
        (U32, "step"),
        (U32, "padding"),
        (U32, "x_stride"),
        (U32, "residual_stride"),
        (U32, "activation"),
    ],
    threads: 128,
};

/// `cuda/depthwise.ptx`
pub(super) const DEPTHWISE: Signature = Signature {
    entry: "triplet_depthwise",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "weight"),
        (U64, "bias"),
        (U64, "scale"),
        (U64, "residual"),
        (U32, "weight_type"),
        (U32, "bias_type"),
        (U32, "scale_type"),
        (U32, "height"),
        (U32, "width"),
        (U32, "channels"),
        (U32, "out_height"),
        (U32, "out_width"),
        (U32, "out_channels"),
        (U32, "kernel_height"),
        (U32, "kernel_width"),
        (U32, "step"),
        (U32, "padding"),
        (U32, "x_stride"),
        (U32, "residual_stride"),
        (U32, "activation"),
    ],
    threads: 256,
};

/// Most cells along a side of a map, so that the place of a cell in a padded map cannot wrap.
const MOST_CELLS: usize = 16384;

/// A convolution's shapes, checked against each other.
pub(super) struct Shapes {
    pub(super) grid: Grid,
    pub(super) conv: Conv,
    pub(super) sizes: ConvSizes,
}

/// The map `x` under the filters of `weight`, plus bias, then the epilogue.
pub(super) fn conv2d(
    cuda: &Cuda,
    x: View<Cuda>,
    weight: &Weight<Cuda>,
    bias: Option<&Weight<Cuda>>,
    epilogue: &Epilogue<Cuda>,
    shapes: &Shapes,
) -> Result<Matrix<Cuda>> {
    let Shapes { grid, conv, sizes } = *shapes;
    let ConvSizes { kernel, channels, output } = sizes;
    let rows = output.cells();
    let finish = Finish::new(cuda, bias, epilogue)?;
    if x.rows() == 0 || x.cols() == 0 {
        return without_inputs(cuda, "conv2d", finish, rows, channels);
    }
    let out = cuda.matrix("conv2d", rows, channels)?;
    if rows * channels == 0 {
        return Ok(out);
    }
    let sides =
        [grid.height, grid.width, kernel.height, kernel.width, output.height, output.width, conv.padding];
    if let Some(&side) = sides.iter().find(|&&side| side > MOST_CELLS) {
        return Err(Error::Limit { limit: "cuda.cells", max: MOST_CELLS as u64, got: side as u64 });
    }
    let (map, weight) = (Operand::new(cuda, x)?, Elements::new(cuda, weight)?);
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        map.pointer,
        weight.pointer,
        finish.bias.pointer,
        finish.scale.pointer,
        finish.residual.pointer,
        weight.dtype,
        finish.bias.dtype,
        finish.scale.dtype,
        size(grid.height)?,
        size(grid.width)?,
        size(x.cols())?,
        size(output.height)?,
        size(output.width)?,
        size(channels)?,
        size(kernel.height)?,
        size(kernel.width)?,
        size(conv.stride)?,
        size(conv.padding)?,
        map.stride,
        finish.residual.stride,
        finish.activation,
    ];
    if conv.depthwise {
        cuda.launch(Kernel::Depthwise, one_each(rows * channels)?, 0, &arguments)?;
    } else {
        let grid = [narrow(rows.div_ceil(64))?, blocks(channels, 64)?, 1];
        cuda.launch(Kernel::Conv2d, [grid, [128, 1, 1]], 0, &arguments)?;
    }
    Ok(out)
}
