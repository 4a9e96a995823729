//! The mask head: one mask per query slot, a product of the slot's embedding and the pixels' embeddings.
#![forbid(unsafe_code)]

use alloc::string::String;

use super::config::MaskHeadConfig;
use super::detr::DetrDecoder;
use super::features::FeatureInput;
use super::fpn::Fpn;
use super::slots::Slots;
use super::{Named, check_finite, sine_position};
use crate::backend::{Activation, Backend, Epilogue, Grid, Matrix, View};
use crate::error::{Error, Result};
use crate::nn::{Linear, Mlp, join_rows};
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// The reference's `MaskDecoderModel`.
pub struct MaskHead<B: Backend> {
    module: String,
    input: FeatureInput,
    pixel_decoder: Fpn<B>,
    project: Option<Linear<B>>,
    slots: Slots<B>,
    decoder: DetrDecoder<B>,
    embedder: Mlp<B>,
    d_model: usize,
}

/// Masks of all slots and what led to them.
pub struct MaskOutput<B: Backend> {
    /// `[num_queries, grid.cells]`: logits, one mask of the square-padded picture per row; a cell is inside where its
    /// sigmoid is large.
    pub logits: Matrix<B>,
    /// Size of a mask: that of the first selected map.
    pub grid: Grid,
    /// `[num_queries, mask_feature_size]`: what the pixels are multiplied with.
    pub mask_embedding: Matrix<B>,
    /// `[grid.cells, mask_feature_size]`: the pixel decoder's output.
    pub pixel_embedding: Matrix<B>,
    /// `[num_queries, d_model]`: the decoder's normed output.
    pub hidden: Matrix<B>,
    /// `[num_queries, d_model]`: the projected latents with their empty slots.
    pub queries: Matrix<B>,
    /// `[cells of the deepest map, d_model]`: what the decoder reads.
    pub memory: Matrix<B>,
    /// `[cells of the deepest map, d_model]`: the positions of its cells.
    pub memory_position: Matrix<B>,
}

impl<B: Backend> MaskOutput<B> {
    /// Every tensor by its name: `logits`, `mask_embedding`, `pixel_embedding`, `hidden`, `queries`, `memory`,
    /// `memory_position`.
    pub fn named(&self) -> [Named<'_, B>; 7] {
        [
            ("logits", self.logits.view()),
            ("mask_embedding", self.mask_embedding.view()),
            ("pixel_embedding", self.pixel_embedding.view()),
            ("hidden", self.hidden.view()),
            ("queries", self.queries.view()),
            ("memory", self.memory.view()),
            ("memory_position", self.memory_position.view()),
        ]
    }
}

impl<B: Backend> MaskHead<B> {
    /// Loads the tensors of `config` under the loader's prefix, for example `visual_decoder.mask`. The reference's unused
    /// `queries_embedder` is not read.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &MaskHeadConfig) -> Result<MaskHead<B>> {
        MaskHead::load_limited(loader, config, "visual_decoder.mask.num_queries")
    }

    /// As [`MaskHead::load`]; `limit` is the name of its `num_queries`.
    pub(super) fn load_limited(
        loader: &Loader<B>,
        config: &MaskHeadConfig,
        limit: &'static str,
    ) -> Result<MaskHead<B>> {
        let width = config.decoder.d_model;
        let dims = &config.input.dims;
        let deepest = dims.last().copied().unwrap_or_default();
        let project = match deepest == width {
            true => None,
            false => {
                let loader = loader.child("in_proj_visual_feats");
                Some(Linear::load_as(&loader, &[width, deepest, 1, 1], true)?)
            }
        };
        let widths = [width, width, width, config.mask_size];
        let embedder = loader.child("mask_embedder");
        let pixel_decoder = loader.child("pixel_decoder");
        Ok(MaskHead {
            module: loader.prefix().into(),
            input: config.input.clone(),
            pixel_decoder: Fpn::load(&pixel_decoder, dims, config.fpn_size, config.mask_size)?,
            project,
            slots: Slots::load(loader, &config.decoder, limit)?,
            decoder: DetrDecoder::load(&loader.child("query_decoder"), &config.decoder)?,
            embedder: Mlp::load(&embedder, &["0.0", "1.0", "2.0"], &widths, Activation::Relu, true)?,
            d_model: width,
        })
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
    ) -> Result<MaskOutput<B>> {
        let maps = self.input.select(features)?;
        let Some(deepest) = maps.last() else {
            return Err(Error::Input { field: "features", reason: "are none".into() });
        };
        let queries = self.slots.fill(backend, latents)?;
        let positions = self.slots.positions(backend)?;
        let (pixel_embedding, grid) = self.pixel_decoder.forward(backend, &maps)?;
        let memory = match &self.project {
            Some(project) => project.forward(backend, deepest.view, Epilogue::NONE)?,
            None => join_rows(backend, &[deepest.view])?,
        };
        let memory_position = sine_position(backend, deepest.grid, self.d_model)?;
        let hidden = self.decoder.forward(
            backend,
            queries.view(),
            positions.view(),
            memory.view(),
            memory_position.view(),
        )?;
        let mask_embedding = self.embedder.forward(backend, hidden.view(), Epilogue::NONE)?;
        let logits = backend.matmul(mask_embedding.view(), pixel_embedding.view(), true)?;
        check_finite(backend, &self.module, &[logits.view()])?;
        Ok(MaskOutput {
            logits,
            grid,
            mask_embedding,
            pixel_embedding,
            hidden,
            queries,
            memory,
            memory_position,
        })
    }
}
