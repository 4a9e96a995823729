//! Rotary positions, halves convention: in every head the pair (`i`, `i + d/2`) turns by position times frequency `i`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// Sine and cosine of the same angle, two products and a sum in f32.
pub const TOLERANCE: Tolerance = Tolerance { norm: 2e-7, element: 4e-7 };

/// `x [rows, heads * 2 * len frequencies]`; row `r` stands at `first + r`. The angle is the product rounded to `f32`, as
/// the frameworks that trained the models compute it.
pub fn rope(x: &[f32], heads: usize, first: usize, frequencies: &[f32]) -> Vec<f64> {
    let half = frequencies.len();
    let cols = heads * 2 * half;
    let mut out = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        let (row, place) = (i / cols, i % (2 * half));
        let angle = f64::from((first + row) as f32 * frequencies[place % half]);
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let itself = f64::from(x[i]);
        out.push(if place < half {
            itself * cos - f64::from(x[i + half]) * sin
        } else {
            itself * cos + f64::from(x[i - half]) * sin
        });
    }
    out
}
