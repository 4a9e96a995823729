//! One picture through a vision transformer.

use std::error::Error;

use triplet::backend::Backend;
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::reference::uniform;
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{Access, Loader, Weights};

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};
use crate::vit_shapes::{operations, tensors};
use crate::{integers, random};

/// timm's `vit_base_patch16_224` and `vit_large_patch14_clip_quickgelu_336`.
pub const MODELS: [(&str, &str); 2] = [
    ("b16_224", r#"{"model_type": "timm_vit", "global_pool": ""}"#),
    (
        "l14_336",
        r#"{"model_type": "timm_vit", "global_pool": "", "img_size": 336, "patch_size": 14, "embed_dim": 1024,
            "depth": 24, "num_heads": 16, "pre_norm": true, "act_layer": "quick_gelu", "norm_eps": 1e-5}"#,
    ),
];

/// Times the forward pass.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let config = config(arguments)?;
    let weights = match arguments.text("weights") {
        Some(file) => Weights::open_file(file, Access::Map)?,
        None => random::weights(&tensors(&config)?)?,
    };
    let weights = if arguments.has("outliers") { integers::with_outliers(&weights)? } else { weights };
    let pixels = config.image_size * config.image_size;
    let pixels = cpu.upload(pixels, 3, &uniform(pixels * 3, 1))?;
    let load = |weights: &Weights| Vit::load(&Loader::new(weights, cpu, "").quantised(), &config);
    let features = |vit: &Vit<Cpu>| cpu.download(vit.forward(cpu, pixels.view())?.normed.view());
    let (vit, mut integers) = match arguments.has("int8") {
        false => (load(&weights)?, ""),
        true => {
            let of_floats = features(&load(&weights)?)?;
            let vit = load(&integers::quantised(&weights)?)?;
            println!(
                "cosine of the features with those of f32: {:.6}",
                integers::cosine(&features(&vit)?, &of_floats)
            );
            (vit, "_int8")
        }
    };
    if arguments.has("outliers") {
        integers = if integers.is_empty() { "_outliers" } else { "_int8_outliers" };
    }
    let name = match arguments.text("model") {
        Some(model) if !arguments.has("config") => format!("vit_{model}"),
        _ => format!("vit_{}x{}_{}", config.hidden_size, config.layers, config.image_size),
    };
    let work = Work::new(&format!("{name}{integers}"), Roof::Operations(operations(&config)));
    clock::time(cpu, arguments, work, || {
        vit.forward(cpu, pixels.view())?;
        Ok(())
    })
}

fn config(arguments: &Arguments) -> Result<VitConfig, Box<dyn Error>> {
    let given = match (arguments.text("config"), arguments.text("model")) {
        (Some(given), _) => given,
        (None, model) => {
            let model = model.unwrap_or(MODELS[0].0);
            let known = MODELS.iter().find(|(name, _)| *name == model);
            known.ok_or_else(|| format!("--model {model} is not known"))?.1
        }
    };
    let text = match given.trim_start().starts_with('{') {
        true => given.as_bytes().to_vec(),
        false => std::fs::read(given).map_err(|error| format!("{given}: {error}"))?,
    };
    Ok(VitConfig::from_fields(&Fields::parse(given, &text)?)?)
}
