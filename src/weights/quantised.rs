//! Quantised matrices as they lie in the weights file: the integers `X.weight` and the scales `X.weight_scale`.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::{Dtype, Storage, Tensor};
use crate::checked::Size;
use crate::error::{Error, Result};

/// Elements of a row that share one scale in [`Scheme::Int4`]; the activations that it meets are quantised in runs of as many.
pub const GROUP: usize = 32;

/// How a matrix `[n, k]` is stored in integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// I8 `[n, k]` with scales `[n]`: `weight[i, j] = scale[i] * stored[i, j]`.
    Int8,
    /// U8 `[n, k / 2]` with scales `[n, k / GROUP]`; `GROUP` divides `k`. Byte `j` of a row holds element `2 j` in its low
    /// and element `2 j + 1` in its high half: `weight[i, j] = scale[i, j / GROUP] * (stored[i, j] - 8)`.
    Int4,
}

impl Scheme {
    /// Name of the type in the weights file.
    pub const fn dtype(self) -> &'static str {
        match self {
            Scheme::Int8 => "I8",
            Scheme::Int4 => "U8",
        }
    }

    /// Bytes of a row of `k` elements.
    pub const fn row_bytes(self, k: usize) -> usize {
        match self {
            Scheme::Int8 => k,
            Scheme::Int4 => k / 2,
        }
    }

    /// Scales of a row of `k` elements.
    pub const fn row_scales(self, k: usize) -> usize {
        match self {
            Scheme::Int8 => 1,
            Scheme::Int4 => k / GROUP,
        }
    }
}

/// Bytes of a type that only a quantised matrix can have.
#[derive(Clone)]
pub(super) struct IntegerTensor {
    pub(super) name: String,
    pub(super) scheme: Scheme,
    /// As the file says it.
    pub(super) shape: Vec<usize>,
    pub(super) storage: Storage,
    pub(super) range: Range<usize>,
}

impl fmt::Debug for IntegerTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}", self.name, self.scheme.dtype(), self.shape)
    }
}

/// A quantised matrix `[n, k]` with its scales. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug)]
pub struct Quantised {
    integers: IntegerTensor,
    scales: Tensor,
    n: usize,
    k: usize,
}

impl Quantised {
    /// A matrix of `[n, k]` elements whose integers are `storage[range]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the name of the integers or of the scales where a size or the type of the scales (F32 or
    /// F16) does not fit.
    pub fn new(
        name: String,
        scheme: Scheme,
        [n, k]: [usize; 2],
        storage: Storage,
        range: Range<usize>,
        scales: Tensor,
    ) -> Result<Quantised> {
        let width = scheme.row_bytes(k);
        let bytes = Size::product(&[n, width])?.get();
        let total = (*storage).as_ref().len();
        if range.start > range.end || range.end > total || range.len() != bytes {
            let reason = format!("bytes {}..{} of {total} where {bytes} are needed", range.start, range.end);
            return Err(Error::Tensor { name, reason });
        }
        Quantised::of(
            IntegerTensor { name, scheme, shape: [n, width].into(), storage, range },
            [n, k],
            scales,
        )
    }

    /// Checks the scales; the size of `integers` was checked.
    pub(super) fn of(integers: IntegerTensor, [n, k]: [usize; 2], scales: Tensor) -> Result<Quantised> {
        if integers.scheme == Scheme::Int4 && !k.is_multiple_of(GROUP) {
            let reason = format!("has rows of {k} elements, which {GROUP} does not divide");
            return Err(Error::Tensor { name: integers.name, reason });
        }
        let tensor = |reason| Error::Tensor { name: scales.name().to_owned(), reason };
        if !matches!(scales.dtype(), Dtype::F32 | Dtype::F16) {
            return Err(tensor(format!("is of type {:?}, but scales are F32 or F16", scales.dtype())));
        }
        let fits = match integers.scheme {
            Scheme::Int8 => scales.shape() == [n],
            Scheme::Int4 => scales.shape() == [n, k / GROUP],
        };
        if !fits {
            let needed = match integers.scheme {
                Scheme::Int8 => format!("[{n}]"),
                Scheme::Int4 => format!("[{n}, {}]", k / GROUP),
            };
            let weight = &integers.name;
            let reason = format!("is of shape {:?}, but {weight} asks for {needed}", scales.shape());
            return Err(tensor(reason));
        }
        Ok(Quantised { integers, scales, n, k })
    }

    /// Full name of the integers in the weights file.
    pub fn name(&self) -> &str {
        &self.integers.name
    }

    /// How the elements are stored.
    pub fn scheme(&self) -> Scheme {
        self.integers.scheme
    }

    /// `[n, k]`: rows, and elements of a row.
    pub fn sizes(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    /// The integers, row after row, of any alignment.
    pub fn bytes(&self) -> &[u8] {
        (*self.integers.storage).as_ref().get(self.integers.range.clone()).unwrap_or(&[])
    }

    /// The scales.
    pub fn scales(&self) -> &Tensor {
        &self.scales
    }
}
