//! How keys and values are kept for later queries.
#![forbid(unsafe_code)]

use alloc::format;
use core::str::FromStr;

use crate::checked::Size;
use crate::error::{Error, Result};
use crate::words::Quoted;

/// The numbers of a cache of keys and values.
///
/// Rows lie in matrices of four-byte columns, one head after the other, each in whole columns: its numbers in the types and
/// the order below, little endian; what is left of its last column means nothing. A row depends on nothing but itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// `f32`, as they were computed.
    #[default]
    F32,
    /// `f16`, the nearest (ties to even): half the memory. A magnitude of 65,520 and more becomes infinite.
    F16,
    /// A scale in `f32`, then integers of eight bits: about a quarter of the memory. The scale is the largest magnitude of the
    /// row's head over 127, an integer `x * (127 / largest magnitude)`, the nearest (ties to even). Heads whose magnitudes are all
    /// below 1e-30 are kept as zeros, and a head that holds a NaN or an infinity as NaN.
    Int8,
}

impl CacheType {
    /// Every type.
    pub const ALL: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Int8];

    /// `f32`, `f16` or `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Int8 => "int8",
        }
    }

    /// Columns of four bytes that a head of `d` numbers takes.
    pub const fn head_columns(self, d: usize) -> usize {
        match self {
            CacheType::F32 => d,
            CacheType::F16 => d.div_ceil(2),
            CacheType::Int8 => 1 + d.div_ceil(4),
        }
    }

    /// Columns of four bytes that a row of `heads` heads of `d` numbers takes.
    ///
    /// # Errors
    /// [`Error::Limit`] where they overflow.
    pub fn columns(self, heads: usize, d: usize) -> Result<usize> {
        Ok(Size::new(heads).times(self.head_columns(d))?.get())
    }

    /// What is said where a backend has no cache of this type.
    pub(crate) fn refused(self) -> Error {
        let reason = format!("is {}, but this backend keeps keys and values in f32 only", self.name());
        Error::Input { field: "cache", reason }
    }
}

impl FromStr for CacheType {
    type Err = Error;

    /// The type of that [`CacheType::name`].
    ///
    /// # Errors
    /// [`Error::Input`] `cache`.
    fn from_str(name: &str) -> Result<CacheType> {
        let found = CacheType::ALL.into_iter().find(|kind| kind.name() == name);
        let reason = || format!("{} is none of f32, f16 and int8", Quoted(name));
        found.ok_or_else(|| Error::Input { field: "cache", reason: reason() })
    }
}
