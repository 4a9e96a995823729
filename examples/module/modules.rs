//! The modules that can be run: how each is loaded, what it takes and what it gives.

use std::error::Error;

use triplet::Cpu;
use triplet::backend::{Backend, Matrix};
use triplet::config::Fields;
use triplet::language::{KvCache, Llama, LlamaConfig};
use triplet::vision::{
    ConvNext, ConvNextConfig, FeatureMap, Projector, ProjectorConfig, VisualPromptConfig,
    VisualPromptEncoder, Vit, VitConfig,
};
use triplet::weights::{Loader, Weights};

use crate::heads;
use crate::tensors::{Inputs, Tensor};

/// Where a module comes from.
pub struct Setting<'a> {
    pub fields: &'a Fields,
    pub weights: &'a Weights,
    pub cpu: &'a Cpu,
    pub name: &'a str,
}

impl<'a> Setting<'a> {
    /// The module's part of the weights.
    pub fn loader(&self) -> Loader<'a, Cpu> {
        Loader::new(self.weights, self.cpu, self.name)
    }
}

/// What a run computed; still on the backend, so that timing stops before the copy.
pub trait Outcome {
    /// Every output and intermediate by its name.
    fn collect(&self, cpu: &Cpu) -> triplet::Result<Vec<Tensor>>;
}

impl<F: Fn(&Cpu) -> triplet::Result<Vec<Tensor>>> Outcome for F {
    fn collect(&self, cpu: &Cpu) -> triplet::Result<Vec<Tensor>> {
        self(cpu)
    }
}

/// Runs a loaded module on its inputs once.
pub type Forward<'a> = Box<dyn Fn() -> triplet::Result<Box<dyn Outcome>> + 'a>;

/// Loads a module and takes its inputs.
pub type Load = for<'a> fn(&Setting<'a>, &Inputs) -> Result<Forward<'a>, Box<dyn Error>>;

/// One kind of module.
pub struct Module {
    /// Its key in `config.json`.
    pub name: &'static str,
    pub inputs: &'static str,
    pub outputs: &'static str,
    pub load: Load,
}

/// All modules.
pub const MODULES: [Module; 10] = [
    Module {
        name: "visual_encoder",
        inputs: "pixels [3, side, side], normalised",
        outputs: "hidden_states.0 to .layers [tokens, hidden_size], normed, pooled (where there is one)",
        load: visual_encoder,
    },
    Module {
        name: "visual_tower",
        inputs: "pixels [3, side, side], normalised",
        outputs: "stages.0 to .3 [cells, channels]",
        load: visual_tower,
    },
    Module {
        name: "vpt_encoder",
        inputs: "features: a map of visual_hidden_size channels; regions [n, height, width], not 0 inside",
        outputs: "tokens [n * tokens per region, width]",
        load: vpt_encoder,
    },
    Module {
        name: "projector",
        inputs: "features [rows, visual_hidden_size]",
        outputs: "tokens [rows, llm_hidden_size]",
        load: projector,
    },
    Module {
        name: "llm",
        inputs: "ids [n], or embeddings [n, hidden_size]",
        outputs: "embeddings, hidden [n, hidden_size] (after the last norm), logits [n, vocab_size]",
        load: llm,
    },
    Module {
        name: "vd_adapter",
        inputs: "image: a map of d_model channels; refs.0, phrase.0, refs.1, ... [tokens, d_model]",
        outputs: "latents [all refs, d_model], image [cells, d_model]",
        load: heads::vd_adapter,
    },
    Module {
        name: "visual_decoder.box",
        inputs: "features.0, .1, ...: the feature maps of the model; latents [n, quries_input_dim]",
        outputs: "boxes, hidden, queries, memory, memory_position",
        load: heads::box_head,
    },
    Module {
        name: "visual_decoder.mask",
        inputs: "features.0, .1, ...; latents [n, quries_input_dim]",
        outputs: "logits, mask_embedding, pixel_embedding, hidden, queries, memory, memory_position",
        load: heads::mask_head,
    },
    Module {
        name: "visual_decoder.pose",
        inputs: "features.0, .1, ...; latents [n, quries_input_dim]",
        outputs: "boxes, keypoints, visibility, keypoint_hidden, keypoint_queries, keypoint_memory, first_boxes, \
                  first_hidden, first_queries, first_memory, memory_position",
        load: heads::pose_head,
    },
    Module {
        name: "visual_decoder.depth",
        inputs: "features.0, .1, ...; latents [n, quries_input_dim]",
        outputs: "shares, and those of the mask head",
        load: heads::depth_head,
    },
];

