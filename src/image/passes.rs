//! What a device needs to prepare a picture as [`Preprocessor`](super::Preprocessor) does: the two passes of the resize as tables, and what
//! is cut out.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

/// One pass of a resize: what every output pixel of an axis is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// First source pixel and number of weights.
    pub bounds: Vec<[u32; 2]>,
    /// `taps` weights for every output pixel, in fixed point of 22 bits; the rest of a run is 0.
    pub weights: Vec<i32>,
    /// Most weights of an output pixel.
    pub taps: usize,
}

/// A picture's way to the pixels of an encoder: padded to a square, resized along rows, then along columns, both rounded to bytes, and
/// cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passes {
    /// Rows of the padded picture.
    pub rows: usize,
    /// Columns left of the picture, and rows above it, in `color`.
    pub offset: [usize; 2],
    /// Red, green and blue of the padding.
    pub color: [u8; 3],
    /// Along rows.
    pub across: Pass,
    /// Along columns.
    pub down: Pass,
    /// First column and row of what is cut out of the resized picture, its width and its height.
    pub crop: [usize; 4],
}
