//! Weights in several files: `model.safetensors.index.json` says which name lies in which.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::safetensors::{self, MAX_HEADER};
use super::{Entry, Storage};
use crate::error::{Error, Result};
use crate::json::Value;
use crate::sort::sorted_by;
use crate::table::Table;
use crate::words::Quoted;

/// Name of the index, for errors.
const INDEX: &str = "model.safetensors.index.json";

/// The index as pairs of tensor and file; its `metadata` is not used.
fn read(index: &[u8]) -> Result<Table<String>, String> {
    let index = Value::parse(index).map_err(|fault| fault.to_string())?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err("needs the object weight_map".to_owned());
    };
    let mut pairs = Vec::with_capacity(map.len());
    for (name, file) in map.iter() {
        let file = file.as_str().ok_or_else(|| format!("tensor {name}: the file is no string"))?;
        pairs.push((name.to_owned(), file.to_owned()));
    }
    Table::new(pairs).map_err(|name| format!("tensor {name} appears twice"))
}

/// The entries of all shards, each checked against the index.
pub(super) fn merge(index: &[u8], mut storage: impl FnMut(&str) -> Result<Storage>) -> Result<Table<Entry>> {
    let format = |reason| Error::Format { file: INDEX.to_owned(), reason };
    if index.len() > MAX_HEADER {
        return Err(Error::Limit { limit: INDEX, max: MAX_HEADER as u64, got: index.len() as u64 });
    }
    let weight_map = read(index).map_err(format)?;
    let mut files: Vec<(&str, &str)> =
        sorted_by(weight_map.iter().map(|(name, file)| (file.as_str(), name)).collect(), Ord::cmp);
    files.dedup_by_key(|(file, _)| *file);
    let mut entries = Vec::with_capacity(weight_map.len());
    for (file, name) in files {
        if !is_file_name(file) {
            return Err(format(format!("tensor {name}: {} is no file name in this directory", Quoted(file))));
        }
        for (name, entry) in safetensors::parse(file, &storage(file)?)?.into_pairs() {
            if weight_map.get(&name).map(String::as_str) != Some(file) {
                let reason = format!("lies in {file}, but {INDEX} does not say so");
                return Err(Error::Tensor { name, reason });
            }
            entries.push((name, entry));
        }
    }
    let entries = Table::new(entries).map_err(|name| format(format!("tensor {name} appears twice")))?;
    match weight_map.into_pairs().into_iter().find(|(name, _)| entries.place(name).is_none()) {
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
