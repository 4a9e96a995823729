//! Which patches a masked picture keeps: three samplers, each with its complement and the full mask.
//!
//! Every picture has its rows together: the sample, its complement (antithetical sampling), the full mask. The reference
//! samples blockwise masks whose full rows stay empty, and places their complements wrongly without full rows; here all
//! samplers give the same rows.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::rng::Rng;
use crate::error::{Error, Result};

/// How a mask is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaskKind {
    /// Every patch with one probability, itself uniform over (0, 1).
    Uniform,
    /// Every patch with this probability.
    Bernoulli {
        /// Probability that a patch is kept.
        keep: f64,
    },
    /// Rectangles until at least this share is kept.
    Blockwise {
        /// Share of patches that is kept.
        keep: f64,
    },
}

/// Patches of the smallest rectangle that [`MaskKind::Blockwise`] aims at.
const MIN_BLOCK: usize = 16;

/// Draws masks for pictures of `side * side` patches.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskSampler {
    kind: MaskKind,
    side: usize,
    antithetical: bool,
    full: bool,
}

/// Masks of a batch of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Masks {
    keep: Vec<bool>,
    patches: usize,
    per_image: usize,
}

impl MaskSampler {
    /// `antithetical` adds the complement of every sample, `full` the mask that keeps everything.
    ///
    /// # Errors
    /// [`Error::Input`] naming the field: no patches, a share outside (0, 1), or too few patches for rectangles.
    pub fn new(kind: MaskKind, side: usize, antithetical: bool, full: bool) -> Result<MaskSampler> {
        let error = |reason| Err(Error::Input { field: "masks", reason });
        let patches = side.checked_mul(side).unwrap_or(0);
        if patches == 0 {
            return error(format!("{side}x{side} patches"));
        }
        if let MaskKind::Bernoulli { keep } | MaskKind::Blockwise { keep } = kind
            && !(keep > 0.0 && keep < 1.0)
        {
            return error(format!("the share {keep} of kept patches must lie between 0 and 1"));
        }
        if let MaskKind::Blockwise { keep } = kind
            && (keep * patches as f64) as usize <= MIN_BLOCK
        {
            let reason =
                format!("rectangles of {MIN_BLOCK} patches need more than {patches} patches at {keep}");
            return error(reason);
        }
        Ok(MaskSampler { kind, side, antithetical, full })
    }

    /// Masks for every picture: 1 to 3.
    pub fn per_image(&self) -> usize {
        1 + usize::from(self.antithetical) + usize::from(self.full)
    }

    /// Draws the masks of `images` pictures.
    pub fn sample(&self, images: usize, rng: &mut Rng) -> Masks {
        let patches = self.side * self.side;
        let mut keep = Vec::with_capacity(images.saturating_mul(self.per_image()).saturating_mul(patches));
        for _ in 0..images {
            let start = keep.len();
            self.draw(&mut keep, rng);
            if self.antithetical {
                let complement: Vec<bool> = keep[start..].iter().map(|keep| !keep).collect();
                keep.extend(complement);
            }
            if self.full {
                keep.extend(core::iter::repeat_n(true, patches));
            }
        }
        Masks { keep, patches, per_image: self.per_image() }
    }

    fn draw(&self, keep: &mut Vec<bool>, rng: &mut Rng) {
        let patches = self.side * self.side;
        match self.kind {
            MaskKind::Uniform => {
                let threshold = rng.unit();
                keep.extend((0..patches).map(|_| rng.unit() > threshold));
            }
            MaskKind::Bernoulli { keep: share } => keep.extend((0..patches).map(|_| rng.unit() < share)),
            MaskKind::Blockwise { keep: share } => keep.extend(self.rectangles(share, rng)),
        }
    }

    /// Rectangles of random size, aspect and place until `share` of the patches is covered.
    fn rectangles(&self, share: f64, rng: &mut Rng) -> Vec<bool> {
        let side = self.side;
        let patches = side * side;
        let largest = (share * patches as f64) as usize;
        let mut mask = vec![false; patches];
        while (mask.iter().filter(|&&keep| keep).count() as f64) < share * patches as f64 {
            let size = MIN_BLOCK + rng.below(largest.saturating_sub(MIN_BLOCK));
            let aspect = rng.between(0.3, 1.0 / 0.3);
            let rows = (libm::sqrt(size as f64 / aspect) as usize).clamp(1, side);
            let cols = (size / rows).clamp(1, side);
            let (top, left) = (rng.below(side - rows + 1), rng.below(side - cols + 1));
            for row in mask.chunks_exact_mut(side).skip(top).take(rows) {
                row[left..left + cols].fill(true);
            }
        }
        mask
    }
}