fn visual_encoder<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let vit = Vit::load(&setting.loader(), &VitConfig::from_fields(setting.fields)?)?;
    let (pixels, _) = inputs.map(cpu, "pixels")?;
    Ok(Box::new(move || {
        let output = vit.forward(cpu, pixels.view())?;
        Ok(Box::new(move |cpu: &Cpu| {
            let mut tensors = Vec::new();
            for (layer, state) in output.hidden_states.iter().enumerate() {
                tensors.push(Tensor::new(format!("hidden_states.{layer}"), cpu, state.view())?);
            }
            tensors.push(Tensor::new("normed", cpu, output.normed.view())?);
            if let Some(pooled) = &output.pooled {
                tensors.push(Tensor::new("pooled", cpu, pooled.view())?);
            }
            Ok(tensors)
        }))
    }))
}

fn visual_tower<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let tower = ConvNext::load(&setting.loader(), &ConvNextConfig::from_fields(setting.fields)?)?;
    let (pixels, _) = inputs.map(cpu, "pixels")?;
    Ok(Box::new(move || {
        let output = tower.forward(cpu, pixels.view())?;
        Ok(Box::new(move |cpu: &Cpu| {
            let stages = output.features().enumerate();
            stages.map(|(stage, map)| Tensor::new(format!("stages.{stage}"), cpu, map.view)).collect()
        }))
    }))
}

fn vpt_encoder<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let config = VisualPromptConfig::from_fields(setting.fields)?;
    let encoder = VisualPromptEncoder::load(&setting.loader(), &config)?;
    let (features, grid) = inputs.map(cpu, "features")?;
    let regions: Vec<bool> = inputs.get("regions")?.data.iter().map(|&value| value != 0.0).collect();
    Ok(Box::new(move || {
        let regions: Vec<&[bool]> = regions.chunks(grid.cells().max(1)).collect();
        let output = encoder.forward(cpu, FeatureMap { view: features.view(), grid }, &regions)?;
        Ok(one("tokens", output.tokens))
    }))
}

fn projector<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let config = ProjectorConfig::from_fields(setting.fields)?;
    let projector = Projector::load(&setting.loader(), &config)?;
    let features = inputs.matrix(cpu, "features")?;
    Ok(Box::new(move || Ok(one("tokens", projector.forward(cpu, features.view())?))))
}

fn llm<'a>(setting: &Setting<'a>, inputs: &Inputs) -> Result<Forward<'a>, Box<dyn Error>> {
    let cpu = setting.cpu;
    let llm = Llama::load(&setting.loader(), &LlamaConfig::parse(setting.fields)?)?;
    let embeddings = match inputs.optional("ids") {
        Some(ids) => {
            let ids: Vec<u32> = ids.data.iter().map(|&id| id as u32).collect();
            llm.embed(cpu, &ids)?
        }
        None => inputs.matrix(cpu, "embeddings")?,
    };
    let copy = cpu.upload(embeddings.rows(), embeddings.cols(), &cpu.download(embeddings.view())?)?;
    let copy = std::rc::Rc::new(copy);
    Ok(Box::new(move || {
        let mut cache = KvCache::new(cpu, llm.config(), usize::MAX)?;
        let hidden = llm.forward(cpu, embeddings.view(), &mut cache)?;
        let logits = llm.logits(cpu, hidden.view())?;
        let embeddings = copy.clone();
        Ok(Box::new(move |cpu: &Cpu| {
            Ok(vec![
                Tensor::new("embeddings", cpu, embeddings.view())?,
                Tensor::new("hidden", cpu, hidden.view())?,
                Tensor::new("logits", cpu, logits.view())?,
            ])
        }))
    }))
}

/// An outcome of one tensor.
fn one(name: &'static str, matrix: Matrix<Cpu>) -> Box<dyn Outcome> {
    Box::new(move |cpu: &Cpu| Ok(vec![Tensor::new(name, cpu, matrix.view())?]))
}
