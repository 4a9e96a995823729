//! NVIDIA GPUs.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod driver;
