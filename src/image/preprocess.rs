//! From a picture to the normalised pixels of an encoder: pad to a square, resize, cut, rescale, normalise.
//!
//! The fields are those of Hugging Face's `CLIPImageProcessor`; pixels agree with its Pillow path byte for byte before
//! they are normalised.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::resample::{self, resize_rows_in};
use super::{ImageView, MAX_SIDE, Passes, Resample, Square, check_size};
use crate::arena::{Arena, Room};
use crate::config::Fields;
use crate::error::{Error, Result};

/// Mean of CLIP's training pictures, the default of `image_mean`.
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];

/// Standard deviation of CLIP's training pictures, the default of `image_std`.
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Longest side of an encoder's input.
const MAX_INPUT: usize = 4096;

/// What a picture is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The shorter side gets this length, the longer one keeps the aspect.
    ShortestEdge(usize),
    /// Exactly this (width, height).
    Exact(usize, usize),
}

/// Preprocessing of one encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    pad: Option<[u8; 3]>,
    resize: Option<Target>,
    resample: Resample,
    /// (width, height)
    crop: Option<(usize, usize)>,
    /// The normalised value of every byte, by channel.
    table: [Vec<f32>; 3],
}

/// Normalised pixels: a matrix of `height * width` rows (row-major pixels) and 3 columns (red, green, blue).
#[derive(Clone, Debug, PartialEq)]
pub struct PixelMap {
    /// `height * width * 3` values.
    pub data: Vec<f32>,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Preprocessor {
    /// Reads `do_resize`, `size` (`{shortest_edge}`, `{height, width}` or a number), `resample` (2 bilinear, 3 bicubic),
    /// `do_center_crop`, `crop_size`, `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean`, `image_std`; what is
    /// missing has CLIP's default (224 pixels, bicubic). Two fields are the library's own: `pad_to_square` (default true,
    /// as the model needs) and `pad_color` (default: the mean as bytes, rounded down).
    ///
    /// # Errors
    /// [`Error::Config`] for a field of a wrong type or value; also where a square would be cut by `crop_size`, because
    /// results could not be mapped back.
    pub fn load(fields: &Fields) -> Result<Preprocessor> {
        let mean = triple(fields, "image_mean", CLIP_MEAN)?;
        let std = triple(fields, "image_std", CLIP_STD)?;
        let pad = match fields.bool_or("pad_to_square", true)? {
            true => Some(pad_color(fields, mean)?),
            false => None,
        };
        let resize = fields.bool_or("do_resize", true)?.then(|| target(fields)).transpose()?;
        let resample = match fields.usize_or("resample", 3)? {
            2 => Resample::Bilinear,
            3 => Resample::Bicubic,
            other => return Err(fields.error("resample", format!("must be 2 or 3, but is {other}"))),
        };
        let crop = match fields.bool_or("do_center_crop", true)? {
            true => Some(extent(fields, "crop_size", 224)?),
            false => None,
        };
        let square = match resize {
            Some(Target::ShortestEdge(side)) => Some((side, side)),
            Some(Target::Exact(width, height)) => Some((width, height)),
            None => None,
        };
        if pad.is_some() && crop.is_some() && crop != square {
            let reason = "must be the size that the padded square is resized to";
            return Err(fields.error("crop_size", reason));
        }
        let scale = match fields.bool_or("do_rescale", true)? {
            true => fields.f64_or("rescale_factor", 1.0 / 255.0)?,
            false => 1.0,
        };
        let normalize = fields.bool_or("do_normalize", true)?;
        let [red, green, blue] = [0, 1, 2].map(|channel: usize| {
            let (mean, std) = if normalize { (mean[channel], std[channel]) } else { (0.0, 1.0) };
            (0..=255u8).map(|byte| ((f64::from(byte) * scale - mean) / std) as f32).collect()
        });
        Ok(Preprocessor { pad, resize, resample, crop, table: [red, green, blue] })
    }

    /// Filter of the resize.
    pub fn resample(&self) -> Resample {
        self.resample
    }

    /// Width and height of the output for a picture of `width x height` pixels.
    ///
    /// # Errors
    /// [`Error::Input`] where a picture is smaller than `crop_size` or its longer side grows beyond the limits.
    pub fn output_size(&self, width: usize, height: usize) -> Result<(usize, usize)> {
        let resized = self.resized(self.padded(width, height))?;
        Ok(self.crop.unwrap_or(resized))
    }

    /// The picture as the encoder wants it.
    ///
    /// # Errors
    /// As [`Preprocessor::output_size`]; [`Error::Memory`].
    pub fn prepare(&self, image: &ImageView) -> Result<PixelMap> {
        let (width, height) = self.output_size(image.width(), image.height())?;
        let mut scratch = Arena::HEAP.take("picture", self.scratch(image.width(), image.height())?)?;
        let mut data = vec![0.0; width * height * 3];
        self.prepare_to(image, &mut scratch, &mut data)?;
        Ok(PixelMap { data, width, height })
    }

    /// Elements of scratch that [`Preprocessor::prepare_to`] takes for a picture of this size.
    ///
    /// # Errors
    /// As [`Preprocessor::output_size`].
    pub fn scratch(&self, width: usize, height: usize) -> Result<usize> {
        let padded = self.padded(width, height);
        resample::scratch::<3>(padded, self.resized(padded)?, self.resample)
    }

    /// As [`Preprocessor::prepare`] into `out`, three numbers for each pixel of [`Preprocessor::output_size`].
    ///
    /// # Errors
    /// As [`Preprocessor::output_size`]; [`Error::Shape`] where `scratch` or `out` is too small.
    pub fn prepare_to(&self, image: &ImageView, scratch: &mut [f32], out: &mut [f32]) -> Result<()> {
        let bytes = self.resize_in(image, scratch)?;
        let (width, height) = self.resized(self.padded(image.width(), image.height()))?;
        let crop = self.crop.unwrap_or((width, height));
        let (left, top) = ((width - crop.0) / 2, (height - crop.1) / 2);
        let rows = bytes.chunks_exact(width * 3).skip(top).take(crop.1);
        for (row, out) in rows.zip(out.chunks_exact_mut(crop.0.max(1) * 3)) {
            self.normalise(row.get(left * 3..).unwrap_or_default(), out);
        }
        Ok(())
    }

    /// What a device needs to prepare pictures of a size: two passes over bytes, then [`Preprocessor::normalised_bytes`].
    ///
    /// # Errors
    /// As [`Preprocessor::output_size`]; [`Error::Memory`].
    pub fn passes(&self, width: usize, height: usize) -> Result<Passes> {
        let padded = self.padded(width, height);
        let to = self.resized(padded)?;
        check_size(to.0, to.1)?;
        let offset = match self.pad {
            Some(_) => Square::new(width, height).map(|square| [square.left(), square.top()])?,
            None => [0, 0],
        };
        let crop = self.crop.unwrap_or(to);
        Ok(Passes {
            rows: padded.1,
            offset,
            color: self.pad.unwrap_or_default(),
            across: resample::pass(padded.0, to.0, self.resample)?,
            down: resample::pass(padded.1, to.1, self.resample)?,
            crop: [(to.0 - crop.0) / 2, (to.1 - crop.1) / 2, crop.0, crop.1],
        })
    }

    /// The rescaled and normalised value of every byte: 256 of red, of green and of blue.
    pub fn normalised_bytes(&self) -> Vec<f32> {
        self.table.concat()
    }

    /// The rescaled and normalised values of red, green and blue bytes; of the longer slice the rest is left out.
    pub fn normalise(&self, pixels: &[u8], values: &mut [f32]) {
        let [red, green, blue] = &self.table;
        for (&[r, g, b], out) in pixels.as_chunks::<3>().0.iter().zip(values.as_chunks_mut().0) {
            *out = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
        }
    }

    /// The padded and resized picture as RGB bytes, before it is cut and normalised.
    ///
    /// # Errors
    /// As [`Preprocessor::output_size`]; [`Error::Memory`].
    pub fn resized_bytes(&self, image: &ImageView) -> Result<Vec<u8>> {
        let mut scratch = Arena::HEAP.take("picture", self.scratch(image.width(), image.height())?)?;
        Ok(self.resize_in(image, &mut scratch)?.to_vec())
    }

    fn resize_in<'a>(&self, image: &ImageView, scratch: &'a mut [f32]) -> Result<&'a [u8]> {
        let needed = self.scratch(image.width(), image.height())?;
        if scratch.len() < needed {
            let reason = format!("{} elements where {needed} are needed", scratch.len());
            return Err(Error::Shape { operand: "prepare.scratch", reason });
        }
        let padded = self.padded(image.width(), image.height());
        let (to, room) = (self.resized(padded)?, &mut Room::new(scratch));
        let Some(color) = self.pad else {
            return Ok(resize_rows_in::<3>(padded, to, self.resample, room, |y, out| image.read_row(y, out)));
        };
        let square = Square::new(image.width(), image.height())?;
        let (left, top) = (square.left(), square.top());
        Ok(resize_rows_in::<3>(padded, to, self.resample, room, |y, out| {
            out.as_chunks_mut::<3>().0.fill(color);
            if let (Some(y), Some(out)) = (y.checked_sub(top), out.get_mut(left * 3..)) {
                image.read_row(y, out);
            }
        }))
    }

    /// The size that a prompt's mask over the square of this side is resized to: the encoder's input.
    pub(super) fn square_size(&self, side: usize) -> Result<(usize, usize)> {
        self.resized((side, side))
    }

    fn padded(&self, width: usize, height: usize) -> (usize, usize) {
        let side = width.max(height);
        if self.pad.is_some() { (side, side) } else { (width, height) }
    }

    /// Size after the resize; checked to hold the crop.
    fn resized(&self, (width, height): (usize, usize)) -> Result<(usize, usize)> {
        let resized = match self.resize {
            None => (width, height),
            Some(Target::Exact(width, height)) => (width, height),
            // sizes are below 2^16, so the products fit; the quotient is rounded down
            Some(Target::ShortestEdge(edge)) if width <= height => (edge, edge * height / width.max(1)),
            Some(Target::ShortestEdge(edge)) => (edge * width / height.max(1), edge),
        };
        let error = |reason| Err(Error::Input { field: "image", reason });
        if resized.0 > MAX_SIDE || resized.1 > MAX_SIDE {
            return error(format!("{width}x{height} would be resized to {}x{}", resized.0, resized.1));
        }
        match self.crop {
            Some(crop) if crop.0 > resized.0 || crop.1 > resized.1 => {
                error(format!("{width}x{height} is smaller than the crop of {}x{}", crop.0, crop.1))
            }
            _ => Ok(resized),
        }
    }
}

