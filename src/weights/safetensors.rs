//! The safetensors format: eight bytes of header length, a JSON header, the elements.
//!
//! The header says for every name the type, the shape and the bytes `data_offsets = [begin, end)` after the header.
//! Accepted is only what the format allows: every name once, ranges in shape's size, no overlap, no hole, no rest.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::quantised::IntegerTensor;
use super::{Dtype, Entry, Scheme, Storage, Tensor};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::json::{Fault, Number, Reader};
use crate::sort::sorted_by;
use crate::table::Table;
use crate::words::Quoted;

/// Longest header that is parsed, in bytes (the limit of the format's own library).
pub const MAX_HEADER: usize = 100_000_000;

/// Bytes before the header: its length as a little-endian `u64`.
const PREFIX: usize = 8;

/// One tensor as the header describes it.
struct Described {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Described {
    fn read(reader: &mut Reader) -> Result<Described, Fault> {
        let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
        reader.object(|reader, name| {
            let again = match name.as_str() {
                "dtype" => dtype.replace(reader.string()?).is_some(),
                "shape" => shape.replace(sizes(reader)?).is_some(),
                "data_offsets" => {
                    let [begin, end] = sizes(reader)?[..] else {
                        return Err(reader.fault("data_offsets must be two numbers"));
                    };
                    data_offsets.replace((begin, end)).is_some()
                }
                other => return Err(reader.fault(format!("unknown field {}", Quoted(other)))),
            };
            if again { Err(reader.twice(&name)) } else { Ok(()) }
        })?;
        match (dtype, shape, data_offsets) {
            (Some(dtype), Some(shape), Some(data_offsets)) => Ok(Described { dtype, shape, data_offsets }),
            _ => Err(reader.fault("needs dtype, shape and data_offsets")),
        }
    }
}

/// A list of whole numbers from 0.
fn sizes(reader: &mut Reader) -> Result<Vec<u64>, Fault> {
    let mut sizes = Vec::new();
    reader.array(|reader| match reader.number()? {
        Number::Unsigned(size) => {
            sizes.push(size);
            Ok(())
        }
        _ => Err(reader.fault("must be a whole number from 0")),
    })?;
    Ok(sizes)
}

/// The tensors of the header; `__metadata__` is skipped, a name that appears twice is an error.
fn header(text: &[u8]) -> Result<Table<Described>, String> {
    let mut tensors = Vec::new();
    let mut reader = Reader::new(text);
    let read = reader.object(|reader, name| {
        if name == "__metadata__" {
            return reader.value().map(drop);
        }
        let described =
            Described::read(reader).map_err(|fault| reader.fault(format!("tensor {name}: {fault}")))?;
        tensors.push((name, described));
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| fault.to_string())?;
    Table::new(tensors).map_err(|name| format!("tensor {name} appears twice"))
}

/// The entries of a safetensors file; `file` is its name in errors.
pub(super) fn parse(file: &str, storage: &Storage) -> Result<Table<Entry>> {
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
    let described = self::header(header).map_err(|reason| format(format!("header: {reason}")))?;
    check_ranges(file, &described, data.len())?;
    let start = Size::new(PREFIX).plus(length)?;
    let mut entries = Vec::with_capacity(described.len());
    for (name, tensor) in described.into_pairs() {
        entries.push(entry(name, tensor, storage, start)?);
    }
    Table::new(entries).map_err(|name| format(format!("tensor {name} appears twice")))
}

/// The ranges, in order, must fill the data from its first to its last byte.
fn check_ranges(file: &str, described: &Table<Described>, data: usize) -> Result<()> {
    let ranges = described.iter().map(|(name, tensor)| (tensor.data_offsets, name)).collect();
    let ranges = sorted_by(ranges, Ord::cmp);
    let mut filled = 0;
    for ((begin, end), name) in ranges {
        let tensor = |reason| Error::Tensor { name: name.to_owned(), reason };
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
                return Err(Error::Tensor {
                    name,
                    reason: format!("is of the unknown type {}", Quoted(other)),
                });
            };
            let total = Size::product(&shape)?.times(bits)?.get();
            if total % 8 != 0 || total / 8 != range.len() {
                let reason = format!("shape {shape:?} of {other} does not fill {} bytes", range.len());
                return Err(Error::Tensor { name, reason });
            }
            let scheme = match other {
                "I8" => Scheme::Int8,
                "U8" => Scheme::Int4,
                _ => return Ok((name, Entry::Other { dtype: described.dtype })),
            };
            let integers =
                IntegerTensor { name: name.clone(), scheme, shape, storage: storage.clone(), range };
            return Ok((name, Entry::Integers(integers)));
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
