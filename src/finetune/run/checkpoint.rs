//! A run on disk: the trainer's state, where the stream of pictures is, the losses so far and the options of the run, in one
//! safetensors file that is replaced as a whole.
//!
//! Beside the tensors of [`Trainer::state`](crate::finetune::Trainer::state) it holds `run.losses [updates]` and
//! `run.validations [n, 2]` (update, loss); what is no tensor is JSON under `run` in the metadata of the file.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::finetune::export::{Named, file_with};
use crate::finetune::files::atomic;
use crate::weights::{Access, Weights, storage};

/// Key of the metadata.
const KEY: &str = "run";

/// What a checkpoint holds beside tensors.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Everything that the bits depend on, by name.
    pub(super) options: BTreeMap<String, String>,
    /// Where the stream of pictures is.
    pub(super) position: u64,
    /// Pictures that could not be read, with the reasons.
    pub(super) skipped: BTreeMap<String, String>,
}

/// An open checkpoint.
pub(super) struct Checkpoint {
    pub(super) weights: Weights,
    pub(super) notes: Notes,
}

impl Checkpoint {
    /// Opens a checkpoint; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`], [`Error::Tensor`].
    pub(super) fn open(path: &Path) -> Result<Option<Checkpoint>> {
        if !path.try_exists().map_err(|error| atomic::io(path, error))? {
            return Ok(None);
        }
        let name = path.display().to_string();
        let storage = storage(path, Access::Map)?;
        let error = |reason: String| Error::Format { file: name.clone(), reason };
        let (_, metadata) = SafeTensors::read_metadata((*storage).as_ref())
            .map_err(|reason| error(format!("is no checkpoint: {reason}")))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let text = text.ok_or_else(|| error("is no checkpoint of a run".to_string()))?;
        let notes = serde_json::from_str(text).map_err(|reason| error(format!("{KEY}: {reason}")))?;
        Ok(Some(Checkpoint { weights: Weights::from_storage(&name, storage)?, notes }))
    }

    /// The numbers of a tensor of any length.
    ///
    /// # Errors
    /// [`Error::Tensor`] where there is none of `f32`.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.weights.tensor(name)?;
        if tensor.dtype() != crate::weights::Dtype::F32 {
            return Err(Error::Tensor { name: name.to_string(), reason: "must be F32".to_string() });
        }
        Ok(tensor.bytes().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    /// Refuses to go on under other options than the run had, naming the first that differs.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub(super) fn check(&self, options: &BTreeMap<String, String>) -> Result<()> {
        let none = String::from("nothing");
        let names = self.notes.options.keys().chain(options.keys());
        for name in names {
            let [was, is] = [&self.notes.options, options].map(|of| of.get(name).unwrap_or(&none));
            if was != is {
                let reason = format!("{name}: the run was begun with {was}, not with {is}");
                return Err(Error::Input { field: "checkpoint", reason });
            }
        }
        Ok(())
    }
}

/// Replaces a checkpoint.
///
/// # Errors
/// [`Error::NonFinite`] naming a tensor that holds a NaN or an infinity: such a state is never kept; [`Error::Io`].
pub(super) fn write(path: &Path, tensors: &[Named], notes: &Notes) -> Result<()> {
    if let Some(bad) = tensors.iter().find(|tensor| tensor.data.iter().any(|x| !x.is_finite())) {
        return Err(Error::NonFinite { module: bad.name.clone() });
    }
    let text = serde_json::to_string(notes)
        .map_err(|error| Error::Format { file: KEY.to_string(), reason: error.to_string() })?;
    let bytes = file_with(tensors, HashMap::from([(KEY.to_string(), text)]))?;
    atomic::replace(path, |file| file.write_all(&bytes))
}
