//! Configurations of the heads, by the fields of the reference's configuration classes.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::depth_head::DepthRange;
use super::features::{FeatureInput, InputTransform};
use crate::backend::Activation;
use crate::config::Fields;
use crate::error::Result;
use crate::nn;
use crate::words::{Decimals, Quoted};

/// Groups of every group norm in the pixel decoder.
pub(super) const GROUPS: usize = 32;

/// What a query slot without a latent holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptySlots {
    /// The bias of the query projection: latents are padded with zeros before it.
    #[default]
    Bias,
    /// Zeros: padded after the projection. So it is behind a `vd_adapter`.
    Zeros,
}

/// A DETR decoder with its queries.
#[derive(Clone, Debug)]
pub struct DecoderConfig {
    /// Query slots.
    pub num_queries: usize,
    /// Width of a latent.
    pub query_dim: usize,
    /// Width inside the decoder; a multiple of 4 and of `heads`.
    pub d_model: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Hidden width of the feed-forward parts.
    pub ffn: usize,
    /// Attention heads.
    pub heads: usize,
    /// Activation of the feed-forward parts.
    pub activation: Activation,
    /// Whether the final norm follows every layer, not the last alone (`auxiliary_loss` of the box head).
    pub norm_every_layer: bool,
    /// What a slot without a latent holds; not a field, whoever puts a `vd_adapter` before the head sets it.
    pub empty_slots: EmptySlots,
}

impl DecoderConfig {
    /// Reads the decoder's fields; `num_queries` comes from `shared` where `fields` lacks it.
    fn from_fields(
        fields: &Fields,
        shared: &Fields,
        num_queries: usize,
        query_dim: usize,
        layers: usize,
    ) -> Result<DecoderConfig> {
        let config = DecoderConfig {
            num_queries: either(fields, shared, "num_queries").usize_or("num_queries", num_queries)?,
            query_dim: fields.usize_or("quries_input_dim", query_dim)?,
            d_model: fields.usize_or("d_model", 256)?,
            layers: fields.usize_or("decoder_layers", layers)?,
            ffn: fields.usize_or("decoder_ffn_dim", 2048)?,
            heads: fields.usize_or("decoder_attention_heads", 8)?,
            activation: nn::activation(fields, "activation_function", "relu")?,
            norm_every_layer: false,
            empty_slots: EmptySlots::default(),
        };
        if config.num_queries == 0 {
            return Err(either(fields, shared, "num_queries").error("num_queries", "must be above 0"));
        }
        if config.d_model == 0 || !config.d_model.is_multiple_of(4) {
            return Err(
                fields.error("d_model", format!("is {}, but must be a multiple of 4", config.d_model))
            );
        }
        if config.heads == 0 || !config.d_model.is_multiple_of(config.heads) {
            let reason = format!("is {}, which does not divide d_model {}", config.heads, config.d_model);
            return Err(fields.error("decoder_attention_heads", reason));
        }
        Ok(config)
    }
}

/// The box head: `BoxDecoderConfig` of the reference.
#[derive(Clone, Debug)]
pub struct BoxHeadConfig {
    /// Which features it reads.
    pub input: FeatureInput,
    /// Its decoder.
    pub decoder: DecoderConfig,
}

impl BoxHeadConfig {
    /// Reads the fields of `visual_decoder.box`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field.
    pub fn from_fields(fields: &Fields) -> Result<BoxHeadConfig> {
        BoxHeadConfig::shared(fields, fields, 100)
    }

    fn shared(fields: &Fields, shared: &Fields, num_queries: usize) -> Result<BoxHeadConfig> {
        let mut decoder = DecoderConfig::from_fields(fields, shared, num_queries, 256, 6)?;
        decoder.norm_every_layer = fields.bool_or("auxiliary_loss", false)?;
        Ok(BoxHeadConfig { input: concat_input(fields, shared)?, decoder })
    }
}

/// The second decoder of the pose head: `KeypointDecoderConfig` of the reference.
#[derive(Clone, Debug)]
pub struct KeypointDecoderConfig {
    /// Which features it reads.
    pub input: FeatureInput,
    /// Its decoder; `num_queries` and `query_dim` are those of the box decoder before it.
    pub decoder: DecoderConfig,
    /// Keypoints per object.
    pub body_points: usize,
}

/// The pose head: `PoseDecoderConfig` of the reference.
#[derive(Clone, Debug)]
pub struct PoseHeadConfig {
    /// The first decoder; it alone sees empty slots.
    pub box_head: BoxHeadConfig,
    /// The second decoder.
    pub keypoints: KeypointDecoderConfig,
}

impl PoseHeadConfig {
    /// Reads the fields of `visual_decoder.pose`. `box_config` and `keypoint_config` inherit `num_queries` and the
    /// `encoder_input_*` fields that they do not set.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field.
    pub fn from_fields(fields: &Fields) -> Result<PoseHeadConfig> {
        let box_head = BoxHeadConfig::shared(&fields.child("box_config")?, fields, 20)?;
        let own = fields.child("keypoint_config")?;
        let decoder = DecoderConfig::from_fields(&own, fields, 20, 256, 6)?;
        if decoder.num_queries != box_head.decoder.num_queries {
            let reason = format!(
                "is {}, but the box decoder has {}",
                decoder.num_queries, box_head.decoder.num_queries
            );
            return Err(own.error("num_queries", reason));
        }
        if decoder.query_dim != box_head.decoder.d_model {
            let reason = format!(
                "is {}, but the box decoder's d_model is {}",
                decoder.query_dim, box_head.decoder.d_model
            );
            return Err(own.error("quries_input_dim", reason));
        }
        let body_points = own.usize_or("num_body_points", 17)?;
        if !(1..=1024).contains(&body_points) {
            return Err(own.error("num_body_points", format!("is {body_points}, but must be 1 to 1024")));
        }
        let keypoints = KeypointDecoderConfig { input: concat_input(&own, fields)?, decoder, body_points };
        Ok(PoseHeadConfig { box_head, keypoints })
    }
}

