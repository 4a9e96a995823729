//! The safetensors format: eight bytes of header length, a JSON header, the elements.
//!
//! The header says for every name the type, the shape and the bytes `data_offsets = [begin, end)` after the header.
//! Accepted is only what the format allows: every name once, ranges in shape's size, no overlap, no hole, no rest.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry as Slot;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{Dtype, Entry, Storage, Tensor};
use crate::checked::Size;
use crate::error::{Error, Result};

/// Longest header that is parsed, in bytes (the limit of the format's own library).
pub const MAX_HEADER: usize = 100_000_000;

/// Bytes before the header: its length as a little-endian `u64`.
const PREFIX: usize = 8;

/// One tensor as the header describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of the header; `__metadata__` is skipped, a name that appears twice is an error.
struct Header(BTreeMap<String, Described>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Header, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let described =
                        map.next_value().map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                    match tensors.entry(name) {
                        Slot::Vacant(slot) => slot.insert(described),
                        Slot::Occupied(slot) => {
                            return Err(A::Error::custom(format!("tensor {} appears twice", slot.key())));
                        }
                    };
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}

/// The entries of a safetensors file; `file` is its name in errors.
pub(super) fn parse(file: &str, storage: &Storage) -> Result<BTreeMap<String, Entry>> {
    let bytes = (**storage).as_ref();
    let format = |reason: String| Error::Format { file: file.to_owned(), reason };
    let Some((length, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(format(format!("is {} bytes long, which is no safetensors file", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER as u64 {
        return Err(Error::Limit { limit: "safetensors header", max: MAX_HEADER as u64, got: length });
    }
    let length = Size::from_u64(length)?.get();
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(format(format!("ends inside its header of {length} bytes: the file is truncated")));
    };
    let Header(described) =
        serde_json::from_slice(header).map_err(|error| format(format!("header: {error}")))?;
    check_ranges(file, &described, data.len())?;
    let start = Size::new(PREFIX).plus(length)?;
    described.into_iter().map(|(name, tensor)| entry(name, tensor, storage, start)).collect()
}

/// The ranges, in order, must fill the data from its first to its last byte.
fn check_ranges(file: &str, described: &BTreeMap<String, Described>, data: usize) -> Result<()> {
    let mut ranges: Vec<_> = described.iter().map(|(name, tensor)| (tensor.data_offsets, name)).collect();
    ranges.sort_unstable();
    let mut filled = 0;
    for ((begin, end), name) in ranges {
        let tensor = |reason| Error::Tensor { name: name.clone(), reason };
        if begin > end || end > data as u64 {
            let reason =
                format!("bytes {begin}..{end} lie outside the {data} bytes of data (truncated file?)");
            return Err(tensor(reason));
        }
        if begin < filled {
            return Err(tensor(format!("starts at byte {begin}, inside a tensor that ends at {filled}")));
        }
        if begin > filled {
            return Err(tensor(format!("starts at byte {begin}, which leaves a hole from {filled}")));
        }
        filled = end;
    }
    if filled != data as u64 {
        let reason = format!("{} bytes follow the last tensor", data as u64 - filled);
        return Err(Error::Format { file: file.to_owned(), reason });
    }
    Ok(())
}

/// What the table keeps of one tensor, after its size was checked.
fn entry(name: String, described: Described, storage: &Storage, start: Size) -> Result<(String, Entry)> {
    let (begin, end) = described.data_offsets;
    let range =
        start.plus(Size::from_u64(begin)?.get())?.get()..start.plus(Size::from_u64(end)?.get())?.get();
    let mut shape = Vec::with_capacity(described.shape.len());
    for dim in described.shape {
        shape.push(Size::from_u64(dim)?.get());
    }
    let dtype = match described.dtype.as_str() {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        other => {
            let Some(bits) = bits_of(other) else {
                return Err(Error::Tensor { name, reason: format!("is of the unknown type {other:?}") });
            };
            let total = Size::product(&shape)?.times(bits)?.get();
            if total % 8 != 0 || total / 8 != range.len() {
                let reason = format!("shape {shape:?} of {other} does not fill {} bytes", range.len());
                return Err(Error::Tensor { name, reason });
            }
            return Ok((name, Entry::Other { dtype: described.dtype }));
        }
    };
    let tensor = Tensor::new(name.clone(), dtype, shape, storage.clone(), range)?;
    Ok((name, Entry::Tensor(tensor)))
}

/// Bits per element of the format's types that the library does not compute with.
fn bits_of(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" => 16,
        "U32" | "I32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}
