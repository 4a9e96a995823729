//! Where pictures come from: a folder or a pack.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::io;
use super::decode::Picture;
use super::pack::Pack;
use crate::error::{Error, Result};
use crate::weights::read_file;

/// Longest file of a picture, in bytes.
const MAX_FILE: u64 = 512 << 20;

/// Files of pictures, by number. Their order does not depend on the file system: it is that of their names.
pub struct Pictures {
    names: Vec<String>,
    from: From,
}

enum From {
    Files(Vec<PathBuf>),
    /// With the place of every picture in the pack.
    Pack(Pack, Vec<usize>),
}

impl Pictures {
    /// All files of a folder and the folders in it whose names end in `.png`, `.jpg` or `.jpeg`, or all pictures of the pack
    /// ([`write_pack`](super::write_pack)) that `path` is. The folder must not change while this is in use; the pack is
    /// memory-mapped, see [`Weights::open`](crate::weights::Weights::open).
    ///
    /// # Errors
    /// [`Error::Io`] with the path; [`Error::Format`] for a file that is no pack; [`Error::Input`] where there is no picture.
    pub fn open(path: &Path) -> Result<Pictures> {
        let pictures = if path.is_dir() {
            let mut found = Vec::new();
            walk(path, &mut String::new(), &mut found)?;
            found.sort();
            let (names, paths) = found.into_iter().unzip();
            Pictures { names, from: From::Files(paths) }
        } else {
            let pack = Pack::open(path)?;
            let mut found: Vec<(String, usize)> =
                pack.names().enumerate().map(|(index, name)| (name.to_string(), index)).collect();
            found.sort();
            let (names, places) = found.into_iter().unzip();
            Pictures { names, from: From::Pack(pack, places) }
        };
        if pictures.is_empty() {
            let reason = format!("{} holds no .png, .jpg or .jpeg file", path.display());
            return Err(Error::Input { field: "images", reason });
        }
        Ok(pictures)
    }

    /// Number of pictures, unreadable ones included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a picture: its path from the folder on, parts joined by `/`. Empty beyond the last picture.
    pub fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    /// [`Error::Io`] and those of [`Picture::decode`].
    pub fn read(&self, index: usize) -> Result<Picture> {
        Picture::decode(self.name(index), &self.file(index)?)
    }

    /// The file of a picture as it is.
    pub(super) fn file(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match &self.from {
            From::Files(paths) => read_file(path(paths, index)?, MAX_FILE).map(Cow::Owned),
            From::Pack(pack, places) => {
                let file = places.get(index).and_then(|&place| pack.file(place));
                file.map(Cow::Borrowed).ok_or_else(|| missing(index))
            }
        }
    }

    /// Bytes of a picture's file.
    pub(super) fn file_len(&self, index: usize) -> Result<u64> {
        match &self.from {
            From::Files(paths) => {
                let path = path(paths, index)?;
                // Opened, for a file that may not be read has a length too.
                fs::File::open(path)
                    .and_then(|file| file.metadata())
                    .map(|data| data.len())
                    .map_err(|e| io(path, e))
            }
            From::Pack(..) => self.file(index).map(|file| file.len() as u64),
        }
    }
}

fn path(paths: &[PathBuf], index: usize) -> Result<&Path> {
    paths.get(index).map(PathBuf::as_path).ok_or_else(|| missing(index))
}

fn missing(index: usize) -> Error {
    Error::Input { field: "picture", reason: format!("there is no picture {index}") }
}

/// Adds the pictures below `dir`, which is called `prefix`. Links to files are followed, links to folders are not.
fn walk(dir: &Path, prefix: &mut String, found: &mut Vec<(String, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|error| io(dir, error))? {
        let entry = entry.map_err(|error| io(dir, error))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|error| io(dir, error))?);
        let name = entry.file_name().to_string_lossy().into_owned();
        let len = prefix.len();
        prefix.push_str(&name);
        if kind.is_dir() {
            prefix.push('/');
            walk(&path, prefix, found)?;
        } else if is_picture(&path) {
            found.push((prefix.clone(), path));
        }
        prefix.truncate(len);
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg"))
}
