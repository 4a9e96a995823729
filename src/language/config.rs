//! Configuration of the language model: the fields of Hugging Face's `LlamaConfig` and `MistralConfig`.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::Activation;
use crate::checked::quotient;
use crate::config::Fields;
use crate::error::Result;
use crate::nn::activation;

/// How the rotary frequencies are stretched for contexts longer than the pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Llama-3.1: long wavelengths divided by `factor`, short ones kept, those between blended.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f32,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are long.
        low_freq_factor: f32,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are short.
        high_freq_factor: f32,
        /// Context length of the pre-training, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// Sizes and options of a Llama-family decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Entries of the embedding table.
    pub vocab_size: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Width of the gated feed-forward.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head; even. `hidden_size / num_attention_heads` where the file has none.
    pub head_dim: usize,
    /// Activation of the feed-forward's gate (`hidden_act`).
    pub hidden_act: Activation,
    /// Longest context in tokens, image tokens included.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Tokens a position attends to, itself included (Mistral); `None` for all before it.
    pub sliding_window: Option<usize>,
    /// The output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// The attention's projections have biases.
    pub attention_bias: bool,
    /// The feed-forward's projections have biases.
    pub mlp_bias: bool,
}

impl LlamaConfig {
    /// Reads the object `llm` of `config.json`. `model_type` is `llama` or `mistral`; the rotary fields may stand at the
    /// top (`rope_theta`, `rope_scaling`) or, as newer files have it, in `rope_parameters`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field that is missing, mistyped or out of range.
    pub fn parse(fields: &Fields) -> Result<LlamaConfig> {
        let model_type = fields.str_or("model_type", "llama")?;
        if !matches!(model_type, "llama" | "mistral") {
            return Err(fields.error("model_type", format!("\"{model_type}\" is neither llama nor mistral")));
        }
        let mistral = model_type == "mistral";
        let positive = |name: &str| match fields.usize(name)? {
            0 => Err(fields.error(name, "must be positive")),
            value => Ok(value),
        };
        let hidden_size = positive("hidden_size")?;
        let num_attention_heads = positive("num_attention_heads")?;
        let num_key_value_heads = match fields.optional_usize("num_key_value_heads")? {
            Some(heads) => heads,
            None => num_attention_heads,
        };
        if num_key_value_heads == 0 || !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(fields.error("num_key_value_heads", "must divide num_attention_heads"));
        }
        let head_dim = match fields.optional_usize("head_dim")? {
            Some(width) => width,
            None if hidden_size.is_multiple_of(num_attention_heads) => {
                quotient(hidden_size, num_attention_heads)
            }
            None => return Err(fields.error("num_attention_heads", "must divide hidden_size")),
        };
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(fields.error("head_dim", "must be even and positive"));
        }
        let hidden_act = activation(fields, "hidden_act", "silu")?;
        let sliding_window = if mistral { fields.optional_usize("sliding_window")? } else { None };
        if sliding_window == Some(0) {
            return Err(fields.error("sliding_window", "must be positive or null"));
        }
        let rms_norm_eps = fields.f32_or("rms_norm_eps", 1e-6)?;
        if !(rms_norm_eps.is_finite() && rms_norm_eps >= 0.0) {
            return Err(fields.error("rms_norm_eps", "must be finite and not negative"));
        }
        let (rope_theta, rope_scaling) = rope(fields)?;
        Ok(LlamaConfig {
            vocab_size: positive("vocab_size")?,
            hidden_size,
            intermediate_size: positive("intermediate_size")?,
            num_hidden_layers: positive("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            hidden_act,
            max_position_embeddings: positive("max_position_embeddings")?,
            rms_norm_eps,
            rope_theta,
            rope_scaling,
            sliding_window,
            tie_word_embeddings: fields.bool_or("tie_word_embeddings", false)?,
            attention_bias: fields.bool_or("attention_bias", false)?,
            mlp_bias: fields.bool_or("mlp_bias", false)?,
        })
    }
}

/// Base and stretching of the rotary frequencies.
fn rope(fields: &Fields) -> Result<(f32, RopeScaling)> {
    let (place, theta) = match fields.optional_child("rope_parameters")? {
        Some(place) => {
            let theta = place.f32_or("rope_theta", 10_000.0)?;
            (Some(place), theta)
        }
        None => (fields.optional_child("rope_scaling")?, fields.f32_or("rope_theta", 10_000.0)?),
    };
    if !(theta.is_finite() && theta > 1.0) {
        return Err(fields.error("rope_theta", "must be finite and above 1"));
    }
    let Some(place) = place else { return Ok((theta, RopeScaling::None)) };
    let kind = match place.str_or("rope_type", "")? {
        "" => place.str_or("type", "default")?,
        kind => kind,
    };
    let at_least_one = |name: &str| {
        let value = place.f32_or(name, f32::NAN)?;
        match value.is_finite() && value >= 1.0 {
            true => Ok(value),
            false => Err(place.error(name, "must be a number of at least 1")),
        }
    };
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: at_least_one("factor")? },
        "llama3" => {
            let low_freq_factor = at_least_one("low_freq_factor")?;
            let high_freq_factor = at_least_one("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                return Err(place.error("high_freq_factor", "must exceed low_freq_factor"));
            }
            RopeScaling::Llama3 {
                factor: at_least_one("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: place.usize("original_max_position_embeddings")?,
            }
        }
        other => {
            return Err(place.error("rope_type", format!("\"{other}\" is not default, linear or llama3")));
        }
    };
    Ok((theta, scaling))
}
