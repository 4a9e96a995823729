//! The aligned encoder as a safetensors file, under the names that it was loaded with.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, TensorView};

use super::trainer::Trainer;
use crate::backend::{Train, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::vision::{AttentionTable, NameTable, VitConfig, names};

/// A tensor on its way to a file.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f32>,
}

/// The numbers of a weight.
pub(super) fn numbers<B: Train>(backend: &B, weight: &Weight<B>) -> Result<Vec<f32>> {
    let count = Size::product(weight.shape())?.get();
    backend.download(backend.read(weight, 1, count)?.view())
}

/// The bytes of a safetensors file.
pub(super) fn file(tensors: &[Named]) -> Result<Vec<u8>> {
    let views = views(tensors)?;
    safetensors::serialize(views, None).map_err(|reason| error(format!("{reason}")))
}

/// As [`file`], with metadata.
#[cfg(feature = "finetune-files")]
pub(super) fn file_with(
    tensors: &[Named],
    metadata: std::collections::HashMap<String, String>,
) -> Result<Vec<u8>> {
    let views = views(tensors)?;
    safetensors::serialize(views, Some(metadata)).map_err(|reason| error(format!("{reason}")))
}

fn error(reason: String) -> Error {
    Error::Format { file: "safetensors".to_string(), reason }
}

fn views(tensors: &[Named]) -> Result<Vec<(&str, TensorView<'_>)>> {
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let bytes = bytemuck::cast_slice(&tensor.data);
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((tensor.name.as_str(), view.map_err(|reason| error(format!("{reason}")))?));
    }
    Ok(views)
}

impl<B: Train> Trainer<B> {
    /// The encoder without its head, as a safetensors file and the configuration to load it with ([`Vit::load`]). `average`
    /// takes the moving average; `fold` multiplies LayerScale into the layers before it, which timm's names alone allow.
    ///
    /// [`Vit::load`]: crate::vision::Vit::load
    ///
    /// # Errors
    /// [`Error::Input`] naming the option that the run does not allow.
    pub fn export(&self, backend: &B, average: bool, fold: bool) -> Result<(Vec<u8>, VitConfig)> {
        let error = |field, reason: &str| Err(Error::Input { field, reason: reason.to_string() });
        let config = &self.config.student;
        if fold && config.names != NameTable::Timm {
            return error("fold", "only timm's names can say that there is no LayerScale");
        }
        let averages = match (&self.ema, average) {
            (Some(ema), true) => Some(&ema.weights),
            (None, true) => return error("average", "the run has no moving average"),
            (_, false) => None,
        };
        let mut tensors = Vec::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let Some(name) = parameter.name.strip_prefix("encoder.") else { continue };
            if name.starts_with("head.") {
                continue;
            }
            let weight = averages.and_then(|averages| averages.get(index)).unwrap_or(&parameter.weight);
            let data = numbers(backend, weight)?;
            tensors.push(Named { name: name.to_string(), shape: weight.shape().to_vec(), data });
        }
        if tensors.is_empty() {
            return error("export", "the encoder is frozen: there is nothing new");
        }
        if fold && config.layer_scale {
            fold_scales(&mut tensors, config);
        }
        Ok((file(&tensors)?, VitConfig { layer_scale: config.layer_scale && !fold, ..config.clone() }))
    }
}

/// Multiplies every LayerScale into the weight and bias before it and drops it.
fn fold_scales(tensors: &mut Vec<Named>, config: &VitConfig) {
    let table = names(config.names);
    let out = match &table.attention {
        AttentionTable::Separate(names) => names.out,
        AttentionTable::Fused => "attn.proj",
    };
    for index in 0..config.layers {
        for (scale, layer) in [(table.scale1, out), (table.scale2, "mlp.fc2")] {
            let block = format!("{}.{index}", table.blocks);
            let scale = format!("{block}.{scale}");
            let Some(place) = tensors.iter().position(|tensor| tensor.name == scale) else { continue };
            let gamma = tensors.remove(place).data;
            for part in ["weight", "bias"] {
                let name = format!("{block}.{layer}.{part}");
                for tensor in tensors.iter_mut().filter(|tensor| tensor.name == name) {
                    let width = tensor.data.len() / gamma.len().max(1);
                    for (row, factor) in tensor.data.chunks_exact_mut(width.max(1)).zip(&gamma) {
                        row.iter_mut().for_each(|x| *x *= factor);
                    }
                }
            }
        }
    }
}
