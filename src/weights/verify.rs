//! Reads every weight and finds the first that is not finite.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use core::ops::ControlFlow;

use super::{Dtype, Entry, Tensor, Weights};
use crate::error::{Error, Result};

/// Bytes between two reports of progress; a multiple of every element size.
const CHUNK: usize = 16 << 20;

/// How far [`Weights::verify`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor that is read next.
    pub name: &'a str,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read in all.
    pub total: u64,
}

/// How [`Weights::verify`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Every element was read and is finite.
    Whole,
    /// The callback stopped it; what was read is finite.
    Stopped,
}

impl Weights {
    /// Reads every element of every f32, f16 and bf16 tensor, in the order of names, and calls `progress` at least every
    /// 16 MiB; [`ControlFlow::Break`] ends the reading.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the name of the first tensor that holds a NaN or an infinity, and the row-major index of its
    /// first such element.
    pub fn verify(&self, mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<Verified> {
        let tensors = || {
            self.entries.iter().filter_map(|(_, entry)| match entry {
                Entry::Tensor(tensor) => Some(tensor),
                Entry::Integers(_) | Entry::Other { .. } => None,
            })
        };
        let total = tensors().map(|tensor| tensor.bytes().len() as u64).sum();
        let mut done = 0;
        for tensor in tensors() {
            for (index, chunk) in tensor.bytes().chunks(CHUNK).enumerate() {
                if progress(Progress { name: tensor.name(), done, total }).is_break() {
                    return Ok(Verified::Stopped);
                }
                if let Some(offset) = first_non_finite(tensor.dtype(), chunk) {
                    return Err(non_finite(tensor, index * (CHUNK / tensor.dtype().size()) + offset));
                }
                done += chunk.len() as u64;
            }
        }
        Ok(Verified::Whole)
    }
}

/// Index of the first element whose exponent bits are all set.
fn first_non_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    let half = |mask: u16| {
        bytes.as_chunks::<2>().0.iter().position(|&element| u16::from_le_bytes(element) & mask == mask)
    };
    match dtype {
        Dtype::F32 => {
            const MASK: u32 = 0x7f80_0000;
            bytes.as_chunks::<4>().0.iter().position(|&element| u32::from_le_bytes(element) & MASK == MASK)
        }
        Dtype::F16 => half(0x7c00),
        Dtype::Bf16 => half(0x7f80),
    }
}

fn non_finite(tensor: &Tensor, index: usize) -> Error {
    Error::Tensor { name: tensor.name().to_owned(), reason: format!("element {index} is not finite") }
}
