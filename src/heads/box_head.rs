//! The box head: one box per query slot.
#![forbid(unsafe_code)]

use alloc::string::String;

use super::config::BoxHeadConfig;
use super::detr::DetrDecoder;
use super::features::FeatureProjection;
use super::slots::Slots;
use super::{Named, check_finite, sine_position};
use crate::backend::{Activation, Backend, Epilogue, Grid, Matrix, View};
use crate::error::Result;
use crate::nn::Mlp;
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// Names of the layers of a prediction head.
pub(super) const PREDICTOR: [&str; 3] = ["layers.0", "layers.1", "layers.2"];

/// The reference's `BoxDecoderModel`.
pub struct BoxHead<B: Backend> {
    module: String,
    project: FeatureProjection<B>,
    slots: Slots<B>,
    decoder: DetrDecoder<B>,
    predictor: Mlp<B>,
    d_model: usize,
}

/// Boxes of all slots and what led to them.
pub struct BoxOutput<B: Backend> {
    /// `[num_queries, 4]`: centre x, centre y, width, height, each 0 to 1 of the square-padded picture.
    pub boxes: Matrix<B>,
    /// `[num_queries, d_model]`: the decoder's normed output.
    pub hidden: Matrix<B>,
    /// `[num_queries, d_model]`: the projected latents with their empty slots.
    pub queries: Matrix<B>,
    /// `[cells, d_model]`: the projected features.
    pub memory: Matrix<B>,
    /// `[cells, d_model]`: the positions of the cells.
    pub memory_position: Matrix<B>,
    /// Size of the map that the decoder reads.
    pub grid: Grid,
}

impl<B: Backend> BoxOutput<B> {
    /// Every tensor by its name: `boxes`, `hidden`, `queries`, `memory`, `memory_position`.
    pub fn named(&self) -> [Named<'_, B>; 5] {
        [
            ("boxes", self.boxes.view()),
            ("hidden", self.hidden.view()),
            ("queries", self.queries.view()),
            ("memory", self.memory.view()),
            ("memory_position", self.memory_position.view()),
        ]
    }
}

impl<B: Backend> BoxHead<B> {
    /// Loads the tensors of `config` under the loader's prefix, for example `visual_decoder.box`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &BoxHeadConfig) -> Result<BoxHead<B>> {
        BoxHead::load_limited(loader, config, "visual_decoder.box.num_queries")
    }

    /// As [`BoxHead::load`]; `limit` is the name of its `num_queries`.
    pub(super) fn load_limited(
        loader: &Loader<B>,
        config: &BoxHeadConfig,
        limit: &'static str,
    ) -> Result<BoxHead<B>> {
        let width = config.decoder.d_model;
        let widths = [width, width, width, 4];
        Ok(BoxHead {
            module: loader.prefix().into(),
            project: FeatureProjection::load(loader, &config.input, width)?,
            slots: Slots::load(loader, &config.decoder, limit)?,
            decoder: DetrDecoder::load(&loader.child("decoder"), &config.decoder)?,
            predictor: Mlp::load(&loader.child("predictor"), &PREDICTOR, &widths, Activation::Relu, true)?,
            d_model: width,
        })
    }

    /// Decodes up to `num_queries` latents `[n, quries_input_dim]`.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) for too many latents; [`Error::Input`](crate::Error::Input) where there are
    /// no features or the latents have another width; [`Error::Config`](crate::Error::Config) where the features are not
    /// those of the configuration; [`Error::NonFinite`](crate::Error::NonFinite).
    pub fn forward(&self, backend: &B, features: &[FeatureMap<B>], latents: View<B>) -> Result<BoxOutput<B>> {
        let (memory, grid) = self.project.forward(backend, features)?;
        let queries = self.slots.fill(backend, latents)?;
        let positions = self.slots.positions(backend)?;
        let memory_position = sine_position(backend, grid, self.d_model)?;
        let hidden = self.decoder.forward(
            backend,
            queries.view(),
            positions.view(),
            memory.view(),
            memory_position.view(),
        )?;
        let epilogue = Epilogue::activation(Activation::Sigmoid);
        let boxes = self.predictor.forward(backend, hidden.view(), epilogue)?;
        check_finite(backend, &self.module, &[boxes.view(), hidden.view()])?;
        Ok(BoxOutput { boxes, hidden, queries, memory, memory_position, grid })
    }
}
