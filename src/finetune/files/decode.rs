//! PNG and JPEG files to pixels.
#![forbid(unsafe_code)]

use std::io::Cursor;

use png::{ColorType, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::checked::Size;
use crate::error::{Error, Result};
use crate::image::{ImageView, MAX_SIDE};

/// Most pixels of a picture: each decoding thread holds one at three bytes a pixel.
pub const MAX_PICTURE: usize = 1 << 26;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// A decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes: red, green, blue.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Decodes the bytes of a PNG or JPEG file, which its first bytes tell apart. Grey is spread over three channels,
    /// transparency is dropped, 16 bits become their upper 8; an orientation tag is not followed, as in Pillow.
    ///
    /// # Errors
    /// [`Error::Format`] naming `file` for a file of another kind, damaged or cut short; [`Error::Limit`] beyond
    /// [`MAX_PICTURE`] or [`MAX_SIDE`].
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Picture> {
        let picture = match bytes {
            _ if bytes.starts_with(PNG) => png(bytes)?,
            _ if bytes.starts_with(JPEG) => jpeg(bytes)?,
            _ => Err("is neither PNG nor JPEG".to_string()),
        };
        picture.map_err(|reason| Error::Format { file: file.to_string(), reason })
    }

    /// The picture for preprocessing.
    ///
    /// # Errors
    /// [`Error::Input`] where the fields do not fit each other.
    pub fn view(&self) -> Result<ImageView<'_>> {
        ImageView::rgb8(&self.pixels, self.width, self.height)
    }
}

/// A decoder's own reason stays text; limits are the library's errors.
type Decoded = Result<std::result::Result<Picture, String>>;

/// Refuses a size before memory for its pixels is asked for; gives the number of pixels.
fn pixels(width: usize, height: usize) -> Result<usize> {
    for (limit, max, got) in [
        ("picture side", MAX_SIDE, width.max(height)),
        ("picture pixels", MAX_PICTURE, Size::new(width).times(height)?.get()),
    ] {
        if got > max {
            return Err(Error::Limit { limit, max: max as u64, got: got as u64 });
        }
    }
    Ok(width * height)
}

fn png(bytes: &[u8]) -> Decoded {
    // Working memory of the decoder beside the pixels.
    let limits = Limits { bytes: 8 * MAX_PICTURE };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = match decoder.read_info() {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let count = pixels(width, height)?;
    let samples = reader.output_color_type().0.samples();
    let mut data = vec![0; Size::new(count).times(samples)?.get()];
    let info = match reader.next_frame(&mut data) {
        Ok(info) => info,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if (info.width as usize, info.height as usize) != (width, height) {
        return Ok(Err("its first frame does not cover the picture".to_string()));
    }
    let pixels = match info.color_type {
        ColorType::Grayscale => data.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => data.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        ColorType::Rgb => data,
        ColorType::Rgba => {
            data.as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
        }
        ColorType::Indexed => return Ok(Err("its palette was not expanded".to_string())),
    };
    Ok(Ok(Picture { width, height, pixels }))
}

fn jpeg(bytes: &[u8]) -> Decoded {
    // Strict: of a damaged file the decoder would otherwise make half a picture and grey.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    if let Err(error) = decoder.decode_headers() {
        return Ok(Err(error.to_string()));
    }
    let Some(info) = decoder.info() else { return Ok(Err("has no header".to_string())) };
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let count = pixels(width, height)?;
    match decoder.decode() {
        Ok(pixels) if pixels.len() == 3 * count => Ok(Ok(Picture { width, height, pixels })),
        Ok(pixels) => Ok(Err(format!("{width}x{height} pixels gave {} bytes", pixels.len()))),
        Err(error) => Ok(Err(error.to_string())),
    }
}
