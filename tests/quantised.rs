//! Whole encoders with quantised layers: loaded as a model directory gives them, near to the same without.
#![cfg(feature = "std")]

use half::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use triplet::backend::Backend;
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::reference::uniform;
use triplet::vision::{Vit, VitConfig};
use triplet::weights::{Access, Loader, Scheme, Weights, quantise};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tabletop/model");

/// A tensor of the shipped model, in `f32`.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

/// The tensors of the shipped encoder.
fn encoder() -> Vec<Tensor> {
    let weights = Weights::open_file(format!("{MODEL}/model.safetensors"), Access::Read).unwrap();
    let names = weights.names().filter(|name| name.starts_with("visual_encoder."));
    names
        .map(|name| {
            let tensor = weights.tensor(name).unwrap();
            let halves = tensor.bytes().as_chunks().0.iter();
            Tensor {
                name: name.to_owned(),
                shape: tensor.shape().to_vec(),
                numbers: halves.map(|&x| f16::from_le_bytes(x).to_f32()).collect(),
            }
        })
        .collect()
}

/// The tensors as a weights file, the linear layers of the blocks in a scheme.
fn file(tensors: &[Tensor], scheme: Option<Scheme>) -> Weights {
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut parts = Vec::new();
    for Tensor { name, shape, numbers } in tensors {
        let layer = name.contains(".encoder.layers.") && shape.len() == 2;
        let Some(scheme) = scheme.filter(|_| layer) else {
            parts.push((name.clone(), Dtype::F32, shape.clone(), bytes(numbers)));
            continue;
        };
        let (n, k) = (shape[0], shape[1]);
        let integers = quantise(numbers, k, scheme);
        let scales = bytes(&integers.scales);
        let (dtype, of_scales) = match scheme {
            Scheme::Int8 => (Dtype::I8, vec![n]),
            _ => (Dtype::U8, vec![n, scheme.row_scales(k)]),
        };
        parts.push((name.clone(), dtype, vec![n, scheme.row_bytes(k)], integers.bytes));
        parts.push((format!("{name}_scale"), Dtype::F32, of_scales, scales));
    }
    let views = parts.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    Weights::from_vec(serialize(views, None).unwrap()).unwrap()
}

/// The encoder's features of a random picture.
fn features(weights: &Weights, cpu: &Cpu) -> Vec<f32> {
    let text = std::fs::read(format!("{MODEL}/config.json")).unwrap();
    let config = Fields::parse("config.json", &text).unwrap();
    let config = VitConfig::from_fields(&config.child("visual_encoder").unwrap()).unwrap();
    let loader = Loader::new(weights, cpu, "visual_encoder");
    let vit = Vit::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [""; 0]);
    let pixels = config.image_size * config.image_size;
    let pixels = cpu.upload(pixels, 3, &uniform(pixels * 3, 7)).unwrap();
    let out = vit.forward(cpu, pixels.view()).unwrap();
    cpu.download(out.hidden_states.last().unwrap().view()).unwrap()
}

/// The least cosine between rows of 192 numbers.
fn least_cosine(a: &[f32], b: &[f32]) -> f64 {
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let rows = a.chunks_exact(192).zip(b.chunks_exact(192));
    let cosines = rows.map(|(a, b)| product(a, b) / (product(a, a) * product(b, b)).sqrt());
    cosines.fold(1.0, f64::min)
}

#[test]
fn features_stay_close_with_outliers_too() {
    let cpu = Cpu::with_threads(2);
    let exact = cpu.clone().with_exact_activations(true);
    for outliers in [false, true] {
        let mut tensors = encoder();
        if outliers {
            // Two of 192 channels of the residual stream begin thirty times as large.
            for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains(".pre_layrnorm.")) {
                tensor.numbers[17] *= 30.0;
                tensor.numbers[101] *= 30.0;
            }
        }
        let want = features(&file(&tensors, None), &cpu);
        for (scheme, least) in [(Scheme::Int8, 0.999), (Scheme::Int4, 0.9)] {
            let weights = file(&tensors, Some(scheme));
            let (got, with_floats) = (features(&weights, &cpu), features(&weights, &exact));
            let cosines = [least_cosine(&want, &got), least_cosine(&want, &with_floats)];
            println!(
                "{scheme:?}, outliers {outliers}: {cosines:.6?} with activations in integers and in f32"
            );
            assert!(cosines.iter().all(|cosine| *cosine >= least), "{scheme:?} {outliers}: {cosines:?}");
            assert_ne!(got, with_floats, "activations are quantised by default");
        }
    }
}
