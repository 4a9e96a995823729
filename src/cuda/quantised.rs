//! Products with weights in integers. Activations stay `f32`: the weight counts as the numbers that it stands for.
#![forbid(unsafe_code)]

use alloc::format;

use super::kernel::Kernel;
use super::linear::{self, FEW_ROWS, Product};
use super::operand::{Elements, code, elements, narrow, one_each, size};
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use super::{Cuda, Integers, Stored};
use crate::backend::{Matrix, Weight};
use crate::error::{Error, Result};
use crate::weights::Scheme;

/// `cuda/dequantise.ptx`
pub(super) const DEQUANTISE: Signature = Signature {
    entry: "triplet_dequantise",
    parameters: &[
        (U64, "out"),
        (U64, "weight"),
        (U64, "weight_scale"),
        (U32, "scheme"),
        (U32, "weight_scale_type"),
        (U32, "rows"),
        (U32, "cols"),
    ],
    threads: 256,
};

/// `cuda/linear_row_quantised.ptx`
pub(super) const LINEAR_ROW: Signature = Signature {
    entry: "triplet_linear_row_quantised",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "weight"),
        (U64, "weight_scale"),
        (U64, "bias"),
        (U64, "scale"),
        (U64, "residual"),
        (U32, "scheme"),
        (U32, "weight_scale_type"),
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

/// A weight in integers as kernels take it: the integers, their scales, the scheme, the type of the scales.
fn arguments(cuda: &Cuda, weight: &Weight<Cuda>, integers: &Integers) -> Result<[Argument; 4]> {
    let Stored { block, dtype, .. } = weight.stored();
    let Integers { scheme, sizes: [n, k], scales } = integers;
    let whole = weight.columns().is_none() && weight.shape() == [*n, *k];
    let needed = n.checked_mul(scheme.row_bytes(*k)).filter(|&bytes| bytes == block.bytes());
    let of_device = block.is_of(&cuda.shared.weights) && scales.is_of(&cuda.shared.weights);
    if !whole || needed.is_none() || !of_device {
        let reason = format!("a quantised matrix of {:?} as one of {:?}", [n, k], weight.shape());
        return Err(Error::Shape { operand: "linear.weight", reason });
    }
    let scheme = match scheme {
        Scheme::Int8 => 3,
        Scheme::Int4 => 4,
    };
    let [block, scales] = [block, scales].map(|block| Argument::Pointer(block.pointer()));
    Ok([block, scales, Argument::U32(scheme), Argument::U32(code(*dtype))])
}

/// `x` times the transpose of `weight`, then what comes after it. A few rows read the integers, more of them the numbers, which
/// are written down first; the bits of a row are the same.
pub(super) fn linear(
    cuda: &Cuda,
    weight: &Weight<Cuda>,
    integers: &Integers,
    product: Product,
) -> Result<Matrix<Cuda>> {
    let [integers, scales, scheme, scale_type] = arguments(cuda, weight, integers)?;
    let Product { x, finish, sizes } = product;
    let [rows, k, n] = sizes;
    if rows > FEW_ROWS {
        let numbers = cuda.matrix("dequantise", n, k)?;
        let pointer = Argument::Pointer(numbers.buffer().pointer());
        let arguments = [pointer, integers, scales, scheme, scale_type, size(n)?, size(k)?];
        if n > 0 {
            cuda.launch(Kernel::Dequantise, one_each(elements(n, k)?)?, 0, &arguments)?;
        }
        let weight = Elements { pointer, dtype: Argument::U32(0) };
        return linear::product(cuda, "linear", weight, Product { x, finish, sizes });
    }
    let out = cuda.matrix("linear", rows, n)?;
    if rows * n == 0 {
        return Ok(out);
    }
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        x.pointer,
        integers,
        scales,
        finish.bias.pointer,
        finish.scale.pointer,
        finish.residual.pointer,
        scheme,
        scale_type,
        finish.bias.dtype,
        finish.scale.dtype,
        size(rows)?,
        size(k)?,
        size(n)?,
        x.stride,
        finish.residual.stride,
        finish.activation,
    ];
    let grid = [narrow(n.div_ceil(8))?, narrow(rows)?, 1];
    cuda.launch(Kernel::LinearRowQuantised, [grid, [256, 1, 1]], 0, &arguments)?;
    Ok(out)
}
