//! Layers: weights under their names in the file, and the operation that applies them.
//!
//! A layer is loaded from a [`Loader`](crate::weights::Loader) and holds weights only; every `forward` takes the backend.
#![forbid(unsafe_code)]

mod activation;
mod attention;
mod conv;
mod join;
mod linear;
mod mlp;
mod norm;

pub use activation::activation;
pub use attention::{AttentionNames, MultiHeadAttention, Projections};
pub use conv::Conv2d;
pub use join::join_rows;
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
