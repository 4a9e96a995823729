//! The square of pixels that an encoder takes.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::{Backend, Grid, View};
use crate::error::{Error, Result};

/// Largest side of a picture that an encoder takes, pixels.
pub(super) const MAX_SIDE: usize = 1 << 14;

/// Side of the square that `cells` cells make; `None` where they make none.
pub(super) fn square_side(cells: usize) -> Option<usize> {
    let side = cells.isqrt();
    (side.checked_mul(side) == Some(cells)).then_some(side)
}

/// Checks normalised pixels `[side * side, 3]` and gives their size; they must make a square of `wanted` pixels, or any
/// square of at least `least` where `wanted` is `None`.
pub(super) fn pixel_grid<B: Backend>(pixels: View<B>, wanted: Option<usize>, least: usize) -> Result<Grid> {
    let error = |reason| Err(Error::Input { field: "pixels", reason });
    if pixels.cols() != 3 {
        return error(format!("have {} channels instead of 3", pixels.cols()));
    }
    let Some(side) = square_side(pixels.rows()) else {
        return error(format!("are {}, which make no square", pixels.rows()));
    };
    if side > MAX_SIDE {
        return Err(Error::Limit { limit: "pixels per side", max: MAX_SIDE as u64, got: side as u64 });
    }
    match wanted {
        Some(wanted) if wanted != side => {
            error(format!("are {side}x{side}, but the model takes {wanted}x{wanted}"))
        }
        _ if side < least => {
            error(format!("are {side}x{side}, smaller than {least}x{least}, the least that the model takes"))
        }
        _ => Ok(Grid { height: side, width: side }),
    }
}
