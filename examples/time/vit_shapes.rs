//! The tensors of a vision transformer and what it computes.

use std::error::Error;

use triplet::vision::{NameTable, VitConfig};

use crate::random::Tensors;

/// Names and shapes of a model with timm's names, for random weights.
pub fn tensors(config: &VitConfig) -> Result<Tensors, Box<dyn Error>> {
    if config.names != NameTable::Timm {
        return Err("random weights are made for `timm_vit` alone; --weights is missing".into());
    }
    let VitConfig { hidden_size: width, mlp_size: hidden, patch_size: patch, .. } = *config;
    let tokens = config.prefix() + (config.image_size / patch).pow(2);
    let mut tensors = vec![
        ("cls_token".to_owned(), vec![1, 1, width]),
        ("pos_embed".to_owned(), vec![1, tokens, width]),
        ("patch_embed.proj.weight".to_owned(), vec![width, 3, patch, patch]),
        ("patch_embed.proj.bias".to_owned(), vec![width]),
    ];
    let mut layer = |name: String, outputs: usize, inputs: Option<usize>| {
        let shape = [outputs].into_iter().chain(inputs).collect();
        tensors.push((format!("{name}.weight"), shape));
        tensors.push((format!("{name}.bias"), vec![outputs]));
    };
    layer("norm_pre".into(), width, None);
    layer("norm".into(), width, None);
    for block in 0..config.layers {
        layer(format!("blocks.{block}.norm1"), width, None);
        layer(format!("blocks.{block}.norm2"), width, None);
        layer(format!("blocks.{block}.attn.qkv"), 3 * width, Some(width));
        layer(format!("blocks.{block}.attn.proj"), width, Some(width));
        layer(format!("blocks.{block}.mlp.fc1"), hidden, Some(width));
        layer(format!("blocks.{block}.mlp.fc2"), width, Some(hidden));
    }
    Ok(tensors)
}

/// Floating-point operations of the products and of attention for one picture.
pub fn operations(config: &VitConfig) -> f64 {
    let [width, hidden, patch] =
        [config.hidden_size, config.mlp_size, config.patch_size].map(|size| size as f64);
    let patches = ((config.image_size / config.patch_size) as f64).powi(2);
    let tokens = patches + config.prefix() as f64;
    let block = tokens * width * (4.0 * width + 2.0 * hidden) + 2.0 * tokens * tokens * width;
    2.0 * (config.layers as f64 * block + patches * width * 3.0 * patch * patch)
}
