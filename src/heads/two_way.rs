//! The two-way transformer of SAM: tokens attend to the picture and the picture to the tokens.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use crate::backend::{Activation, Backend, Epilogue, Matrix, View};
use crate::error::Result;
use crate::nn::{AttentionNames, LayerNorm, Mlp, MultiHeadAttention, join_rows};
use crate::weights::Loader;

/// Added to the variance in every norm.
const EPS: f32 = 1e-5;
/// How much narrower the cross-attentions are than the model.
pub(super) const DOWNSAMPLE: usize = 2;

/// Sizes of a two-way transformer.
#[derive(Clone, Copy)]
pub(super) struct TwoWaySize {
    pub width: usize,
    pub heads: usize,
    pub ffn: usize,
    pub layers: usize,
}

pub(super) struct TwoWay<B: Backend> {
    layers: Vec<Layer<B>>,
    final_attention: MultiHeadAttention<B>,
    final_norm: LayerNorm<B>,
}

struct Layer<B: Backend> {
    self_attention: MultiHeadAttention<B>,
    norm1: LayerNorm<B>,
    to_image: MultiHeadAttention<B>,
    norm2: LayerNorm<B>,
    mlp: Mlp<B>,
    norm3: LayerNorm<B>,
    from_image: MultiHeadAttention<B>,
    norm4: LayerNorm<B>,
}

impl<B: Backend> TwoWay<B> {
    pub(super) fn load(loader: &Loader<B>, size: TwoWaySize) -> Result<TwoWay<B>> {
        let layers = loader.child("layers");
        Ok(TwoWay {
            layers: (0..size.layers)
                .map(|index| Layer::load(&layers.child(&format!("{index}")), size))
                .collect::<Result<_>>()?,
            final_attention: cross(loader, "final_attn_token_to_image", size)?,
            final_norm: LayerNorm::load(&loader.child("norm_final_attn"), size.width, EPS)?,
        })
    }

    /// `tokens [n, width]`, which are their own positions, and `image [cells, width]` with its positions; gives both
    /// after the last layer.
    pub(super) fn forward(
        &self,
        backend: &B,
        tokens: View<B>,
        image: View<B>,
        image_positions: View<B>,
    ) -> Result<(Matrix<B>, Matrix<B>)> {
        let mut queries = join_rows(backend, &[tokens])?;
        let mut keys = join_rows(backend, &[image])?;
        for (index, layer) in self.layers.iter().enumerate() {
            let positions = (index > 0).then_some(tokens);
            (queries, keys) =
                layer.forward(backend, positions, queries.view(), keys.view(), tokens, image_positions)?;
        }
        let q = backend.add(queries.view(), tokens)?;
        let k = backend.add(keys.view(), image_positions)?;
        let epilogue = Epilogue::residual(queries.view(), None);
        let out = self.final_attention.forward(backend, q.view(), k.view(), keys.view(), epilogue)?;
        Ok((self.final_norm.forward(backend, out.view())?, keys))
    }
}

impl<B: Backend> Layer<B> {
    fn load(loader: &Loader<B>, size: TwoWaySize) -> Result<Layer<B>> {
        let norm = |name| LayerNorm::load(&loader.child(name), size.width, EPS);
        let widths = [size.width, size.ffn, size.width];
        Ok(Layer {
            self_attention: MultiHeadAttention::load(
                &loader.child("self_attn"),
                AttentionNames::PROJ,
                size.width,
                size.width,
                size.heads,
            )?,
            norm1: norm("norm1")?,
            to_image: cross(loader, "cross_attn_token_to_image", size)?,
            norm2: norm("norm2")?,
            mlp: Mlp::load(&loader.child("mlp"), &["lin1", "lin2"], &widths, Activation::Relu, true)?,
            norm3: norm("norm3")?,
            from_image: cross(loader, "cross_attn_image_to_token", size)?,
            norm4: norm("norm4")?,
        })
    }

    /// Self-attention without positions, as in the first layer, has no residual either.
    fn forward(
        &self,
        backend: &B,
        self_positions: Option<View<B>>,
        queries: View<B>,
        keys: View<B>,
        query_positions: View<B>,
        key_positions: View<B>,
    ) -> Result<(Matrix<B>, Matrix<B>)> {
        let attended = match self_positions {
            None => self.self_attention.forward_self(backend, queries, Epilogue::NONE)?,
            Some(positions) => {
                let placed = backend.add(queries, positions)?;
                let placed = placed.view();
                let epilogue = Epilogue::residual(queries, None);
                self.self_attention.forward(backend, placed, placed, queries, epilogue)?
            }
        };
        let queries = self.norm1.forward(backend, attended.view())?;

        let q = backend.add(queries.view(), query_positions)?;
        let k = backend.add(keys, key_positions)?;
        let epilogue = Epilogue::residual(queries.view(), None);
        let attended = self.to_image.forward(backend, q.view(), k.view(), keys, epilogue)?;
        let queries = self.norm2.forward(backend, attended.view())?;

        let fed = self.mlp.forward(backend, queries.view(), Epilogue::residual(queries.view(), None))?;
        let queries = self.norm3.forward(backend, fed.view())?;

        let q = backend.add(queries.view(), query_positions)?;
        let epilogue = Epilogue::residual(keys, None);
        let attended = self.from_image.forward(backend, k.view(), q.view(), queries.view(), epilogue)?;
        let keys = self.norm4.forward(backend, attended.view())?;
        Ok((queries, keys))
    }
}

fn cross<B: Backend>(loader: &Loader<B>, name: &str, size: TwoWaySize) -> Result<MultiHeadAttention<B>> {
    let inner = size.width / DOWNSAMPLE;
    MultiHeadAttention::load(&loader.child(name), AttentionNames::PROJ, size.width, inner, size.heads)
}
