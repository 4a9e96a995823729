//! The tiny model and what can be wrong with one: directories to open, and bytes in which a few were changed.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use triplet::weights::{Dtype, Weights};
use triplet_c::status::*;

use crate::random::Random;

/// A model in memory.
#[derive(Clone)]
struct Files {
    config: Value,
    tokenizer: Vec<u8>,
    tensors: Vec<Tensor>,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Files {
    fn read(dir: &Path) -> Result<Files, Box<dyn std::error::Error>> {
        let weights = Weights::open(dir)?;
        let tensor = |name: &str| {
            let tensor = weights.tensor(name)?;
            let dtype = match tensor.dtype() {
                Dtype::F32 => "F32",
                Dtype::F16 => "F16",
                Dtype::Bf16 => "BF16",
                other => return Err(format!("{name} is of type {other:?}").into()),
            };
            let (shape, bytes) = (tensor.shape().to_vec(), tensor.bytes().to_vec());
            Ok(Tensor { name: name.to_owned(), dtype, shape, bytes })
        };
        Ok(Files {
            config: serde_json::from_slice(&fs::read(dir.join("config.json"))?)?,
            tokenizer: fs::read(dir.join("tokenizer.json"))?,
            tensors: weights.names().map(tensor).collect::<Result<_, Box<dyn std::error::Error>>>()?,
        })
    }

    /// The tensors as one safetensors file.
    fn weights(&self) -> Vec<u8> {
        let (mut header, mut elements) = (serde_json::Map::new(), Vec::new());
        for Tensor { name, dtype, shape, bytes } in &self.tensors {
            let start = elements.len();
            elements.extend_from_slice(bytes);
            let offsets = [start, elements.len()];
            header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        }
        let header = Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&elements);
        file
    }

    /// Removes a module from the configuration.
    fn remove(&mut self, module: &str) {
        let removed = self.config.as_object_mut().and_then(|config| config.remove(module));
        assert!(removed.is_some(), "the tiny model has no {module}");
    }

    fn tensor(&mut self, prefix: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name.starts_with(prefix));
        found.unwrap_or_else(|| panic!("the tiny model has no {prefix}"))
    }

    fn write(&self, dir: &Path, config: Option<&str>, cut: Option<usize>) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), config.unwrap_or(&self.config.to_string()))?;
        fs::write(dir.join("tokenizer.json"), &self.tokenizer)?;
        let mut weights = self.weights();
        weights.truncate(cut.unwrap_or(usize::MAX));
        fs::write(dir.join("model.safetensors"), weights)
    }
}

/// A model directory and what comes of opening it with nothing wrong about the call.
pub struct Directory {
    pub path: CString,
    /// The status without `verify`.
    pub opens: triplet_status,
    /// The status with it.
    pub verified: triplet_status,
    /// Nothing is wrong with it.
    pub fine: bool,
}

/// All models that the fuzz target opens. The directories go with it.
pub struct Models {
    root: PathBuf,
    pub directories: Vec<Directory>,
    config: Vec<u8>,
    tokenizer: Vec<u8>,
    weights: Vec<u8>,
}

