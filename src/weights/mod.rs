//! Weights: tensors by name over shared bytes, and the loader through which modules take them.
#![deny(unsafe_code)]

mod tensor;

pub use tensor::{Dtype, Storage, Tensor};
