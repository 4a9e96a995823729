//! The square that a picture is padded to, and the exact way back.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::check_size;
use super::interpolate::interpolate;
use crate::backend::Grid;
use crate::error::{Error, Result};

/// A picture's place in the square that it is padded to: the longer side is the square's, the shorter one is centred, the
/// odd pixel of padding lies below or to the right (the offset is `(long - short) / 2`, rounded down).
///
/// The model's coordinates are fractions of the square's side. The maps back are exact and do not clamp: what the model
/// places in the padding lands outside the picture ([`Square::clamp_box`] cuts it off).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    width: usize,
    height: usize,
}

impl Square {
    /// The square of a picture of `width x height` pixels.
    ///
    /// # Errors
    /// [`Error::Input`] for a side of 0, [`Error::Limit`] beyond the limits of a picture.
    pub fn new(width: usize, height: usize) -> Result<Square> {
        check_size(width, height)?;
        Ok(Square { width, height })
    }

    /// Width of the picture in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the picture in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Side of the square in pixels of the picture.
    pub fn side(&self) -> usize {
        self.width.max(self.height)
    }

    /// Columns of padding left of the picture.
    pub fn left(&self) -> usize {
        (self.side() - self.width) / 2
    }

    /// Rows of padding above the picture.
    pub fn top(&self) -> usize {
        (self.side() - self.height) / 2
    }

    /// A point of the square (fractions of its side) in pixels of the picture.
    pub fn unpad_point(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let side = self.side() as f64;
        [(f64::from(x) * side - self.left() as f64) as f32, (f64::from(y) * side - self.top() as f64) as f32]
    }

    /// A point in pixels of the picture as fractions of the square's side; the inverse of [`Square::unpad_point`].
    pub fn pad_point(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let side = self.side() as f64;
        [
            ((f64::from(x) + self.left() as f64) / side) as f32,
            ((f64::from(y) + self.top() as f64) / side) as f32,
        ]
    }

    /// A box `[centre x, centre y, width, height]` in fractions of the square's side as corners `[x0, y0, x1, y1]` in
    /// pixels of the picture.
    pub fn unpad_box(&self, [cx, cy, width, height]: [f32; 4]) -> [f32; 4] {
        let side = self.side() as f64;
        let (left, top) = (self.left() as f64, self.top() as f64);
        let edge = |centre: f32, extent: f64, offset: f64| {
            ((f64::from(centre) + extent / 2.0) * side - offset) as f32
        };
        let (width, height) = (f64::from(width), f64::from(height));
        [edge(cx, -width, left), edge(cy, -height, top), edge(cx, width, left), edge(cy, height, top)]
    }

    /// Corners in pixels of the picture as `[centre x, centre y, width, height]` in fractions of the square's side; the
    /// inverse of [`Square::unpad_box`].
    pub fn pad_box(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        let side = self.side() as f64;
        let centre = |low: f32, high: f32, offset: usize| {
            (((f64::from(low) + f64::from(high)) / 2.0 + offset as f64) / side) as f32
        };
        let extent = |low: f32, high: f32| ((f64::from(high) - f64::from(low)) / side) as f32;
        [centre(x0, x1, self.left()), centre(y0, y1, self.top()), extent(x0, x1), extent(y0, y1)]
    }

    /// The part of a box of corners that lies in the picture; NaN stays NaN.
    pub fn clamp_box(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        let (width, height) = (self.width as f32, self.height as f32);
        [x0.clamp(0.0, width), y0.clamp(0.0, height), x1.clamp(0.0, width), y1.clamp(0.0, height)]
    }

    /// A map over the square, `grid.cells` values, sampled at every pixel of the picture (row-major, `height x width`):
    /// the bilinear resize to the square (align_corners false), cut to the picture, without building the square.
    ///
    /// # Errors
    /// [`Error::Shape`] where the map is empty or has another number of values; [`Error::Memory`].
    pub fn unpad_map(&self, map: &[f32], grid: Grid) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        let len = self.width * self.height;
        let refused = Error::Memory { what: "map", bytes: (len * size_of::<f32>()) as u64, left: None };
        out.try_reserve_exact(len).map_err(|_| refused)?;
        out.resize(len, 0.0);
        self.unpad_map_to(map, grid, &mut out)?;
        Ok(out)
    }

    /// As [`Square::unpad_map`], to memory that is there: `width * height` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] where the map is empty or has another number of values, or `out` another length.
    pub fn unpad_map_to(&self, map: &[f32], grid: Grid, out: &mut [f32]) -> Result<()> {
        if map.is_empty() || map.len() != grid.cells() {
            let reason = format!("{} values for a grid of {}x{}", map.len(), grid.height, grid.width);
            return Err(Error::Shape { operand: "unpad.map", reason });
        }
        if out.len() != self.width * self.height {
            let reason = format!("room for {} of {}x{} pixels", out.len(), self.width, self.height);
            return Err(Error::Shape { operand: "unpad.out", reason });
        }
        let (left, top) = (self.left(), self.top());
        let side = (self.side(), self.side());
        let rows = top..top + self.height;
        interpolate(map, (grid.height, grid.width), side, rows, left..left + self.width, out);
        Ok(())
    }

    /// The mask of a head's logits over the square: sigmoid, [`Square::unpad_map`], on where it exceeds `threshold` (0.5
    /// unless the caller has a reason). A NaN is off.
    ///
    /// # Errors
    /// As [`Square::unpad_map`].
    pub fn unpad_mask(&self, logits: &[f32], grid: Grid, threshold: f32) -> Result<Vec<bool>> {
        let map = self.unpad_map(&sigmoid(logits), grid)?;
        Ok(map.into_iter().map(|value| value > threshold).collect())
    }

    /// The depth map of a head's logits over the square: with `s` the sigmoid, sampled as [`Square::unpad_map`] does,
    /// `near + s * (far - near)` metres along the optical axis; without a range `s` itself, which is relative (larger is
    /// farther).
    ///
    /// # Errors
    /// As [`Square::unpad_map`].
    pub fn unpad_depth(&self, logits: &[f32], grid: Grid, range: Option<[f32; 2]>) -> Result<Vec<f32>> {
        let mut map = self.unpad_map(&sigmoid(logits), grid)?;
        if let Some([near, far]) = range {
            map.iter_mut().for_each(|value| *value = near + *value * (far - near));
        }
        Ok(map)
    }
}

fn sigmoid(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|&logit| 1.0 / (1.0 + libm::expf(-logit))).collect()
}
