//! Products with stored weights.
#![forbid(unsafe_code)]

use super::kernel::Kernel;
use super::linear_group::TILE;
use super::operand::{ELEMENT, Elements, Finish, Operand, blocks, narrow, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use super::{Cuda, copy, linear_group, linear_runs, quantised};
use crate::backend::{Epilogue, Matrix, View, Weight};
use crate::checked::Size;
use crate::error::Result;

/// `cuda/linear.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_linear",
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
        (U32, "rows"),
        (U32, "k"),
        (U32, "n"),
        (U32, "x_stride"),
        (U32, "residual_stride"),
        (U32, "activation"),
    ],
    threads: 128,
};

/// `cuda/linear_sm80.ptx` and `cuda/linear_sm75.ptx`
pub(super) const TENSOR: Signature = Signature { entry: "triplet_linear_sm80", ..SIGNATURE };

/// `cuda/linear_row.ptx`
pub(super) const ROW: Signature = Signature {
    entry: "triplet_linear_row",
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
        (U32, "rows"),
        (U32, "k"),
        (U32, "n"),
        (U32, "x_stride"),
        (U32, "residual_stride"),
        (U32, "activation"),
    ],
    threads: 256,
};

/// Most rows for which the weights are read once a row instead of once a block of rows.
pub(super) const FEW_ROWS: usize = 4;

/// Blocks of [`Kernel::LinearTensor`] that keep a multiprocessor busy.
const RESIDENT: usize = 3;

/// A product but for its weight, what it reads already checked.
pub(super) struct Product {
    pub(super) x: Operand,
    pub(super) finish: Finish,
    /// Rows, inputs, outputs.
    pub(super) sizes: [usize; 3],
}

/// `x` times the transpose of `weight`, plus bias, then the epilogue.
pub(super) fn linear(
    cuda: &Cuda,
    x: View<Cuda>,
    weight: &Weight<Cuda>,
    bias: Option<&Weight<Cuda>>,
    epilogue: &Epilogue<Cuda>,
    n: usize,
) -> Result<Matrix<Cuda>> {
    let finish = Finish::new(cuda, bias, epilogue)?;
    if x.cols() == 0 {
        return without_inputs(cuda, "linear", finish, x.rows(), n);
    }
    let sizes = [x.rows(), x.cols(), n];
    if let Some(integers) = &weight.stored().integers {
        let product = Product { x: Operand::new(cuda, x)?, finish, sizes };
        return quantised::linear(cuda, weight, integers, product);
    }
    let x = Operand::new(cuda, x)?;
    let grouped = match weight.columns() {
        None if sizes[0] > FEW_ROWS => linear_group::laid_out(cuda, &x, weight, [n, sizes[1]])?,
        _ => None,
    };
    if let Some(weight) = grouped {
        let product = Product { x, finish, sizes };
        let runs = linear_runs::runs(cuda, sizes, TILE, 1);
        let grid = [narrow(sizes[0].div_ceil(TILE))?, blocks(n, TILE)?, narrow(runs)?];
        return launched(cuda, "linear", weight, product, Kernel::LinearGroup, [grid, [288, 1, 1]]);
    }
    // Kernels read whole weights: columns of one are laid out first.
    let part = match weight.columns() {
        Some(columns) => {
            let (from, stride) = Elements::of_columns(cuda, weight, columns)?;
            Some(copy::read(cuda, from, stride, [n, sizes[1]])?)
        }
        None => None,
    };
    let weight = match &part {
        Some(part) => {
            Elements { pointer: Argument::Pointer(part.buffer().pointer()), dtype: Argument::U32(0) }
        }
        None => Elements::new(cuda, weight)?,
    };
    product(cuda, "linear", weight, Product { x, finish, sizes })
}

/// What a product without inputs gives: the epilogue of the bias alone. Kernels take no empty operands, so one input is there,
/// and it is 0.
pub(super) fn without_inputs(
    cuda: &Cuda,
    what: &'static str,
    finish: Finish,
    rows: usize,
    n: usize,
) -> Result<Matrix<Cuda>> {
    let zeros = cuda.shared.pool.take(what, Size::new(rows.max(n)).times(ELEMENT)?.get())?;
    cuda.fill(&zeros, 0)?;
    let pointer = Argument::Pointer(zeros.pointer());
    let x = Operand { pointer, stride: Argument::U32(1) };
    let weight = Elements { pointer, dtype: Argument::U32(0) };
    product(cuda, what, weight, Product { x, finish, sizes: [rows, 1, n] })
}

/// A product with a weight of numbers that lie row after row.
pub(super) fn product(
    cuda: &Cuda,
    what: &'static str,
    weight: Elements,
    product: Product,
) -> Result<Matrix<Cuda>> {
    let Product { x, sizes, .. } = &product;
    let [rows, k, n] = sizes;
    let (kernel, shape) = if *rows <= FEW_ROWS {
        (Kernel::LinearRow, [[narrow(n.div_ceil(8))?, narrow(*rows)?, 1], [256, 1, 1]])
    } else {
        let tensor = cuda.uses(Kernel::LinearTensor)
            && k.is_multiple_of(8)
            && x.stride.is_multiple_of(4)
            && [x.pointer, weight.pointer].into_iter().all(|pointer| pointer.is_multiple_of(16));
        let (kernel, runs) = match tensor {
            true => (Kernel::LinearTensor, linear_runs::runs(cuda, *sizes, 64, RESIDENT)),
            false => (Kernel::Linear, 1),
        };
        (kernel, [[narrow(rows.div_ceil(64))?, blocks(*n, 64)?, narrow(runs)?], [128, 1, 1]])
    };
    launched(cuda, what, weight, product, kernel, shape)
}

/// A product by a kernel of a grid and a block. A grid of several layers gives sums of as many runs of the inputs.
fn launched(
    cuda: &Cuda,
    what: &'static str,
    weight: Elements,
    product: Product,
    kernel: Kernel,
    shape: [[u32; 3]; 2],
) -> Result<Matrix<Cuda>> {
    let Product { x, finish, sizes: [rows, k, n] } = &product;
    let [rows, k, n] = [*rows, *k, *n];
    let [[_, _, layers], _] = shape;
    let out = cuda.matrix(what, Size::new(rows).times(layers as usize)?.get(), n)?;
    if rows * n == 0 {
        return Ok(out);
    }
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        x.pointer,
        weight.pointer,
        finish.bias.pointer,
        finish.scale.pointer,
        finish.residual.pointer,
        weight.dtype,
        finish.bias.dtype,
        finish.scale.dtype,
        size(rows)?,
        size(k)?,
        size(n)?,
        x.stride,
        finish.residual.stride,
        finish.activation,
    ];
    cuda.launch(kernel, shape, kernel.shared(), &arguments)?;
    if layers == 1 {
        return Ok(out);
    }
    linear_runs::merged(cuda, what, &out, &product, layers as usize)
}
