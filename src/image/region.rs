//! Visual prompts as region masks at the grid of an encoder, over the square that the picture is padded to.
//!
//! A grid cell is on when the region touches it, so that no prompt vanishes, however small. The reference's own rule, which
//! loses most points in large pictures, is kept as [`PromptResize::Reference`].
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::region_reference;
use super::{Preprocessor, Square};
use crate::backend::Grid;
use crate::checked::{quotient, remainder};
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::words::{Decimal, Decimals, Quoted};

/// Most prompts of one call.
pub const MAX_PROMPTS: usize = 64;

/// Most points of one scribble.
const MAX_POINTS: usize = 4096;

/// Radius of a point and of the brush that draws a scribble, as a fraction of the square's side: 10 pixels of 336.
const BRUSH: f64 = 10.0 / 336.0;

/// What a caller points at; coordinates in pixels of the picture, inside or on its border.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VisualPrompt<'a> {
    /// `[x, y]`: the disc around it with a radius of 10/336 of the padded side.
    Point([f32; 2]),
    /// `[x0, y0, x1, y1]`: the rectangle; what lies outside the picture is cut off.
    Box([f32; 4]),
    /// A stroke along a polyline with round ends.
    Scribble {
        /// Points `[x, y]` of the polyline, at least one.
        points: &'a [[f32; 2]],
        /// Width of the stroke in pixels, at most the padded side; `None` is that of a point: 20/336 of it.
        width: Option<f32>,
    },
    /// One byte per pixel of the picture, row-major; the region is where it is not 0.
    Mask(&'a [u8]),
}

impl VisualPrompt<'_> {
    /// The prompt's name in errors.
    pub(super) fn field(&self) -> &'static str {
        match self {
            VisualPrompt::Point(_) => "prompt.point",
            VisualPrompt::Box(_) => "prompt.box",
            VisualPrompt::Scribble { .. } => "prompt.scribble",
            VisualPrompt::Mask(_) => "prompt.mask",
        }
    }
}

/// How a region comes to the grid; `vpt_encoder.prompt_resize` of `config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptResize {
    /// `touch`, the default: a cell is on when the region touches it.
    #[default]
    Touch,
    /// `reference`: the region is drawn in whole pixels of the padded square (a point with a radius of 10 of them), resized
    /// as an 8-bit picture of zeros and ones with the encoder's preprocessing, and resized bilinearly to the grid; a cell
    /// is on where the result exceeds 0.
    Reference,
}

impl PromptResize {
    /// Reads the field `prompt_resize`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is neither `touch` nor `reference`.
    pub fn load(fields: &Fields) -> Result<PromptResize> {
        match fields.str_or("prompt_resize", "touch")? {
            "touch" => Ok(PromptResize::Touch),
            "reference" => Ok(PromptResize::Reference),
            other => Err(fields
                .error("prompt_resize", format!("must be touch or reference, but is {}", Quoted(other)))),
        }
    }
}

/// One prompt at the encoder's grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Size of the grid.
    pub grid: Grid,
    /// `grid.cells()` cells, row-major; at least one is on.
    pub cells: Vec<bool>,
}

