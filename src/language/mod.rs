//! The language model: a Llama-family decoder with a KV cache, and the choice of the next token.
#![forbid(unsafe_code)]

mod cache;
mod config;
mod llama;
pub mod rope;
mod sampler;

pub use cache::KvCache;
pub use config::{LlamaConfig, RopeScaling};
pub use llama::Llama;
pub use sampler::{Sampler, Sampling};
