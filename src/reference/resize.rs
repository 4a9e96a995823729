//! A map sampled at another size, as PyTorch's `interpolate` without aligned corners and without antialiasing.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Tolerance;
use crate::backend::{Grid, Resize};

/// Weights rounded to f32 and up to 16 products.
pub const TOLERANCE: Tolerance = Tolerance { norm: 3e-7, element: 6e-7 };

/// Weight of source cell `cell` (any integer) for output cell `i` of an axis.
fn weight(i: usize, cell: i64, from: usize, to: usize, resize: Resize) -> f64 {
    let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    match resize {
        Resize::Nearest => f64::from(u8::from(cell == (i * from / to) as i64)),
        Resize::Bilinear => {
            let distance = (centre.max(0.0) - cell as f64).abs();
            (1.0 - distance).max(0.0)
        }
        Resize::Bicubic => {
            let (a, x) = (-0.75, (centre - cell as f64).abs());
            if x <= 1.0 {
                (a + 2.0) * x * x * x - (a + 3.0) * x * x + 1.0
            } else if x < 2.0 {
                a * x * x * x - 5.0 * a * x * x + 8.0 * a * x - 4.0 * a
            } else {
                0.0
            }
        }
    }
}

/// `x [from.cells, channels]` gives `[to.cells, channels]`; cells beyond an edge repeat it.
pub fn resize(x: &[f32], channels: usize, from: Grid, to: Grid, resize: Resize) -> Vec<f64> {
    let mut out = vec![0.0; to.cells() * channels];
    for row in 0..to.height {
        for col in 0..to.width {
            for y in -3..from.height as i64 + 3 {
                let down = weight(row, y, from.height, to.height, resize);
                if down == 0.0 {
                    continue;
                }
                for x_cell in -3..from.width as i64 + 3 {
                    let across = weight(col, x_cell, from.width, to.width, resize);
                    if across == 0.0 {
                        continue;
                    }
                    let y = y.clamp(0, from.height as i64 - 1) as usize;
                    let x_cell = x_cell.clamp(0, from.width as i64 - 1) as usize;
                    for c in 0..channels {
                        out[(row * to.width + col) * channels + c] +=
                            down * across * f64::from(x[(y * from.width + x_cell) * channels + c]);
                    }
                }
            }
        }
    }
    out
}