/// The regions of all prompts on a picture, at a grid over its square. `preprocessor` is the visual encoder's.
///
/// # Errors
/// [`Error::Limit`] beyond [`MAX_PROMPTS`] prompts or 4096 points of a scribble; [`Error::Input`] with the kind and index of
/// a prompt that is not finite, lies outside the picture, is a mask of another size, or whose region is empty.
pub fn regions(
    prompts: &[VisualPrompt<'_>],
    square: &Square,
    preprocessor: &Preprocessor,
    grid: Grid,
    resize: PromptResize,
) -> Result<Vec<Region>> {
    if prompts.len() > MAX_PROMPTS {
        return Err(Error::Limit { limit: "prompts", max: MAX_PROMPTS as u64, got: prompts.len() as u64 });
    }
    let region = |(index, prompt): (usize, &VisualPrompt<'_>)| {
        let error = |reason: String| Error::Input {
            field: prompt.field(),
            reason: format!("prompt {index} {reason}"),
        };
        let prompt = checked(prompt, square, error)?;
        let cells = match resize {
            PromptResize::Touch => touched(&prompt, square, grid),
            PromptResize::Reference => region_reference::cells(&prompt, square, preprocessor, grid)?,
        };
        if !cells.contains(&true) {
            return Err(error(format!("is an empty region at {}x{} cells", grid.height, grid.width)));
        }
        Ok(Region { grid, cells })
    };
    prompts.iter().enumerate().map(region).collect()
}

/// The prompt with its box cut to the picture and its scribble's width filled in.
fn checked<'a>(
    prompt: &VisualPrompt<'a>,
    square: &Square,
    error: impl Fn(String) -> Error,
) -> Result<VisualPrompt<'a>> {
    let (width, height) = (square.width(), square.height());
    let inside = |[x, y]: [f32; 2]| {
        let inside = (0.0..=width as f32).contains(&x) && (0.0..=height as f32).contains(&y);
        let reason =
            || format!("has a point at {}, outside the picture of {width}x{height}", Decimals(&[x, y]));
        if inside { Ok(()) } else { Err(error(reason())) }
    };
    match *prompt {
        VisualPrompt::Point(point) => inside(point)?,
        VisualPrompt::Box(corners) => {
            if corners.iter().any(|corner| !corner.is_finite()) {
                return Err(error("has a corner that is not finite".into()));
            }
            let [x0, y0, x1, y1] = square.clamp_box(corners);
            if x0 >= x1 || y0 >= y1 {
                let reason = format!(
                    "is {}, which has no area in the picture of {width}x{height}",
                    Decimals(&corners)
                );
                return Err(error(reason));
            }
            return Ok(VisualPrompt::Box([x0, y0, x1, y1]));
        }
        VisualPrompt::Scribble { points, width } => {
            if points.is_empty() {
                return Err(error("has no points".into()));
            }
            if points.len() > MAX_POINTS {
                let (max, got) = (MAX_POINTS as u64, points.len() as u64);
                return Err(Error::Limit { limit: "scribble points", max, got });
            }
            points.iter().try_for_each(|&point| inside(point))?;
            let width = width.unwrap_or((2.0 * BRUSH * square.side() as f64) as f32);
            if !(width > 0.0 && width <= square.side() as f32) {
                let width = Decimal(width.into());
                return Err(error(format!("has a width of {width}, but must be in (0, {}]", square.side())));
            }
            return Ok(VisualPrompt::Scribble { points, width: Some(width) });
        }
        VisualPrompt::Mask(mask) => {
            if mask.len() != width * height {
                let reason = format!("has {} bytes for a picture of {width}x{height}", mask.len());
                return Err(error(reason));
            }
        }
    }
    Ok(*prompt)
}

/// The cells that the region shares area with.
fn touched(prompt: &VisualPrompt<'_>, square: &Square, grid: Grid) -> Vec<bool> {
    let side = square.side() as f64;
    let across = side / grid.width as f64;
    let down = side / grid.height as f64;
    let cells = |touches: &dyn Fn(&Rectangle) -> bool| {
        let cell = |index: usize| {
            let (row, col) = (quotient(index, grid.width), remainder(index, grid.width));
            let x = col as f64 * across - square.left() as f64;
            let y = row as f64 * down - square.top() as f64;
            touches(&Rectangle { x0: x, y0: y, x1: x + across, y1: y + down })
        };
        (0..grid.cells()).map(cell).collect()
    };
    match *prompt {
        VisualPrompt::Point(point) => {
            let (centre, radius) = (point.map(f64::from), BRUSH * side);
            cells(&|cell| cell.distance_squared(centre) < radius * radius)
        }
        VisualPrompt::Box(corners) => {
            let [x0, y0, x1, y1] = corners.map(f64::from);
            cells(&|cell| x0 < cell.x1 && x1 > cell.x0 && y0 < cell.y1 && y1 > cell.y0)
        }
        VisualPrompt::Scribble { points, width } => {
            let radius = f64::from(width.unwrap_or_default()) / 2.0;
            let near = |cell: &Rectangle, [a, b]: [[f64; 2]; 2]| cell.segment_squared(a, b) < radius * radius;
            cells(&|cell| segments(points).any(|segment| near(cell, segment)))
        }
        VisualPrompt::Mask(mask) => touched_by_pixels(mask, square, grid),
    }
}

