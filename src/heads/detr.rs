//! DETR's transformer decoder: queries attend to each other and to the features.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::config::DecoderConfig;
use crate::backend::{Backend, Epilogue, Matrix, View};
use crate::error::Result;
use crate::nn::{AttentionNames, LayerNorm, Mlp, MultiHeadAttention};
use crate::weights::Loader;

/// Added to the variance in every norm.
const EPS: f32 = 1e-5;

/// A stack of post-norm decoder layers with a final norm, by the names of transformers' `DetrDecoder` (before version
/// 5).
pub struct DetrDecoder<B: Backend> {
    layers: Vec<Layer<B>>,
    norm: LayerNorm<B>,
    norm_every_layer: bool,
}

struct Layer<B: Backend> {
    self_attention: MultiHeadAttention<B>,
    self_norm: LayerNorm<B>,
    cross_attention: MultiHeadAttention<B>,
    cross_norm: LayerNorm<B>,
    mlp: Mlp<B>,
    mlp_norm: LayerNorm<B>,
}

impl<B: Backend> DetrDecoder<B> {
    /// Loads `layers.N.*` and `layernorm` under the loader's prefix.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn load(loader: &Loader<B>, config: &DecoderConfig) -> Result<DetrDecoder<B>> {
        let layers = loader.child("layers");
        Ok(DetrDecoder {
            layers: (0..config.layers)
                .map(|index| Layer::load(&layers.child(&format!("{index}")), config))
                .collect::<Result<_>>()?,
            norm: LayerNorm::load(&loader.child("layernorm"), config.d_model, EPS)?,
            norm_every_layer: config.norm_every_layer,
        })
    }

    /// Decodes `queries [slots, d_model]`, with `query_positions` of the same shape, against `memory [cells, d_model]`
    /// with `memory_positions` of the same shape; gives the normed hidden states `[slots, d_model]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward(
        &self,
        backend: &B,
        queries: View<B>,
        query_positions: View<B>,
        memory: View<B>,
        memory_positions: View<B>,
    ) -> Result<Matrix<B>> {
        let keys = backend.add(memory, memory_positions)?;
        let mut hidden: Option<Matrix<B>> = None;
        for layer in &self.layers {
            let input = hidden.as_ref().map_or(queries, Matrix::view);
            let mut output = layer.forward(backend, input, query_positions, keys.view(), memory)?;
            if self.norm_every_layer {
                output = self.norm.forward(backend, output.view())?;
            }
            drop(hidden.take());
            hidden = Some(backend.settle(output));
        }
        self.norm.forward(backend, hidden.as_ref().map_or(queries, Matrix::view))
    }
}

impl<B: Backend> Layer<B> {
    fn load(loader: &Loader<B>, config: &DecoderConfig) -> Result<Layer<B>> {
        let width = config.d_model;
        let attention = |name| {
            MultiHeadAttention::load(&loader.child(name), AttentionNames::PROJ, width, width, config.heads)
        };
        let norm = |name| LayerNorm::load(&loader.child(name), width, EPS);
        let widths = [width, config.ffn, width];
        Ok(Layer {
            self_attention: attention("self_attn")?,
            self_norm: norm("self_attn_layer_norm")?,
            cross_attention: attention("encoder_attn")?,
            cross_norm: norm("encoder_attn_layer_norm")?,
            mlp: Mlp::load(loader, &["fc1", "fc2"], &widths, config.activation, true)?,
            mlp_norm: norm("final_layer_norm")?,
        })
    }

    fn forward(
        &self,
        backend: &B,
        x: View<B>,
        positions: View<B>,
        keys: View<B>,
        memory: View<B>,
    ) -> Result<Matrix<B>> {
        let placed = backend.add(x, positions)?;
        let placed = placed.view();
        let x = self.self_attention.forward(backend, placed, placed, x, Epilogue::residual(x, None))?;
        let x = self.self_norm.forward(backend, x.view())?;
        let placed = backend.add(x.view(), positions)?;
        let epilogue = Epilogue::residual(x.view(), None);
        let x = self.cross_attention.forward(backend, placed.view(), keys, memory, epilogue)?;
        let x = self.cross_norm.forward(backend, x.view())?;
        let x = self.mlp.forward(backend, x.view(), Epilogue::residual(x.view(), None))?;
        self.mlp_norm.forward(backend, x.view())
    }
}
