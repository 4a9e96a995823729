//! The vision transformer: patches to tokens, blocks, and every hidden state on the way.
//!
//! One implementation serves CLIP, SigLIP, DINOv2 and timm's models; what differs is data in [`VitConfig`] and the name
//! table.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::config::{PositionScope, Resampling, VitConfig};
use super::pixels::{pixel_grid, square_side};
use super::pool::Pool;
use super::position::resample;
use super::select::FeatureMap;
use super::vit_names::{AttentionTable, VitNames, names};
use crate::backend::{Backend, Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::error::{Error, Result};
use crate::nn::{Conv2d, LayerNorm, Linear, Mlp, MultiHeadAttention, Projections, join_rows};
use crate::weights::Loader;

/// A vision transformer; see [`VitConfig`] for its variants.
pub struct Vit<B: Backend> {
    config: VitConfig,
    module: String,
    patch: Conv2d<B>,
    prefix: Vec<(Weight<B>, usize)>,
    positions: Weight<B>,
    position_grid: Grid,
    pre_norm: Option<LayerNorm<B>>,
    blocks: Vec<Block<B>>,
    final_norm: Option<LayerNorm<B>>,
    pool: Pool<B>,
}

/// What a vision transformer computes.
pub struct VitOutput<B: Backend> {
    /// `layers + 1` matrices `[prefix + cells, hidden_size]`, as in transformers: the embeddings (after the norm that
    /// precedes the first block, where there is one), then the output of every block, without the final norm.
    pub hidden_states: Vec<Matrix<B>>,
    /// The last hidden state after the final norm (a copy of it where the architecture has no final norm).
    pub normed: Matrix<B>,
    /// The pooled vector `[1, hidden_size]`, where the architecture has one: transformers' `pooler_output`, timm's
    /// features before the classifier.
    pub pooled: Option<Matrix<B>>,
    /// Number of tokens before the patches: class token, then registers.
    pub prefix: usize,
    /// Grid of the patches.
    pub grid: Grid,
}

impl<B: Backend> VitOutput<B> {
    /// A hidden state without its prefix tokens; `layer` counts from 0, the embeddings.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no such state.
    pub fn features(&self, layer: usize) -> Result<FeatureMap<'_, B>> {
        let state = self.hidden_states.get(layer).ok_or_else(|| Error::Shape {
            operand: "vit.features.layer",
            reason: format!("{layer} of {} hidden states", self.hidden_states.len()),
        })?;
        let view = state.view().row_range(self.prefix..state.rows())?;
        Ok(FeatureMap { view, grid: self.grid })
    }
}

struct Block<B: Backend> {
    norm1: LayerNorm<B>,
    attention: MultiHeadAttention<B>,
    scale1: Option<Weight<B>>,
    norm2: LayerNorm<B>,
    mlp: Mlp<B>,
    scale2: Option<Weight<B>>,
}

