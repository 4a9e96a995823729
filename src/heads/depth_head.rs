//! The depth head: the mask head's architecture, read as depth.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Named;
use super::config::DepthHeadConfig;
use super::mask_head::{MaskHead, MaskOutput};
use crate::backend::{Activation, Backend, Matrix, View};
use crate::error::Result;
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// Depths in metres along the optical axis (REP-118) between which a map lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthRange {
    /// Where the sigmoid is 0.
    pub near: f32,
    /// Where it is 1.
    pub far: f32,
}

impl DepthRange {
    /// `near + share * (far - near)`, metres.
    pub fn depth(self, share: f32) -> f32 {
        self.near + share * (self.far - self.near)
    }
}

/// The reference's `DepthDecoderModel`, with the range that it lacks.
pub struct DepthHead<B: Backend> {
    mask: MaskHead<B>,
    range: Option<DepthRange>,
}

/// Depth maps of all slots and what led to them.
pub struct DepthOutput<B: Backend> {
    /// `[num_queries, grid.cells]`: the sigmoid of the logits, one map of the square-padded picture per row.
    pub shares: Matrix<B>,
    /// What the shares mean; without it they are relative, larger is farther.
    pub range: Option<DepthRange>,
    /// Logits and intermediates.
    pub mask: MaskOutput<B>,
}

impl<B: Backend> DepthOutput<B> {
    /// Every tensor by its name: `shares`, then those of [`MaskOutput::named`].
    pub fn named(&self) -> Vec<Named<'_, B>> {
        let mut named = vec![("shares", self.shares.view())];
        named.extend(self.mask.named());
        named
    }
}

impl<B: Backend> DepthHead<B> {
    /// Loads the tensors of `config` under the loader's prefix, for example `visual_decoder.depth`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &DepthHeadConfig) -> Result<DepthHead<B>> {
        let mask = MaskHead::load_limited(loader, &config.mask, "visual_decoder.depth.num_queries")?;
        Ok(DepthHead { mask, range: config.range })
    }

    /// Decodes up to `num_queries` latents `[n, quries_input_dim]`.
    ///
    /// # Errors
    /// As [`super::BoxHead::forward`].
    pub fn forward(
        &self,
        backend: &B,
        features: &[FeatureMap<B>],
        latents: View<B>,
    ) -> Result<DepthOutput<B>> {
        let mask = self.mask.forward(backend, features, latents)?;
        let shares = backend.activate(mask.logits.view(), Activation::Sigmoid)?;
        Ok(DepthOutput { shares, range: self.range, mask })
    }
}