impl Masks {
    /// Masks given from outside: `per_image` rows of `patches` for every picture.
    ///
    /// # Errors
    /// [`Error::Input`] unless they make whole rows for whole pictures.
    pub fn new(keep: Vec<bool>, patches: usize, per_image: usize) -> Result<Masks> {
        let picture = patches.checked_mul(per_image).filter(|&picture| picture > 0);
        match picture {
            Some(picture) if !keep.is_empty() && keep.len().is_multiple_of(picture) => {
                Ok(Masks { keep, patches, per_image })
            }
            _ => {
                let reason =
                    format!("{} numbers make no {per_image} rows of {patches} for every picture", keep.len());
                Err(Error::Input { field: "masks", reason })
            }
        }
    }

    /// Number of pictures.
    pub fn images(&self) -> usize {
        self.keep.len() / (self.patches * self.per_image)
    }

    /// Number of masks of a picture.
    pub fn per_image(&self) -> usize {
        self.per_image
    }

    /// Patches of a mask.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// The masks, those of a picture together.
    pub fn rows(&self) -> core::slice::ChunksExact<'_, bool> {
        self.keep.chunks_exact(self.patches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(kind: MaskKind, side: usize, count: usize) -> Vec<f64> {
        let sampler = MaskSampler::new(kind, side, false, false).unwrap();
        let masks = sampler.sample(count, &mut Rng::new(3));
        masks.rows().map(|row| row.iter().filter(|&&keep| keep).count() as f64 / row.len() as f64).collect()
    }

    fn mean_and_deviation(shares: &[f64]) -> (f64, f64) {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let square = shares.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / shares.len() as f64;
        (mean, square.sqrt())
    }

    #[test]
    fn shares_have_the_moments_of_their_distribution() {
        let (mean, deviation) = mean_and_deviation(&shares(MaskKind::Uniform, 14, 4000));
        // A uniform share has the deviation 1 / sqrt(12).
        assert!((mean - 0.5).abs() < 0.02 && (deviation - 0.2887).abs() < 0.02, "{mean} {deviation}");
        let (mean, deviation) = mean_and_deviation(&shares(MaskKind::Bernoulli { keep: 0.3 }, 14, 4000));
        assert!((mean - 0.3).abs() < 0.01 && (deviation - 0.0327).abs() < 0.004, "{mean} {deviation}");
        let blocks = shares(MaskKind::Blockwise { keep: 0.4 }, 14, 500);
        assert!(blocks.iter().all(|&share| (0.4..0.85).contains(&share)));
    }

    #[test]
    fn blocks_are_rectangles() {
        // Neighbours agree far more often than in a Bernoulli mask, where half of them would.
        let sampler = MaskSampler::new(MaskKind::Blockwise { keep: 0.5 }, 14, false, false).unwrap();
        let masks = sampler.sample(200, &mut Rng::new(1));
        let agree = |row: &[bool]| {
            row.chunks(14).flat_map(|line| line.windows(2)).filter(|pair| pair[0] == pair[1]).count()
        };
        let share = masks.rows().map(agree).sum::<usize>() as f64 / (200.0 * 14.0 * 13.0);
        assert!(share > 0.8, "{share}");
    }

    #[test]
    fn complements_and_full_masks_follow_their_sample() {
        for kind in [MaskKind::Uniform, MaskKind::Bernoulli { keep: 0.5 }, MaskKind::Blockwise { keep: 0.4 }]
        {
            for (antithetical, full) in [(true, true), (true, false), (false, true), (false, false)] {
                let sampler = MaskSampler::new(kind, 8, antithetical, full).unwrap();
                let masks = sampler.sample(5, &mut Rng::new(2));
                assert_eq!((masks.images(), masks.per_image()), (5, sampler.per_image()));
                let rows: Vec<&[bool]> = masks.rows().collect();
                for image in rows.chunks(sampler.per_image()) {
                    assert!(image[0].iter().any(|&keep| keep));
                    if antithetical {
                        assert!(image[0].iter().zip(image[1]).all(|(a, b)| a != b));
                    }
                    if full {
                        assert!(image[image.len() - 1].iter().all(|&keep| keep));
                    }
                }
                assert_ne!(rows[0], rows[sampler.per_image()]);
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let refused = |kind, side| MaskSampler::new(kind, side, true, true).is_err();
        assert!(refused(MaskKind::Uniform, 0));
        assert!(refused(MaskKind::Bernoulli { keep: 1.0 }, 4));
        assert!(refused(MaskKind::Bernoulli { keep: f64::NAN }, 4));
        assert!(refused(MaskKind::Blockwise { keep: 0.4 }, 6));
        assert!(!refused(MaskKind::Blockwise { keep: 0.4 }, 7));
        assert!(Masks::new(vec![true; 10], 4, 2).is_err());
        assert!(Masks::new(Vec::new(), 4, 2).is_err());
    }
}
