//! The ConvNeXt tower: four stages of depthwise convolutions, each an own feature map.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::pixels::pixel_grid;
use super::select::FeatureMap;
use crate::backend::{Activation, Backend, Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::checked::Size;
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::nn::{self, Conv2d, LayerNorm, Linear, Mlp};
use crate::weights::Loader;
use crate::words::Quoted;

/// Stages of a trunk.
const STAGES: usize = 4;

/// Architecture of a ConvNeXt trunk, by timm's constructor arguments.
#[derive(Clone, Debug)]
pub struct ConvNextConfig {
    /// Side of the square input, pixels; `None` where any size from 32 pixels on will do.
    pub image_size: Option<usize>,
    /// Blocks by stage.
    pub depths: [usize; STAGES],
    /// Channels by stage.
    pub dims: [usize; STAGES],
    /// Side of the depthwise kernels, cells; odd.
    pub kernel_size: usize,
    /// Side and stride of the first convolution, pixels.
    pub patch_size: usize,
    /// Hidden channels of the feed-forward part over channels of the stage.
    pub mlp_ratio: usize,
    /// Whether the feed-forward part is stored as 1x1 convolutions.
    pub conv_mlp: bool,
    /// Whether blocks are scaled by channel before their residual is added.
    pub layer_scale: bool,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Added to the variance in every norm.
    pub eps: f32,
}

impl ConvNextConfig {
    /// Reads timm's constructor arguments of a `model_type` `timm_convnext`: `depths`, `dims`, `kernel_sizes` (one),
    /// `patch_size`, `conv_mlp`, `ls_init_value`, `act_layer`, `norm_eps` (default 1e-6), and `img_size` where the
    /// input has a fixed size.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, also where it asks for a variant that there is no code for.
    pub fn from_fields(fields: &Fields) -> Result<ConvNextConfig> {
        let model = fields.str_or("model_type", "timm_convnext")?;
        if model != "timm_convnext" {
            return Err(fields.error("model_type", format!("unknown tower {}", Quoted(model))));
        }
        let four = |name: &str, default: [usize; STAGES]| match fields.optional_usizes(name)? {
            None => Ok(default),
            Some(list) => <[usize; STAGES]>::try_from(list.as_slice())
                .ok()
                .filter(|list| list.iter().all(|&count| count > 0))
                .ok_or_else(|| fields.error(name, format!("must be 4 numbers above 0, but is {list:?}"))),
        };
        for (name, supported) in [("use_grn", false), ("head_norm_first", false), ("conv_bias", true)] {
            if fields.bool_or(name, supported)? != supported {
                return Err(fields.error(name, format!("only {supported} is supported")));
            }
        }
        for (name, supported) in [("stem_type", "patch"), ("norm_layer", "layernorm")] {
            let asked = fields.str_or(name, supported)?;
            if asked != supported {
                return Err(
                    fields.error(name, format!("only {supported} is supported, not {}", Quoted(asked)))
                );
            }
        }
        if !matches!(fields.usize_or("output_stride", 32)?, 32) {
            return Err(fields.error("output_stride", "only 32 is supported"));
        }
        if fields.usize_or("in_chans", 3)? != 3 {
            return Err(fields.error("in_chans", "pictures have 3 channels"));
        }
        let one = |name: &str, default: usize| match fields.optional_usizes(name)?.as_deref() {
            None => Ok(default),
            Some(&[first, ref rest @ ..]) if first > 0 && rest.iter().all(|&other| other == first) => {
                Ok(first)
            }
            Some(list) => Err(fields.error(name, format!("must be one number above 0, but is {list:?}"))),
        };
        let kernel_size = one("kernel_sizes", 7)?;
        if kernel_size.is_multiple_of(2) {
            return Err(fields.error("kernel_sizes", format!("is {kernel_size}, but must be odd")));
        }
        Ok(ConvNextConfig {
            image_size: match fields.has("img_size") {
                true => Some(one("img_size", 0)?),
                false => None,
            },
            depths: four("depths", [3, 3, 9, 3])?,
            dims: four("dims", [96, 192, 384, 768])?,
            kernel_size,
            patch_size: one("patch_size", 4)?,
            mlp_ratio: one("mlp_ratio", 4)?,
            conv_mlp: fields.bool_or("conv_mlp", false)?,
            // timm's default is 1e-6; an explicit 0 switches the scale off, as `None` does in Python.
            layer_scale: fields.f32_or("ls_init_value", 1e-6)? != 0.0,
            activation: nn::activation(fields, "act_layer", "gelu")?,
            eps: fields.f32_or("norm_eps", 1e-6)?,
        })
    }
}

/// A ConvNeXt trunk with timm's names.
pub struct ConvNext<B: Backend> {
    config: ConvNextConfig,
    module: String,
    stem: Conv2d<B>,
    stem_norm: LayerNorm<B>,
    stages: [Stage<B>; STAGES],
}

struct Stage<B: Backend> {
    downsample: Option<(LayerNorm<B>, Conv2d<B>)>,
    blocks: Vec<Block<B>>,
}

struct Block<B: Backend> {
    depthwise: Conv2d<B>,
    norm: LayerNorm<B>,
    mlp: Mlp<B>,
    scale: Option<Weight<B>>,
}

/// The outputs of the four stages: maps `[grid.cells, dims[i]]` at strides of 4, 8, 16 and 32 pixels.
pub struct ConvNextOutput<B: Backend> {
    /// One map per stage with its size.
    pub stages: [(Matrix<B>, Grid); STAGES],
}

impl<B: Backend> ConvNextOutput<B> {
    /// The maps as features for the heads.
    pub fn features(&self) -> impl Iterator<Item = FeatureMap<'_, B>> {
        self.stages.iter().map(|(map, grid)| FeatureMap { view: map.view(), grid: *grid })
    }
}

