//! MaskFormer's pixel decoder: a feature pyramid network from the deepest map to the finest.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::config::GROUPS;
use crate::backend::{Activation, Backend, Conv, Epilogue, Grid, Matrix, Resize, View};
use crate::error::{Error, Result};
use crate::nn::{Conv2d, GroupNorm};
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// Added to the variance in every norm.
const EPS: f32 = 1e-5;
/// A 3x3 convolution that keeps the size.
const SAME: Conv = Conv { stride: 1, padding: 1, depthwise: false };
/// A 1x1 convolution.
const POINTWISE: Conv = Conv { stride: 1, padding: 0, depthwise: false };

/// A convolution without bias and its group norm.
struct Normed<B: Backend> {
    conv: Conv2d<B>,
    norm: GroupNorm<B>,
    activation: Activation,
}

/// Adds one finer map: its lateral projection, and the block that follows the sum.
struct Step<B: Backend> {
    lateral: Normed<B>,
    block: Normed<B>,
}

/// transformers' `MaskFormerPixelDecoder`.
pub struct Fpn<B: Backend> {
    stem: Normed<B>,
    steps: Vec<Step<B>>,
    projection: Conv2d<B>,
}

impl<B: Backend> Normed<B> {
    fn load(
        loader: &Loader<B>,
        outputs: usize,
        inputs: usize,
        kernel: usize,
        activation: Activation,
    ) -> Result<Normed<B>> {
        let conv = if kernel == 1 { POINTWISE } else { SAME };
        Ok(Normed {
            conv: Conv2d::load(&loader.child("0"), outputs, inputs, kernel, conv, false)?,
            norm: GroupNorm::load(&loader.child("1"), GROUPS, outputs, EPS)?,
            activation,
        })
    }

    fn forward(&self, backend: &B, x: View<B>, grid: Grid) -> Result<Matrix<B>> {
        let (y, _) = self.conv.forward(backend, x, grid, Epilogue::NONE)?;
        self.norm.forward(backend, y.view(), self.activation)
    }
}

impl<B: Backend> Fpn<B> {
    /// Loads `fpn.stem`, `fpn.layers.N` and `mask_projection` for maps of `dims` channels, the finest first; inside are
    /// `size` channels (a multiple of 32), the result has `outputs`.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor; [`Error::Shape`] where `dims` is empty.
    pub fn load(loader: &Loader<B>, dims: &[usize], size: usize, outputs: usize) -> Result<Fpn<B>> {
        let Some((&deepest, finer)) = dims.split_last() else {
            return Err(Error::Shape { operand: "fpn.dims", reason: "there are none".into() });
        };
        let fpn = loader.child("fpn");
        let mut steps = Vec::with_capacity(finer.len());
        for (index, &dim) in finer.iter().rev().enumerate() {
            let layer = fpn.child(&format!("layers.{index}"));
            steps.push(Step {
                lateral: Normed::load(&layer.child("proj"), size, dim, 1, Activation::Identity)?,
                block: Normed::load(&layer.child("block"), size, size, 3, Activation::Relu)?,
            });
        }
        Ok(Fpn {
            stem: Normed::load(&fpn.child("stem"), size, deepest, 3, Activation::Relu)?,
            steps,
            projection: Conv2d::load(&loader.child("mask_projection"), outputs, size, 3, SAME, true)?,
        })
    }

    /// Maps, the finest first, to the pixel embedding `[cells of the first map, outputs]`. Coarser maps are brought to
    /// the next size by the nearest cell.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not as many maps as were loaded for.
    pub fn forward(&self, backend: &B, maps: &[FeatureMap<B>]) -> Result<(Matrix<B>, Grid)> {
        let Some((deepest, finer)) = maps.split_last().filter(|(_, finer)| finer.len() == self.steps.len())
        else {
            let reason = format!("{} instead of {}", maps.len(), self.steps.len() + 1);
            return Err(Error::Shape { operand: "fpn.maps", reason });
        };
        let mut grid = deepest.grid;
        let mut map = self.stem.forward(backend, deepest.view, grid)?;
        for (step, finer) in self.steps.iter().zip(finer.iter().rev()) {
            let lateral = step.lateral.forward(backend, finer.view, finer.grid)?;
            if grid != finer.grid {
                map = backend.resize(map.view(), grid, finer.grid, Resize::Nearest)?;
                grid = finer.grid;
            }
            let sum = backend.add(map.view(), lateral.view())?;
            map = step.block.forward(backend, sum.view(), grid)?;
            drop((lateral, sum));
            map = backend.settle(map);
        }
        self.projection.forward(backend, map.view(), grid, Epilogue::NONE)
    }
}
