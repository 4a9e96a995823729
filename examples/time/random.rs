//! Weights from a seed, for models whose speed is to be known before there is a checkpoint.

use std::error::Error;

use safetensors::tensor::{Dtype, TensorView};
use triplet::reference::uniform;
use triplet::weights::Weights;

/// Names and shapes.
pub type Tensors = Vec<(String, Vec<usize>)>;

/// Tensors of `f32` with these names and shapes, uniform with the variance of a layer that keeps the size of its input.
pub fn weights(tensors: &Tensors) -> Result<Weights, Box<dyn Error>> {
    let mut data = Vec::with_capacity(tensors.len());
    for (seed, (_, shape)) in tensors.iter().enumerate() {
        let inputs: usize = shape.iter().skip(1).product();
        let factor = (3.0 / inputs.max(1) as f32).sqrt();
        let values = uniform(shape.iter().product(), seed as u64 + 1);
        data.push(values.into_iter().flat_map(|x| (x * factor).to_le_bytes()).collect::<Vec<u8>>());
    }
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        TensorView::new(Dtype::F32, shape.clone(), data).map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>()?;
    Ok(Weights::from_vec(safetensors::serialize(views, None)?)?)
}
