//! Pictures of a batch, and their patches as rows.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use crate::checked::Size;
use crate::error::{Error, Result};
use crate::vision::VitConfig;

/// Normalised pictures of equal size, one after another: each `side * side` pixels in rows, red green blue.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pixels: &'a [f32],
    side: usize,
}

impl<'a> Images<'a> {
    /// Pictures of `side * side` pixels.
    ///
    /// # Errors
    /// [`Error::Input`] unless `pixels` holds a whole number of pictures, and at least one.
    pub fn new(pixels: &'a [f32], side: usize) -> Result<Images<'a>> {
        let size = Size::product(&[side, side, 3])?.get();
        if pixels.is_empty() || size == 0 || !pixels.len().is_multiple_of(size) {
            let reason = format!("{} numbers make no whole pictures of {side}x{side} pixels", pixels.len());
            return Err(Error::Input { field: "images", reason });
        }
        Ok(Images { pixels, side })
    }

    /// Number of pictures.
    pub fn count(&self) -> usize {
        self.pixels.len() / (self.side * self.side * 3)
    }

    /// Pixels along a side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The pictures one by one.
    pub fn iter(&self) -> core::slice::ChunksExact<'a, f32> {
        self.pixels.chunks_exact(self.side * self.side * 3)
    }

    /// Refuses pictures that are not of the model's size.
    pub(super) fn check(&self, config: &VitConfig) -> Result<()> {
        if self.side == config.image_size {
            return Ok(());
        }
        let reason = format!("are {0}x{0}, but the model takes {1}x{1}", self.side, config.image_size);
        Err(Error::Input { field: "images", reason })
    }

    /// Every patch of every picture as a row: the elements in the order of the patch embedding's weight (channel, row,
    /// column). Pixels beyond the last whole patch are left out.
    pub(super) fn patches(&self, patch: usize) -> Vec<f32> {
        let cells = self.side / patch.max(1);
        let mut rows = Vec::with_capacity(self.pixels.len());
        for picture in self.iter() {
            for cell in 0..cells * cells {
                let (top, left) = (cell / cells * patch, cell % cells * patch);
                for channel in 0..3 {
                    for y in top..top + patch {
                        let line = &picture[(y * self.side + left) * 3..][..patch * 3];
                        rows.extend(line.iter().skip(channel).step_by(3));
                    }
                }
            }
        }
        rows
    }
}

/// The picture with every patch that `mask` does not keep set to 0, and what lies beyond the last whole patch too.
pub(super) fn masked(picture: &[f32], side: usize, patch: usize, mask: &[bool]) -> Vec<f32> {
    let cells = side / patch.max(1);
    let mut out = alloc::vec![0.0; picture.len()];
    for (cell, _) in mask.iter().enumerate().filter(|&(_, &keep)| keep) {
        let (top, left) = (cell / cells.max(1) * patch, cell % cells.max(1) * patch);
        for y in top..top + patch {
            let at = (y * side + left) * 3;
            out[at..at + patch * 3].copy_from_slice(&picture[at..at + patch * 3]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_and_masks_of_an_uneven_picture() {
        // 5x5 pixels in patches of 2: the last row and column belong to no patch.
        let pixels: Vec<f32> = (1..=75).map(|i| i as f32).collect();
        let images = Images::new(&pixels, 5).unwrap();
        let rows = images.patches(2);
        assert_eq!(rows.len(), 4 * 12);
        // Patch 3 starts at pixel (2, 2); red first.
        let at = |y: usize, x: usize, c: usize| pixels[(y * 5 + x) * 3 + c];
        assert_eq!(rows[36..40], [at(2, 2, 0), at(2, 3, 0), at(3, 2, 0), at(3, 3, 0)]);
        assert_eq!(rows[40], at(2, 2, 1));
        let kept = masked(&pixels, 5, 2, &[false, true, false, false]);
        let sum: f32 =
            [(0, 2), (0, 3), (1, 2), (1, 3)].iter().flat_map(|&(y, x)| [0, 1, 2].map(|c| at(y, x, c))).sum();
        assert_eq!(kept.iter().sum::<f32>(), sum);
        assert_eq!(kept[(5 + 3) * 3], at(1, 3, 0));
        assert!(masked(&pixels, 5, 2, &[true; 4]).iter().filter(|&&x| x == 0.0).count() == 27);
    }

    #[test]
    fn half_a_picture_is_refused() {
        assert!(matches!(Images::new(&[0.0; 13], 2), Err(Error::Input { field: "images", .. })));
        assert!(matches!(Images::new(&[], 2), Err(Error::Input { field: "images", .. })));
        assert!(matches!(Images::new(&[0.0; 3], 0), Err(Error::Input { field: "images", .. })));
    }
}