/// `size`: `{"shortest_edge": n}`, `{"height": h, "width": w}` or a number, which is the shortest edge.
fn target(fields: &Fields) -> Result<Target> {
    if let Ok(size) = fields.child("size")
        && size.has("shortest_edge")
    {
        let edge = side(&size, "shortest_edge")?;
        return Ok(Target::ShortestEdge(edge));
    }
    let (width, height) = extent(fields, "size", 224)?;
    let lone = fields.optional_child("size").ok().flatten().is_none();
    Ok(if lone { Target::ShortestEdge(width) } else { Target::Exact(width, height) })
}

/// `{"height": h, "width": w}` or a number for both, as (width, height).
fn extent(fields: &Fields, name: &str, default: usize) -> Result<(usize, usize)> {
    match fields.optional_child(name) {
        Ok(None) => Ok((default, default)),
        Ok(Some(size)) => Ok((side(&size, "width")?, side(&size, "height")?)),
        Err(_) => side(fields, name).map(|side| (side, side)),
    }
}

fn side(fields: &Fields, name: &str) -> Result<usize> {
    let side = fields.usize(name)?;
    if side == 0 || side > MAX_INPUT {
        return Err(fields.error(name, format!("must be from 1 to {MAX_INPUT}, but is {side}")));
    }
    Ok(side)
}

/// Three finite numbers, those of `image_std` other than 0.
fn triple(fields: &Fields, name: &str, default: [f64; 3]) -> Result<[f64; 3]> {
    let Some(values) = fields.optional_f64s(name)? else { return Ok(default) };
    let triple: [f64; 3] =
        values.as_slice().try_into().map_err(|_| fields.error(name, "must be a list of three numbers"))?;
    if name == "image_std" && triple.contains(&0.0) {
        return Err(fields.error(name, "must not be 0"));
    }
    Ok(triple)
}

fn pad_color(fields: &Fields, mean: [f64; 3]) -> Result<[u8; 3]> {
    match fields.optional_usizes("pad_color")? {
        None => Ok(mean.map(|mean| (mean * 255.0) as u8)),
        Some(color) => match color.as_slice() {
            &[r, g, b] if r.max(g).max(b) < 256 => Ok([r as u8, g as u8, b as u8]),
            _ => Err(fields.error("pad_color", "must be a list of three bytes")),
        },
    }
}
