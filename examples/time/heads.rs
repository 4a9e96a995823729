//! One decoder head on the feature maps and latents that `benches/peers/heads.py` writes beside its weights, and how far what it
//! makes is from what PyTorch made of them.

use std::error::Error;
use std::path::Path;

use triplet::backend::Backend;
use triplet::config::ModelDir;
use triplet::cpu::Cpu;
use triplet::heads::{
    BoxHead, BoxHeadConfig, DecoderConfig, FeatureInput, MaskHead, MaskHeadConfig, Named, PoseHead,
    PoseHeadConfig,
};
use triplet::vision::FeatureMap;
use triplet::weights::Loader;

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};
use crate::tensors::Inputs;

/// The heads that are timed, by their keys in the configuration.
const HEADS: [&str; 3] = ["box", "mask", "pose"];

/// What a head made, by name.
type Made = Vec<(&'static str, Vec<f32>)>;

/// One run of a head; what it made is only brought to the host where that is asked for.
type Run<'a> = Box<dyn Fn(bool) -> triplet::Result<Made> + 'a>;

fn made(cpu: &Cpu, named: &[Named<Cpu>], wanted: bool) -> triplet::Result<Made> {
    let named = if wanted { named } else { &[] };
    named.iter().map(|&(name, view)| Ok((name, cpu.download(view)?))).collect()
}

/// Times the forward pass of the one head that the directory has.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let folder = arguments.required("model")?;
    let dir = ModelDir::open(folder)?;
    let inputs = Inputs::read(&Path::new(folder).join("inputs.safetensors"))?;
    let (maps, latents) = (inputs.maps(cpu, "features")?, inputs.matrix(cpu, "latents")?);
    let features: Vec<_> =
        maps.iter().map(|(map, grid)| FeatureMap { view: map.view(), grid: *grid }).collect();
    let (features, latents) = (&features[..], &latents);
    let cells: Vec<_> = features.iter().map(|map| map.grid.cells()).collect();

    let modules = HEADS.map(|head| format!("visual_decoder.{head}"));
    let mut found = None;
    for (head, module) in HEADS.iter().zip(&modules) {
        if let Some(fields) = dir.config.optional_module(module)? {
            found = Some((*head, module, fields));
        }
    }
    let (head, module, fields) =
        found.ok_or_else(|| format!("{folder} has none of {}", modules.join(", ")))?;
    let loader = Loader::new(&dir.weights, cpu, module);
    let (run, operations): (Run, f64) = match head {
        "box" => {
            let config = BoxHeadConfig::from_fields(&fields)?;
            let head = BoxHead::load(&loader, &config)?;
            let run = move |wanted| made(cpu, &head.forward(cpu, features, latents.view())?.named(), wanted);
            (Box::new(run), of_queries(&config.input, &config.decoder, config.decoder.num_queries, &cells))
        }
        "mask" => {
            let config = MaskHeadConfig::from_fields(&fields)?;
            let head = MaskHead::load(&loader, &config)?;
            let run = move |wanted| made(cpu, &head.forward(cpu, features, latents.view())?.named(), wanted);
            (Box::new(run), of_mask(&config, &cells))
        }
        _ => {
            let config = PoseHeadConfig::from_fields(&fields)?;
            let head = PoseHead::load(&loader, &config)?;
            let run = move |wanted| made(cpu, &head.forward(cpu, features, latents.view())?.named(), wanted);
            let (first, second) = (&config.box_head, &config.keypoints);
            let slots = second.decoder.num_queries * (second.body_points + 1);
            let first = of_queries(&first.input, &first.decoder, first.decoder.num_queries, &cells);
            (Box::new(run), first + of_queries(&second.input, &second.decoder, slots, &cells))
        }
    };
    let theirs = Path::new(folder).join("outputs.safetensors");
    if theirs.exists() {
        let theirs = Inputs::read(&theirs)?;
        for (name, ours) in run(true)? {
            let Some(theirs) = theirs.optional(name) else { continue };
            let differences = ours.iter().zip(&theirs.data).map(|(a, b)| (a - b).abs());
            let largest = theirs.data.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            println!(
                "{name}: at most {:.1e} from PyTorch's, of at most {largest:.1e}",
                differences.fold(0.0, |most, x| if x <= most { most } else { x })
            );
        }
    }
    let name = Path::new(folder).file_name().unwrap_or_default().to_string_lossy();
    clock::time(cpu, arguments, Work::new(&format!("head_{name}"), Roof::Operations(operations)), || {
        run(false)?;
        Ok(())
    })
}

/// Operations of box or keypoint decoder: every map projected at its own size, queries, layers.
fn of_queries(input: &FeatureInput, decoder: &DecoderConfig, slots: usize, cells: &[usize]) -> f64 {
    let width = decoder.d_model as f64;
    let maps = input.index.iter().zip(&input.dims).map(|(&map, &dim)| cells[map] as f64 * dim as f64);
    let queries = decoder.num_queries * decoder.query_dim;
    let memory = input.index.first().map_or(0, |&map| cells[map]);
    2.0 * width * (maps.sum::<f64>() + queries as f64) + of_decoder(decoder, slots, memory)
}

/// Operations of the layers that decode `slots` queries against `cells` cells: projections, attention, feed-forward.
fn of_decoder(decoder: &DecoderConfig, slots: usize, cells: usize) -> f64 {
    let (width, slots, cells) = (decoder.d_model as f64, slots as f64, cells as f64);
    let projections = (6.0 * slots + 2.0 * cells) * width * width;
    let attention = 2.0 * slots * (slots + cells) * width;
    2.0 * decoder.layers as f64 * (projections + attention + 2.0 * slots * width * decoder.ffn as f64)
}

/// Operations of the mask head: the pyramid's convolutions, the decoder over the deepest map, the masks.
fn of_mask(config: &MaskHeadConfig, cells: &[usize]) -> f64 {
    const KERNEL: f64 = 9.0;
    let decoder = &config.decoder;
    let (size, width) = (config.fpn_size as f64, decoder.d_model as f64);
    let maps = config.input.index.iter().zip(&config.input.dims);
    let maps: Vec<_> = maps.map(|(&map, &dim)| (cells[map] as f64, dim as f64)).collect();
    let (Some(&(finest, _)), Some((&(deepest, dim), finer))) = (maps.first(), maps.split_last()) else {
        return 0.0;
    };
    let steps: f64 = finer.iter().map(|&(cells, dim)| cells * size * (dim + KERNEL * size)).sum();
    let pyramid = deepest * dim * size * KERNEL + steps + finest * size * config.mask_size as f64 * KERNEL;
    let queries = decoder.num_queries as f64 * decoder.query_dim as f64 * width;
    let masks = decoder.num_queries as f64 * finest * config.mask_size as f64;
    2.0 * (pyramid + deepest * dim * width + queries + masks)
        + of_decoder(decoder, decoder.num_queries, deepest as usize)
}
