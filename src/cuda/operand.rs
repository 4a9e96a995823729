//! Operands as kernels take them: an address, a stride, a type, sizes that fit 32 bits.
#![forbid(unsafe_code)]

use alloc::format;

use super::driver::DevicePointer;
use super::pool::Block;
use super::signature::Argument;
use super::{Cuda, Stored};
use crate::backend::{Activation, Columns, Epilogue, View, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::weights::Dtype;

/// Bytes of an element of a matrix.
pub(super) const ELEMENT: usize = size_of::<f32>();

/// Most elements of an output, so that the index of a thread cannot wrap.
const MOST_ELEMENTS: usize = u32::MAX as usize - 256;

/// A matrix as a kernel reads it.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) pointer: Argument,
    pub(super) stride: Argument,
}

impl Operand {
    /// An operand that is left out.
    pub(super) const NONE: Operand =
        Operand { pointer: Argument::Pointer(DevicePointer::NULL), stride: Argument::U32(0) };

    /// The elements of a view, all of which lie in its buffer.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not, or where the buffer is another device's; [`Error::Limit`].
    pub(super) fn new(cuda: &Cuda, view: View<Cuda>) -> Result<Operand> {
        let (rows, cols, stride) = (view.rows(), view.cols(), view.stride());
        let block: &Block = view.buffer();
        let last = rows.saturating_sub(1).checked_mul(stride);
        let end =
            last.and_then(|last| last.checked_add(cols)?.checked_add(view.offset())?.checked_mul(ELEMENT));
        let empty = rows == 0 || cols == 0;
        if !empty && (end.is_none_or(|end| end > block.bytes()) || !block.is_of(&cuda.shared.pool)) {
            let reason =
                format!("{rows}x{cols} (stride {stride}) leaves its buffer, or is on another device");
            return Err(Error::Shape { operand: "view", reason });
        }
        let pointer = Argument::Pointer(block.pointer().offset((view.offset() * ELEMENT) as u64));
        Ok(Operand { pointer, stride: size(stride)? })
    }

    /// As [`Operand::new`] for an operand that may be left out.
    pub(super) fn optional(cuda: &Cuda, view: Option<View<Cuda>>) -> Result<Operand> {
        view.map_or(Ok(Operand::NONE), |view| Operand::new(cuda, view))
    }
}

/// A stored tensor as a kernel reads it.
#[derive(Clone, Copy)]
pub(super) struct Elements {
    pub(super) pointer: Argument,
    pub(super) dtype: Argument,
}

impl Elements {
    /// The elements of a weight.
    ///
    /// # Errors
    /// [`Error::Shape`] where it has fewer than its shape says, or is another device's.
    pub(super) fn new(cuda: &Cuda, weight: &Weight<Cuda>) -> Result<Elements> {
        let Stored { block, dtype, .. } = of_numbers(weight)?;
        let needed = weight.elements().checked_mul(dtype.size());
        if weight.columns().is_some() || needed != Some(block.bytes()) || !block.is_of(&cuda.shared.weights) {
            let reason = format!("{} bytes for the shape {:?}", block.bytes(), weight.shape());
            return Err(Error::Shape { operand: "weight", reason });
        }
        Ok(Elements { pointer: Argument::Pointer(block.pointer()), dtype: Argument::U32(code(*dtype)) })
    }

    /// The elements of columns of a stored matrix, and the elements from row to row.
    ///
    /// # Errors
    /// As [`Elements::new`].
    pub(super) fn of_columns(
        cuda: &Cuda,
        weight: &Weight<Cuda>,
        columns: Columns,
    ) -> Result<(Elements, usize)> {
        let Stored { block, dtype, .. } = of_numbers(weight)?;
        let rows = weight.shape().first().copied().unwrap_or(0);
        let needed = rows.checked_mul(columns.of).and_then(|elements| elements.checked_mul(dtype.size()));
        let last = weight.shape().get(1).and_then(|cols| cols.checked_add(columns.first));
        let inside = needed == Some(block.bytes()) && last.is_some_and(|last| last <= columns.of);
        if !inside || !block.is_of(&cuda.shared.weights) {
            let reason = format!("{columns:?} of {} bytes for the shape {:?}", block.bytes(), weight.shape());
            return Err(Error::Shape { operand: "weight", reason });
        }
        let start = block.pointer().offset((columns.first * dtype.size()) as u64);
        let elements = Elements { pointer: Argument::Pointer(start), dtype: Argument::U32(code(*dtype)) };
        Ok((elements, columns.of))
    }

