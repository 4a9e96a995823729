//! The encoder of a model directory: read before a run, written after it, plugged into a whole model.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::backend::Backend;
use crate::config::{Config, MAX_JSON};
use crate::error::{Error, Result};
use crate::finetune::files::atomic;
use crate::finetune::files::split::hash;
use crate::image::Preprocessor;
use crate::vision::{NameTable, PoolKind, VitConfig};
use crate::weights::{Dtype, Loader, Tensor, Weights, read_file};

/// Key of the encoder in `config.json`, and the prefix of its tensors.
const KEY: &str = "visual_encoder";

/// A directory with `config.json` (`visual_encoder` and `preprocessor.visual_encoder`) and weights under `visual_encoder.`:
/// a model directory, or the part of one that a run writes.
pub struct EncoderDir {
    /// The encoder's architecture.
    pub vit: VitConfig,
    /// What makes the encoder's numbers of bytes.
    pub preprocessor: Preprocessor,
    weights: Weights,
    json: Map<String, Value>,
}

impl EncoderDir {
    /// Opens a directory; the weights are memory-mapped, see [`Weights::open`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`], [`Error::Missing`], [`Error::Format`], [`Error::Tensor`].
    pub fn open(dir: &Path) -> Result<EncoderDir> {
        let bytes = read_file(&dir.join("config.json"), MAX_JSON as u64)?;
        let config = Config::parse(&bytes)?;
        let vit = VitConfig::from_fields(&config.module(KEY)?)?;
        let preprocessor = Preprocessor::load(&config.preprocessor(KEY)?)?;
        let json = parse(&bytes)?;
        Ok(EncoderDir { vit, preprocessor, weights: Weights::open(dir)?, json })
    }

    /// A loader at the encoder's tensors.
    pub fn loader<'a, B: Backend>(&'a self, backend: &'a B) -> Loader<'a, B> {
        Loader::new(&self.weights, backend, KEY)
    }

    /// A number that another encoder, or other preprocessing, would hardly share.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub(super) fn fingerprint(&self) -> Result<u64> {
        let parts = [self.json.get(KEY), self.json.get("preprocessor").and_then(|all| all.get(KEY))];
        let mut sum = hash(format!("{parts:?}").as_bytes(), 0);
        for name in self.weights.names().filter(|name| of_encoder(name)) {
            sum = hash(name.as_bytes(), sum);
            sum = hash(self.weights.tensor(name)?.bytes(), sum);
        }
        Ok(sum)
    }

    /// Writes a trained encoder (a safetensors file without the prefix, and its configuration) to `dir`, as a directory that
    /// [`EncoderDir::open`] and [`plug_in`] take.
    ///
    /// # Errors
    /// [`Error::Io`] naming what could not be written.
    pub(super) fn write(&self, dir: &Path, encoder: Vec<u8>, vit: &VitConfig) -> Result<()> {
        let weights = Weights::from_vec(encoder)?;
        let mut tensors = Vec::new();
        for name in weights.names() {
            tensors.push((format!("{KEY}.{name}"), weights.tensor(name)?));
        }
        fs::create_dir_all(dir).map_err(|error| atomic::io(dir, error))?;
        write_tensors(&dir.join("model.safetensors"), &tensors)?;
        let pixels = self.json.get("preprocessor").and_then(|all| all.get(KEY));
        let config = json!({ KEY: self.trained(vit), "preprocessor": { KEY: pixels } });
        write_json(&dir.join("config.json"), &config)
    }

    /// The encoder's part of `config.json` after training: its pooling is gone, its cap there.
    fn trained(&self, vit: &VitConfig) -> Value {
        let mut fields = self.json.get(KEY).and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(cap) = vit.soft_cap {
            fields.insert("max_attn_val".to_string(), json!(cap));
        }
        if vit.names == NameTable::Timm && !vit.layer_scale {
            fields.remove("init_values");
        }
        match (vit.names, vit.pool) {
            (NameTable::Siglip, _) => {
                fields.insert("vision_use_head".to_string(), json!(false));
            }
            (NameTable::Timm, PoolKind::Attention) => {
                fields.insert("global_pool".to_string(), json!(""));
                fields.insert("fc_norm".to_string(), json!(vit.pool_norm));
            }
            _ => {}
        }
        Value::Object(fields)
    }
}

/// Writes to `out` the model directory `model` with its encoder replaced by the one of the directory `encoder`. Tensors are
/// copied from file to file as they are.
///
/// # Errors
/// [`Error::Input`] where `out` is one of the two; [`Error::Io`], [`Error::Format`], [`Error::Tensor`] naming the file or
/// tensor.
pub fn plug_in(encoder: &Path, model: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out).map_err(|error| atomic::io(out, error))?;
    let place = |path: &Path| fs::canonicalize(path).map_err(|error| atomic::io(path, error));
    if [place(encoder)?, place(model)?].contains(&place(out)?) {
        let reason = format!("{} would be written over what it is made from", out.display());
        return Err(Error::Input { field: "out", reason });
    }
    let read = |dir: &Path| parse(&read_file(&dir.join("config.json"), MAX_JSON as u64)?);
    let (mut config, mut part) = (read(model)?, read(encoder)?);
    let missing = || Error::Missing { module: KEY.to_string() };
    config.insert(KEY.to_string(), part.remove(KEY).ok_or_else(missing)?);
    let (weights, own) = (Weights::open(model)?, Weights::open(encoder)?);
    let mut tensors = Vec::new();
    for name in weights.names().filter(|name| !of_encoder(name)) {
        tensors.push((name.to_string(), weights.tensor(name)?));
    }
    for name in own.names().filter(|name| of_encoder(name)) {
        tensors.push((name.to_string(), own.tensor(name)?));
    }
    write_tensors(&out.join("model.safetensors"), &tensors)?;
    let tokenizer = read_file(&model.join("tokenizer.json"), u64::MAX)?;
    atomic::replace(&out.join("tokenizer.json"), |file| file.write_all(&tokenizer))?;
    write_json(&out.join("config.json"), &Value::Object(config))
}

fn of_encoder(name: &str) -> bool {
    name.strip_prefix(KEY).is_some_and(|rest| rest.starts_with('.'))
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Format { file: "config.json".to_string(), reason: error.to_string() })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    atomic::replace(path, |file| writeln!(file, "{value:#}"))
}

/// Writes a safetensors file tensor by tensor: nothing is held in memory but the header.
fn write_tensors(path: &Path, tensors: &[(String, &Tensor)]) -> Result<()> {
    let mut tensors: Vec<_> = tensors.iter().collect();
    // Wide types first, so that every tensor lies aligned.
    tensors.sort_by_key(|(name, tensor)| (Reverse(tensor.dtype().size()), name));
    let (mut header, mut at) = (Map::new(), 0);
    for (name, tensor) in &tensors {
        let dtype = match tensor.dtype() {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        };
        let end = at + tensor.bytes().len();
        let entry = json!({ "dtype": dtype, "shape": tensor.shape(), "data_offsets": [at, end] });
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic::replace(path, |file| {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &tensors {
            file.write_all(tensor.bytes())?;
        }
        file.flush()
    })
}
