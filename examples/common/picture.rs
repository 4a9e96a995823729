//! RGB pictures: reading and writing PNG, and drawing on them.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use super::font;

/// Colour as red, green, blue.
pub type Colour = [u8; 3];

/// A picture of 8-bit RGB pixels, row-major without gaps.
#[derive(Clone)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Reads a PNG of any colour type; transparency is dropped.
    pub fn read(path: &Path) -> Result<Picture, Box<dyn Error>> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().ok_or("the picture is too large")?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes)?;
        bytes.truncate(info.buffer_size());
        let pixels = match info.color_type.samples() {
            1 => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
            2 => bytes.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
            3 => bytes,
            _ => bytes.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        };
        Ok(Picture { width: info.width as usize, height: info.height as usize, pixels })
    }

    /// Writes a PNG; the folder is made if need be.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut encoder =
            png::Encoder::new(BufWriter::new(file), u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.pixels)?;
        Ok(())
    }

    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: Colour) -> Picture {
        Picture { width, height, pixels: colour.repeat(width * height) }
    }

    /// Mixes `colour` into a pixel; outside the picture nothing happens.
    pub fn blend(&mut self, x: i64, y: i64, colour: Colour, share: f32) {
        let inside = |value: i64, size: usize| usize::try_from(value).ok().filter(|&value| value < size);
        if let (Some(x), Some(y)) = (inside(x, self.width), inside(y, self.height)) {
            let pixel = &mut self.pixels[3 * (y * self.width + x)..][..3];
            for (old, new) in pixel.iter_mut().zip(colour) {
                *old = (f32::from(*old) * (1.0 - share) + f32::from(new) * share).round() as u8;
            }
        }
    }

    /// Tints the pixels for which `inside` says so and draws their outline.
    pub fn tint(&mut self, inside: impl Fn(usize, usize) -> bool, colour: Colour) {
        for y in 0..self.height {
            for x in 0..self.width {
                if !inside(x, y) {
                    continue;
                }
                let edge = x == 0
                    || y == 0
                    || x + 1 == self.width
                    || y + 1 == self.height
                    || !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1));
                self.blend(x as i64, y as i64, colour, if edge { 1.0 } else { 0.45 });
            }
        }
    }

    /// A filled rectangle; `x1`, `y1` exclusive.
    pub fn fill(&mut self, [x0, y0, x1, y1]: [i64; 4], colour: Colour, share: f32) {
        for y in y0.max(0)..y1.min(self.height as i64) {
            for x in x0.max(0)..x1.min(self.width as i64) {
                self.blend(x, y, colour, share);
            }
        }
    }

    /// The frame of a box, two pixels wide, with a dark line around it.
    pub fn frame(&mut self, area: [f32; 4], colour: Colour) {
        let [x0, y0, x1, y1] = area.map(|value| value.round() as i64);
        for (grow, colour) in [(1, [0, 0, 0]), (0, colour), (-1, colour)] {
            let (x0, y0, x1, y1) = (x0 - grow, y0 - grow, x1 + grow, y1 + grow);
            self.fill([x0, y0, x1, y0 + 1], colour, 1.0);
            self.fill([x0, y1 - 1, x1, y1], colour, 1.0);
            self.fill([x0, y0, x0 + 1, y1], colour, 1.0);
            self.fill([x1 - 1, y0, x1, y1], colour, 1.0);
        }
    }

    /// A line of round pen strokes of the given radius in pixels.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], radius: f32, colour: Colour) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx * dx + dy * dy;
        let low = |a: f32, b: f32| (a.min(b) - radius).floor() as i64;
        let high = |a: f32, b: f32| (a.max(b) + radius).ceil() as i64;
        for y in low(from[1], to[1]).max(0)..=high(from[1], to[1]).min(self.height as i64) {
            for x in low(from[0], to[0]).max(0)..=high(from[0], to[0]).min(self.width as i64) {
                let (px, py) = (x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]);
                let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - along * dx).hypot(py - along * dy);
                self.blend(x, y, colour, (radius + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    /// Text of `scale` times the font's size on a ground of `colour`, its lower left corner at (`x`, `y`), moved so that
    /// it stays inside the picture.
    pub fn label(&mut self, x: f32, y: f32, text: &str, colour: Colour, scale: usize) {
        let advance = ((font::WIDTH + 1) * scale) as i64;
        let (width, height) =
            (text.chars().count() as i64 * advance + scale as i64, ((font::HEIGHT + 1) * scale) as i64);
        let x = (x.round() as i64).min(self.width as i64 - width).max(0);
        let y = (y.round() as i64 - height).clamp(0, (self.height as i64 - height).max(0));
        self.fill([x, y, x + width, y + height], colour, 0.9);
        let luminance = colour.iter().zip([3, 6, 1]).map(|(&c, weight)| u32::from(c) * weight).sum::<u32>();
        let ink = if luminance > 1300 { [0, 0, 0] } else { [255, 255, 255] };
        let scale = scale as i64;
        for (index, character) in text.chars().enumerate() {
            let left = x + scale + index as i64 * advance;
            for (row, bits) in font::glyph(character).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| bits >> (font::WIDTH - 1 - column) & 1 == 1) {
                    let (px, py) = (left + column as i64 * scale, y + scale + row as i64 * scale);
                    self.fill([px, py, px + scale, py + scale], ink, 1.0);
                }
            }
        }
    }

    /// This picture and another beside it, upper edges aligned.
    pub fn beside(&self, other: &Picture) -> Picture {
        let mut out = Picture::filled(self.width + other.width, self.height.max(other.height), [255; 3]);
        for (picture, left) in [(self, 0), (other, self.width)] {
            for y in 0..picture.height {
                let from = &picture.pixels[3 * y * picture.width..][..3 * picture.width];
                let start = 3 * (y * out.width + left);
                out.pixels[start..start + from.len()].copy_from_slice(from);
            }
        }
        out
    }
}
