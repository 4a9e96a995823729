//! The definition of every operation: plain loops on slices, sums in f64, one file an operation.
//!
//! Nothing here is fast and nothing here ships in a hot path. Operands are the `f32` that a kernel would get (weights
//! already converted), row-major without gaps; results are `f64`. Sizes are the caller's to get right: these functions
//! panic where a slice is too short. Each file states how far a kernel may be off and why.
#![forbid(unsafe_code)]

mod activate;
mod add;
mod attention;
mod cache;
mod compare;
mod conv2d;
mod embedding;
mod epilogue;
mod group_norm;
mod inputs;
mod layer_norm;
mod linear;
mod matmul;
mod quantised;
mod resize;
mod rms_norm;
mod rope;
#[cfg(feature = "finetune")]
mod train;

pub use activate::{TOLERANCE as ACTIVATE, activate, activation, gated};
pub use add::{TOLERANCE as ADD, add};
pub use attention::{ROUNDED as ATTENTION_ROUNDED, TOLERANCE as ATTENTION, attention};
pub use cache::cached;
pub use compare::{Difference, Tolerance, compare};
pub use conv2d::{TOLERANCE as CONV2D, conv2d};
pub use embedding::{TOLERANCE as EMBEDDING, embedding};
pub use epilogue::After;
pub use group_norm::{TOLERANCE as GROUP_NORM, group_norm};
pub use inputs::{bytes, cancelling, large_mean, lengths, ramp, uniform};
pub use layer_norm::{TOLERANCE as LAYER_NORM, layer_norm};
pub use linear::{TOLERANCE as LINEAR, linear};
pub use matmul::{TOLERANCE as MATMUL, matmul};
pub use quantised::{LONGEST, MOST, RARE, SMALLEST, TOLERANCE as QUANTISED, linear_quantised, quantise_row};
pub use resize::{TOLERANCE as RESIZE, resize};
pub use rms_norm::{TOLERANCE as RMS_NORM, rms_norm};
pub use rope::{TOLERANCE as ROPE, rope};
#[cfg(feature = "finetune")]
pub use train::*;
