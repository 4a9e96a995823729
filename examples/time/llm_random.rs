//! A language model's weights from a generator of random bits, in memory; or their header alone, before a file of holes.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use triplet::language::LlamaConfig;
use triplet::weights::Weights;

/// How weights are stored.
#[derive(Clone, Copy, PartialEq)]
pub enum Stored {
    /// `f32`.
    F32,
    /// `f16`.
    F16,
    /// Eight bits, a scale for every row.
    Int8,
    /// Four bits, a scale for every group; the output layer in eight bits.
    Int4,
}

/// Weights in memory. Magnitudes keep the size of a layer's input within a factor of a few, whatever they are stored as.
pub fn weights(config: &LlamaConfig, stored: Stored) -> Result<Weights, Box<dyn Error>> {
    let mut file = File::default();
    add(&mut file, "", config, stored);
    Ok(Weights::from_vec(file.bytes())?)
}

/// Adds the tensors of a language model, with `prefix` before their names.
pub fn add(file: &mut File, prefix: &str, config: &LlamaConfig, stored: Stored) {
    let width = config.hidden_size;
    let float = if stored == Stored::F32 { Stored::F32 } else { Stored::F16 };
    file.add(&format!("{prefix}model.embed_tokens.weight"), &[config.vocab_size, width], float);
    file.add(&format!("{prefix}model.norm.weight"), &[width], float);
    // Four bits would be few for the output layer; the competition keeps it wider too.
    let head = if stored == Stored::Int4 { Stored::Int8 } else { stored };
    file.add(&format!("{prefix}lm_head.weight"), &[config.vocab_size, width], head);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    for layer in 0..config.num_hidden_layers {
        let name = |rest: &str| format!("{prefix}model.layers.{layer}.{rest}.weight");
        file.add(&name("input_layernorm"), &[width], float);
        file.add(&name("post_attention_layernorm"), &[width], float);
        file.add(&name("self_attn.q_proj"), &[queries, width], stored);
        file.add(&name("self_attn.k_proj"), &[keys, width], stored);
        file.add(&name("self_attn.v_proj"), &[keys, width], stored);
        file.add(&name("self_attn.o_proj"), &[width, queries], stored);
        file.add(&name("mlp.gate_proj"), &[config.intermediate_size, width], stored);
        file.add(&name("mlp.up_proj"), &[config.intermediate_size, width], stored);
        file.add(&name("mlp.down_proj"), &[width, config.intermediate_size], stored);
    }
}

/// What the elements of a tensor are drawn as.
#[derive(Clone, Copy)]
enum Draw {
    /// Any bytes.
    Bytes,
    /// Numbers of two bytes with magnitudes in [2^-6, 2^-5) and random signs.
    Halves,
    /// The same in four bytes.
    Floats,
    /// The same number again and again.
    Scale(f32),
}

/// A weights file in the making.
#[derive(Default)]
pub struct File {
    header: serde_json::Map<String, serde_json::Value>,
    draws: Vec<(Draw, usize)>,
    at: usize,
}

impl File {
    /// One tensor; those of one dimension are in `f16`.
    pub fn add(&mut self, name: &str, shape: &[usize], stored: Stored) {
        let &[n, .., k] = shape else { return self.put(name, "F16", shape, 2, Draw::Halves) };
        match stored {
            Stored::F32 => self.put(name, "F32", shape, 4, Draw::Floats),
            Stored::F16 => self.put(name, "F16", shape, 2, Draw::Halves),
            Stored::Int8 => {
                self.put(name, "I8", shape, 1, Draw::Bytes);
                self.put(&format!("{name}_scale"), "F32", &[n], 4, Draw::Scale(3e-4));
            }
            Stored::Int4 => {
                self.put(name, "U8", &[n, k / 2], 1, Draw::Bytes);
                self.put(&format!("{name}_scale"), "F16", &[n, k / 32], 2, Draw::Scale(5e-3));
            }
        }
    }

    fn put(&mut self, name: &str, dtype: &str, shape: &[usize], size: usize, draw: Draw) {
        let length = shape.iter().product::<usize>() * size;
        let offsets = [self.at, self.at + length];
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        self.header.insert(name.to_owned(), entry);
        self.draws.push((draw, length));
        self.at += length;
    }

    /// Writes a file whose elements are holes: it takes no room and reads as zeros. Gives its length.
    pub fn write_sparse(self, path: &Path) -> Result<u64, Box<dyn Error>> {
        let before = self.before();
        let length = (before.len() + self.at) as u64;
        let mut file = std::fs::File::create(path)?;
        file.write_all(&before)?;
        file.set_len(length)?;
        Ok(length)
    }

    /// What comes before the elements: the header and its length.
    fn before(&self) -> Vec<u8> {
        let mut header = serde_json::Value::Object(self.header.clone()).to_string().into_bytes();
        header.resize((header.len() + 8).next_multiple_of(64) - 8, b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&header);
        bytes
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = self.before();
        bytes.reserve_exact(self.at);
        let mut state = 1u64;
        for (draw, length) in self.draws {
            let end = bytes.len() + length;
            while bytes.len() < end {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let word = match draw {
                    Draw::Bytes => state,
                    Draw::Halves => state & 0x83ff_83ff_83ff_83ff | 0x2400_2400_2400_2400,
                    Draw::Floats => state & 0x807f_ffff_807f_ffff | 0x3c80_0000_3c80_0000,
                    Draw::Scale(scale) if length % 4 == 0 && scale < 1e-3 => {
                        u64::from(scale.to_bits()) << 32 | u64::from(scale.to_bits())
                    }
                    Draw::Scale(scale) => {
                        u64::from(half::f16::from_f32(scale).to_bits()) * 0x0001_0001_0001_0001
                    }
                };
                let word = word.to_le_bytes();
                bytes.extend_from_slice(&word[..word.len().min(end - bytes.len())]);
            }
        }
        bytes
    }
}
