//! Weights: tensors by name over shared bytes, and the loader through which modules take them.
//!
//! Opening reads the headers, checks every name, type, shape and range, and leaves the elements where they are.
#![deny(unsafe_code)]

mod loader;
#[cfg(feature = "std")]
mod mmap;
mod quantise;
mod quantised;
mod safetensors;
mod shards;
mod tensor;
mod verify;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::path::Path;

pub use loader::Loader;
#[cfg(feature = "std")]
pub(crate) use mmap::read_file;
#[cfg(feature = "finetune-files")]
pub(crate) use mmap::storage;
pub use quantise::{Integers, dequantise, quantise};
pub use quantised::{GROUP, Quantised, Scheme};
pub use safetensors::MAX_HEADER;
pub use tensor::{Dtype, Storage, Tensor};
pub use verify::{Progress, Verified};

use crate::checked::Size;
use crate::error::{Error, Result};
use crate::table::Table;

/// How the bytes of a weights file come to memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg(feature = "std")]
pub enum Access {
    /// Memory-mapped: pages are read when they are used, and shared between processes.
    #[default]
    Map,
    /// Read whole, for file systems that cannot be mapped or files that may change later.
    Read,
}

/// What the file says about one name.
#[derive(Clone, Debug)]
enum Entry {
    /// A tensor that the library can use.
    Tensor(Tensor),
    /// The integers of a quantised matrix, or of something that is none.
    Integers(quantised::IntegerTensor),
    /// A tensor of a type that the library does not compute with; only an error if it is asked for.
    Other {
        /// The type as the file spells it.
        dtype: String,
    },
}

/// All tensors of a model, by full name. Cheap to clone but for the names: the bytes are shared.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    entries: Table<Entry>,
}

impl Weights {
    /// Opens `model.safetensors` of a directory or, where there is none, the shards that
    /// `model.safetensors.index.json` lists. The files are memory-mapped.
    ///
    /// The files must not be changed or cut short while the weights or anything loaded from them is alive: what is read
    /// from a changed file is undefined, and reading past a new end kills the process. Replace a model by renaming a new
    /// file over the old one, or open it with [`Access::Read`].
    ///
    /// # Errors
    /// [`Error::Io`] with the path of a missing file; [`Error::Limit`] for a header beyond [`MAX_HEADER`];
    /// [`Error::Format`] and [`Error::Tensor`] for a file that is truncated, overlapping, sharded wrongly or otherwise
    /// not what its header says.
    #[cfg(feature = "std")]
    pub fn open(dir: impl AsRef<Path>) -> Result<Weights> {
        Weights::open_with(dir, Access::Map)
    }

    /// As [`Weights::open`], with a choice of how the bytes come to memory.
    ///
    /// # Errors
    /// As [`Weights::open`].
    #[cfg(feature = "std")]
    pub fn open_with(dir: impl AsRef<Path>, access: Access) -> Result<Weights> {
        let dir = dir.as_ref();
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() || !index.exists() {
            return Weights::open_file(single, access);
        }
        let index = read_file(&index, MAX_HEADER as u64)?;
        Weights::from_shards(&index, |file| mmap::storage(&dir.join(file), access))
    }

    /// Opens one safetensors file. With [`Access::Map`] the contract of [`Weights::open`] holds.
    ///
    /// # Errors
    /// As [`Weights::open`].
    #[cfg(feature = "std")]
    pub fn open_file(path: impl AsRef<Path>, access: Access) -> Result<Weights> {
        let path = path.as_ref();
        Weights::from_storage(&path.display().to_string(), mmap::storage(path, access)?)
    }

    /// The tensors of a safetensors file that is part of the program or lives in flash; nothing is copied.
    ///
    /// # Errors
    /// As [`Weights::open`] but for [`Error::Io`].
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Weights> {
        Weights::from_storage("weights", Arc::new(bytes))
    }

