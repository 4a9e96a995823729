//! The student's vision transformer, trained: patches to tokens, blocks, a new norm, a new head on every token.
//!
//! What becomes of a pre-trained model: its pooling goes, its last norm starts anew, and its head is replaced by one to the
//! decoder's width whose last layer starts at zero.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::block::{self, Block, BlockNames, BlockShape};
use super::builder::{Builder, Init};
use super::layers::{Linear, Norm};
use super::parameters::{Gradients, Id, Parameters};
use crate::backend::{Activation, Grid, Matrix, Train, View};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::nn::join_rows;
use crate::vision::{AttentionTable, VitConfig, load_positions, names, position_prefix, resample};

/// The layers between the encoder's tokens and the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// One linear layer.
    Linear,
    /// A hidden layer as wide as the blocks', its activation, a linear layer.
    Mlp,
}

enum Head {
    Linear(Linear),
    Mlp { fc1: Linear, fc2: Linear },
}

/// Where the encoder's parameters are.
pub(super) struct Encoder {
    patch: Linear,
    /// Tokens before the patches, with their number of rows.
    prefix: Vec<(Id, usize)>,
    positions: Id,
    pre_norm: Option<Norm>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    head: Head,
    width: usize,
    activation: Activation,
    /// Patches of a picture, tokens before them, and how many of those have a position.
    cells: usize,
    prefix_rows: usize,
    covered: usize,
}

/// What the backward pass needs of the forward pass.
pub(super) struct Kept<B: Train> {
    patches: Matrix<B>,
    embedded: Option<Matrix<B>>,
    blocks: Vec<block::Kept<B>>,
    last: Matrix<B>,
    hidden: Option<Matrix<B>>,
}

impl Encoder {
    /// Takes the tensors of `config` and makes a head to `outputs` numbers; `fresh_eps` is the new norm's.
    pub(super) fn build<B: Train>(
        builder: &mut Builder<B>,
        config: &VitConfig,
        head: HeadKind,
        outputs: usize,
        fresh_eps: f32,
    ) -> Result<Encoder> {
        let table = names(config.names);
        let width = config.hidden_size;
        let patch_shape = [width, 3, config.patch_size, config.patch_size];
        let patch = Linear::build(&mut builder.child(table.patch), &patch_shape, config.patch_bias)?;
        let mut prefix = Vec::new();
        if config.class_token {
            let shape = &[1, 1, width][2 - table.class_ones.min(2)..];
            prefix.push((builder.other(table.class, shape, 1, Init::Normal(1e-6))?, 1));
        }
        if config.registers > 0 {
            let shape = [1, config.registers, width];
            let id = builder.other(table.registers, &shape, config.registers, Init::Normal(1e-6))?;
            prefix.push((id, config.registers));
        }
        let positions = build_positions(builder, config)?;
        let norm = |builder: &mut Builder<B>, wanted: bool, name: &str, eps: f32| match wanted {
            true => Norm::build(&mut builder.child(name), width, eps).map(Some),
            false => Ok(None),
        };
        let pre_norm = norm(builder, config.pre_norm, table.pre_norm, config.eps)?;
        let block_names = BlockNames {
            norm1: table.norm1,
            attention: match &table.attention {
                AttentionTable::Separate(names) => Some(*names),
                AttentionTable::Fused => None,
            },
            scale1: table.scale1,
            norm2: table.norm2,
            scale2: table.scale2,
        };
        let shape = BlockShape {
            width,
            heads: config.heads,
            mlp_size: config.mlp_size,
            activation: config.activation,
            eps: config.eps,
            qkv_bias: config.qkv_bias,
            qk_norm: config.qk_norm,
            layer_scale: config.layer_scale.then_some(1e-5),
            soft_cap: config.soft_cap,
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let mut builder = builder.child(table.blocks);
            blocks.push(Block::build(&mut builder.child(&format!("{index}")), &block_names, shape)?);
        }
        let mut builder = builder.fresh();
        let last = if config.pool_norm { table.pool_norm } else { table.final_norm };
        let last_norm = norm(&mut builder, config.final_norm || config.pool_norm, last, fresh_eps)?;
        let mut builder = builder.child("head");
        let head = match head {
            HeadKind::Linear => Head::Linear(Linear::build_zero(&mut builder, &[outputs, width])?),
            HeadKind::Mlp => Head::Mlp {
                fc1: Linear::build(&mut builder.child("fc1"), &[config.mlp_size, width], true)?,
                fc2: Linear::build_zero(&mut builder.child("fc2"), &[outputs, config.mlp_size])?,
            },
        };
        let side = config.image_size / config.patch_size.max(1);
        Ok(Encoder {
            patch,
            prefix,
            positions,
            pre_norm,
            blocks,
            norm: last_norm,
            head,
            width,
            activation: config.activation,
            cells: Size::new(side).times(side)?.get(),
            prefix_rows: config.prefix(),
            covered: position_prefix(config),
        })
    }

