//! The visual prompt encoder (mask-guided aggregation): regions of the picture to tokens.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::select::FeatureMap;
use super::vpt_config::{PromptStrategy, VisualPromptConfig};
use crate::backend::{Activation, Backend, Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::nn::{Conv2d, Linear, Mlp, join_rows};
use crate::weights::Loader;

/// Added to the number of cells of a region before the division by it, as in the reference.
const EPS: f32 = 1e-8;

/// Turns regions on the feature grid into tokens; the reference's names under `model`.
pub struct VisualPromptEncoder<B: Backend> {
    config: VisualPromptConfig,
    module: String,
    embedding: Option<Conv2d<B>>,
    mask_embedding: Option<Linear<B>>,
    positions: Weight<B>,
    projector: Option<Mlp<B>>,
}

/// Tokens of several regions.
pub struct VisualPrompts<B: Backend> {
    /// `[regions * tokens, width]`, the tokens of a region together; `width` is that of the visual features, or of the
    /// language model where the encoder has its own projector.
    pub tokens: Matrix<B>,
    /// Tokens per region.
    pub tokens_per_region: usize,
    /// Whether the tokens went through the encoder's own projector, and must not go through the model's.
    pub projected: bool,
}

impl<B: Backend> VisualPromptEncoder<B> {
    /// Loads the tensors of `config` under the loader's prefix.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &VisualPromptConfig) -> Result<VisualPromptEncoder<B>> {
        let model = loader.child("model");
        let width = config.visual_hidden_size;
        let conv = Conv { stride: config.patch_size, padding: 0, depthwise: false };
        let embedding = match config.strategy {
            PromptStrategy::Pooling => None,
            PromptStrategy::Embedding => {
                let loader = model.child("patch_embedding");
                Some(Conv2d::load(&loader, width, width, config.patch_size, conv, false)?)
            }
        };
        let mask_embedding = match config.use_mask_token {
            true => Some(Linear::load(&model.child("mask_embedding"), width, 1, true)?),
            false => None,
        };
        Ok(VisualPromptEncoder {
            embedding,
            mask_embedding,
            positions: model.weight("position_embedding.weight", &[config.tokens(), width])?,
            projector: match &config.projector {
                Some(projector) => Some(projector.layers(&model, "projector.")?),
                None => None,
            },
            module: loader.prefix().into(),
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &VisualPromptConfig {
        &self.config
    }

    /// Encodes regions: every region is a mask of `features.grid.cells()` cells, row-major, `true` inside. A region
    /// without a cell gives zeros (and the bias of the mask embedding) plus positions; no regions give no tokens.
    ///
    /// # Errors
    /// [`Error::Input`] where a mask has another number of cells; [`Error::Config`] naming grid and `num_patches` (or
    /// `patch_size`) where the grid cannot be divided so; [`Error::NonFinite`] naming the module.
    pub fn forward(
        &self,
        backend: &B,
        features: FeatureMap<B>,
        regions: &[&[bool]],
    ) -> Result<VisualPrompts<B>> {
        let cells = features.view.rows();
        self.check(features.grid)?;
        if let Some((index, region)) = regions.iter().enumerate().find(|(_, region)| region.len() != cells) {
            let reason = format!("region {index} has {} cells, but the grid has {cells}", region.len());
            return Err(Error::Input { field: "regions", reason });
        }
        let patches = match &self.embedding {
            None => self.pool(backend, features.view, regions)?,
            Some(conv) => self.embed(backend, features, conv, regions)?,
        };
        let tokens = self.with_mask_tokens(backend, patches, regions)?;
        let tokens_per_region = self.config.tokens();
        let positions = backend.read(&self.positions, tokens_per_region, self.config.visual_hidden_size)?;
        let mut tokens =
            if regions.is_empty() { tokens } else { backend.add(tokens.view(), positions.view())? };
        if let Some(projector) = &self.projector
            && !regions.is_empty()
        {
            tokens = projector.forward(backend, tokens.view(), Epilogue::NONE)?;
        }
        if !backend.is_finite(tokens.view())? {
            return Err(Error::NonFinite { module: self.module.clone() });
        }
        Ok(VisualPrompts { tokens, tokens_per_region, projected: self.projector.is_some() })
    }

    fn check(&self, grid: Grid) -> Result<()> {
        let (height, width) = (grid.height, grid.width);
        let error = |name: &str, reason| {
            let dot = if self.module.is_empty() { "" } else { "." };
            Err(Error::Config { field: format!("{}{dot}{name}", self.module), reason })
        };
        let patches = self.config.num_patches;
        match &self.embedding {
            None => {
                let side = patches.isqrt();
                if height.is_multiple_of(side) && width.is_multiple_of(side) {
                    return Ok(());
                }
                error(
                    "num_patches",
                    format!("is {patches}, but {side} does not divide a grid of {height}x{width}"),
                )
            }
            Some(conv) => match conv.output(grid) {
                Ok(output) if output.cells() == patches => Ok(()),
                _ => error(
                    "patch_size",
                    format!(
                        "is {0}, but {0}x{0} cells on a grid of {height}x{width} do not give num_patches {patches}",
                        self.config.patch_size
                    ),
                ),
            },
        }
    }

    /// Patch `i` is the `i`-th run of `cells / num_patches` cells of the flattened grid: the reference reshapes its planes
    /// so, and does not cut them into windows.
    fn pool(&self, backend: &B, features: View<B>, regions: &[&[bool]]) -> Result<Matrix<B>> {
        let (cells, patches) = (features.rows(), self.config.num_patches);
        if regions.is_empty() {
            return backend.zeros(0, features.cols());
        }
        let rows = Size::new(regions.len()).times(patches)?.get();
        let run = (cells / patches.max(1)).max(1);
        let weights = backend.written(rows, cells, &mut |weights| {
            weights.fill(0.0);
            let runs = regions.iter().flat_map(|region| {
                let share = share(region);
                region.chunks_exact(run).take(patches).enumerate().map(move |run| (share, run))
            });
            for (row, (share, (index, inside))) in weights.chunks_exact_mut(cells.max(1)).zip(runs) {
                let weights = row.iter_mut().skip(index * run).zip(inside);
                weights.for_each(|(weight, &inside)| *weight = if inside { share } else { 0.0 });
            }
            Ok(())
        })?;
        backend.matmul(weights.view(), features, false)
    }

    fn embed(
        &self,
        backend: &B,
        features: FeatureMap<B>,
        conv: &Conv2d<B>,
        regions: &[&[bool]],
    ) -> Result<Matrix<B>> {
        let channels = features.view.cols();
        let mut parts = Vec::with_capacity(regions.len());
        // A region's weights go to the device by the cell, and are spread over the channels there.
        let ones = backend.written(usize::from(!regions.is_empty()), channels, &mut |ones| {
            ones.fill(1.0);
            Ok(())
        })?;
        for region in regions {
            let weights = backend.written(region.len(), 1, &mut |weights| {
                let share = share(region);
                weights
                    .iter_mut()
                    .zip(*region)
                    .for_each(|(weight, &inside)| *weight = if inside { share } else { 0.0 });
                Ok(())
            })?;
            let spread = backend.matmul(weights.view(), ones.view(), false)?;
            let masked = backend.gated(spread.view(), features.view, Activation::Identity)?;
            let (part, _) = conv.forward(backend, masked.view(), features.grid, Epilogue::NONE)?;
            drop((weights, spread, masked));
            parts.push(backend.settle(part));
        }
        if parts.is_empty() {
            return backend.zeros(0, channels);
        }
        let views: Vec<View<B>> = parts.iter().map(Matrix::view).collect();
        join_rows(backend, &views)
    }

    /// Puts the mask token behind the patches of every region: the mean over the grid of a linear map of the mask, which
    /// is the map of its mean.
    fn with_mask_tokens(&self, backend: &B, patches: Matrix<B>, regions: &[&[bool]]) -> Result<Matrix<B>> {
        let (Some(layer), false) = (&self.mask_embedding, regions.is_empty()) else { return Ok(patches) };
        let means = backend.written(regions.len(), 1, &mut |means| {
            for (mean, region) in means.iter_mut().zip(regions) {
                let share = f64::from(share(region));
                let sum: f64 = region.iter().map(|&inside| if inside { share } else { 0.0 }).sum();
                *mean = (sum / region.len().max(1) as f64) as f32;
            }
            Ok(())
        })?;
        let embedded = layer.forward(backend, means.view(), Epilogue::NONE)?;
        let count = self.config.num_patches;
        let mut parts = Vec::with_capacity(regions.len().saturating_mul(2));
        for index in 0..regions.len() {
            parts.push(patches.view().row_range(index * count..(index + 1) * count)?);
            parts.push(embedded.view().row_range(index..index + 1)?);
        }
        join_rows(backend, &parts)
    }
}

/// What each cell of a region weighs: 1 over their number.
fn share(region: &[bool]) -> f32 {
    let cells = region.iter().filter(|&&inside| inside).count();
    1.0 / (cells as f32 + EPS)
}
