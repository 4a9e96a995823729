//! Files to bytes: memory maps and plain reads.
//!
//! The unsafe part is the map itself: the slice of a mapped file is only sound while nobody changes the file. No program
//! can enforce that on a shared file system, so it is the caller's contract, stated at
//! [`Weights::open`](super::Weights::open). What a change can do is bounded by the readers: the header is parsed once and
//! owned, ranges are checked against the length at the time of mapping, and elements are only ever read as numbers.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Access, Storage};
use crate::error::{Error, Result};

/// The bytes of a weights file.
pub(crate) fn storage(path: &Path, access: Access) -> Result<Storage> {
    match access {
        Access::Map => map(path),
        Access::Read => Ok(Arc::new(read_file(path, u64::MAX)?)),
    }
}

#[allow(unsafe_code)]
fn map(path: &Path) -> Result<Storage> {
    let file = File::open(path).map_err(|error| io(path, error))?;
    if file.metadata().map_err(|error| io(path, error))?.len() == 0 {
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: the map is read-only and lives as long as the storage. That the file stays unchanged is the documented
    // contract of `Weights::open`; see the head of this file for what readers do to stay within the first length.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| io(path, error))?;
    Ok(Arc::new(map))
}

/// The whole file.
///
/// # Errors
/// [`Error::Io`] with the path; also where the file is longer than `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| io(path, error))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| io(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(io(path, format!("is longer than {limit} bytes")));
    }
    Ok(bytes)
}

fn io(path: &Path, reason: impl ToString) -> Error {
    Error::Io { path: path.display().to_string(), reason: reason.to_string() }
}
