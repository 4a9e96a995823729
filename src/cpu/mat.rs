//! Plain views of what the kernels read: activations as rows of `f32`, weights as bytes of a type.
#![forbid(unsafe_code)]

use alloc::format;

use super::Cpu;
use super::isa::Op;
use super::lanes::Lanes;
use super::packed::Packed;
use super::packed_int8::PackedInt8;
use crate::backend::{Columns, View, Weight};
use crate::error::{Error, Result};
use crate::weights::{Dtype, Quantised, Tensor};

/// A tensor of the weights file; its bytes are used where they lie.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Stored {
    /// Numbers.
    Tensor(Tensor),
    /// Numbers of a linear layer, with a copy in the order in which products read them.
    Packed(Packed),
    /// Integers and their scales.
    Quantised(Quantised),
    /// Integers of eight bits, with a copy in the order in which products read them.
    PackedInt8(PackedInt8),
}

impl Stored {
    /// The integers that it is.
    pub(super) fn quantised(&self) -> Option<&Quantised> {
        match self {
            Stored::Quantised(matrix) => Some(matrix),
            Stored::PackedInt8(packed) => Some(packed.matrix()),
            Stored::Tensor(_) | Stored::Packed(_) => None,
        }
    }
}

/// `rows x cols` numbers, rows `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    stride: usize,
}

impl<'a> Mat<'a> {
    /// The elements of a view.
    pub(super) fn new(view: View<'a, Cpu>) -> Result<Mat<'a>> {
        let (rows, cols, stride) = (view.rows(), view.cols(), view.stride());
        if rows == 0 || cols == 0 {
            return Ok(Mat { data: &[], rows, cols, stride: 0 });
        }
        let end = (rows - 1).checked_mul(stride).and_then(|last| last.checked_add(cols));
        let data = view.buffer().get(view.offset()..).and_then(|data| data.get(..end?));
        let data = data.ok_or_else(|| Error::Shape {
            operand: "view",
            reason: format!("{rows}x{cols} (stride {stride}) leaves its buffer"),
        })?;
        Ok(Mat { data, rows, cols, stride })
    }

    /// Rows without gaps.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    pub(super) fn whole(data: &'a [f32], rows: usize, cols: usize) -> Mat<'a> {
        Mat { data, rows, cols, stride: cols }
    }

    /// Row `i`.
    pub(super) fn row(self, i: usize) -> &'a [f32] {
        if self.cols == 0 {
            return &[];
        }
        &self.data[i * self.stride..][..self.cols]
    }

    /// All rows in order.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.rows).map(move |i| self.row(i))
    }

    /// The elements from row `i` on as little-endian bytes, with the bytes from row to row.
    pub(super) fn bytes(self, i: usize) -> (&'a [u8], usize) {
        let data = self.data.get(i * self.stride..).unwrap_or(&[]);
        (bytemuck::cast_slice(data), self.stride * 4)
    }

    /// The columns `start..start + cols`.
    pub(super) fn columns(self, start: usize, cols: usize) -> Mat<'a> {
        if cols == 0 || self.rows == 0 {
            return Mat { data: &[], rows: self.rows, cols, stride: 0 };
        }
        let end = (self.rows - 1) * self.stride + start + cols;
        Mat { data: &self.data[start..end], cols, ..self }
    }
}

/// The elements of a stored tensor.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a> {
    pub(super) dtype: Dtype,
    pub(super) bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The bytes of a whole weight, which must hold as many elements as its shape says.
    pub(super) fn new(weight: &'a Weight<Cpu>) -> Result<Elements<'a>> {
        if let Some(columns) = weight.columns() {
            let reason = format!("{columns:?} where a whole tensor is needed");
            return Err(Error::Shape { operand: "weight", reason });
        }
        Elements::of(weight, Some(weight.elements()))
    }

    /// All bytes of the stored tensor behind a weight, which must hold that many elements.
    fn of(weight: &'a Weight<Cpu>, elements: Option<usize>) -> Result<Elements<'a>> {
        let tensor = match weight.stored() {
            Stored::Tensor(tensor) => tensor,
            Stored::Packed(packed) => packed.tensor(),
            Stored::Quantised(_) | Stored::PackedInt8(_) => {
                let reason = "is quantised, but only a linear layer can be".into();
                return Err(Error::Shape { operand: "weight", reason });
            }
        };
        let (dtype, bytes) = (tensor.dtype(), tensor.bytes());
        let needed = elements.and_then(|elements| elements.checked_mul(dtype.size()));
        if needed != Some(bytes.len()) {
            let reason = format!("{} bytes for the shape {:?}", bytes.len(), weight.shape());
            return Err(Error::Shape { operand: "weight", reason });
        }
        Ok(Elements { dtype, bytes })
    }

    /// The bytes from element `first` on.
    pub(super) fn from(self, first: usize) -> &'a [u8] {
        &self.bytes[first * self.dtype.size()..]
    }

    /// Number of elements.
    pub(super) fn len(self) -> usize {
        self.bytes.len() / self.dtype.size()
    }
}

/// The rows of a stored matrix, or of some of its columns.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    elements: Elements<'a>,
    first: usize,
    /// Elements from row to row.
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// The rows of a weight of `n x k` elements.
    pub(super) fn new(weight: &'a Weight<Cpu>, n: usize, k: usize) -> Result<Rows<'a>> {
        match weight.columns() {
            None => Ok(Rows::whole(Elements::new(weight)?, k)),
            Some(Columns { first, of }) => {
                let elements = Elements::of(weight, n.checked_mul(of))?;
                Ok(Rows { elements, first, stride: of })
            }
        }
    }

    /// Rows of `k` elements without gaps.
    pub(super) fn whole(elements: Elements<'a>, k: usize) -> Rows<'a> {
        Rows { elements, first: 0, stride: k }
    }

    /// Type of the elements.
    pub(super) fn dtype(self) -> Dtype {
        self.elements.dtype
    }

    /// The bytes from element `first` of row `row` on.
    pub(super) fn from(self, row: usize, first: usize) -> &'a [u8] {
        self.elements.from(row * self.stride + self.first + first)
    }
}

/// [`Lanes::convert`] as an [`Op`].
pub(super) struct Convert<'a> {
    pub(super) from: &'a [u8],
    pub(super) dtype: Dtype,
    pub(super) out: &'a mut [f32],
}

impl Op for Convert<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.convert(self.dtype, self.from, self.out);
    }
}
