//! NVIDIA GPUs: so far the driver, without operations.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod driver;
