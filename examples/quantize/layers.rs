//! Which tensors are quantised, and the order in which everything is written.

use std::cmp::Reverse;

use triplet::weights::{Dtype, Scheme, Tensor};

/// Whether the library takes integers for the tensor of this name and shape: the linear layers of the visual encoder's and the
/// language model's blocks, and a language model's output layer of its own.
pub fn may_be_quantised(name: &str, shape: &[usize]) -> bool {
    if shape.len() != 2 || !name.ends_with(".weight") {
        return false;
    }
    if name == "llm.lm_head.weight" {
        return true;
    }
    let in_block = |list: &str| {
        let rest = name.split_once(list).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.split('.').next().is_some_and(|index| index.parse::<usize>().is_ok()))
    };
    let encoder = [".blocks.", ".encoder.layers.", ".encoder.layer."];
    (name.starts_with("llm.model.layers.") && in_block(".layers."))
        || (name.starts_with("visual_encoder.") && encoder.into_iter().any(in_block))
}

/// One piece of the file.
#[derive(Clone, Copy)]
pub enum Write<'a> {
    /// A tensor as it is.
    Plain(&'a Tensor),
    /// The integers of a tensor.
    Integers(&'a Tensor, Scheme),
    /// Its scales, in f32.
    Scales(&'a Tensor, Scheme),
}

impl Write<'_> {
    /// Name, type, shape, and bytes of an element.
    fn entry(&self) -> (String, &'static str, Vec<usize>, usize) {
        match *self {
            Write::Plain(tensor) => {
                let dtype = match tensor.dtype() {
                    Dtype::F32 => "F32",
                    Dtype::F16 => "F16",
                    _ => "BF16",
                };
                (tensor.name().to_owned(), dtype, tensor.shape().to_vec(), tensor.dtype().size())
            }
            Write::Integers(tensor, scheme) => {
                let mut shape = tensor.shape().to_vec();
                if let Some(last) = shape.last_mut() {
                    *last = scheme.row_bytes(*last);
                }
                (tensor.name().to_owned(), scheme.dtype(), shape, 1)
            }
            Write::Scales(tensor, scheme) => {
                let mut shape = tensor.shape()[..1].to_vec();
                if scheme == Scheme::Int4 {
                    shape.push(scheme.row_scales(tensor.shape()[1]));
                }
                (format!("{}_scale", tensor.name()), "F32", shape, 4)
            }
        }
    }

    /// Integers come first, since their scales are known only then; then wide types, so that all tensors lie aligned.
    fn place(&self) -> (bool, Reverse<usize>) {
        let integers = matches!(self, Write::Integers(..));
        (!integers, Reverse(self.entry().3))
    }
}

/// Everything that the file will hold.
#[derive(Default)]
pub struct Plan<'a> {
    writes: Vec<Write<'a>>,
}

impl<'a> Plan<'a> {
    /// Adds a tensor, quantised where a scheme is given.
    pub fn add(&mut self, tensor: &'a Tensor, scheme: Option<Scheme>) {
        match scheme {
            None => self.writes.push(Write::Plain(tensor)),
            Some(scheme) => {
                self.writes.push(Write::Integers(tensor, scheme));
                self.writes.push(Write::Scales(tensor, scheme));
            }
        }
        self.writes.sort_by_key(Write::place);
    }

    /// All pieces in the order of the file.
    pub fn writes(&self) -> impl Iterator<Item = Write<'a>> {
        self.writes.iter().copied()
    }

    /// What stands before the elements; padded, so that they begin at a multiple of eight.
    pub fn header(&self) -> Vec<u8> {
        let mut entries = serde_json::Map::new();
        let mut at = 0;
        for write in &self.writes {
            let (name, dtype, shape, size) = write.entry();
            let end = at + shape.iter().product::<usize>() * size;
            let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] });
            entries.insert(name, entry);
            at = end;
        }
        let mut header = serde_json::Value::Object(entries).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linear_layers_of_blocks_are_quantised() {
        for name in [
            "llm.model.layers.0.self_attn.q_proj.weight",
            "llm.model.layers.11.mlp.down_proj.weight",
            "llm.lm_head.weight",
            "visual_encoder.vision_model.encoder.layers.3.mlp.fc1.weight",
            "visual_encoder.encoder.blocks.2.attn.qkv.weight",
            "visual_encoder.encoder.layer.5.attention.output.dense.weight",
        ] {
            assert!(may_be_quantised(name, &[64, 64]), "{name}");
            assert!(!may_be_quantised(name, &[64]), "{name} as a vector");
        }
        for name in [
            "llm.model.embed_tokens.weight",
            "llm.model.layers.0.self_attn.q_proj.bias",
            "visual_encoder.embeddings.position_embedding.weight",
            "visual_encoder.encoder.attn_pool.q.weight",
            "visual_decoder.box.decoder.layers.0.fc1.weight",
            "visual_tower.stages.0.blocks.1.mlp.fc1.weight",
            "projector.model.0.weight",
        ] {
            assert!(!may_be_quantised(name, &[64, 64]), "{name}");
        }
    }
}
