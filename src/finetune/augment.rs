//! The augmentation of the published recipe, timm's "rkrc": the picture keeps its aspect but for a random part, is resized
//! to a random scale, cropped or padded about its centre, and flipped.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::rng::Rng;
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::image::{ImageView, Resample, resize};

/// Share of the picture's square that a zoomed crop shows, at least and at most.
const AREA: [f64; 2] = [0.08, 1.0];
/// Change of the aspect, at least and at most.
const ASPECT: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// What is done to a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Share of the picture's square that is shown, where the picture is zoomed.
    pub area: Option<f64>,
    /// Factor on width over height, where the aspect changes.
    pub aspect: Option<f64>,
    /// The filter of the resize.
    pub filter: Resample,
    /// Whether left and right change places.
    pub flip: bool,
}

impl Augmentation {
    /// The whole picture with its aspect: what validation sees.
    pub const NONE: Augmentation =
        Augmentation { area: None, aspect: None, filter: Resample::Bicubic, flip: false };

    /// Draws an augmentation: zoom, aspect, filter and flip each with probability 1/2, the area uniform, the aspect uniform
    /// in its logarithm.
    pub fn draw(rng: &mut Rng) -> Augmentation {
        let [least, most] = ASPECT.map(libm::log);
        let area = (rng.unit() < 0.5).then(|| rng.between(AREA[0], AREA[1]));
        let aspect = (rng.unit() < 0.5).then(|| libm::exp(rng.between(least, most)));
        let filter = if rng.unit() < 0.5 { Resample::Bilinear } else { Resample::Bicubic };
        Augmentation { area, aspect, filter, flip: rng.unit() < 0.5 }
    }

    /// Width and height of the resized picture of `width x height` pixels for a square of `side`: its shorter side is
    /// `side` where neither zoom nor aspect change it. Halves round to even, as in Python.
    ///
    /// # Errors
    /// [`Error::Input`] where a side would have no pixel.
    pub fn resized(&self, width: usize, height: usize, side: usize) -> Result<(usize, usize)> {
        let ratio = (height as f64 / side as f64).min(width as f64 / side as f64);
        let zoom = self.area.map_or(1.0, |area| 1.0 / libm::sqrt(area));
        let stretch = self.aspect.map_or(1.0, libm::sqrt);
        let size = [width as f64 * (zoom * stretch), height as f64 * (zoom / stretch)];
        match size.map(|size| libm::rint(size / ratio)) {
            [w, h] if w >= 1.0 && h >= 1.0 => Ok((w as usize, h as usize)),
            _ => {
                let reason = format!("{width}x{height} pixels for a square of {side}");
                Err(Error::Input { field: "image", reason })
            }
        }
    }

    /// The picture as `side * side` pixels of red, green and blue bytes.
    ///
    /// # Errors
    /// [`Error::Input`] and [`Error::Limit`] where the resized picture would be too small or too large.
    pub fn apply(&self, image: &ImageView, side: usize) -> Result<Vec<u8>> {
        let (width, height) = (image.width(), image.height());
        let (w, h) = self.resized(width, height, side)?;
        let mut pixels = vec![0u8; Size::product(&[width, height, 3])?.get()];
        for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
            image.read_row(y, row);
        }
        let resized = resize::<3>(&pixels, (width, height), (w, h), self.filter)?;
        let (rows, cols) = (places(h, side), places(w, side));
        let mut out = Vec::with_capacity(Size::product(&[side, side, 3])?.get());
        for &y in &rows {
            let row = &resized[y * w * 3..(y + 1) * w * 3];
            for i in 0..side {
                let x = cols[if self.flip { side - 1 - i } else { i }];
                out.extend_from_slice(&row[x * 3..x * 3 + 3]);
            }
        }
        Ok(out)
    }
}

/// Which of `len` pixels lies at each of `side` places about the centre; beyond the ends the picture is mirrored, its last
/// pixel not repeated.
fn places(len: usize, side: usize) -> Vec<usize> {
    if len >= side {
        let first = libm::rint((len - side) as f64 / 2.0) as usize;
        return (first..first + side).collect();
    }
    let before = (side - len) / 2;
    let period = 2 * len.saturating_sub(1).max(1);
    let place = |i: usize| {
        // `before` whole periods keep the difference from going below 0.
        let at = (i + before * (period - 1)) % period;
        if at < len { at } else { period - at }
    };
    (0..side).map(place).map(|at| at.min(len - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_and_mirrors() {
        // Halves round to even: an odd rest of 1 starts at 0, one of 3 at 2.
        assert_eq!(places(5, 4), [0, 1, 2, 3]);
        assert_eq!(places(7, 4), [2, 3, 4, 5]);
        assert_eq!(places(4, 4), [0, 1, 2, 3]);
        assert_eq!(places(4, 7), [1, 0, 1, 2, 3, 2, 1]);
        assert_eq!(places(3, 9), [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(places(1, 3), [0, 0, 0]);
    }

    #[test]
    fn draws_have_the_recipe_s_shares() {
        let mut rng = Rng::new(4);
        let draws: Vec<Augmentation> = (0..4000).map(|_| Augmentation::draw(&mut rng)).collect();
        let share =
            |of: &dyn Fn(&Augmentation) -> bool| draws.iter().filter(|a| of(a)).count() as f64 / 4000.0;
        for share in [
            share(&|a| a.area.is_some()),
            share(&|a| a.aspect.is_some()),
            share(&|a| a.filter == Resample::Bicubic),
            share(&|a| a.flip),
        ] {
            assert!((share - 0.5).abs() < 0.03, "{share}");
        }
        assert!(draws.iter().filter_map(|a| a.area).all(|area| (0.08..1.0).contains(&area)));
        assert!(draws.iter().filter_map(|a| a.aspect).all(|aspect| (0.75..1.3334).contains(&aspect)));
    }

    #[test]
    fn a_single_pixel_fills_the_square_and_no_pixel_is_an_error() {
        let image = ImageView::rgb8(&[7; 3], 1, 1).unwrap();
        assert_eq!(Augmentation::NONE.apply(&image, 4).unwrap(), [7; 48]);
        assert!(matches!(Augmentation::NONE.resized(0, 5, 4), Err(Error::Input { field: "image", .. })));
        assert!(Augmentation::NONE.resized(5, 5, 0).is_err());
    }
}