impl<B: Backend> Vit<B> {
    /// Loads the tensors of `config` under the loader's prefix; the linear layers of the blocks may be quantised. The root of
    /// the model may lie one level deeper where
    /// checkpoints have it so: `vision_model` (transformers), `encoder` (locality alignment).
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor; [`Error::Tensor`] naming both grids where the stored
    /// positions are not those of `image_size` and the configuration does not allow resampling.
    pub fn load(loader: &Loader<B>, config: &VitConfig) -> Result<Vit<B>> {
        let names = names(config.names);
        let patch_weight = format!("{}.weight", names.patch);
        let mut roots = names.roots.iter().map(|root| descend(loader, root));
        let root = roots.find(|root| root.has(&patch_weight)).unwrap_or_else(|| loader.clone());
        let width = config.hidden_size;
        let conv = Conv { stride: config.patch_size, padding: 0, depthwise: false };
        let patch =
            Conv2d::load(&root.child(names.patch), width, 3, config.patch_size, conv, config.patch_bias)?;
        let mut prefix = Vec::new();
        if config.class_token {
            let shape = &[1, 1, width][2 - names.class_ones.min(2)..];
            prefix.push((root.weight(names.class, shape)?, 1));
        }
        if config.registers > 0 {
            prefix.push((root.weight(names.registers, &[1, config.registers, width])?, config.registers));
        }
        let (positions, position_grid) = load_positions(&root, names, config)?;
        let norm = |wanted: bool, name: &str| match wanted {
            true => LayerNorm::load(&root.child(name), width, config.eps).map(Some),
            false => Ok(None),
        };
        let blocks = root.child(names.blocks).quantised();
        Ok(Vit {
            patch,
            prefix,
            positions,
            position_grid,
            pre_norm: norm(config.pre_norm, names.pre_norm)?,
            blocks: (0..config.layers)
                .map(|index| Block::load(&blocks.child(&format!("{index}")), names, config))
                .collect::<Result<_>>()?,
            final_norm: norm(config.final_norm, names.final_norm)?,
            pool: Pool::load(&root, names, config)?,
            module: loader.prefix().into(),
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Runs the model on one picture: normalised pixels `[side * side, 3]`, row-major, red green blue. `side` is
    /// `image_size`, or anything from one patch on where positions are resampled; pixels beyond the last whole patch are
    /// not read.
    ///
    /// # Errors
    /// [`Error::Input`] naming the sizes where the pixels do not fit; [`Error::NonFinite`] naming the module.
    pub fn forward(&self, backend: &B, pixels: View<B>) -> Result<VitOutput<B>> {
        self.forward_into(backend, pixels, Vec::new())
    }

    /// As [`Vit::forward`], with the hidden states in a list that is there and empty.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub(crate) fn forward_into(
        &self,
        backend: &B,
        pixels: View<B>,
        mut hidden_states: Vec<Matrix<B>>,
    ) -> Result<VitOutput<B>> {
        let (mut state, grid) = self.start(backend, pixels)?;
        hidden_states.reserve_exact(self.blocks.len() + 1);
        for block in &self.blocks {
            let next = backend.settle(block.forward(backend, state.view(), 1)?);
            hidden_states.push(state);
            state = next;
        }
        let normed = match &self.final_norm {
            Some(norm) => norm.forward(backend, state.view())?,
            None => join_rows(backend, &[state.view()])?,
        };
        hidden_states.push(state);
        if !backend.is_finite(normed.view())? {
            return Err(Error::NonFinite { module: self.module.clone() });
        }
        let prefix = self.config.prefix();
        let pooled = self.pool.forward(backend, normed.view(), prefix)?;
        Ok(VitOutput { hidden_states, normed, pooled, prefix, grid })
    }

    /// The last hidden states of pictures of one size in one pass, one picture below the other, as [`Vit::forward`] gives them of each:
    /// `[pictures * (prefix + cells), hidden_size]`. The products take the rows of all pictures together.
    ///
    /// # Errors
    /// As [`Vit::forward`]; [`Error::Shape`] where the sizes differ or there is no picture.
    pub fn forward_all(&self, backend: &B, pictures: &[View<B>]) -> Result<Matrix<B>> {
        let start = |pixels: &View<B>| self.start(backend, *pixels).map(|(state, _)| state);
        let states = pictures.iter().map(start).collect::<Result<Vec<_>>>()?;
        let views: Vec<View<B>> = states.iter().map(Matrix::view).collect();
        if views.iter().any(|view| Some(view.rows()) != views.first().map(View::rows)) {
            let reason = "pictures of different sizes".into();
            return Err(Error::Shape { operand: "vit.pictures", reason });
        }
        let mut state = join_rows(backend, &views)?;
        drop(states);
        for block in &self.blocks {
            state = block.forward(backend, state.view(), pictures.len())?;
        }
        match backend.is_finite(state.view())? {
            true => Ok(state),
            false => Err(Error::NonFinite { module: self.module.clone() }),
        }
    }

    /// What the first block reads of a picture.
    fn start(&self, backend: &B, pixels: View<B>) -> Result<(Matrix<B>, Grid)> {
        let fixed = (self.config.resampling == Resampling::None).then_some(self.config.image_size);
        let size = pixel_grid(pixels, fixed, self.config.patch_size)?;
        let (patches, grid) = self.patch.forward(backend, pixels, size, Epilogue::NONE)?;
        let mut state = self.embed(backend, patches.view(), grid)?;
        drop(patches);
        if let Some(norm) = &self.pre_norm {
            state = norm.forward(backend, state.view())?;
        }
        Ok((backend.settle(state), grid))
    }

    /// Patch embeddings to tokens: prefix tokens in front, learned positions added.
    fn embed(&self, backend: &B, patches: View<B>, grid: Grid) -> Result<Matrix<B>> {
        let width = self.config.hidden_size;
        let covered = position_prefix(&self.config);
        let table = backend.read(&self.positions, covered + self.position_grid.cells(), width)?;
        let patch_rows = table.view().row_range(covered..table.rows())?;
        let patches = if grid == self.position_grid {
            backend.add(patches, patch_rows)?
        } else {
            let sampled = resample(backend, patch_rows, self.position_grid, grid, self.config.resampling)?;
            backend.add(patches, sampled.view())?
        };
        if self.prefix.is_empty() {
            return Ok(patches);
        }
        let mut tokens = backend.zeros(self.config.prefix(), width)?;
        let mut row = 0;
        for (weight, rows) in &self.prefix {
            backend.copy(backend.read(weight, *rows, width)?.view(), &mut tokens, row, 0)?;
            row += rows;
        }
        if covered == 0 {
            return join_rows(backend, &[tokens.view(), patches.view()]);
        }
        let head = tokens.view().row_range(0..covered)?;
        let placed = backend.add(head, table.view().row_range(0..covered)?)?;
        let rest = tokens.view().row_range(covered..tokens.rows())?;
        join_rows(backend, &[placed.view(), rest, patches.view()])
    }
}

impl<B: Backend> Block<B> {
    fn load(loader: &Loader<B>, names: &VitNames, config: &VitConfig) -> Result<Block<B>> {
        let width = config.hidden_size;
        let norm = |name| LayerNorm::load(&loader.child(name), width, config.eps);
        let scale = |name| match config.layer_scale {
            true => loader.weight(name, &[width]).map(Some),
            false => Ok(None),
        };
        let mlp = loader.child("mlp");
        Ok(Block {
            norm1: norm(names.norm1)?,
            attention: load_attention(loader, names, config)?,
            scale1: scale(names.scale1)?,
            norm2: norm(names.norm2)?,
            mlp: Mlp::load(&mlp, &["fc1", "fc2"], &[width, config.mlp_size, width], config.activation, true)?,
            scale2: scale(names.scale2)?,
        })
    }

    /// `x` has the rows of so many pictures.
    fn forward(&self, backend: &B, x: View<B>, pictures: usize) -> Result<Matrix<B>> {
        let normed = self.norm1.forward(backend, x)?;
        let epilogue = Epilogue::residual(x, self.scale1.as_ref());
        let x = self.attention.forward_each(backend, normed.view(), pictures, epilogue)?;
        let normed = self.norm2.forward(backend, x.view())?;
        self.mlp.forward(backend, normed.view(), Epilogue::residual(x.view(), self.scale2.as_ref()))
    }
}

/// The loader of a root that may be empty.
pub(crate) fn descend<'a, B: Backend>(loader: &Loader<'a, B>, root: &str) -> Loader<'a, B> {
    if root.is_empty() { loader.clone() } else { loader.child(root) }
}

