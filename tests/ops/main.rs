//! Every operation of the CPU backend, in every variant that this machine can run, against `triplet::reference`:
//! awkward sizes, every weight type, misaligned weights, strided views, poisoned outputs; and the promises about bits.

#[path = "../common/mod.rs"]
mod common;

mod activate;
mod attention;
mod attention_tiles;
mod bits;
mod cache;
mod conv2d;
mod errors;
mod linear;
mod matmul;
mod norms;
mod quantised;
mod resize;
mod rope;
mod rows;
#[cfg(feature = "finetune")]
mod train;
