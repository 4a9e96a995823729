//! The second half of the pose head: every object's hidden state becomes one query for its box and one for each of its
//! keypoints.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::box_head::PREDICTOR;
use super::config::KeypointDecoderConfig;
use super::detr::DetrDecoder;
use super::features::FeatureProjection;
use super::{Named, check_finite, sine_position};
use crate::backend::{Activation, Backend, Epilogue, Matrix, View, Weight};
use crate::checked::{Size, quotient};
use crate::error::{Error, Result};
use crate::nn::{Linear, Mlp};
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// The reference's `KeypointDecoderModel`.
pub struct KeypointDecoder<B: Backend> {
    module: String,
    config: KeypointDecoderConfig,
    project: FeatureProjection<B>,
    project_queries: Linear<B>,
    embedding: Weight<B>,
    positions: Weight<B>,
    decoder: DetrDecoder<B>,
    box_predictor: Mlp<B>,
    point_predictor: Mlp<B>,
    classifier: Linear<B>,
    /// The object of every query.
    repeated: Vec<usize>,
    /// Queries of boxes, and those of keypoints.
    box_rows: Vec<usize>,
    point_rows: Vec<usize>,
}

/// Keypoints of all slots and what led to them.
pub struct KeypointOutput<B: Backend> {
    /// `[num_queries, 4]`: the object's box, predicted again.
    pub boxes: Matrix<B>,
    /// `[num_queries * points, 2]`: x and y, each 0 to 1 of the square-padded picture; the points of a slot together.
    pub keypoints: Matrix<B>,
    /// `[num_queries * points, 2]`: logits of not visible and visible.
    pub visibility: Matrix<B>,
    /// `[num_queries * (points + 1), d_model]`: the decoder's normed output, the box's row before the points'.
    pub hidden: Matrix<B>,
    /// `[num_queries * (points + 1), d_model]`: the queries.
    pub queries: Matrix<B>,
    /// `[cells, d_model]`: the projected features.
    pub memory: Matrix<B>,
}

impl<B: Backend> KeypointOutput<B> {
    /// Every tensor by its name: `boxes`, `keypoints`, `visibility`, `keypoint_hidden`, `keypoint_queries`,
    /// `keypoint_memory`.
    pub fn named(&self) -> [Named<'_, B>; 6] {
        [
            ("boxes", self.boxes.view()),
            ("keypoints", self.keypoints.view()),
            ("visibility", self.visibility.view()),
            ("keypoint_hidden", self.hidden.view()),
            ("keypoint_queries", self.queries.view()),
            ("keypoint_memory", self.memory.view()),
        ]
    }
}

impl<B: Backend> KeypointDecoder<B> {
    /// Loads the tensors of `config` under the loader's prefix.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &KeypointDecoderConfig) -> Result<KeypointDecoder<B>> {
        let width = config.decoder.d_model;
        let group = Size::new(config.body_points).plus(1)?.get();
        let rows = Size::new(config.decoder.num_queries).times(group)?.get();
        let linear = |name, outputs, inputs| Linear::load(&loader.child(name), outputs, inputs, true);
        let predictor = |name, outputs| {
            let widths = [width, width, width, outputs];
            Mlp::load(&loader.child(name), &PREDICTOR, &widths, Activation::Relu, true)
        };
        // As many rows as the file has, so that the lists of them are no larger than a tensor.
        let positions = loader.weight("query_position_embeddings.weight", &[rows, width])?;
        let (box_rows, point_rows) = (0..rows).partition(|row| row.is_multiple_of(group));
        Ok(KeypointDecoder {
            repeated: (0..rows).map(|row| quotient(row, group)).collect(),
            box_rows,
            point_rows,
            module: loader.prefix().into(),
            project: FeatureProjection::load(loader, &config.input, width)?,
            project_queries: linear("in_proj_queries", width, config.decoder.query_dim)?,
            embedding: loader.weight("kpt_embedding.weight", &[group, width])?,
            positions,
            decoder: DetrDecoder::load(&loader.child("decoder"), &config.decoder)?,
            box_predictor: predictor("box_predictor", 4)?,
            point_predictor: predictor("kpt_predictor", 2)?,
            classifier: linear("kpt_classifier", 2, width)?,
            config: config.clone(),
        })
    }

    /// Decodes the hidden states `[num_queries, quries_input_dim]` of a box decoder.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not `num_queries` of them; else as [`super::BoxHead::forward`].
    pub fn forward(
        &self,
        backend: &B,
        features: &[FeatureMap<B>],
        objects: View<B>,
    ) -> Result<KeypointOutput<B>> {
        let slots = self.config.decoder.num_queries;
        if objects.rows() != slots {
            let reason = format!("{} rows instead of {slots}", objects.rows());
            return Err(Error::Shape { operand: "keypoint_decoder.objects", reason });
        }
        let (width, group) = (self.config.decoder.d_model, self.config.body_points + 1);
        let (memory, grid) = self.project.forward(backend, features)?;
        let memory_position = sine_position(backend, grid, width)?;

        let projected = self.project_queries.forward(backend, objects, Epilogue::NONE)?;
        let repeated = backend.gather(projected.view(), &self.repeated)?;
        let embedding = backend.read(&self.embedding, group, width)?;
        let queries = backend.add(repeated.view(), embedding.view())?;
        let positions = backend.read(&self.positions, slots * group, width)?;
        let hidden = self.decoder.forward(
            backend,
            queries.view(),
            positions.view(),
            memory.view(),
            memory_position.view(),
        )?;

        let box_hidden = backend.gather(hidden.view(), &self.box_rows)?;
        let point_hidden = backend.gather(hidden.view(), &self.point_rows)?;
        let sigmoid = || Epilogue::activation(Activation::Sigmoid);
        let boxes = self.box_predictor.forward(backend, box_hidden.view(), sigmoid())?;
        let keypoints = self.point_predictor.forward(backend, point_hidden.view(), sigmoid())?;
        let visibility = self.classifier.forward(backend, point_hidden.view(), Epilogue::NONE)?;
        check_finite(backend, &self.module, &[boxes.view(), keypoints.view(), visibility.view()])?;
        Ok(KeypointOutput { boxes, keypoints, visibility, hidden, queries, memory })
    }
}