    /// Tokens of a picture.
    fn tokens(&self) -> usize {
        self.prefix_rows + self.cells
    }

    /// Patch rows of one or more pictures to their tokens `[pictures * tokens, outputs]`; `all` keeps everything that the
    /// backward pass needs, not the inputs of the blocks alone.
    pub(super) fn forward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        patches: Matrix<B>,
        all: bool,
    ) -> Result<(Matrix<B>, Kept<B>)> {
        let mut state = self.embed(backend, parameters, patches.view())?;
        let mut embedded = None;
        if let Some(norm) = &self.pre_norm {
            let normed = norm.forward(backend, parameters, state.view(), 1)?;
            embedded = Some(core::mem::replace(&mut state, normed));
        }
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (out, kept) = block.forward(backend, parameters, state, self.tokens(), all)?;
            blocks.push(kept);
            state = out;
        }
        let normed = self.norm(backend, parameters, &state)?;
        let normed_view = normed.as_ref().map_or(state.view(), Matrix::view);
        let (out, hidden) = match &self.head {
            Head::Linear(head) => (head.forward(backend, parameters, normed_view, None)?, None),
            Head::Mlp { fc1, fc2 } => {
                let hidden = fc1.forward(backend, parameters, normed_view, None)?;
                let active = backend.activate(hidden.view(), self.activation)?;
                (fc2.forward(backend, parameters, active.view(), None)?, Some(hidden))
            }
        };
        drop(normed);
        Ok((out, Kept { patches, embedded, blocks, last: state, hidden }))
    }

    /// Adds to the gradients of all parameters, from the derivative by the output.
    pub(super) fn backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        kept: Kept<B>,
        gradient: Matrix<B>,
    ) -> Result<()> {
        let Kept { patches, embedded, blocks, last, hidden } = kept;
        let normed = self.norm(backend, parameters, &last)?;
        let normed_view = normed.as_ref().map_or(last.view(), Matrix::view);
        let by_normed = match (&self.head, hidden) {
            (Head::Linear(head), _) => {
                head.backward(backend, parameters, gradients, normed_view, gradient.view())?
            }
            (Head::Mlp { fc1, fc2 }, Some(hidden)) => {
                let active = backend.activate(hidden.view(), self.activation)?;
                let by = fc2.backward(backend, parameters, gradients, active.view(), gradient.view())?;
                let by = backend.activate_backward(hidden.view(), self.activation, by.view())?;
                fc1.backward(backend, parameters, gradients, normed_view, by.view())?
            }
            (Head::Mlp { .. }, None) => {
                return Err(Error::Shape { operand: "encoder.hidden", reason: "was not kept".into() });
            }
        };
        drop((normed, gradient));
        let mut gradient = match &self.norm {
            Some(norm) => {
                norm.backward(backend, parameters, gradients, last.view(), 1, by_normed.view(), None)?
            }
            None => by_normed,
        };
        drop(last);
        for (block, kept) in self.blocks.iter().zip(blocks).rev() {
            gradient = block.backward(backend, parameters, gradients, kept, self.tokens(), gradient)?;
        }
        if let (Some(norm), Some(x)) = (&self.pre_norm, embedded) {
            gradient = norm.backward(backend, parameters, gradients, x.view(), 1, gradient.view(), None)?;
        }
        self.embed_backward(backend, parameters, gradients, patches.view(), gradient.view())
    }

    fn norm<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: &Matrix<B>,
    ) -> Result<Option<Matrix<B>>> {
        self.norm.as_ref().map(|norm| norm.forward(backend, parameters, x.view(), 1)).transpose()
    }

    /// Patches embedded, with their positions, behind the prefix tokens of every picture.
    fn embed<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        patches: View<B>,
    ) -> Result<Matrix<B>> {
        let embedded = self.patch.forward(backend, parameters, patches, None)?;
        let table = parameters.get(self.positions)?;
        let table = backend.read(table, self.covered + self.cells, self.width)?;
        let placed = backend.add(embedded.view(), table.view().row_range(self.covered..table.rows())?)?;
        if self.prefix.is_empty() {
            return Ok(placed);
        }
        let tokens = self
            .prefix
            .iter()
            .map(|&(id, rows)| backend.read(parameters.get(id)?, rows, self.width))
            .collect::<Result<Vec<_>>>()?;
        let views: Vec<View<B>> = tokens.iter().map(Matrix::view).collect();
        let mut prefix = join_rows(backend, &views)?;
        if self.covered > 0 {
            let head = prefix.view().row_range(0..self.covered)?;
            let placed = backend.add(head, table.view().row_range(0..self.covered)?)?;
            backend.copy(placed.view(), &mut prefix, 0, 0)?;
        }
        let images = placed.rows() / self.cells.max(1);
        let mut out = backend.zeros(Size::new(images).times(self.tokens())?.get(), self.width)?;
        for image in 0..images {
            let first = image * self.tokens();
            backend.copy(prefix.view(), &mut out, first, 0)?;
            let patches = placed.view().row_range(image * self.cells..(image + 1) * self.cells)?;
            backend.copy(patches, &mut out, first + self.prefix_rows, 0)?;
        }
        Ok(out)
    }

    fn embed_backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        patches: View<B>,
        gradient: View<B>,
    ) -> Result<()> {
        let tokens = self.tokens();
        let images = gradient.rows() / tokens.max(1);
        // The rows of the tokens of a range, in every picture.
        let rows = |range: core::ops::Range<usize>| -> Vec<usize> {
            (0..images).flat_map(|image| range.clone().map(move |token| image * tokens + token)).collect()
        };
        let mut first = 0;
        for &(id, count) in &self.prefix {
            let by_token = backend.gather(gradient, &rows(first..first + count))?;
            backend.add_backward(by_token.view(), gradients.get(id)?)?;
            first += count;
        }
        let by_patches = backend.gather(gradient, &rows(self.prefix_rows..tokens))?;
        if self.covered == self.prefix_rows {
            backend.add_backward(gradient, gradients.get(self.positions)?)?;
        } else {
            let mut placed = Vec::with_capacity(gradient.rows());
            for image in 0..images {
                let covered = 0..self.covered;
                let patches = self.prefix_rows..tokens;
                placed.extend(covered.chain(patches).map(|token| image * tokens + token));
            }
            let by_placed = backend.gather(gradient, &placed)?;
            backend.add_backward(by_placed.view(), gradients.get(self.positions)?)?;
        }
        self.patch.learn(backend, parameters, gradients, patches, by_patches.view())
    }
}