impl<B: Backend> ConvNext<B> {
    /// Loads the trunk under the loader's prefix, or under `visual.trunk` (open_clip) or `trunk` below it.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &ConvNextConfig) -> Result<ConvNext<B>> {
        let roots = [loader.child("visual.trunk"), loader.child("trunk"), loader.clone()];
        let [open_clip, ..] = &roots;
        let root = roots.iter().find(|root| root.has("stem.0.weight")).unwrap_or(open_clip);
        let conv = Conv { stride: config.patch_size, padding: 0, depthwise: false };
        let [first, ..] = config.dims;
        let stage = |index| Stage::load(&root.child(&format!("stages.{index}")), config, index);
        let stages = [stage(0)?, stage(1)?, stage(2)?, stage(3)?];
        Ok(ConvNext {
            stem: Conv2d::load(&root.child("stem.0"), first, 3, config.patch_size, conv, true)?,
            stem_norm: LayerNorm::load(&root.child("stem.1"), first, config.eps)?,
            stages,
            module: loader.prefix().into(),
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// Runs the trunk on normalised pixels `[side * side, 3]`, row-major, red green blue.
    ///
    /// # Errors
    /// [`Error::Input`] naming the sizes where the pixels do not fit; [`Error::NonFinite`] naming the module.
    pub fn forward(&self, backend: &B, pixels: View<B>) -> Result<ConvNextOutput<B>> {
        let least = self.config.patch_size.saturating_mul(8);
        let size = pixel_grid(pixels, self.config.image_size, least)?;
        let (stem, grid) = self.stem.forward(backend, pixels, size, Epilogue::NONE)?;
        let stem = self.stem_norm.forward(backend, stem.view())?;
        let [first, second, third, fourth] = &self.stages;
        let first = first.forward(backend, stem.view(), grid)?;
        let second = second.forward(backend, first.0.view(), first.1)?;
        let third = third.forward(backend, second.0.view(), second.1)?;
        let fourth = fourth.forward(backend, third.0.view(), third.1)?;
        if !backend.is_finite(fourth.0.view())? {
            return Err(Error::NonFinite { module: self.module.clone() });
        }
        Ok(ConvNextOutput { stages: [first, second, third, fourth] })
    }
}

impl<B: Backend> Stage<B> {
    fn load(loader: &Loader<B>, config: &ConvNextConfig, index: usize) -> Result<Stage<B>> {
        let (dim, depth) = (config.dims[index], config.depths[index]);
        let width = config.dims[index.saturating_sub(1)];
        let downsample = if index > 0 {
            let conv = Conv { stride: 2, padding: 0, depthwise: false };
            let norm = LayerNorm::load(&loader.child("downsample.0"), width, config.eps)?;
            Some((norm, Conv2d::load(&loader.child("downsample.1"), dim, width, 2, conv, true)?))
        } else {
            None
        };
        let blocks = (0..depth)
            .map(|block| Block::load(&loader.child(&format!("blocks.{block}")), config, dim))
            .collect::<Result<_>>()?;
        Ok(Stage { downsample, blocks })
    }

    fn forward(&self, backend: &B, x: View<B>, grid: Grid) -> Result<(Matrix<B>, Grid)> {
        let (mut map, grid) = match &self.downsample {
            Some((norm, conv)) => {
                let normed = norm.forward(backend, x)?;
                let (map, grid) = conv.forward(backend, normed.view(), grid, Epilogue::NONE)?;
                drop(normed);
                (backend.settle(map), grid)
            }
            None => (nn::join_rows(backend, &[x])?, grid),
        };
        for block in &self.blocks {
            map = block.forward(backend, map.view(), grid)?;
            map = backend.settle(map);
        }
        Ok((map, grid))
    }
}

impl<B: Backend> Block<B> {
    fn load(loader: &Loader<B>, config: &ConvNextConfig, dim: usize) -> Result<Block<B>> {
        let conv = Conv { stride: 1, padding: config.kernel_size / 2, depthwise: true };
        let hidden = Size::new(dim).times(config.mlp_ratio)?.get();
        let linear = |name, outputs, inputs| {
            let ones: &[usize] = if config.conv_mlp { &[1, 1] } else { &[] };
            Linear::load_as(&loader.child(name), &[&[outputs, inputs], ones].concat(), true)
        };
        let layers = alloc::vec![linear("mlp.fc1", hidden, dim)?, linear("mlp.fc2", dim, hidden)?];
        Ok(Block {
            depthwise: Conv2d::load(&loader.child("conv_dw"), dim, 1, config.kernel_size, conv, true)?,
            norm: LayerNorm::load(&loader.child("norm"), dim, config.eps)?,
            mlp: Mlp::new(layers, config.activation)?,
            scale: match config.layer_scale {
                true => Some(loader.weight("gamma", &[dim])?),
                false => None,
            },
        })
    }

    fn forward(&self, backend: &B, x: View<B>, grid: Grid) -> Result<Matrix<B>> {
        let (mixed, _) = self.depthwise.forward(backend, x, grid, Epilogue::NONE)?;
        let normed = self.norm.forward(backend, mixed.view())?;
        self.mlp.forward(backend, normed.view(), Epilogue::residual(x, self.scale.as_ref()))
    }
}
