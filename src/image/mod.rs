//! Pictures: borrowed pixels in, normalised pixels for the encoders out, and results back to the caller's pixels.
//!
//! All of the model works on the picture padded to a square ([`Square`]). Coordinates are in pixels, `x` to the right,
//! `y` down, `(0, 0)` the upper left corner of the upper left pixel; pixel `i` covers `[i, i + 1)`.
#![forbid(unsafe_code)]

mod interpolate;
mod passes;
mod preprocess;
mod region;
mod region_reference;
mod resample;
mod square;

use alloc::format;

pub use passes::{Pass, Passes};
pub use preprocess::{PixelMap, Preprocessor};
pub use region::{MAX_PROMPTS, PromptResize, Region, VisualPrompt, regions};
pub use resample::{Resample, resize};
pub use square::Square;

use crate::checked::Size;
use crate::error::{Error, Result};

/// Longest side of a picture in pixels.
pub const MAX_SIDE: usize = 32_768;

/// Most pixels of a picture.
pub const MAX_PIXELS: usize = 1 << 28;

/// Order of the bytes of a pixel; 8 bits a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb8,
    /// Blue, green, red.
    Bgr8,
    /// Red, green, blue, alpha; alpha is dropped, not blended, as the reference's conversion to RGB does.
    Rgba8,
    /// Blue, green, red, alpha; alpha is dropped.
    Bgra8,
    /// One grey value, used for all three channels.
    Gray8,
}

impl PixelFormat {
    /// Bytes of one pixel.
    pub const fn bytes(self) -> usize {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3,
            PixelFormat::Rgba8 | PixelFormat::Bgra8 => 4,
            PixelFormat::Gray8 => 1,
        }
    }

    /// Where red, green and blue lie within a pixel.
    pub const fn channels(self) -> [usize; 3] {
        match self {
            PixelFormat::Rgb8 | PixelFormat::Rgba8 => [0, 1, 2],
            PixelFormat::Bgr8 | PixelFormat::Bgra8 => [2, 1, 0],
            PixelFormat::Gray8 => [0, 0, 0],
        }
    }
}

/// A picture in the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    format: PixelFormat,
}

impl<'a> ImageView<'a> {
    /// Borrows `height` rows of `width` pixels; consecutive rows start `stride` bytes apart. The last row may end before
    /// its stride does.
    ///
    /// # Errors
    /// [`Error::Input`] naming `image.width`, `image.height`, `image.stride` or `image.pixels`;
    /// [`Error::Limit`] beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
    pub fn new(
        pixels: &'a [u8],
        width: usize,
        height: usize,
        stride: usize,
        format: PixelFormat,
    ) -> Result<ImageView<'a>> {
        check_size(width, height)?;
        let row = width * format.bytes();
        if stride < row {
            let reason = format!("is {stride} bytes, but a row of {width} pixels has {row}");
            return Err(Error::Input { field: "image.stride", reason });
        }
        let needed = Size::new(stride).times(height - 1)?.plus(row)?.get();
        if pixels.len() < needed {
            let reason = format!("has {} bytes, but {width}x{height} pixels need {needed}", pixels.len());
            return Err(Error::Input { field: "image.pixels", reason });
        }
        Ok(ImageView { pixels, width, height, stride, format })
    }

    /// Borrows rows without gaps of red, green and blue bytes.
    ///
    /// # Errors
    /// As [`ImageView::new`].
    pub fn rgb8(pixels: &'a [u8], width: usize, height: usize) -> Result<ImageView<'a>> {
        ImageView::new(pixels, width, height, width.saturating_mul(3), PixelFormat::Rgb8)
    }

    /// A picture of this size without pixels, to measure with.
    ///
    /// # Errors
    /// As [`ImageView::new`] for the sizes.
    pub(crate) fn without_pixels(width: usize, height: usize) -> Result<ImageView<'static>> {
        check_size(width, height)?;
        Ok(ImageView { pixels: &[], width, height, stride: 0, format: PixelFormat::Rgb8 })
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Order of the bytes of a pixel.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// The rows from the first byte of the first to the last byte of the last.
    pub fn bytes(&self) -> &'a [u8] {
        let end =
            self.stride.saturating_mul(self.height - 1).saturating_add(self.width * self.format.bytes());
        self.pixels.get(..end).unwrap_or(self.pixels)
    }

    /// Writes row `y` as red, green and blue bytes into `out`, three bytes a pixel; rows below the picture and pixels
    /// beyond either end are left alone.
    pub fn read_row(&self, y: usize, out: &mut [u8]) {
        let start = y.saturating_mul(self.stride);
        let Some(row) = self.pixels.get(start..).filter(|_| y < self.height) else { return };
        let [red, green, blue] = self.format.channels();
        let pixels = row.chunks_exact(self.format.bytes()).take(self.width);
        for (pixel, out) in pixels.zip(out.as_chunks_mut::<3>().0) {
            *out = [pixel[red], pixel[green], pixel[blue]];
        }
    }
}

/// Checks a picture's size against zero and the limits.
pub(crate) fn check_size(width: usize, height: usize) -> Result<()> {
    for (field, side) in [("image.width", width), ("image.height", height)] {
        if side == 0 {
            return Err(Error::Input { field, reason: "is 0".into() });
        }
        if side > MAX_SIDE {
            return Err(Error::Limit { limit: field, max: MAX_SIDE as u64, got: side as u64 });
        }
    }
    let pixels = Size::new(width).times(height)?.get();
    if pixels > MAX_PIXELS {
        return Err(Error::Limit { limit: "image pixels", max: MAX_PIXELS as u64, got: pixels as u64 });
    }
    Ok(())
}
