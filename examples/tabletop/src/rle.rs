//! Masks as COCO's compressed run lengths: column-major runs, beginning with zeros, as a printable string.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mask as `pycocotools` reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rle {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Compressed run lengths.
    pub counts: String,
}

/// Why a string is no mask of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RleError {
    /// A character outside the alphabet, or a number that does not end.
    Malformed,
    /// The runs do not add up to height x width, or one is negative.
    WrongLength,
}

impl fmt::Display for RleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RleError::Malformed => "counts: not a run-length string",
            RleError::WrongLength => "counts: the runs do not add up to the size",
        })
    }
}

impl std::error::Error for RleError {}

/// Encodes a row-major mask of `width` columns; pixels for which `on` is false (and a last partial row) are outside.
pub fn encode(width: usize, height: usize, on: impl Fn(usize) -> bool) -> Rle {
    let mut runs: Vec<i64> = vec![0];
    let mut current = false;
    for x in 0..width {
        for y in 0..height {
            if on(y * width + x) != current {
                current = !current;
                runs.push(0);
            }
            if let Some(run) = runs.last_mut() {
                *run += 1;
            }
        }
    }
    let mut counts = String::new();
    for (i, run) in runs.iter().enumerate() {
        // From the fourth run on, the difference from the run two before is stored.
        let mut v = if i > 2 { run - runs[i - 2] } else { *run };
        loop {
            let low = (v & 0x1f) as u8;
            v >>= 5;
            let more = if low & 0x10 != 0 { v != -1 } else { v != 0 };
            counts.push((48 + (low | if more { 0x20 } else { 0 })) as char);
            if !more {
                break;
            }
        }
    }
    Rle { size: [height, width], counts }
}

impl Rle {
    /// The row-major mask.
    ///
    /// # Errors
    /// When the string is malformed or does not fit the size.
    pub fn decode(&self) -> Result<Vec<bool>, RleError> {
        let [height, width] = self.size;
        let total = height.checked_mul(width).ok_or(RleError::WrongLength)?;
        let mut runs: Vec<i64> = Vec::new();
        let (mut value, mut shift) = (0i64, 0u32);
        for byte in self.counts.bytes() {
            let bits = byte.checked_sub(48).filter(|b| *b < 64).ok_or(RleError::Malformed)?;
            if shift > 40 {
                return Err(RleError::Malformed);
            }
            value |= i64::from(bits & 0x1f) << shift;
            shift += 5;
            if bits & 0x20 != 0 {
                continue;
            }
            if bits & 0x10 != 0 {
                value |= -1i64 << shift;
            }
            if runs.len() > 2 {
                value += runs[runs.len() - 2];
            }
            if value < 0 || value as u64 > total as u64 {
                return Err(RleError::WrongLength);
            }
            runs.push(value);
            (value, shift) = (0, 0);
        }
        if shift != 0 {
            return Err(RleError::Malformed);
        }
        if runs.iter().sum::<i64>() as u64 != total as u64 {
            return Err(RleError::WrongLength);
        }
        let mut mask = vec![false; total];
        let mut at = 0usize;
        for (i, run) in runs.iter().enumerate() {
            let end = at + *run as usize;
            if i % 2 == 1 {
                for k in at..end {
                    mask[(k % height) * width + k / height] = true;
                }
            }
            at = end;
        }
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn matches_pycocotools() {
        // pycocotools.mask.encode(numpy.asfortranarray(mask)) of a 6 x 5 mask (h x w) with rows 1..4, columns 2..5 on.
        let rle = encode(5, 6, |i| (1..4).contains(&(i / 5)) && (2..5).contains(&(i % 5)));
        assert_eq!(rle.counts, "=33000O");
        let large =
            encode(500, 400, |i| (i / 500) >= 37 && (i / 500) < 301 && i % 500 >= 120 && i % 500 < 340);
        assert_eq!(large.decode().map(|m| m.iter().filter(|v| **v).count()), Ok(264 * 220));
    }

    #[test]
    fn round_trip() {
        let mut rng = Rng::new(5, 0);
        for (w, h) in [(1, 1), (7, 3), (40, 33), (3, 90)] {
            for density in [0.0, 0.03, 0.5, 1.0] {
                let mask: Vec<bool> = (0..w * h).map(|_| rng.chance(density)).collect();
                assert_eq!(encode(w, h, |i| mask[i]).decode(), Ok(mask));
            }
        }
    }

    #[test]
    fn bad_strings() {
        let rle = |counts: &str| Rle { size: [2, 2], counts: counts.into() };
        assert_eq!(rle("!").decode(), Err(RleError::Malformed));
        assert_eq!(rle("P").decode(), Err(RleError::Malformed));
        assert_eq!(rle("oooooooooooooooo").decode(), Err(RleError::Malformed));
        assert_eq!(rle("3").decode(), Err(RleError::WrongLength));
        assert_eq!(rle("5").decode(), Err(RleError::WrongLength));
        assert_eq!(rle("o").decode(), Err(RleError::Malformed));
        assert_eq!(rle("").decode(), Err(RleError::WrongLength));
    }
}
