//! The mean mask on a coarse grid, cut where it overlaps the masks it was made of best.

use crate::metrics::overlap::mask_iou;

/// Cells on a side of the grid.
const SIDE: usize = 32;

/// How many thresholds between 0 and the largest mean are tried.
const STEPS: usize = 40;

/// Gathers masks, each sampled at the centres of the grid's cells.
#[derive(Default)]
pub struct MeanMask {
    masks: Vec<Vec<bool>>,
}

impl MeanMask {
    /// Takes in one mask, row-major, of `width * height` pixels.
    pub fn add(&mut self, width: usize, height: usize, mask: &[bool]) {
        let mut grid = Vec::with_capacity(SIDE * SIDE);
        for row in 0..SIDE {
            for column in 0..SIDE {
                let x = (2 * column + 1) * width / (2 * SIDE);
                let y = (2 * row + 1) * height / (2 * SIDE);
                grid.push(mask.get(y * width + x).copied().unwrap_or(false));
            }
        }
        self.masks.push(grid);
    }

    /// The mean mask, cut at the threshold whose mean IoU with the masks taken in is largest.
    pub fn finish(self) -> GridMask {
        let mut mean = vec![0.0f64; SIDE * SIDE];
        for mask in &self.masks {
            for (sum, &on) in mean.iter_mut().zip(mask) {
                *sum += f64::from(u8::from(on)) / self.masks.len() as f64;
            }
        }
        let largest = mean.iter().copied().fold(0.0, f64::max);
        let mut best = (f64::NEG_INFINITY, vec![false; SIDE * SIDE]);
        for step in 0..STEPS {
            let threshold = largest * step as f64 / STEPS as f64;
            let cut: Vec<bool> = mean.iter().map(|&value| value > threshold).collect();
            let total: f64 = self.masks.iter().map(|mask| mask_iou(mask, &cut)).sum();
            if total > best.0 {
                best = (total, cut);
            }
        }
        GridMask { cells: best.1 }
    }
}

/// A mask on the grid.
pub struct GridMask {
    cells: Vec<bool>,
}

impl GridMask {
    /// The mask stretched over a picture, row-major, nearest cell.
    pub fn stretch(&self, width: usize, height: usize) -> Vec<bool> {
        let mut mask = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                mask.push(self.cells[(y * SIDE / height) * SIDE + x * SIDE / width]);
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::MeanMask;

    #[test]
    fn the_mean_of_one_mask_is_that_mask_at_any_size() {
        // The left half of a 64 x 32 picture.
        let half: Vec<bool> = (0..64 * 32).map(|i| i % 64 < 32).collect();
        let mut mean = MeanMask::default();
        mean.add(64, 32, &half);
        let mask = mean.finish().stretch(10, 10);
        assert!(mask.iter().enumerate().all(|(i, &on)| on == (i % 10 < 5)));
    }

    #[test]
    fn a_rare_place_is_cut_away() {
        let left: Vec<bool> = (0..32 * 32).map(|i| i % 32 < 16).collect();
        let right: Vec<bool> = left.iter().map(|on| !on).collect();
        let mut mean = MeanMask::default();
        for mask in [&left, &left, &left, &right] {
            mean.add(32, 32, mask);
        }
        // All cells give a mean IoU of 1/2, the left ones alone 3/4.
        assert_eq!(mean.finish().stretch(32, 32), left);
    }

    #[test]
    fn no_masks_give_an_empty_one() {
        assert!(MeanMask::default().finish().stretch(4, 4).iter().all(|on| !on));
    }
}
