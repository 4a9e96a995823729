//! A vision transformer, one picture and 32 of them in one pass.

use std::error::Error;

use safetensors::tensor::{Dtype, TensorView};
use triplet::backend::{Backend, Matrix};
use triplet::config::Fields;
use triplet::reference::{bytes, uniform};
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{self, Loader, Weights};

use crate::Plan;
use crate::random;
use crate::table::{Table, Work, near};
use crate::vit_shapes::{operations, tensors};

/// timm's `vit_large_patch14_clip_quickgelu_336`, and a small one.
const LARGE: &str = r#"{"model_type": "timm_vit", "global_pool": "", "img_size": 336, "patch_size": 14, "embed_dim": 1024,
    "depth": 24, "num_heads": 16, "pre_norm": true, "act_layer": "quick_gelu", "norm_eps": 1e-5}"#;
const SMALL: &str = r#"{"model_type": "timm_vit", "global_pool": "", "img_size": 56, "patch_size": 14, "embed_dim": 64,
    "depth": 2, "num_heads": 2, "pre_norm": true, "act_layer": "quick_gelu", "norm_eps": 1e-5}"#;

/// How far features may be from the CPU's after all layers.
const CLOSE: f64 = 1e-4;

/// Pictures of the larger row.
const MANY: usize = 32;

pub fn time<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let name = if plan.small { "vit_small" } else { "vit_l14_336" };
    let [one, many] = [format!("{name} batch 1"), format!("{name} batch {MANY}")];
    if !table.wants(&one) && !table.wants(&many) {
        return Ok(());
    }
    let text = if plan.small { SMALL } else { LARGE };
    let config = VitConfig::from_fields(&Fields::parse(name, text.as_bytes())?)?;
    let weights = halves(&random::weights(&tensors(&config)?)?)?;
    let vit = Vit::load(&Loader::new(&weights, backend, ""), &config)?;
    let pixels = config.image_size * config.image_size;
    let picture = uniform(pixels * 3, 1);
    let pixels_on_device = backend.upload(pixels, 3, &picture)?;
    let look = || -> Result<Matrix<B>, Box<dyn Error>> {
        let mut states = vit.forward(backend, pixels_on_device.view())?.hidden_states;
        Ok(states.pop().ok_or("no hidden state")?)
    };
    let got = backend.download(look()?.view())?;
    let on_cpu = Vit::load(&Loader::new(&weights, &plan.cpu, ""), &config)?;
    let want = on_cpu.forward(&plan.cpu, plan.cpu.upload(pixels, 3, &picture)?.view())?;
    let want = want.hidden_states.last().ok_or("no hidden state")?;
    let check = near(&got, &plan.cpu.download(want.view())?, CLOSE);
    let operations = operations(&config);
    if table.wants(&one) {
        table.time(backend, &one, Work::Operations(operations), check, look)?;
    }
    if table.wants(&many) {
        let pictures = vec![pixels_on_device.view(); MANY];
        let look = || Ok(vit.forward_all(backend, &pictures)?);
        let got: Matrix<B> = look()?;
        let last = got.view().row_range(got.rows() - want.rows()..got.rows())?;
        let check = near(&backend.download(last)?, &plan.cpu.download(want.view())?, CLOSE);
        table.time(backend, &many, Work::Operations(MANY as f64 * operations), check, look)?;
    }
    Ok(())
}

/// The same tensors in f16.
fn halves(floats: &Weights) -> Result<Weights, Box<dyn Error>> {
    let mut data = Vec::new();
    for name in floats.names() {
        let tensor = floats.tensor(name)?;
        let words = tensor.bytes().as_chunks::<4>().0.iter();
        let numbers: Vec<f32> = words.map(|&word| f32::from_le_bytes(word)).collect();
        let (stored, _) = bytes(&numbers, weights::Dtype::F16);
        data.push((name, tensor.shape().to_vec(), stored));
    }
    let views = data.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F16, shape.clone(), bytes).map(|view| (*name, view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>()?;
    Ok(Weights::from_vec(safetensors::serialize(views, None)?)?)
}
