//! The pose head: a box decoder whose hidden states a keypoint decoder refines.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Named;
use super::box_head::{BoxHead, BoxOutput};
use super::config::PoseHeadConfig;
use super::keypoint_decoder::{KeypointDecoder, KeypointOutput};
use crate::backend::{Backend, View};
use crate::error::Result;
use crate::vision::FeatureMap;
use crate::weights::Loader;

/// The reference's `PoseDecoderModel`.
pub struct PoseHead<B: Backend> {
    box_head: BoxHead<B>,
    keypoints: KeypointDecoder<B>,
    points: usize,
}

/// Poses of all slots and what led to them.
pub struct PoseOutput<B: Backend> {
    /// The boxes of the first decoder.
    pub first: BoxOutput<B>,
    /// Boxes, keypoints and visibility of the second.
    pub pose: KeypointOutput<B>,
    /// Keypoints per object; 17 in COCO's order for the reference's models.
    pub points: usize,
}

impl<B: Backend> PoseOutput<B> {
    /// Every tensor by its name: those of [`KeypointOutput::named`], then `first_boxes`, `first_hidden`,
    /// `first_queries`, `first_memory`, `memory_position`.
    pub fn named(&self) -> Vec<Named<'_, B>> {
        let first = &self.first;
        let mut named = self.pose.named().to_vec();
        named.extend([
            ("first_boxes", first.boxes.view()),
            ("first_hidden", first.hidden.view()),
            ("first_queries", first.queries.view()),
            ("first_memory", first.memory.view()),
            ("memory_position", first.memory_position.view()),
        ]);
        named
    }
}

impl<B: Backend> PoseHead<B> {
    /// Loads the tensors of `config` under the loader's prefix, for example `visual_decoder.pose`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &PoseHeadConfig) -> Result<PoseHead<B>> {
        let limit = "visual_decoder.pose.num_queries";
        Ok(PoseHead {
            box_head: BoxHead::load_limited(&loader.child("box_decoder"), &config.box_head, limit)?,
            keypoints: KeypointDecoder::load(&loader.child("kpt_decoder"), &config.keypoints)?,
            points: config.keypoints.body_points,
        })
    }

    /// Decodes up to `num_queries` latents, as wide as `quries_input_dim` of `box_config`.
    ///
    /// # Errors
    /// As [`BoxHead::forward`].
    pub fn forward(
        &self,
        backend: &B,
        features: &[FeatureMap<B>],
        latents: View<B>,
    ) -> Result<PoseOutput<B>> {
        let first = self.box_head.forward(backend, features, latents)?;
        let pose = self.keypoints.forward(backend, features, first.hidden.view())?;
        Ok(PoseOutput { first, pose, points: self.points })
    }
}
