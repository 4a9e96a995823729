//! Frequencies of the rotary position embedding (RoFormer, arXiv 2104.09864; halves convention of Hugging Face).
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::f32::consts::PI;

use super::config::{LlamaConfig, RopeScaling};

/// Radians per position of every pair of a head: `head_dim / 2` values, `rope_theta^(-2i / head_dim)` before scaling.
///
/// Worked out in `f32`, step by step as PyTorch does, so that long contexts turn by the same angles.
pub fn frequencies(config: &LlamaConfig) -> Vec<f32> {
    let dim = config.head_dim;
    (0..dim / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f32 / dim as f32;
            scale(1.0 / libm::powf(config.rope_theta, exponent), config.rope_scaling)
        })
        .collect()
}

/// One frequency, stretched.
fn scale(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let original = original_max_position_embeddings as f32;
            let wavelength = 2.0 * PI / frequency;
            if wavelength > original / low_freq_factor {
                frequency / factor
            } else if wavelength < original / high_freq_factor {
                frequency
            } else {
                let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}
