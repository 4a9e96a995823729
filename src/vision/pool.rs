//! Tokens to one vector.
#![forbid(unsafe_code)]

use alloc::boxed::Box;

use super::config::{NameTable, PoolKind, VitConfig};
use super::vit_names::VitNames;
use crate::backend::{Backend, Epilogue, Matrix, View, Weight};
use crate::checked::Size;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mlp, MultiHeadAttention, Projections, join_rows};
use crate::weights::Loader;

/// How a vision transformer makes one vector of its normed tokens.
pub(super) struct Pool<B: Backend> {
    kind: Kind<B>,
    norm: Option<LayerNorm<B>>,
}

enum Kind<B: Backend> {
    None,
    Class,
    Mean,
    Attention(Box<AttentionPool<B>>),
}

/// A learned probe attends to the tokens; a feed-forward part with its residual follows.
struct AttentionPool<B: Backend> {
    probe: Weight<B>,
    width: usize,
    attention: MultiHeadAttention<B>,
    norm: LayerNorm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Pool<B> {
    pub(super) fn load(root: &Loader<B>, names: &VitNames, config: &VitConfig) -> Result<Pool<B>> {
        let kind = match config.pool {
            PoolKind::None => Kind::None,
            PoolKind::Class => Kind::Class,
            PoolKind::Mean => Kind::Mean,
            PoolKind::Attention => Kind::Attention(Box::new(AttentionPool::load(root, config)?)),
        };
        let norm = match config.pool_norm {
            true => Some(LayerNorm::load(&root.child(names.pool_norm), config.hidden_size, config.eps)?),
            false => None,
        };
        Ok(Pool { kind, norm })
    }

    /// `tokens [prefix + cells, width]` to `[1, width]`.
    pub(super) fn forward(&self, backend: &B, tokens: View<B>, prefix: usize) -> Result<Option<Matrix<B>>> {
        let pooled = match &self.kind {
            Kind::None => return Ok(None),
            Kind::Class => join_rows(backend, &[tokens.row_range(0..1)?])?,
            Kind::Mean => {
                let patches = tokens.row_range(prefix..tokens.rows())?;
                let count = patches.rows().max(1);
                let share = alloc::vec![1.0 / count as f32; count];
                let share = backend.upload(1, count, &share)?;
                backend.matmul(share.view(), patches, false)?
            }
            Kind::Attention(pool) => pool.forward(backend, tokens.row_range(prefix..tokens.rows())?)?,
        };
        match &self.norm {
            Some(norm) => norm.forward(backend, pooled.view()).map(Some),
            None => Ok(Some(pooled)),
        }
    }
}

impl<B: Backend> AttentionPool<B> {
    fn load(root: &Loader<B>, config: &VitConfig) -> Result<AttentionPool<B>> {
        let width = config.hidden_size;
        let timm = config.names == NameTable::Timm;
        let loader = root.child(if timm { "attn_pool" } else { "head" });
        let (projections, out) = if timm {
            let pair = Size::new(width).times(2)?.get();
            let q = Linear::load(&loader.child("q"), width, width, true)?;
            let kv = Linear::load(&loader.child("kv"), pair, width, true)?;
            (Projections::Paired { q, kv }, "proj")
        } else {
            let triple = Size::new(width).times(3)?.get();
            let weight = loader.weight("attention.in_proj_weight", &[triple, width])?;
            let bias = loader.weight("attention.in_proj_bias", &[triple])?;
            (Projections::Fused(Linear::from_parts(weight, Some(bias))), "attention.out_proj")
        };
        let attention = MultiHeadAttention {
            projections,
            q_norm: None,
            k_norm: None,
            out: Linear::load(&loader.child(out), width, width, true)?,
            heads: config.heads,
            inner: width,
            soft_cap: None,
        };
        let widths = [width, config.mlp_size, width];
        Ok(AttentionPool {
            probe: loader.weight(if timm { "latent" } else { "probe" }, &[1, 1, width])?,
            width,
            attention,
            norm: LayerNorm::load(&loader.child(if timm { "norm" } else { "layernorm" }), width, config.eps)?,
            mlp: Mlp::load(&loader.child("mlp"), &["fc1", "fc2"], &widths, config.activation, true)?,
        })
    }

    fn forward(&self, backend: &B, tokens: View<B>) -> Result<Matrix<B>> {
        let probe = backend.read(&self.probe, 1, self.width)?;
        let attended = self.attention.forward(backend, probe.view(), tokens, tokens, Epilogue::NONE)?;
        let normed = self.norm.forward(backend, attended.view())?;
        self.mlp.forward(backend, normed.view(), Epilogue::residual(attended.view(), None))
    }
}
