//! Decoder heads: the hidden state of a `<REF>` token becomes a box, a mask, keypoints or a depth map.
//!
//! Every head takes the feature maps of the encoders and the latents `[n, width of the language model]` of one answer,
//! and always runs all its `num_queries` slots: empty ones take part in self-attention, so that leaving them out would
//! change the others. The outputs hold every slot; slot `i` belongs to latent `i`.
//!
//! Coordinates are fractions of the square-padded picture, 0 to 1 from its upper left corner.
#![forbid(unsafe_code)]

mod box_head;
mod config;
mod depth_head;
mod detr;
mod features;
mod fpn;
mod keypoint_decoder;
mod mask_head;
mod pose_head;
mod position;
mod slots;
mod two_way;
mod vd_adapter;

pub use box_head::{BoxHead, BoxOutput};
pub use config::{
    BoxHeadConfig, DecoderConfig, DepthHeadConfig, EmptySlots, KeypointDecoderConfig, MaskHeadConfig,
    PoseHeadConfig,
};
pub use depth_head::{DepthHead, DepthOutput, DepthRange};
pub use detr::DetrDecoder;
pub use features::{FeatureInput, InputTransform};
pub use fpn::Fpn;
pub use keypoint_decoder::{KeypointDecoder, KeypointOutput};
pub use mask_head::{MaskHead, MaskOutput};
pub use pose_head::{PoseHead, PoseOutput};
pub use position::sine_position;
pub use vd_adapter::{AdapterGroup, VdAdapter, VdAdapterConfig, VdAdapterOutput};

use crate::backend::{Backend, View};
use crate::error::{Error, Result};

/// A tensor of a head's output with the name that its documentation gives it.
pub type Named<'a, B> = (&'static str, View<'a, B>);

/// [`Error::NonFinite`] naming `module` where any of the matrices holds a NaN or an infinity.
fn check_finite<B: Backend>(backend: &B, module: &str, outputs: &[View<B>]) -> Result<()> {
    for output in outputs {
        if !backend.is_finite(*output)? {
            return Err(Error::NonFinite { module: module.into() });
        }
    }
    Ok(())
}
