//! Configuration of a vision transformer, read from the fields of transformers' configurations or from the constructor
//! arguments of timm.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::Activation;
use crate::config::Fields;
use crate::error::Result;
use crate::nn;
use crate::words::{Decimal, Quoted};

/// Which tensor names a vision transformer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameTable {
    /// `CLIPVisionModel` of transformers.
    Clip,
    /// `SiglipVisionModel` of transformers.
    Siglip,
    /// `Dinov2Model` and `Dinov2WithRegistersModel` of transformers.
    Dinov2,
    /// `VisionTransformer` of timm.
    Timm,
}

/// Which tokens have a learned position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionScope {
    /// Every token, in the order class, registers, patches.
    All,
    /// The class token and the patches, but not the registers.
    ClassAndPatches,
    /// The patches alone.
    Patches,
}

/// What happens where the stored grid of positions differs from the grid of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling {
    /// An error that names both.
    None,
    /// Cubic convolution with a = -0.75 at the sample points (transformers' `Dinov2Model`).
    Bicubic,
    /// Cubic convolution with a = -0.5, widened when the grid shrinks (timm; `Dinov2WithRegistersModel`).
    BicubicAntialias,
}

/// How the tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// They do not.
    None,
    /// The class token.
    Class,
    /// Mean of the patch tokens.
    Mean,
    /// Attention from a learned probe (SigLIP, timm's `map`).
    Attention,
}

/// Architecture of a vision transformer.
#[derive(Clone, Debug)]
pub struct VitConfig {
    /// Tensor names.
    pub names: NameTable,
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub heads: usize,
    /// Width of the hidden layer of the feed-forward part.
    pub mlp_size: usize,
    /// Its activation.
    pub activation: Activation,
    /// Added to the variance in every norm.
    pub eps: f32,
    /// Whether there is a class token.
    pub class_token: bool,
    /// Number of register tokens.
    pub registers: usize,
    /// Which tokens have a learned position.
    pub positions: PositionScope,
    /// What happens where the grids differ.
    pub resampling: Resampling,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Whether the embeddings are normed before the first block.
    pub pre_norm: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the queries and keys of every head are normed.
    pub qk_norm: bool,
    /// Whether attention and feed-forward part are scaled by channel before their residual is added.
    pub layer_scale: bool,
    /// Soft cap of the attention logits; 30 in locality alignment's "svit" models.
    pub soft_cap: Option<f32>,
    /// Whether the tokens are normed after the last block.
    pub final_norm: bool,
    /// How the tokens become one vector.
    pub pool: PoolKind,
    /// Whether the pooled vector is normed (timm's `fc_norm`).
    pub pool_norm: bool,
}

impl VitConfig {
    /// Reads the fields; `model_type` says which ones: `clip_vision_model`, `siglip_vision_model`, `dinov2`,
    /// `dinov2_with_registers` (transformers' names) or `timm_vit` (timm's constructor arguments, and `norm_eps`,
    /// default 1e-6). All of them take `max_attn_val`, the soft cap of locality alignment, default none.
    ///
    /// `interpolate_pos_encoding` (timm: `dynamic_img_size`) lets the learned positions be resampled to the grid of
    /// the picture; transformers always does so for DINOv2.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field.
    pub fn from_fields(fields: &Fields) -> Result<VitConfig> {
        let config = match fields.str("model_type")? {
            "clip_vision_model" => clip(fields)?,
            "siglip_vision_model" => siglip(fields)?,
            "dinov2" | "dinov2_with_registers" => dinov2(fields)?,
            "timm_vit" => timm(fields)?,
            other => {
                return Err(
                    fields.error("model_type", format!("unknown vision transformer {}", Quoted(other)))
                );
            }
        };
        let (width, heads, image) = match config.names {
            NameTable::Timm => ("embed_dim", "num_heads", "img_size"),
            _ => ("hidden_size", "num_attention_heads", "image_size"),
        };
        if config.heads == 0 || !config.hidden_size.is_multiple_of(config.heads) || config.hidden_size == 0 {
            let reason = format!("is {}, which does not divide {width} {}", config.heads, config.hidden_size);
            return Err(fields.error(heads, reason));
        }
        if config.patch_size == 0 || config.image_size < config.patch_size {
            let reason = format!("is {}, smaller than one patch of {}", config.image_size, config.patch_size);
            return Err(fields.error(image, reason));
        }
        if config.mlp_size == 0 {
            return Err(fields.error("intermediate_size", "must be above 0"));
        }
        Ok(config)
    }

