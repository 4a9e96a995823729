//! Prompts as the reference implementation brings them to the grid: drawn in whole pixels, resized as 8-bit integers.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::interpolate::interpolate;
use super::region::{VisualPrompt, segment_distance_squared, segments};
use super::resample::resize_rows;
use super::{Preprocessor, Square};
use crate::backend::Grid;
use crate::error::Result;

/// Radius of a point in pixels of the padded square.
const RADIUS: i64 = 10;

/// The cells of a checked prompt; none may be on.
pub(super) fn cells(
    prompt: &VisualPrompt<'_>,
    square: &Square,
    preprocessor: &Preprocessor,
    grid: Grid,
) -> Result<Vec<bool>> {
    let side = square.side();
    let (width, height) = preprocessor.square_size(side)?;
    let bytes =
        resize_rows::<1>((side, side), (width, height), preprocessor.resample(), |y, out| match *prompt {
            VisualPrompt::Point(point) => draw_point(point, square, y, out),
            VisualPrompt::Box(corners) => draw_box(corners, square, y, out),
            VisualPrompt::Scribble { points, width } => {
                draw_scribble(points, width.unwrap_or_default(), square, y, out);
            }
            VisualPrompt::Mask(mask) => draw_mask(mask, square, y, out),
        })?;
    let map: Vec<f32> = bytes.into_iter().map(f32::from).collect();
    let to = (grid.height, grid.width);
    let mut cells = vec![0.0; grid.cells()];
    interpolate(&map, (height, width), to, 0..grid.height, 0..grid.width, &mut cells);
    Ok(cells.into_iter().map(|value| value > 0.0).collect())
}

/// Row `y` of the disc around the pixel that holds the point.
fn draw_point([px, py]: [f32; 2], square: &Square, y: usize, out: &mut [u8]) {
    let (cx, cy) = (px as i64 + square.left() as i64, py as i64 + square.top() as i64);
    let dy = y as i64 - cy;
    for (x, out) in out.iter_mut().enumerate() {
        let dx = x as i64 - cx;
        *out = u8::from(dx * dx + dy * dy <= RADIUS * RADIUS);
    }
}

/// Row `y` of the rectangle; corners are rounded down, the second one is exclusive.
fn draw_box(corners: [f32; 4], square: &Square, y: usize, out: &mut [u8]) {
    let [x0, y0, x1, y1] = corners.map(|corner| corner as usize);
    let (left, top) = (square.left(), square.top());
    out.fill(0);
    if (y0 + top..y1 + top).contains(&y)
        && let Some(run) = out.get_mut(x0 + left..x1 + left)
    {
        run.fill(1);
    }
}

/// Row `y` of the pixels whose centres lie within half the width of the polyline.
fn draw_scribble(points: &[[f32; 2]], width: f32, square: &Square, y: usize, out: &mut [u8]) {
    let radius = f64::from(width) / 2.0;
    let (left, top) = (square.left() as f64, square.top() as f64);
    let py = y as f64 + 0.5 - top;
    out.fill(0);
    for segment in segments(points) {
        let [a, b] = segment;
        if py < a[1].min(b[1]) - radius || py > a[1].max(b[1]) + radius {
            continue;
        }
        let first = (a[0].min(b[0]) - radius + left) as usize;
        let last = (a[0].max(b[0]) + radius + left) as usize;
        for (x, out) in out.iter_mut().enumerate().skip(first).take(last.saturating_sub(first) + 1) {
            let px = x as f64 + 0.5 - left;
            if segment_distance_squared([px, py], segment) < radius * radius {
                *out = 1;
            }
        }
    }
}

/// Row `y` of the caller's mask.
fn draw_mask(mask: &[u8], square: &Square, y: usize, out: &mut [u8]) {
    out.fill(0);
    let row = y.checked_sub(square.top()).and_then(|y| mask.chunks_exact(square.width()).nth(y));
    let Some(row) = row else { return };
    for (out, &pixel) in out.iter_mut().skip(square.left()).zip(row) {
        *out = u8::from(pixel != 0);
    }
}
