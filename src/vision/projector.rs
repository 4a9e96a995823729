//! The projector: visual features to the width of the language model.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{Activation, Backend, Epilogue, Matrix, View};
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::nn::{self, Mlp};
use crate::weights::Loader;

/// Most layers that a projector may have.
const MAX_DEPTH: usize = 64;

/// Fields of the reference's `ProjectorConfig`.
#[derive(Clone, Debug)]
pub struct ProjectorConfig {
    /// Channels of the visual features.
    pub visual_hidden_size: usize,
    /// Width of the language model.
    pub llm_hidden_size: usize,
    /// Number of linear layers, at least 1.
    pub depth: usize,
    /// Activation between them.
    pub activation: Activation,
    /// Whether they have biases.
    pub bias: bool,
}

impl ProjectorConfig {
    /// Reads `visual_hidden_size`, `llm_hidden_size`, `depth` (2), `hidden_act` ("gelu") and `bias` (true).
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn from_fields(fields: &Fields) -> Result<ProjectorConfig> {
        let depth = fields.usize_or("depth", 2)?;
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(fields.error("depth", format!("is {depth}, but must be 1 to {MAX_DEPTH}")));
        }
        Ok(ProjectorConfig {
            visual_hidden_size: fields.usize("visual_hidden_size")?,
            llm_hidden_size: fields.usize("llm_hidden_size")?,
            depth,
            activation: nn::activation(fields, "hidden_act", "gelu")?,
            bias: fields.bool_or("bias", true)?,
        })
    }

    /// Loads the layers `{stem}0`, `{stem}2`, ...: a sequence in which every other module is the activation.
    pub(super) fn layers<B: Backend>(&self, loader: &Loader<B>, stem: &str) -> Result<Mlp<B>> {
        let names: Vec<String> = (0..self.depth).map(|index| format!("{stem}{}", 2 * index)).collect();
        let mut widths = vec![self.llm_hidden_size; self.depth + 1];
        if let Some(first) = widths.first_mut() {
            *first = self.visual_hidden_size;
        }
        Mlp::load(loader, &names, &widths, self.activation, self.bias)
    }
}

/// Linear layers with an activation between, under `model.0`, `model.2`, ...
pub struct Projector<B: Backend> {
    module: String,
    layers: Mlp<B>,
}

impl<B: Backend> Projector<B> {
    /// Loads the tensors of `config` under the loader's prefix.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &ProjectorConfig) -> Result<Projector<B>> {
        Ok(Projector { layers: config.layers(loader, "model.")?, module: loader.prefix().into() })
    }

    /// `features [rows, visual_hidden_size]` to `[rows, llm_hidden_size]`. Rows do not depend on each other, so image
    /// and prompt tokens may come together or apart.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the module.
    pub fn forward(&self, backend: &B, features: View<B>) -> Result<Matrix<B>> {
        let projected = self.layers.forward(backend, features, Epilogue::NONE)?;
        if !backend.is_finite(projected.view())? {
            return Err(Error::NonFinite { module: self.module.clone() });
        }
        Ok(projected)
    }
}