    /// As [`Elements::new`] for a weight that may be left out.
    pub(super) fn optional(cuda: &Cuda, weight: Option<&Weight<Cuda>>) -> Result<Elements> {
        let none = Elements { pointer: Argument::Pointer(DevicePointer::NULL), dtype: Argument::U32(0) };
        weight.map_or(Ok(none), |weight| Elements::new(cuda, weight))
    }
}

/// A weight that is stored as numbers.
fn of_numbers(weight: &Weight<Cuda>) -> Result<&Stored> {
    match weight.stored() {
        Stored { integers: Some(_), .. } => {
            let reason = "is quantised, but only a linear layer can be".into();
            Err(Error::Shape { operand: "weight", reason })
        }
        stored => Ok(stored),
    }
}

/// What comes after a product, as kernels take it.
pub(super) struct Finish {
    pub(super) bias: Elements,
    pub(super) scale: Elements,
    pub(super) residual: Operand,
    pub(super) activation: Argument,
}

impl Finish {
    pub(super) fn new(cuda: &Cuda, bias: Option<&Weight<Cuda>>, epilogue: &Epilogue<Cuda>) -> Result<Finish> {
        Ok(Finish {
            bias: Elements::optional(cuda, bias)?,
            scale: Elements::optional(cuda, epilogue.scale)?,
            residual: Operand::optional(cuda, epilogue.residual)?,
            activation: activation(epilogue.activation),
        })
    }
}

/// The number of a type.
pub(super) fn code(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Bf16 => 2,
    }
}

/// The number of a function.
pub(super) fn activation(activation: Activation) -> Argument {
    Argument::U32(match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Gelu => 2,
        Activation::GeluTanh => 3,
        Activation::QuickGelu => 4,
        Activation::Silu => 5,
        Activation::Sigmoid => 6,
        Activation::Tanh => 7,
    })
}

/// A size as a parameter.
///
/// # Errors
/// [`Error::Limit`] where it does not fit.
pub(super) fn size(size: usize) -> Result<Argument> {
    narrow(size).map(Argument::U32)
}

/// A size in 32 bits.
///
/// # Errors
/// [`Error::Limit`] where it does not fit.
pub(super) fn narrow(size: usize) -> Result<u32> {
    let limit = |_| Error::Limit { limit: "cuda.size", max: u32::MAX.into(), got: size as u64 };
    u32::try_from(size).map_err(limit)
}

/// Number of elements of an output.
///
/// # Errors
/// [`Error::Limit`] where there are more than a kernel counts.
pub(super) fn elements(rows: usize, cols: usize) -> Result<usize> {
    let elements = Size::product(&[rows, cols])?.get();
    if elements > MOST_ELEMENTS {
        return Err(Error::Limit { limit: "cuda.elements", max: MOST_ELEMENTS as u64, got: elements as u64 });
    }
    Ok(elements)
}

/// Grid and block of a kernel that has one thread for each of `count` elements.
///
/// # Errors
/// [`Error::Limit`].
pub(super) fn one_each(count: usize) -> Result<[[u32; 3]; 2]> {
    Ok([[narrow(count.div_ceil(256))?, 1, 1], [256, 1, 1]])
}

/// Most blocks along the second and third side of a grid.
const MOST_BLOCKS: u32 = 65535;

/// Number of blocks of `size` for `count` along the second or third side of a grid.
///
/// # Errors
/// [`Error::Limit`] where the device takes no grid that large.
pub(super) fn blocks(count: usize, size: usize) -> Result<u32> {
    let blocks = narrow(count.div_ceil(size))?;
    if blocks > MOST_BLOCKS {
        return Err(Error::Limit { limit: "cuda.grid", max: MOST_BLOCKS.into(), got: blocks.into() });
    }
    Ok(blocks)
}
