//! Normalisations with their learned factors.
#![forbid(unsafe_code)]

use crate::backend::{Activation, Backend, Matrix, View, Weight};
use crate::error::Result;
use crate::weights::Loader;

/// Mean 0 and variance 1 by rows, then a learned factor and offset.
pub struct LayerNorm<B: Backend> {
    weight: Weight<B>,
    bias: Weight<B>,
    eps: f32,
}

impl<B: Backend> LayerNorm<B> {
    /// Loads `weight [cols]` and `bias [cols]`; `eps` is added to the variance.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn load(loader: &Loader<B>, cols: usize, eps: f32) -> Result<LayerNorm<B>> {
        let (weight, bias) = (loader.weight("weight", &[cols])?, loader.weight("bias", &[cols])?);
        Ok(LayerNorm { weight, bias, eps })
    }

    /// Normalises the rows of `x [rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward(&self, backend: &B, x: View<B>) -> Result<Matrix<B>> {
        self.forward_parts(backend, x, 1)
    }

    /// Normalises `parts` equal runs of every row of `x [rows, parts * cols]` each on its own, with the same factors:
    /// the norm of the queries or keys of `parts` heads.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward_parts(&self, backend: &B, x: View<B>, parts: usize) -> Result<Matrix<B>> {
        backend.layer_norm(x, parts, Some(&self.weight), Some(&self.bias), self.eps)
    }
}

/// Root mean square 1 by rows, then a learned factor.
pub struct RmsNorm<B: Backend> {
    weight: Weight<B>,
    eps: f32,
}

impl<B: Backend> RmsNorm<B> {
    /// Loads `weight [cols]`; `eps` is added to the mean square.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn load(loader: &Loader<B>, cols: usize, eps: f32) -> Result<RmsNorm<B>> {
        Ok(RmsNorm { weight: loader.weight("weight", &[cols])?, eps })
    }

    /// Normalises the rows of `x [rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward(&self, backend: &B, x: View<B>) -> Result<Matrix<B>> {
        backend.rms_norm(x, &self.weight, self.eps)
    }
}

/// Mean 0 and variance 1 by groups of channels over a whole feature map, then a learned factor and offset by channel.
pub struct GroupNorm<B: Backend> {
    groups: usize,
    weight: Weight<B>,
    bias: Weight<B>,
    eps: f32,
}

impl<B: Backend> GroupNorm<B> {
    /// Loads `weight [channels]` and `bias [channels]`; `groups` divides `channels`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn load(loader: &Loader<B>, groups: usize, channels: usize, eps: f32) -> Result<GroupNorm<B>> {
        let (weight, bias) = (loader.weight("weight", &[channels])?, loader.weight("bias", &[channels])?);
        Ok(GroupNorm { groups, weight, bias, eps })
    }

    /// Normalises the map `x [cells, channels]`, then applies the activation.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward(&self, backend: &B, x: View<B>, activation: Activation) -> Result<Matrix<B>> {
        backend.group_norm(x, self.groups, &self.weight, &self.bias, self.eps, activation)
    }
}
