//! Masks: probabilities, and the forms that other programs read.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::arena::Buffer;

/// A mask of the picture's size.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Probability of every pixel, row-major.
    pub probabilities: Buffer,
    /// A pixel belongs to the mask where its probability is above this.
    pub threshold: f32,
}

impl Mask {
    /// The mask as bytes, row-major: 1 inside, 0 outside.
    pub fn pixels(&self) -> Vec<u8> {
        self.inside().map(u8::from).collect()
    }

    /// The mask as packed bits: rows begin at a byte, the leftmost pixel is the highest bit, what is left of a row's last
    /// byte is 0 (as `numpy.packbits(mask, axis=1)` and PBM files have it).
    pub fn bits(&self) -> Vec<u8> {
        let stride = self.width.div_ceil(8);
        let mut bits = vec![0; stride.saturating_mul(self.height)];
        let rows = self.probabilities.chunks_exact(self.width.max(1));
        for (packed, row) in bits.chunks_exact_mut(stride.max(1)).zip(rows) {
            for (byte, eight) in packed.iter_mut().zip(row.chunks(8)) {
                for (bit, &probability) in eight.iter().enumerate() {
                    *byte |= u8::from(probability > self.threshold) << (7 - bit);
                }
            }
        }
        bits
    }

    /// COCO's run lengths: pixels in column-major order, the first run outside the mask and perhaps 0 long, then inside
    /// and outside in turn.
    pub fn runs(&self) -> Vec<u32> {
        let mut runs = vec![0u32];
        let mut current = false;
        for column in 0..self.width {
            let pixels = self.probabilities.iter().skip(column).step_by(self.width).take(self.height);
            for &probability in pixels {
                if (probability > self.threshold) != current {
                    current = !current;
                    runs.push(0);
                }
                if let Some(run) = runs.last_mut() {
                    *run += 1;
                }
            }
        }
        runs
    }

    /// [`Mask::runs`] as the printable string of `pycocotools`: from the fourth run on the difference from the run two
    /// before, in groups of five bits, the lowest first; bit 5 says that more follow, 48 is added to each.
    pub fn coco_rle(&self) -> String {
        let runs = self.runs();
        let mut counts = String::new();
        for (index, &run) in runs.iter().enumerate() {
            let before = if index > 2 { runs[index - 2] } else { 0 };
            let mut rest = i64::from(run) - i64::from(before);
            loop {
                let group = (rest & 0x1f) as u8;
                rest >>= 5;
                // The group's highest bit is the sign of what is not written.
                let done = rest == if group & 0x10 == 0 { 0 } else { -1 };
                counts.push(char::from(48 + group + if done { 0 } else { 0x20 }));
                if done {
                    break;
                }
            }
        }
        counts
    }

    /// Whether each pixel belongs to the mask, row-major.
    fn inside(&self) -> impl Iterator<Item = bool> + '_ {
        self.probabilities.iter().map(|&probability| probability > self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, height: usize, inside: impl Fn(usize, usize) -> bool) -> Mask {
        let pixel = |index: usize| if inside(index % width, index / width) { 0.9 } else { 0.1 };
        let probabilities: Vec<f32> = (0..width * height).map(pixel).collect();
        Mask { width, height, probabilities: Buffer::of(&probabilities).unwrap(), threshold: 0.5 }
    }

    #[test]
    fn run_lengths_are_those_of_pycocotools() {
        // pycocotools.mask.encode(numpy.asfortranarray(mask)) of 6 rows and 5 columns, rows 1 to 3 and columns 2 to 4 on.
        let block = mask(5, 6, |x, y| (1..4).contains(&y) && (2..5).contains(&x));
        assert_eq!(block.runs(), [13, 3, 3, 3, 3, 3, 2]);
        assert_eq!(block.coco_rle(), "=33000O");
        assert_eq!(mask(2, 2, |_, _| true).runs(), [0, 4]);
        assert_eq!(mask(2, 2, |_, _| true).coco_rle(), "04");
        assert_eq!(mask(2, 2, |_, _| false).coco_rle(), "4");
        let wide = mask(300, 200, |x, y| (x / 100 + y / 100) % 2 == 1);
        let pixels: u32 = wide.runs().iter().skip(1).step_by(2).sum();
        assert_eq!(pixels as usize, wide.pixels().iter().filter(|&&pixel| pixel == 1).count());
    }

    #[test]
    fn bits_are_padded_at_the_end_of_a_row() {
        let mask = mask(10, 2, |x, y| x == 0 || x == 9 && y == 1);
        assert_eq!(mask.bits(), [0x80, 0x00, 0x80, 0x40]);
    }
}
