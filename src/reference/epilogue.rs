//! What follows a product: `out = residual + scale * activation(y + bias)`.
#![forbid(unsafe_code)]

use super::activation;
use crate::backend::Activation;

/// Bias and epilogue of a product.
#[derive(Clone, Copy, Debug)]
pub struct After<'a> {
    /// `[cols]`
    pub bias: Option<&'a [f32]>,
    /// Applied to the biased product.
    pub activation: Activation,
    /// `[cols]`
    pub scale: Option<&'a [f32]>,
    /// `[rows, cols]`
    pub residual: Option<&'a [f32]>,
}

impl After<'_> {
    /// Nothing.
    pub const NONE: After<'static> =
        After { bias: None, activation: Activation::Identity, scale: None, residual: None };

    /// Applies it to `out`, which has `cols` columns.
    pub fn apply(&self, out: &mut [f64], cols: usize) {
        for (i, out) in out.iter_mut().enumerate() {
            let biased = *out + self.bias.map_or(0.0, |bias| f64::from(bias[i % cols]));
            let scale = self.scale.map_or(1.0, |scale| f64::from(scale[i % cols]));
            let residual = self.residual.map_or(0.0, |residual| f64::from(residual[i]));
            *out = residual + scale * activation(biased, self.activation);
        }
    }
}