    /// Number of tokens before the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token).saturating_add(self.registers)
    }
}

/// Refuses a field that is set to something else than the only value there is code for.
fn only_bool(fields: &Fields, name: &str, supported: bool) -> Result<()> {
    if fields.bool_or(name, supported)? == supported {
        return Ok(());
    }
    Err(fields.error(name, format!("only {supported} is supported")))
}

/// Pictures have three channels.
fn only_rgb(fields: &Fields, name: &str) -> Result<()> {
    match fields.usize_or(name, 3)? {
        3 => Ok(()),
        other => Err(fields.error(name, format!("is {other}, but pictures have 3 channels"))),
    }
}

/// The soft cap of the attention logits.
fn soft_cap(fields: &Fields) -> Result<Option<f32>> {
    match fields.optional_f32("max_attn_val")? {
        Some(cap) if cap.is_nan() || cap <= 0.0 => Err(fields.error("max_attn_val", "must be above 0")),
        cap => Ok(cap),
    }
}

fn interpolates(fields: &Fields, default: bool) -> Result<Resampling> {
    let on = fields.bool_or("interpolate_pos_encoding", default)?;
    Ok(if on { Resampling::Bicubic } else { Resampling::None })
}

fn clip(fields: &Fields) -> Result<VitConfig> {
    only_rgb(fields, "num_channels")?;
    Ok(VitConfig {
        names: NameTable::Clip,
        image_size: fields.usize_or("image_size", 224)?,
        patch_size: fields.usize_or("patch_size", 32)?,
        hidden_size: fields.usize_or("hidden_size", 768)?,
        layers: fields.usize_or("num_hidden_layers", 12)?,
        heads: fields.usize_or("num_attention_heads", 12)?,
        mlp_size: fields.usize_or("intermediate_size", 3072)?,
        activation: nn::activation(fields, "hidden_act", "quick_gelu")?,
        eps: fields.f32_or("layer_norm_eps", 1e-5)?,
        class_token: true,
        registers: 0,
        positions: PositionScope::All,
        resampling: interpolates(fields, false)?,
        patch_bias: false,
        pre_norm: true,
        qkv_bias: true,
        qk_norm: false,
        layer_scale: false,
        soft_cap: soft_cap(fields)?,
        final_norm: true,
        pool: PoolKind::Class,
        pool_norm: false,
    })
}

fn siglip(fields: &Fields) -> Result<VitConfig> {
    let head = fields.bool_or("vision_use_head", true)?;
    Ok(VitConfig {
        names: NameTable::Siglip,
        patch_size: fields.usize_or("patch_size", 16)?,
        activation: nn::activation(fields, "hidden_act", "gelu_pytorch_tanh")?,
        eps: fields.f32_or("layer_norm_eps", 1e-6)?,
        class_token: false,
        positions: PositionScope::Patches,
        patch_bias: true,
        pre_norm: false,
        pool: if head { PoolKind::Attention } else { PoolKind::None },
        ..clip(fields)?
    })
}

fn dinov2(fields: &Fields) -> Result<VitConfig> {
    only_rgb(fields, "num_channels")?;
    only_bool(fields, "use_swiglu_ffn", false)?;
    let hidden_size = fields.usize_or("hidden_size", 768)?;
    let ratio = fields.f64_or("mlp_ratio", 4.0)?;
    let with_registers = fields.str("model_type")? == "dinov2_with_registers";
    let registers = fields.usize_or("num_register_tokens", if with_registers { 4 } else { 0 })?;
    let resampling = match interpolates(fields, true)? {
        Resampling::Bicubic if registers > 0 => Resampling::BicubicAntialias,
        other => other,
    };
    Ok(VitConfig {
        names: NameTable::Dinov2,
        image_size: fields.usize_or("image_size", 224)?,
        patch_size: fields.usize_or("patch_size", 14)?,
        hidden_size,
        layers: fields.usize_or("num_hidden_layers", 12)?,
        heads: fields.usize_or("num_attention_heads", 12)?,
        mlp_size: scaled(fields, "mlp_ratio", hidden_size, ratio)?,
        activation: nn::activation(fields, "hidden_act", "gelu")?,
        eps: fields.f32_or("layer_norm_eps", 1e-6)?,
        class_token: true,
        registers,
        positions: PositionScope::ClassAndPatches,
        resampling,
        patch_bias: true,
        pre_norm: false,
        qkv_bias: fields.bool_or("qkv_bias", true)?,
        qk_norm: false,
        layer_scale: true,
        soft_cap: soft_cap(fields)?,
        final_norm: true,
        pool: PoolKind::Class,
        pool_norm: false,
    })
}

