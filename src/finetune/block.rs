//! A transformer block that trains: pre-norm attention and feed-forward part, each with its residual and LayerScale.
//!
//! What the forward pass keeps for the backward pass is the input of the block, the queries, keys and values, the mixed
//! values, the state between the two parts and the hidden layer before its activation: ten numbers a channel. Norms and
//! activations are computed again. With checkpointing it keeps the input alone and computes the rest again.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::builder::{Builder, Init};
use super::layers::{Linear, Norm};
use super::parameters::{Gradients, Parameters};
use crate::backend::{Activation, Attention, AttentionMask, Matrix, Operands, Train, View};
use crate::checked::Size;
use crate::error::Result;
use crate::nn::AttentionNames;

/// Sizes and variants of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) mlp_size: usize,
    pub(super) activation: Activation,
    pub(super) eps: f32,
    pub(super) qkv_bias: bool,
    pub(super) qk_norm: bool,
    /// First value of a LayerScale.
    pub(super) layer_scale: Option<f32>,
    pub(super) soft_cap: Option<f32>,
}

/// Names of a block's tensors.
#[derive(Clone, Copy)]
pub(super) struct BlockNames {
    pub(super) norm1: &'static str,
    /// Four separate projections, or timm's fused ones.
    pub(super) attention: Option<AttentionNames>,
    pub(super) scale1: &'static str,
    pub(super) norm2: &'static str,
    pub(super) scale2: &'static str,
}

impl BlockNames {
    /// timm's.
    pub(super) const TIMM: BlockNames = BlockNames {
        norm1: "norm1",
        attention: None,
        scale1: "ls1.gamma",
        norm2: "norm2",
        scale2: "ls2.gamma",
    };
}

/// Where a block's parameters are.
pub(super) struct Block {
    shape: BlockShape,
    norm1: Norm,
    /// One layer to queries, keys and values, or three.
    qkv: Vec<Linear>,
    qk_norm: Option<[Norm; 2]>,
    out: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

/// What the backward pass needs of the forward pass.
pub(super) struct Kept<B: Train> {
    x: Matrix<B>,
    inner: Option<Inner<B>>,
}

struct Inner<B: Train> {
    qkv: Vec<Matrix<B>>,
    mixed: Matrix<B>,
    middle: Matrix<B>,
    hidden: Matrix<B>,
}

impl Block {
    /// Makes the parameters in the order of timm's block.
    pub(super) fn build<B: Train>(
        builder: &mut Builder<B>,
        names: &BlockNames,
        shape: BlockShape,
    ) -> Result<Block> {
        let BlockShape { width, heads, mlp_size, eps, qkv_bias, .. } = shape;
        let norm1 = Norm::build(&mut builder.child(names.norm1), width, eps)?;
        let (qkv, out) = match names.attention {
            Some(names) => {
                let mut qkv = Vec::with_capacity(3);
                for name in [names.q, names.k, names.v] {
                    qkv.push(Linear::build(&mut builder.child(name), &[width, width], qkv_bias)?);
                }
                (qkv, names.out)
            }
            None => {
                let triple = Size::new(width).times(3)?.get();
                let qkv = Linear::build(&mut builder.child("attn.qkv"), &[triple, width], qkv_bias)?;
                (vec![qkv], "attn.proj")
            }
        };
        let qk_norm = if shape.qk_norm {
            let cols = width / heads.max(1);
            let q = Norm::build(&mut builder.child("attn.q_norm"), cols, eps)?;
            Some([q, Norm::build(&mut builder.child("attn.k_norm"), cols, eps)?])
        } else {
            None
        };
        let out = Linear::build(&mut builder.child(out), &[width, width], true)?;
        let scale = |builder: &mut Builder<B>, name| {
            shape.layer_scale.map(|start| builder.other(name, &[width], 1, Init::Constant(start))).transpose()
        };
        let out = out.scaled(scale(builder, names.scale1)?);
        let norm2 = Norm::build(&mut builder.child(names.norm2), width, eps)?;
        let fc1 = Linear::build(&mut builder.child("mlp.fc1"), &[mlp_size, width], true)?;
        let fc2 = Linear::build(&mut builder.child("mlp.fc2"), &[width, mlp_size], true)?;
        let fc2 = fc2.scaled(scale(builder, names.scale2)?);
        Ok(Block { shape, norm1, qkv, qk_norm, out, norm2, fc1, fc2 })
    }

    /// `x` holds sequences of `tokens` rows one after another; `all` keeps everything that the backward pass needs, not the
    /// input alone.
    pub(super) fn forward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: Matrix<B>,
        tokens: usize,
        all: bool,
    ) -> Result<(Matrix<B>, Kept<B>)> {
        let inner = self.inner(backend, parameters, &x, tokens)?;
        let active = backend.activate(inner.hidden.view(), self.shape.activation)?;
        let out = self.fc2.forward(backend, parameters, active.view(), Some(inner.middle.view()))?;
        Ok((out, Kept { x, inner: all.then_some(inner) }))
    }

