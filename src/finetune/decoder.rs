//! The MaskEmbed decoder: masks the encoder's tokens and predicts what the teacher makes of the masked picture.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::block::{self, Block, BlockNames, BlockShape};
use super::builder::{Builder, Init};
use super::layers::{Linear, Norm};
use super::masks::Masks;
use super::parameters::{Gradients, Id, Parameters};
use crate::backend::{Activation, Matrix, Train, View};
use crate::error::{Error, Result};

/// Sizes and variants of the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of its tokens.
    pub width: usize,
    /// Attention heads; divides the width.
    pub heads: usize,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the queries and keys of every head are normed.
    pub qk_norm: bool,
    /// First value of its LayerScale; none where it has no LayerScale.
    pub layer_scale: Option<f32>,
    /// Activation of its feed-forward parts, which are four times as wide as its tokens.
    pub activation: Activation,
    /// Added to the variance in the norms of its blocks; its last norm always has 1e-5.
    pub eps: f32,
}

/// Where the decoder's parameters are.
pub(super) struct Decoder {
    positions: Id,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    width: usize,
    prefix: usize,
    cells: usize,
    prefix_only: bool,
}

/// What the backward pass needs of the forward pass.
pub(super) struct Kept<B: Train> {
    spread: Spread,
    blocks: Vec<block::Kept<B>>,
    last: Matrix<B>,
}

/// Which of the encoder's rows every row of the decoder takes, and whether it is kept.
struct Spread {
    rows: Vec<usize>,
    factors: Vec<f32>,
    from: usize,
}

impl Decoder {
    /// Makes the parameters; the decoder predicts `outputs` numbers a token, of `prefix` tokens and `cells` patches, or of
    /// the prefix tokens alone.
    pub(super) fn build<B: Train>(
        builder: &mut Builder<B>,
        config: &DecoderConfig,
        outputs: usize,
        [prefix, cells]: [usize; 2],
        prefix_only: bool,
    ) -> Result<Decoder> {
        let DecoderConfig { width, heads, .. } = *config;
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let reason = format!("{heads} heads do not divide a width of {width}");
            return Err(Error::Input { field: "decoder.heads", reason });
        }
        let tokens = prefix + cells;
        let positions = builder.other("pos_embed", &[1, tokens, width], tokens, Init::Normal(0.02))?;
        let shape = BlockShape {
            width,
            heads,
            mlp_size: crate::checked::Size::new(width).times(4)?.get(),
            activation: config.activation,
            eps: config.eps,
            qkv_bias: config.qkv_bias,
            qk_norm: config.qk_norm,
            layer_scale: config.layer_scale,
            soft_cap: None,
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let mut builder = builder.child(&format!("blocks.{index}"));
            blocks.push(Block::build(&mut builder, &BlockNames::TIMM, shape)?);
        }
        Ok(Decoder {
            positions,
            blocks,
            norm: Norm::build(&mut builder.child("norm"), width, 1e-5)?,
            head: Linear::build(&mut builder.child("head"), &[outputs, width], true)?,
            width,
            prefix,
            cells,
            prefix_only,
        })
    }

    fn tokens(&self) -> usize {
        self.prefix + self.cells
    }

    /// Tokens `[pictures * tokens, width]` of the whole pictures to predictions for every mask, those of a picture together:
    /// `[pictures * masks * tokens, outputs]`.
    pub(super) fn forward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: View<B>,
        masks: &Masks,
        all: bool,
    ) -> Result<(Matrix<B>, Kept<B>)> {
        let tokens = self.tokens();
        let mut spread = Spread { rows: Vec::new(), factors: Vec::new(), from: x.rows() };
        for (index, mask) in masks.rows().enumerate() {
            let first = index / masks.per_image() * tokens;
            spread.rows.extend(first..first + tokens);
            spread.factors.extend(core::iter::repeat_n(0.0, self.prefix));
            spread.factors.extend(mask.iter().map(|&keep| f32::from(u8::from(keep))));
        }
        let masked = backend.gather_scaled(x, &spread.rows, &spread.factors)?;
        let positions = backend.read(parameters.get(self.positions)?, tokens, self.width)?;
        let mut state = backend.add(masked.view(), positions.view())?;
        drop(masked);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (out, kept) = block.forward(backend, parameters, state, tokens, all)?;
            blocks.push(kept);
            state = out;
        }
        if self.prefix_only {
            state = backend.gather(state.view(), &self.prefix_rows(state.rows()))?;
        }
        let normed = self.norm.forward(backend, parameters, state.view(), 1)?;
        let out = self.head.forward(backend, parameters, normed.view(), None)?;
        Ok((out, Kept { spread, blocks, last: state }))
    }

    /// Adds to the gradients of the decoder; gives the derivative by the encoder's tokens.
    pub(super) fn backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        kept: Kept<B>,
        gradient: View<B>,
    ) -> Result<Matrix<B>> {
        let Kept { spread, blocks, last } = kept;
        let normed = self.norm.forward(backend, parameters, last.view(), 1)?;
        let by_normed = self.head.backward(backend, parameters, gradients, normed.view(), gradient)?;
        let mut gradient =
            self.norm.backward(backend, parameters, gradients, last.view(), 1, by_normed.view(), None)?;
        drop((normed, by_normed, last));
        if self.prefix_only {
            let rows = spread.rows.len();
            let taken = self.prefix_rows(rows);
            let ones = alloc::vec![1.0; taken.len()];
            gradient = backend.gather_scaled_backward(gradient.view(), &taken, &ones, rows)?;
        }
        for (block, kept) in self.blocks.iter().zip(blocks).rev() {
            gradient = block.backward(backend, parameters, gradients, kept, self.tokens(), gradient)?;
        }
        backend.add_backward(gradient.view(), gradients.get(self.positions)?)?;
        let Spread { rows, factors, from } = spread;
        backend.gather_scaled_backward(gradient.view(), &rows, &factors, from)
    }

    /// The rows of the prefix tokens of every sequence among `rows`.
    fn prefix_rows(&self, rows: usize) -> Vec<usize> {
        (0..rows).filter(|row| row % self.tokens().max(1) < self.prefix).collect()
    }
}