fn timm(fields: &Fields) -> Result<VitConfig> {
    only_rgb(fields, "in_chans")?;
    only_bool(fields, "scale_attn_norm", false)?;
    only_bool(fields, "scale_mlp_norm", false)?;
    only_bool(fields, "proj_bias", true)?;
    only_bool(fields, "pool_include_prefix", false)?;
    only_bool(fields, "dynamic_img_pad", false)?;
    for (name, supported) in [
        ("pos_embed", "learn"),
        ("norm_layer", "layernorm"),
        ("mlp_layer", "mlp"),
        ("attn_layer", "attention"),
    ] {
        let asked = fields.str_or(name, supported)?;
        if asked != supported {
            return Err(fields.error(name, format!("only {supported} is supported, not {}", Quoted(asked))));
        }
    }
    if fields.has("embed_norm_layer") {
        return Err(fields.error("embed_norm_layer", "is not supported"));
    }
    let hidden_size = fields.usize_or("embed_dim", 768)?;
    let class_token = fields.bool_or("class_token", true)?;
    let pool = match fields.str_or("global_pool", "token")? {
        "" => PoolKind::None,
        "token" if class_token => PoolKind::Class,
        "token" => return Err(fields.error("global_pool", "is \"token\", but class_token is false")),
        "avg" => PoolKind::Mean,
        "map" => PoolKind::Attention,
        other => return Err(fields.error("global_pool", format!("{} is not supported", Quoted(other)))),
    };
    let pool_norm = fields.bool_or("fc_norm", pool == PoolKind::Mean)?;
    let pre_norm = fields.bool_or("pre_norm", false)?;
    let dynamic = fields.bool_or("dynamic_img_size", false)?;
    let no_embed_class = fields.bool_or("no_embed_class", false)?;
    Ok(VitConfig {
        names: NameTable::Timm,
        image_size: square(fields, "img_size", 224)?,
        patch_size: square(fields, "patch_size", 16)?,
        hidden_size,
        layers: fields.usize_or("depth", 12)?,
        heads: fields.usize_or("num_heads", 12)?,
        mlp_size: scaled(fields, "mlp_ratio", hidden_size, fields.f64_or("mlp_ratio", 4.0)?)?,
        activation: nn::activation(fields, "act_layer", "gelu")?,
        eps: fields.f32_or("norm_eps", 1e-6)?,
        class_token,
        registers: fields.usize_or("reg_tokens", 0)?,
        positions: if no_embed_class { PositionScope::Patches } else { PositionScope::All },
        resampling: if dynamic { Resampling::BicubicAntialias } else { Resampling::None },
        patch_bias: !pre_norm,
        pre_norm,
        qkv_bias: fields.bool_or("qkv_bias", true)?,
        qk_norm: fields.bool_or("qk_norm", false)?,
        layer_scale: fields.optional_f32("init_values")?.is_some_and(|value| value != 0.0),
        soft_cap: soft_cap(fields)?,
        final_norm: fields.bool_or("final_norm", true)? && !pool_norm,
        pool,
        pool_norm,
    })
}

/// A size that timm takes as a number or a pair of equal numbers.
fn square(fields: &Fields, name: &str, default: usize) -> Result<usize> {
    match fields.optional_usizes(name)?.as_deref() {
        None => Ok(default),
        Some(&[side]) => Ok(side),
        Some(&[height, width]) if height == width => Ok(height),
        Some(other) => Err(fields.error(name, format!("must be square, but is {other:?}"))),
    }
}

/// `int(size * ratio)`, checked.
fn scaled(fields: &Fields, name: &str, size: usize, ratio: f64) -> Result<usize> {
    let width = size as f64 * ratio;
    if (1.0..4e9).contains(&width) {
        return Ok(width as usize);
    }
    Err(fields.error(name, format!("gives a feed-forward width of {}", Decimal(width))))
}