    /// The tensors of a safetensors file that was read to memory.
    ///
    /// # Errors
    /// As [`Weights::from_bytes`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Weights> {
        Weights::from_storage("weights", Arc::new(bytes))
    }

    /// The tensors of a safetensors file in any storage; `file` is its name in errors.
    ///
    /// # Errors
    /// As [`Weights::from_bytes`].
    pub fn from_storage(file: &str, storage: Storage) -> Result<Weights> {
        Ok(Weights { entries: safetensors::parse(file, &storage)? })
    }

    /// The tensors of all shards of an index (the text of `model.safetensors.index.json`); `storage` gives the bytes of
    /// the file that it is asked for.
    ///
    /// # Errors
    /// As [`Weights::open`]; [`Error::Format`] for an index that is no index or names a file outside the directory;
    /// [`Error::Tensor`] where index and shards disagree.
    pub fn from_shards(index: &[u8], storage: impl FnMut(&str) -> Result<Storage>) -> Result<Weights> {
        Ok(Weights { entries: shards::merge(index, storage)? })
    }

    /// Number of tensors, those of unusable types included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors at all.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Full names in alphabetic order, those of unusable types included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.names()
    }

    /// The tensor of this name; `None` where there is none or its type is not f32, f16 or bf16.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensor(name).ok()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::Tensor`] where it is missing or its type is not f32, f16 or bf16.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self.entries.get(name) {
            Some(Entry::Tensor(tensor)) => Ok(tensor),
            Some(Entry::Integers(integers)) => Err(unusable(name, integers.scheme.dtype())),
            Some(Entry::Other { dtype }) => Err(unusable(name, dtype)),
            None => Err(Error::Tensor { name: name.to_owned(), reason: "is missing".to_owned() }),
        }
    }

    /// The quantised matrix whose integers have this name and stand for `shape` (all dimensions after the first together
    /// are its columns), with the scales `{name}_scale`; `None` where the tensor is not of a quantised type.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the name of the integers where their shape is another, with that of the scales where those are
    /// missing or misshapen.
    pub fn quantised(&self, name: &str, shape: &[usize]) -> Result<Option<Quantised>> {
        let Some(Entry::Integers(integers)) = self.entries.get(name) else { return Ok(None) };
        let (Some(&n), Some(rest)) = (shape.first(), shape.get(1..)) else { return Ok(None) };
        let k = Size::product(rest)?.get();
        let width = integers.scheme.row_bytes(k);
        let fits = match integers.scheme {
            Scheme::Int8 => integers.shape == shape,
            Scheme::Int4 => integers.shape == [n, width],
        };
        if !fits {
            let (dtype, found) = (integers.scheme.dtype(), &integers.shape);
            let needed = if integers.scheme == Scheme::Int4 { [n, width].to_vec() } else { shape.to_vec() };
            let reason =
                format!("is of type {dtype} and shape {found:?}, but the configuration asks for {needed:?}");
            return Err(Error::Tensor { name: name.to_owned(), reason });
        }
        let scales = self.tensor(&format!("{name}_scale"))?;
        Quantised::of(integers.clone(), [n, k], scales.clone()).map(Some)
    }

    /// Bytes that the elements of this name take.
    fn bytes(&self, name: &str) -> usize {
        match self.entries.get(name) {
            Some(Entry::Tensor(tensor)) => tensor.bytes().len(),
            Some(Entry::Integers(integers)) => integers.range.len(),
            Some(Entry::Other { .. }) | None => 0,
        }
    }

    /// The place of this name among [`Weights::names`].
    fn place(&self, name: &str) -> Option<usize> {
        self.entries.place(name)
    }

    /// Whether the file has this name, usable or not.
    pub fn has(&self, name: &str) -> bool {
        self.entries.place(name).is_some()
    }
}

/// A type that cannot be used where the tensor stands.
fn unusable(name: &str, dtype: &str) -> Error {
    let reason = format!("is of type {dtype}, but only F32, F16 and BF16 can be used here");
    Error::Tensor { name: name.to_owned(), reason }
}
