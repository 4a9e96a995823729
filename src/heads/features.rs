//! Which feature maps a head reads, and how several become one.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::{Backend, Epilogue, Grid, Matrix, Resize};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::few::Few;
use crate::nn::Linear;
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// Maps that a head reads without a list on the heap; the reference's models have up to five.
const MAPS: usize = 8;

/// What happens to the selected maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputTransform {
    /// Resized bilinearly to the size of the first one and concatenated over channels.
    ResizeConcat,
    /// Kept as a list.
    MultipleSelect,
}

/// The maps that a head reads.
#[derive(Clone, Debug)]
pub struct FeatureInput {
    /// Dotted path of the configuration, for errors.
    pub path: String,
    /// What happens to them.
    pub transform: InputTransform,
    /// Their positions in the list of features.
    pub index: Vec<usize>,
    /// Their channels; as many as positions.
    pub dims: Vec<usize>,
}

impl FeatureInput {
    /// Channels of all maps together.
    ///
    /// # Errors
    /// [`Error::Limit`] on overflow.
    pub fn channels(&self) -> Result<usize> {
        Ok(self.dims.iter().try_fold(Size::new(0), |sum, &dim| sum.plus(dim))?.get())
    }

    /// The selected maps, checked against the configuration.
    ///
    /// # Errors
    /// [`Error::Input`] where there are no features; [`Error::Config`] naming the field where a map is not there or has
    /// other channels; [`Error::Shape`] where a map's rows are not its grid.
    pub(super) fn select<'a, B: Backend>(
        &self,
        features: &[FeatureMap<'a, B>],
    ) -> Result<Few<FeatureMap<'a, B>, MAPS>> {
        if features.is_empty() {
            return Err(Error::Input { field: "features", reason: "are none".into() });
        }
        let map = |(&index, &dim): (&usize, &usize)| {
            let Some(&map) = features.get(index) else {
                let reason = format!("names map {index}, but there are {}", features.len());
                return Err(self.error("encoder_input_index", reason));
            };
            if map.view.cols() != dim {
                let reason = format!("is {dim} for map {index}, which has {} channels", map.view.cols());
                return Err(self.error("encoder_input_dim", reason));
            }
            if map.view.rows() != map.grid.cells() || map.view.rows() == 0 {
                let reason = format!("{} rows for a grid of {:?}", map.view.rows(), map.grid);
                return Err(Error::Shape { operand: "features.grid", reason });
            }
            Ok(map)
        };
        self.index.iter().zip(&self.dims).map(map).collect()
    }

    fn error(&self, field: &str, reason: String) -> Error {
        let dot = if self.path.is_empty() { "" } else { "." };
        Error::Config { field: format!("{}{dot}{field}", self.path), reason }
    }
}

/// Feature maps resized to the first, put side by side and projected: the `in_proj_visual_feats` of box and keypoint
/// decoder.
///
/// Resizing works on every channel alone and the projection on every cell alone, so that they may change places: a map
/// that is smaller than the first is projected before it is resized. With the reference's tower (128, 64, 32 and 24 cells
/// a side) that is a sixth of the work, and the maps are never put side by side.
pub(super) struct FeatureProjection<B: Backend> {
    input: FeatureInput,
    /// One part for every map; the first has the bias.
    parts: Vec<Linear<B>>,
}

impl<B: Backend> FeatureProjection<B> {
    /// Loads `in_proj_visual_feats` under the loader's prefix.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub(super) fn load(
        loader: &Loader<B>,
        input: &FeatureInput,
        width: usize,
    ) -> Result<FeatureProjection<B>> {
        let loader = loader.child("in_proj_visual_feats");
        let weight = loader.weight("weight", &[width, input.channels()?])?;
        let mut bias = Some(loader.weight("bias", &[width])?);
        let mut first = 0;
        let mut parts = Vec::with_capacity(input.dims.len());
        for &dim in &input.dims {
            parts.push(Linear::from_parts(weight.column_range(first..first + dim)?, bias.take()));
            first += dim;
        }
        Ok(FeatureProjection { input: input.clone(), parts })
    }

    /// The projected cells `[cells, width]` and the grid of the first map.
    ///
    /// # Errors
    /// As [`FeatureInput::select`].
    pub(super) fn forward(&self, backend: &B, features: &[FeatureMap<B>]) -> Result<(Matrix<B>, Grid)> {
        let maps = self.input.select(features)?;
        let grid = maps.first().map_or(Grid { height: 0, width: 0 }, |map| map.grid);
        let mut sum: Option<Matrix<B>> = None;
        for (map, part) in maps.iter().zip(&self.parts) {
            let residual = sum.as_ref().map(Matrix::view);
            let after = Epilogue { residual, ..Epilogue::NONE };
            let next = if map.grid == grid {
                part.forward(backend, map.view, after)?
            } else if map.grid.cells() > grid.cells() {
                let resized = backend.resize(map.view, map.grid, grid, Resize::Bilinear)?;
                part.forward(backend, resized.view(), after)?
            } else {
                let projected = part.forward(backend, map.view, Epilogue::NONE)?;
                let resized = backend.resize(projected.view(), map.grid, grid, Resize::Bilinear)?;
                match residual {
                    Some(sum) => backend.add(sum, resized.view())?,
                    None => resized,
                }
            };
            drop(sum.take());
            sum = Some(backend.settle(next));
        }
        match sum {
            Some(sum) => Ok((sum, grid)),
            None => Err(self.input.error("encoder_input_index", "names no map".into())),
        }
    }
}
