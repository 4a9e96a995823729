//! Activation functions by the names that configurations use.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::Activation;
use crate::config::Fields;
use crate::error::Result;
use crate::words::Quoted;

/// The activation that the field `name` asks for, by its name in transformers or timm; `default` where it is missing.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) naming the field for an unknown activation.
pub fn activation(fields: &Fields, name: &str, default: &str) -> Result<Activation> {
    match fields.str_or(name, default)? {
        "relu" => Ok(Activation::Relu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_tanh" | "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "quick_gelu" => Ok(Activation::QuickGelu),
        "silu" | "swish" => Ok(Activation::Silu),
        "sigmoid" => Ok(Activation::Sigmoid),
        "tanh" => Ok(Activation::Tanh),
        other => Err(fields.error(name, format!("unknown activation {}", Quoted(other)))),
    }
}