/// The mask head: `MaskDecoderConfig` of the reference.
#[derive(Clone, Debug)]
pub struct MaskHeadConfig {
    /// Which features it reads, the map of the highest resolution first.
    pub input: FeatureInput,
    /// Its decoder.
    pub decoder: DecoderConfig,
    /// Channels inside the pixel decoder; a multiple of 32.
    pub fpn_size: usize,
    /// Channels of the pixel and mask embeddings.
    pub mask_size: usize,
}

impl MaskHeadConfig {
    /// Reads the fields of `visual_decoder.mask`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field.
    pub fn from_fields(fields: &Fields) -> Result<MaskHeadConfig> {
        let decoder = DecoderConfig::from_fields(fields, fields, 30, 4096, 10)?;
        let transform = transform(fields, InputTransform::MultipleSelect)?;
        if transform != InputTransform::MultipleSelect {
            return Err(fields.error("encoder_input_transform", "must be \"multiple_select\" here"));
        }
        let index = fields.optional_usizes("encoder_input_index")?.unwrap_or_else(|| [3, 2, 1].to_vec());
        let dims = fields.optional_usizes("encoder_input_dim")?.unwrap_or_else(|| [1024; 3].to_vec());
        if index.len() < 2 {
            return Err(fields.error("encoder_input_index", "must name at least 2 feature maps"));
        }
        let fpn_size = fields.usize_or("fpn_feature_size", 256)?;
        if fpn_size == 0 || !fpn_size.is_multiple_of(GROUPS) {
            let reason = format!("is {fpn_size}, but must be a multiple of {GROUPS}");
            return Err(fields.error("fpn_feature_size", reason));
        }
        let mask_size = fields.usize_or("mask_feature_size", 256)?;
        let input = input(fields, transform, index, dims)?;
        Ok(MaskHeadConfig { input, decoder, fpn_size, mask_size })
    }
}

/// The depth head: `DepthDecoderConfig` of the reference, and the range of its map.
#[derive(Clone, Debug)]
pub struct DepthHeadConfig {
    /// The same architecture as the mask head.
    pub mask: MaskHeadConfig,
    /// What 0 and 1 mean; without it the map is relative, larger is farther.
    pub range: Option<DepthRange>,
}

impl DepthHeadConfig {
    /// Reads the fields of `visual_decoder.depth`: those of a mask head, and `depth_range: [near, far]` in metres.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field.
    pub fn from_fields(fields: &Fields) -> Result<DepthHeadConfig> {
        let range = match fields.optional_f32s("depth_range")?.as_deref() {
            None => None,
            Some(&[near, far]) if 0.0 <= near && near < far => Some(DepthRange { near, far }),
            Some(other) => {
                let reason = format!("must be [near, far] with 0 <= near < far, but is {}", Decimals(other));
                return Err(fields.error("depth_range", reason));
            }
        };
        Ok(DepthHeadConfig { mask: MaskHeadConfig::from_fields(fields)?, range })
    }
}

/// `fields` where it has the field, else `shared`.
fn either<'a>(fields: &'a Fields, shared: &'a Fields, name: &str) -> &'a Fields {
    if fields.has(name) { fields } else { shared }
}

fn transform(fields: &Fields, default: InputTransform) -> Result<InputTransform> {
    match fields.optional_str("encoder_input_transform")? {
        None => Ok(default),
        Some("resize_concat") => Ok(InputTransform::ResizeConcat),
        Some("multiple_select") => Ok(InputTransform::MultipleSelect),
        Some(other) => {
            Err(fields.error("encoder_input_transform", format!("unknown transformation {}", Quoted(other))))
        }
    }
}

/// The input of a head that reads one map: several are resized and concatenated, a lone one is read as it is.
fn concat_input(fields: &Fields, shared: &Fields) -> Result<FeatureInput> {
    let source = |name| either(fields, shared, name);
    let index = source("encoder_input_index").optional_usizes("encoder_input_index")?;
    let index = index.unwrap_or_else(|| [0, 1, 2, 3].to_vec());
    let holder = source("encoder_input_dim");
    let dims = holder.usizes("encoder_input_dim")?;
    let owner = source("encoder_input_transform");
    let transform = transform(owner, InputTransform::ResizeConcat)?;
    if transform == InputTransform::MultipleSelect && index.len() > 1 {
        return Err(owner.error("encoder_input_transform", "must be \"resize_concat\" for several maps here"));
    }
    input(holder, transform, index, dims)
}

fn input(
    fields: &Fields,
    transform: InputTransform,
    index: Vec<usize>,
    dims: Vec<usize>,
) -> Result<FeatureInput> {
    if index.len() != dims.len() || index.is_empty() {
        let reason = format!("has {} numbers, but encoder_input_index has {}", dims.len(), index.len());
        return Err(fields.error("encoder_input_dim", reason));
    }
    Ok(FeatureInput { path: fields.path().into(), transform, index, dims })
}