    /// Everything but the block's last layer.
    fn inner<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: &Matrix<B>,
        tokens: usize,
    ) -> Result<Inner<B>> {
        let normed = self.norm1.forward(backend, parameters, x.view(), 1)?;
        let qkv = self
            .qkv
            .iter()
            .map(|layer| layer.forward(backend, parameters, normed.view(), None))
            .collect::<Result<Vec<_>>>()?;
        let mixed = {
            let normed = self.normed_heads(backend, parameters, &qkv)?;
            let [q, k, v] = self.operands(&qkv, &normed)?;
            backend.attention_each(q, k, v, &self.attention(), tokens)?
        };
        let middle = self.out.forward(backend, parameters, mixed.view(), Some(x.view()))?;
        let normed = self.norm2.forward(backend, parameters, middle.view(), 1)?;
        let hidden = self.fc1.forward(backend, parameters, normed.view(), None)?;
        Ok(Inner { qkv, mixed, middle, hidden })
    }

    /// From the derivative by the output to the derivative by the input; adds to all gradients of the block.
    pub(super) fn backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        kept: Kept<B>,
        tokens: usize,
        gradient: Matrix<B>,
    ) -> Result<Matrix<B>> {
        let Kept { x, inner } = kept;
        let Inner { qkv, mixed, middle, hidden } = match inner {
            Some(inner) => inner,
            None => self.inner(backend, parameters, &x, tokens)?,
        };
        let active = backend.activate(hidden.view(), self.shape.activation)?;
        let by_active = self.fc2.backward(backend, parameters, gradients, active.view(), gradient.view())?;
        drop(active);
        let by_hidden = backend.activate_backward(hidden.view(), self.shape.activation, by_active.view())?;
        drop((by_active, hidden));
        let normed = self.norm2.forward(backend, parameters, middle.view(), 1)?;
        let by_normed = self.fc1.backward(backend, parameters, gradients, normed.view(), by_hidden.view())?;
        drop((by_hidden, normed));
        let through = Some(gradient.view());
        let by_middle = self.norm2.backward(
            backend,
            parameters,
            gradients,
            middle.view(),
            1,
            by_normed.view(),
            through,
        )?;
        drop((by_normed, middle, gradient));
        let by_mixed = self.out.backward(backend, parameters, gradients, mixed.view(), by_middle.view())?;
        drop(mixed);
        let by_qkv =
            self.attention_backward(backend, parameters, gradients, &qkv, tokens, by_mixed.view())?;
        let parts = qkv.len().max(1);
        drop((by_mixed, qkv));
        let normed = self.norm1.forward(backend, parameters, x.view(), 1)?;
        let mut by_normed: Option<Matrix<B>> = None;
        let width = by_qkv.cols() / parts;
        for (index, layer) in self.qkv.iter().enumerate() {
            let by_part = by_qkv.view().col_range(index * width..(index + 1) * width)?;
            let by_x = layer.backward(backend, parameters, gradients, normed.view(), by_part)?;
            by_normed = Some(match by_normed {
                Some(sum) => backend.add(sum.view(), by_x.view())?,
                None => by_x,
            });
        }
        let Some(by_normed) = by_normed else { return Ok(by_middle) };
        let through = Some(by_middle.view());
        self.norm1.backward(backend, parameters, gradients, x.view(), 1, by_normed.view(), through)
    }

    /// The derivatives by queries, keys and values, side by side.
    fn attention_backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        qkv: &[Matrix<B>],
        tokens: usize,
        gradient: View<B>,
    ) -> Result<Matrix<B>> {
        let BlockShape { width, heads, .. } = self.shape;
        let normed = self.normed_heads(backend, parameters, qkv)?;
        let [q, k, v] = self.operands(qkv, &normed)?;
        let mut out = backend.attention_each_backward(q, k, v, &self.attention(), tokens, gradient)?;
        for (index, norm) in self.qk_norm.iter().flatten().enumerate() {
            let (x, first) = (self.part(qkv, index)?, index * width);
            let by = out.view().col_range(first..first + width)?;
            let by = norm.backward(backend, parameters, gradients, x, heads, by, None)?;
            backend.copy(by.view(), &mut out, 0, first)?;
        }
        Ok(out)
    }

    /// Queries, keys and values as attention takes them.
    fn operands<'a, B: Train>(
        &self,
        qkv: &'a [Matrix<B>],
        normed: &'a Option<[Matrix<B>; 2]>,
    ) -> Result<[View<'a, B>; 3]> {
        let v = self.part(qkv, 2)?;
        Ok(match normed {
            Some([q, k]) => [q.view(), k.view(), v],
            None => [self.part(qkv, 0)?, self.part(qkv, 1)?, v],
        })
    }

    /// Queries and keys after the norm of their heads, where there is one.
    fn normed_heads<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        qkv: &[Matrix<B>],
    ) -> Result<Option<[Matrix<B>; 2]>> {
        let Some([q_norm, k_norm]) = &self.qk_norm else { return Ok(None) };
        let norm =
            |norm: &Norm, part| norm.forward(backend, parameters, self.part(qkv, part)?, self.shape.heads);
        Ok(Some([norm(q_norm, 0)?, norm(k_norm, 1)?]))
    }

    /// Queries (0), keys (1) or values (2).
    fn part<'a, B: Train>(&self, qkv: &'a [Matrix<B>], index: usize) -> Result<View<'a, B>> {
        let width = self.shape.width;
        match qkv {
            [fused] => fused.view().col_range(index * width..(index + 1) * width),
            parts => parts.get(index).map(Matrix::view).ok_or_else(|| crate::Error::Shape {
                operand: "block.qkv",
                reason: "has neither one nor three layers".into(),
            }),
        }
    }

    fn attention(&self) -> Attention {
        let BlockShape { heads, width, soft_cap, .. } = self.shape;
        Attention {
            heads,
            kv_heads: heads,
            scale: 1.0 / libm::sqrtf((width / heads.max(1)) as f32),
            soft_cap,
            mask: AttentionMask::Full,
            operands: Operands::Exact,
        }
    }
}