/// The cells that share area with a pixel that is not 0.
fn touched_by_pixels(mask: &[u8], square: &Square, grid: Grid) -> Vec<bool> {
    let side = square.side();
    // first cell of a pixel and the one after its last; pixel i covers [i, i + 1) * cells / side
    let span = |pixel: usize, cells: usize| pixel * cells / side..((pixel + 1) * cells).div_ceil(side);
    let columns: Vec<_> = (0..square.width()).map(|x| span(x + square.left(), grid.width)).collect();
    let mut on = vec![false; grid.cells()];
    for (y, row) in mask.chunks_exact(square.width()).enumerate() {
        for cell_row in span(y + square.top(), grid.height) {
            let cells = &mut on[cell_row * grid.width..(cell_row + 1) * grid.width];
            for (columns, _) in columns.iter().zip(row).filter(|&(_, &pixel)| pixel != 0) {
                cells[columns.clone()].fill(true);
            }
        }
    }
    on
}

/// The segments of a polyline; a lone point is a segment of length 0.
pub(super) fn segments(points: &[[f32; 2]]) -> impl Iterator<Item = [[f64; 2]; 2]> {
    let ends = points.iter().skip(1).chain(points.last().filter(|_| points.len() == 1));
    points.iter().zip(ends).map(|(a, b)| [a.map(f64::from), b.map(f64::from)])
}

/// Squared distance from a point to a segment.
pub(super) fn segment_distance_squared([px, py]: [f64; 2], [a, b]: [[f64; 2]; 2]) -> f64 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((px - a[0]) * dx + (py - a[1]) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    let (x, y) = (a[0] + along * dx - px, a[1] + along * dy - py);
    x * x + y * y
}

/// An axis-aligned rectangle in pixels of the picture.
struct Rectangle {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
}

impl Rectangle {
    /// Squared distance to a point, 0 inside.
    fn distance_squared(&self, [x, y]: [f64; 2]) -> f64 {
        let dx = (self.x0 - x).max(x - self.x1).max(0.0);
        let dy = (self.y0 - y).max(y - self.y1).max(0.0);
        dx * dx + dy * dy
    }

    /// Squared distance to a segment, 0 where they meet.
    fn segment_squared(&self, a: [f64; 2], b: [f64; 2]) -> f64 {
        if self.meets(a, b) {
            return 0.0;
        }
        let corners = [(self.x0, self.y0), (self.x1, self.y0), (self.x0, self.y1), (self.x1, self.y1)];
        let ends = self.distance_squared(a).min(self.distance_squared(b));
        corners.iter().fold(ends, |least, &(x, y)| least.min(segment_distance_squared([x, y], [a, b])))
    }

    /// Whether the segment meets the rectangle: the part of it between each pair of sides must not be empty.
    fn meets(&self, a: [f64; 2], b: [f64; 2]) -> bool {
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (from, step, low, high) in
            [(a[0], b[0] - a[0], self.x0, self.x1), (a[1], b[1] - a[1], self.y0, self.y1)]
        {
            if step == 0.0 {
                if from < low || from > high {
                    return false;
                }
                continue;
            }
            let (first, second) = ((low - from) / step, (high - from) / step);
            enter = enter.max(first.min(second));
            leave = leave.min(first.max(second));
        }
        enter <= leave
    }
}
