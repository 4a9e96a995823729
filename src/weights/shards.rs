//! Weights in several files: `model.safetensors.index.json` says which name lies in which.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use serde::Deserialize;

use super::safetensors::{self, MAX_HEADER};
use super::{Entry, Storage};
use crate::error::{Error, Result};

/// Name of the index, for errors.
const INDEX: &str = "model.safetensors.index.json";

/// The index; its `metadata` is not used.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The entries of all shards, each checked against the index.
pub(super) fn merge(
    index: &[u8],
    mut storage: impl FnMut(&str) -> Result<Storage>,
) -> Result<BTreeMap<String, Entry>> {
    let format = |reason| Error::Format { file: INDEX.to_owned(), reason };
    if index.len() > MAX_HEADER {
        return Err(Error::Limit { limit: INDEX, max: MAX_HEADER as u64, got: index.len() as u64 });
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| format(error.to_string()))?;
    let mut files = BTreeMap::new();
    for (name, file) in &index.weight_map {
        if !files.contains_key(file) {
            if !is_file_name(file) {
                return Err(format(format!("tensor {name}: {file:?} is no file name in this directory")));
            }
            files.insert(file, safetensors::parse(file, &storage(file)?)?);
        }
    }
    let mut entries = BTreeMap::new();
    for (file, shard) in files {
        for (name, entry) in shard {
            if index.weight_map.get(&name) != Some(file) {
                let reason = format!("lies in {file}, but {INDEX} does not say so");
                return Err(Error::Tensor { name, reason });
            }
            entries.insert(name, entry);
        }
    }
    match index.weight_map.into_iter().find(|(name, _)| !entries.contains_key(name)) {
        Some((name, file)) => {
            Err(Error::Tensor { name, reason: format!("is missing from {file}, where {INDEX} places it") })
        }
        None => Ok(entries),
    }
}

/// Whether `file` is a plain name: a path could lead out of the model directory.
fn is_file_name(file: &str) -> bool {
    !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', ':', '\0'])
}
