//! A tensor as it lies in the weights file: a name, a type, a shape and shared bytes. Nothing is copied or converted.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::checked::Size;
use crate::error::{Error, Result};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
}

impl Dtype {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// Anything that owns or borrows the bytes of a weights file: a memory map, a `Vec<u8>`, a `&'static [u8]`.
pub type Storage = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// One tensor of a weights file. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    storage: Storage,
    range: Range<usize>,
}

impl Tensor {
    /// A tensor of `shape` (row-major, little endian) whose elements are `storage[range]`. No alignment is required.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the range lies outside the storage or its length does not fit shape and type.
    pub fn new(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        storage: Storage,
        range: Range<usize>,
    ) -> Result<Tensor> {
        let bytes = Size::product(&shape)?.times(dtype.size())?.get();
        let total = (*storage).as_ref().len();
        if range.start > range.end || range.end > total {
            let reason =
                format!("bytes {}..{} lie outside the {total} bytes of data", range.start, range.end);
            return Err(Error::Tensor { name, reason });
        }
        if range.len() != bytes {
            let reason = format!("shape {shape:?} needs {bytes} bytes, but the file gives {}", range.len());
            return Err(Error::Tensor { name, reason });
        }
        Ok(Tensor { name, dtype, shape, storage, range })
    }

    /// Full name in the weights file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Row-major shape, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements as little-endian bytes, of any alignment.
    pub fn bytes(&self) -> &[u8] {
        (*self.storage).as_ref().get(self.range.clone()).unwrap_or(&[])
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {:?}", self.name, self.dtype, self.shape)
    }
}
