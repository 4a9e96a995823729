//! Which feature maps a head reads, and how several become one.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::{Backend, Grid, Matrix, Resize, View};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::nn::join_cols;
use crate::vision::FeatureMap;

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
    pub fn select<'a, B: Backend>(&self, features: &[FeatureMap<'a, B>]) -> Result<Vec<FeatureMap<'a, B>>> {
        if features.is_empty() {
            return Err(Error::Input { field: "features", reason: "are none".into() });
        }
        let mut maps = Vec::with_capacity(self.index.len());
        for (&index, &dim) in self.index.iter().zip(&self.dims) {
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
            maps.push(map);
        }
        Ok(maps)
    }

    /// The selected maps as one: `[cells of the first, channels]`.
    ///
    /// # Errors
    /// As [`FeatureInput::select`].
    pub fn concat<B: Backend>(&self, backend: &B, features: &[FeatureMap<B>]) -> Result<(Matrix<B>, Grid)> {
        let maps = self.select(features)?;
        let grid = maps.first().map_or(Grid { height: 0, width: 0 }, |map| map.grid);
        let mut resized = Vec::with_capacity(maps.len());
        for map in &maps {
            resized.push(match map.grid == grid {
                true => None,
                false => Some(backend.resize(map.view, map.grid, grid, Resize::Bilinear)?),
            });
        }
        let views: Vec<View<B>> = maps
            .iter()
            .zip(&resized)
            .map(|(map, resized)| resized.as_ref().map_or(map.view, Matrix::view))
            .collect();
        Ok((join_cols(backend, &views)?, grid))
    }

    fn error(&self, field: &str, reason: String) -> Error {
        let dot = if self.path.is_empty() { "" } else { "." };
        Error::Config { field: format!("{}{dot}{field}", self.path), reason }
    }
}
