//! AdamW over all parameters, with the norm of the gradient clipped.
#![forbid(unsafe_code)]

use alloc::string::ToString;
use alloc::vec::Vec;

use super::parameters::{Gradients, Parameters};
use crate::backend::{AdamwStep, Matrix, Train};
use crate::error::{Error, Result};

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Every one, as in the published recipe.
    All,
    /// The matrices of linear layers: not biases, norms, LayerScale, positions and tokens (timm).
    Matrices,
}

/// Constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwConfig {
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, times the rate.
    pub decay: f64,
    /// What decays.
    pub decays: Decay,
    /// Largest norm of the whole gradient; a larger one is scaled down to it.
    pub clip: Option<f64>,
}

impl AdamwConfig {
    /// The published recipe: betas 0.9 and 0.95, decay 0.01 on everything, norm at most 1.
    pub const RECIPE: AdamwConfig =
        AdamwConfig { betas: [0.9, 0.95], eps: 1e-8, decay: 0.01, decays: Decay::All, clip: Some(1.0) };

    /// # Errors
    /// [`Error::Input`] naming the field.
    pub(super) fn check(&self) -> Result<()> {
        let error = |field, reason: &str| Err(Error::Input { field, reason: reason.to_string() });
        if !self.betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            return error("optimiser.betas", "must lie in [0, 1)");
        }
        if !(self.eps >= 0.0 && self.decay >= 0.0 && self.eps.is_finite() && self.decay.is_finite()) {
            return error("optimiser.decay", "and eps must be finite and not negative");
        }
        if self.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return error("optimiser.clip", "must be above 0");
        }
        Ok(())
    }
}

/// The moments of every parameter.
pub(super) struct Optimiser<B: Train> {
    pub(super) first: Vec<Matrix<B>>,
    pub(super) second: Vec<Matrix<B>>,
    pub(super) updates: u64,
}

impl<B: Train> Optimiser<B> {
    pub(super) fn new(backend: &B, parameters: &Parameters<B>) -> Result<Optimiser<B>> {
        Ok(Optimiser { first: parameters.zeros(backend)?, second: parameters.zeros(backend)?, updates: 0 })
    }

    /// One update; returns the norm of the gradient before clipping.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where the gradient is not finite; nothing is changed then.
    pub(super) fn update(
        &mut self,
        backend: &B,
        parameters: &mut Parameters<B>,
        gradients: &Gradients<B>,
        config: &AdamwConfig,
        rate: f64,
    ) -> Result<f64> {
        let mut squares = 0.0;
        for gradient in gradients.iter() {
            squares += backend.sum_of_squares(gradient.view())?;
        }
        let norm = libm::sqrt(squares);
        if !norm.is_finite() {
            return Err(Error::NonFinite { module: "gradient".to_string() });
        }
        // PyTorch's `clip_grad_norm_`.
        let factor = config.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        self.updates += 1;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for (parameter, (gradient, (first, second))) in
            parameters.iter_mut().zip(gradients.iter().zip(moments))
        {
            let decays = config.decays == Decay::All || parameter.matrix;
            let step = AdamwStep {
                rate,
                betas: config.betas,
                eps: config.eps,
                decay: if decays { config.decay } else { 0.0 },
                step: self.updates,
                factor: factor as f32,
            };
            backend.adamw(&mut parameter.weight, gradient.view(), first, second, &step)?;
        }
        Ok(norm)
    }
}
