//! A vision transformer with the linear layers of its blocks in integers, made in memory from one in `f32`.

use std::error::Error;

use safetensors::tensor::{Dtype, TensorView};
use triplet::weights::{Scheme, Weights, quantise};

/// Numbers of a tensor of `f32`.
fn numbers(weights: &Weights, name: &str) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>> {
    let tensor = weights.tensor(name)?;
    if tensor.dtype() != triplet::weights::Dtype::F32 {
        return Err(format!("{name} is not in f32").into());
    }
    let (elements, _) = tensor.bytes().as_chunks();
    Ok((tensor.shape().to_vec(), elements.iter().map(|&x| f32::from_le_bytes(x)).collect()))
}

/// A tensor as the file holds it.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

fn floats(name: String, shape: Vec<usize>, numbers: &[f32]) -> Stored {
    (name, Dtype::F32, shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn file(tensors: &[Stored]) -> Result<Weights, Box<dyn Error>> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>()?;
    Ok(Weights::from_vec(safetensors::serialize(views, None)?)?)
}

/// The same weights with every matrix under `blocks.` in integers of eight bits, a scale to a row.
pub fn quantised(weights: &Weights) -> Result<Weights, Box<dyn Error>> {
    let mut tensors = Vec::new();
    for name in weights.names() {
        let (shape, numbers) = numbers(weights, name)?;
        if !(name.contains("blocks.") && name.ends_with(".weight") && shape.len() == 2) {
            tensors.push(floats(name.to_owned(), shape, &numbers));
            continue;
        }
        let integers = quantise(&numbers, shape[1], Scheme::Int8);
        tensors.push(floats(format!("{name}_scale"), vec![shape[0]], &integers.scales));
        tensors.push((name.to_owned(), Dtype::I8, shape, integers.bytes));
    }
    file(&tensors)
}

/// The same weights with one in a hundred channels of the norms before linear layers 30 times as large: the outliers that
/// large transformers have.
pub fn with_outliers(weights: &Weights) -> Result<Weights, Box<dyn Error>> {
    const EVERY: usize = 100;
    const FACTOR: f32 = 30.0;
    let mut tensors = Vec::new();
    for name in weights.names() {
        let (shape, mut numbers) = numbers(weights, name)?;
        if name.contains("blocks.") && name.contains(".norm") {
            numbers.iter_mut().skip(EVERY / 3).step_by(EVERY).for_each(|x| *x *= FACTOR);
        }
        tensors.push(floats(name.to_owned(), shape, &numbers));
    }
    file(&tensors)
}

/// Cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