/// The learned positions at the grid of `image_size`.
fn build_positions<B: Train>(builder: &mut Builder<B>, config: &VitConfig) -> Result<Id> {
    let table = names(config.names);
    let covered = position_prefix(config);
    let width = config.hidden_size;
    let side = config.image_size / config.patch_size.max(1);
    let grid = Grid { height: side, width: side };
    let rows = Size::new(grid.cells()).plus(covered)?.get();
    let shape = &[1, rows, width][usize::from(!table.positions_batched)..];
    let Some(loader) = builder.loader.clone().filter(|_| !builder.resumed) else {
        return builder.other(table.positions, shape, rows, Init::Normal(0.02));
    };
    let backend = builder.backend;
    let (weight, stored) = load_positions(&loader, table, config)?;
    let stored_rows = Size::new(stored.cells()).plus(covered)?.get();
    let stored_table = backend.read(&weight, stored_rows, width)?;
    let mut data = backend.download(stored_table.view().row_range(0..covered)?)?;
    let patches = stored_table.view().row_range(covered..stored_rows)?;
    let patches = if stored == grid {
        backend.download(patches)?
    } else {
        backend.download(resample(backend, patches, stored, grid, config.resampling)?.view())?
    };
    data.extend(patches);
    builder.given(table.positions, shape, rows, &data)
}
