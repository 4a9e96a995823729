//! A model directory on disk: `config.json`, weights, `tokenizer.json`.
#![forbid(unsafe_code)]

use std::path::Path;

use super::{Config, MAX_JSON};
use crate::error::Result;
use crate::weights::{Access, Weights, read_file};

/// Longest `tokenizer.json` that is read, in bytes.
const MAX_TOKENIZER: u64 = 256 << 20;

/// The parts of a model directory. A clone shares the bytes of the weights: whoever keeps one can open the model once more, on
/// the CPU for one where a GPU was lost, without a file being read again.
#[derive(Clone, Debug)]
pub struct ModelDir {
    /// `config.json`.
    pub config: Config,
    /// `model.safetensors`, or the shards of `model.safetensors.index.json`.
    pub weights: Weights,
    /// The bytes of `tokenizer.json`.
    pub tokenizer: Vec<u8>,
}

impl ModelDir {
    /// Opens a directory; the weights are memory-mapped, neither copied nor converted.
    ///
    /// The files must not change while the model is in use, see [`Weights::open`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with the path of a missing or unreadable file, and the errors of
    /// [`Config::parse`] and [`Weights::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<ModelDir> {
        ModelDir::open_with(path, Access::Map)
    }

    /// As [`ModelDir::open`], with a choice of how the weights come to memory.
    ///
    /// # Errors
    /// As [`ModelDir::open`].
    pub fn open_with(path: impl AsRef<Path>, access: Access) -> Result<ModelDir> {
        let dir = path.as_ref();
        let config = Config::parse(&read_file(&dir.join("config.json"), MAX_JSON as u64)?)?;
        let tokenizer = read_file(&dir.join("tokenizer.json"), MAX_TOKENIZER)?;
        let weights = Weights::open_with(dir, access)?;
        Ok(ModelDir { config, weights, tokenizer })
    }
}