impl Models {
    /// Makes the broken models out of the one in `dir`.
    pub fn new(dir: &Path) -> Result<Models, Box<dyn std::error::Error>> {
        let fine = Files::read(dir)?;
        let root = std::env::temp_dir().join(format!("triplet-fuzz-{}", std::process::id()));
        let mut models = Models {
            root,
            directories: Vec::new(),
            config: fine.config.to_string().into_bytes(),
            tokenizer: fine.tokenizer.clone(),
            weights: fine.weights(),
        };
        models.add("fine", TRIPLET_OK, TRIPLET_OK, &fine, |_| {})?;

        models.add("even_heads", TRIPLET_CONFIG, TRIPLET_CONFIG, &fine, |files| {
            files.config["llm"]["num_attention_heads"] = json!(5);
        })?;
        models.add("no_width", TRIPLET_CONFIG, TRIPLET_CONFIG, &fine, |files| {
            files.config["llm"]["hidden_size"] = json!("wide");
        })?;
        models.add("no_encoder", TRIPLET_MISSING_MODULE, TRIPLET_MISSING_MODULE, &fine, |files| {
            files.remove("visual_encoder");
        })?;
        models.add("no_tensor", TRIPLET_TENSOR, TRIPLET_TENSOR, &fine, |files| {
            files.tensors.retain(|tensor| tensor.name != "llm.lm_head.weight");
        })?;
        models.add("misshapen", TRIPLET_TENSOR, TRIPLET_TENSOR, &fine, |files| {
            files.tensor("llm.lm_head.weight").shape.reverse();
        })?;
        models.add("other_type", TRIPLET_TENSOR, TRIPLET_TENSOR, &fine, |files| {
            files.tensor("projector").dtype = "I32";
        })?;
        for (name, prefix) in [
            ("nan_projector", "projector"),
            ("nan_llm", "llm.model.layers.0.mlp"),
            ("nan_box", "visual_decoder.box."),
            ("nan_tower", "visual_tower"),
        ] {
            models.add(name, TRIPLET_OK, TRIPLET_TENSOR, &fine, |files| {
                // All bits set is a NaN of every type.
                let tensors = files.tensors.iter_mut().filter(|tensor| tensor.name.starts_with(prefix));
                let count = tensors.map(|tensor| tensor.bytes.fill(0xff)).count();
                assert!(count > 0, "the tiny model has no {prefix}");
            })?;
        }
        for (name, modules) in [
            ("no_visual_prompts", ["vpt_encoder"].as_slice()),
            ("no_template", &["prompt_template"]),
            ("no_decoder", &["visual_decoder", "unit_heads"]),
        ] {
            models.add(name, TRIPLET_OK, TRIPLET_OK, &fine, |files| {
                modules.iter().for_each(|module| files.remove(module));
            })?;
        }
        for (name, status, config, cut) in [
            ("no_json", TRIPLET_FORMAT, Some("{"), None),
            ("cut_short", TRIPLET_TENSOR, None, Some(models.weights.len() - 1)),
            ("no_header", TRIPLET_FORMAT, None, Some(7)),
        ] {
            let path = models.root.join(name);
            fine.write(&path, config, cut)?;
            models.list(&path, status, status, false)?;
        }
        let nowhere = models.root.join("nowhere");
        models.list(&nowhere, TRIPLET_IO, TRIPLET_IO, false)?;
        Ok(models)
    }

    fn add(
        &mut self,
        name: &str,
        opens: triplet_status,
        verified: triplet_status,
        fine: &Files,
        change: impl FnOnce(&mut Files),
    ) -> Result<(), Box<dyn std::error::Error>> {
        let (mut files, path) = (fine.clone(), self.root.join(name));
        change(&mut files);
        files.write(&path, None, None)?;
        self.list(&path, opens, verified, name == "fine")
    }

    fn list(
        &mut self,
        path: &Path,
        opens: triplet_status,
        verified: triplet_status,
        fine: bool,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let path = CString::new(path.display().to_string())?;
        self.directories.push(Directory { path, opens, verified, fine });
        Ok(())
    }

    /// A directory: every other time the one that is fine, else more often one that loads and fails later than one that does
    /// not load.
    pub fn directory(&self, random: &mut Random) -> &Directory {
        let loads = random.chance(75);
        let odd =
            || self.directories.iter().filter(|other| !other.fine && (other.opens == TRIPLET_OK) == loads);
        let which = random.below(odd().count().max(1));
        odd().nth(which).filter(|_| random.chance(50)).unwrap_or(&self.directories[0])
    }

    /// The tiny model's files, as they are where `changes` is 0; else that many bytes of one of them are others, or its end
    /// is missing.
    pub fn bytes(&self, random: &mut Random, changes: usize) -> Bytes {
        let mut bytes = Bytes {
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            weights: self.weights.clone(),
        };
        if changes == 0 {
            return bytes;
        }
        // Elements are numbers, whatever their bytes; names, types and shapes are in the header.
        let header = self.weights.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize + 8);
        let (file, end) = match random.below(4) {
            0 | 1 => (&mut bytes.config, self.config.len()),
            2 => (&mut bytes.tokenizer, self.tokenizer.len()),
            _ => (&mut bytes.weights, header),
        };
        for _ in 0..changes {
            let at = random.below(end);
            let digit = b"0123456789-\"{}[],:e"[random.below(19)];
            file[at] = if random.chance(70) { digit } else { random.bits() as u8 };
        }
        if random.chance(10) {
            file.truncate(random.below(end));
        }
        bytes
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, as all of its temporary directory is.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A model's files in the caller's memory, which the library gives back with [`Bytes::release`].
pub struct Bytes {
    pub config: Vec<u8>,
    pub tokenizer: Vec<u8>,
    pub weights: Vec<u8>,
}

/// How often bytes were given back.
pub static RELEASED: AtomicU64 = AtomicU64::new(0);

impl Bytes {
    /// Frees the `Bytes` that `user_data` was made of.
    pub unsafe extern "C" fn release(user_data: *mut c_void) {
        RELEASED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `user_data` came out of `Box::into_raw`, and the library calls this once.
        drop(unsafe { Box::from_raw(user_data.cast::<Bytes>()) });
    }
}

/// The path of no model.
pub const NO_PATHS: [&CStr; 2] = [c"", c"\xff\xfe"];