/// Prefix tokens that have a learned position.
pub(crate) fn position_prefix(config: &VitConfig) -> usize {
    match config.positions {
        PositionScope::All => config.prefix(),
        PositionScope::ClassAndPatches => usize::from(config.class_token),
        PositionScope::Patches => 0,
    }
}

pub(crate) fn load_positions<B: Backend>(
    root: &Loader<B>,
    names: &VitNames,
    config: &VitConfig,
) -> Result<(Weight<B>, Grid)> {
    let width = config.hidden_size;
    let covered = position_prefix(config);
    let side = config.image_size / config.patch_size.max(1);
    let shape = root.shape(names.positions).unwrap_or_default();
    let rows = match (names.positions_batched, shape.as_slice()) {
        (true, &[1, rows, _]) | (false, &[rows, _]) => rows,
        // Missing or of another rank: the loader's error says so.
        _ => covered.saturating_add(side.saturating_mul(side)),
    };
    let stored = rows.checked_sub(covered).and_then(square_side).filter(|&stored| stored > 0);
    let wanted: &[usize] = &[1, rows, width][usize::from(!names.positions_batched)..];
    let positions = root.weight(names.positions, wanted)?;
    let fits = stored.is_some_and(|stored| stored == side || config.resampling != Resampling::None);
    match stored {
        Some(stored) if fits => Ok((positions, Grid { height: stored, width: stored })),
        _ => Err(Error::Tensor {
            name: format!(
                "{}{}{}",
                root.prefix(),
                if root.prefix().is_empty() { "" } else { "." },
                names.positions
            ),
            reason: format!(
                "has {rows} positions, but {covered} prefix tokens and a grid of {side}x{side} patches (a picture of \
                 {0}x{0} in patches of {1}x{1}) need {2}",
                config.image_size,
                config.patch_size,
                covered.saturating_add(side.saturating_mul(side)),
            ),
        }),
    }
}

fn load_attention<B: Backend>(
    loader: &Loader<B>,
    names: &VitNames,
    config: &VitConfig,
) -> Result<MultiHeadAttention<B>> {
    let (width, heads) = (config.hidden_size, config.heads);
    let norm = |name| match config.qk_norm {
        true => LayerNorm::load(&loader.child(name), width / heads.max(1), config.eps).map(Some),
        false => Ok(None),
    };
    let (projections, out) = match &names.attention {
        AttentionTable::Separate(names) => {
            let project = |name| Linear::load(&loader.child(name), width, width, config.qkv_bias);
            let (q, k, v) = (project(names.q)?, project(names.k)?, project(names.v)?);
            (Projections::Separate { q, k, v }, names.out)
        }
        AttentionTable::Fused => {
            let triple = crate::checked::Size::new(width).times(3)?.get();
            let qkv = Linear::load(&loader.child("attn.qkv"), triple, width, config.qkv_bias)?;
            (Projections::Fused(qkv), "attn.proj")
        }
    };
    Ok(MultiHeadAttention {
        projections,
        q_norm: norm("attn.q_norm")?,
        k_norm: norm("attn.k_norm")?,
        out: Linear::load(&loader.child(out), width, width, true)?,
        heads,
        inner: width,
        soft_cap: config.soft_cap,
    })
}
