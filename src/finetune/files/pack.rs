//! A pack: many picture files in one, which is memory-mapped.
//!
//! All numbers are little-endian. The 8 bytes `TRIPPACK`, the version (`u32`, 1), a `u32` that is 0, the number of pictures
//! (`u64`), then for every picture a record of four `u64`: offset and length of its name, offset and length of its file, from
//! the beginning of the pack. A name is UTF-8, a file is a whole PNG or JPEG file. The order is the order of the records.
#![forbid(unsafe_code)]

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use super::atomic;
use super::pictures::Pictures;
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::weights::{Access, Storage, storage};

const MAGIC: &[u8; 8] = b"TRIPPACK";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const RECORD: usize = 32;

/// An open pack; every range was checked against the file.
pub(super) struct Pack {
    storage: Storage,
    entries: Vec<(String, Range<usize>)>,
}

impl Pack {
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] naming what is wrong with the file.
    pub(super) fn open(path: &Path) -> Result<Pack> {
        let storage = storage(path, Access::Map)?;
        let entries = parse(&path.display().to_string(), (*storage).as_ref())?;
        Ok(Pack { storage, entries })
    }

    /// Names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// The file of a picture; `None` beyond the last one, and where the pack was cut short since it was opened.
    pub(super) fn file(&self, index: usize) -> Option<&[u8]> {
        let (_, range) = self.entries.get(index)?;
        (*self.storage).as_ref().get(range.clone())
    }
}

/// `N` bytes from `at` on.
fn bytes<const N: usize>(pack: &[u8], at: usize) -> Option<[u8; N]> {
    pack.get(at..)?.first_chunk().copied()
}

fn parse(file: &str, pack: &[u8]) -> Result<Vec<(String, Range<usize>)>> {
    let error = |reason: String| Error::Format { file: file.to_string(), reason };
    let short = || error("is shorter than a pack of pictures".to_string());
    if !pack.starts_with(MAGIC) {
        return Err(error("is no pack of pictures".to_string()));
    }
    let version = u32::from_le_bytes(bytes(pack, 8).ok_or_else(short)?);
    if version != VERSION {
        return Err(error(format!("has version {version}; {VERSION} is known")));
    }
    let count = Size::from_u64(u64::from_le_bytes(bytes(pack, 16).ok_or_else(short)?))?;
    if count.times(RECORD)?.plus(HEADER)?.get() > pack.len() {
        return Err(error(format!("is too short for the records of {} pictures", count.get())));
    }
    let mut entries = Vec::with_capacity(count.get());
    for index in 0..count.get() {
        let range = |part: usize| -> Result<Range<usize>> {
            let at = HEADER + index * RECORD + part * 16;
            let [start, len] = [at, at + 8].map(|at| bytes(pack, at).map(u64::from_le_bytes));
            let start = Size::from_u64(start.ok_or_else(short)?)?;
            let end = start.plus(Size::from_u64(len.ok_or_else(short)?)?.get())?.get();
            if end > pack.len() {
                return Err(error(format!("picture {index} lies beyond the end")));
            }
            Ok(start.get()..end)
        };
        let name = pack.get(range(0)?).unwrap_or_default();
        let name =
            str::from_utf8(name).map_err(|_| error(format!("the name of picture {index} is no UTF-8")))?;
        entries.push((name.to_string(), range(1)?));
    }
    Ok(entries)
}

/// Writes the files of `pictures` to a pack, in their order and as they are; `progress` hears of every picture. Files that
/// cannot be read at all are left out; their names come back, with the reasons. Replaces `path` only when all is written.
///
/// # Errors
/// [`Error::Io`] with the path and the system's reason.
pub fn write_pack(
    pictures: &Pictures,
    path: &Path,
    mut progress: impl FnMut(usize),
) -> Result<Vec<(String, String)>> {
    let (mut lengths, mut failed) = (Vec::with_capacity(pictures.len()), Vec::new());
    for index in 0..pictures.len() {
        match pictures.file_len(index) {
            Ok(len) => lengths.push((index, len)),
            Err(error) => failed.push((pictures.name(index).to_string(), error.to_string())),
        }
    }
    atomic::replace(path, |out| {
        let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        out.write_all(&(lengths.len() as u64).to_le_bytes())?;
        let mut name_at = (HEADER + lengths.len() * RECORD) as u64;
        let names: u64 = lengths.iter().map(|&(index, _)| pictures.name(index).len() as u64).sum();
        let mut file_at = name_at + names;
        for &(index, len) in &lengths {
            let name_len = pictures.name(index).len() as u64;
            for number in [name_at, name_len, file_at, len] {
                out.write_all(&number.to_le_bytes())?;
            }
            (name_at, file_at) = (name_at + name_len, file_at + len);
        }
        for &(index, _) in &lengths {
            out.write_all(pictures.name(index).as_bytes())?;
        }
        for (done, &(index, len)) in lengths.iter().enumerate() {
            let file = pictures.file(index).map_err(|error| std::io::Error::other(error.to_string()))?;
            if file.len() as u64 != len {
                let name = pictures.name(index);
                return Err(std::io::Error::other(format!("{name} has changed meanwhile")));
            }
            out.write_all(&file)?;
            progress(done + 1);
        }
        out.flush()
    })?;
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack of one picture named "a" with the file "xyz".
    fn good() -> Vec<u8> {
        let mut pack = Vec::from(MAGIC);
        pack.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        for number in [1u64, 56, 1, 57, 3] {
            pack.extend(number.to_le_bytes());
        }
        pack.extend(b"axyz");
        pack
    }

    #[test]
    fn a_pack_is_read() {
        assert_eq!(parse("p", &good()).unwrap(), [("a".to_string(), 57..60)]);
    }

    #[test]
    fn every_damage_is_an_error_and_none_a_panic() {
        let good = good();
        for len in 0..good.len() {
            assert!(parse("p", &good[..len]).is_err(), "{len} bytes");
        }
        for (at, value) in
            [(0, b'X'), (8, 2), (23, 255), (16, 9), (31, 255), (39, 255), (47, 255), (24, 60), (55, 255)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(parse("p", &bad).is_err(), "byte {at}");
        }
        let mut bad = good.clone();
        bad[56] = 0xFF;
        assert!(matches!(parse("p", &bad), Err(Error::Format { reason, .. }) if reason.contains("UTF-8")));
    }
}
