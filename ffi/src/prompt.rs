//! Visual prompts: what a caller points at.

use core::ptr;

use triplet::image::VisualPrompt;

use crate::memory;
use crate::status::{Failure, Result};
use crate::target::{triplet_box, triplet_point};

/// Kind of a visual prompt.
pub type triplet_prompt_kind = i32;
/// The disc around (area.x0, area.y0) with a radius of 10/336 of the picture's longer side.
pub const TRIPLET_PROMPT_POINT: triplet_prompt_kind = 0;
/// The rectangle `area`; what lies outside the picture is cut off.
pub const TRIPLET_PROMPT_BOX: triplet_prompt_kind = 1;
/// A stroke of `width` pixels along the polyline `points`, with round ends.
pub const TRIPLET_PROMPT_SCRIBBLE: triplet_prompt_kind = 2;
/// The pixels where `mask` is not 0.
pub const TRIPLET_PROMPT_MASK: triplet_prompt_kind = 3;

/// A visual prompt; it stands for one `[VPT]` of the question. Zero what its kind does not use. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_prompt {
    /// What it is.
    pub kind: triplet_prompt_kind,
    /// Of a scribble, in pixels; 0 for 20/336 of the picture's longer side.
    pub width: f32,
    /// Of a point or a box, in pixels.
    pub area: triplet_box,
    /// Of a scribble, 1 to 4096 points in pixels.
    pub points: *const triplet_point,
    /// Their number.
    pub point_count: usize,
    /// Of a mask: one byte per pixel of the picture, row-major, rows without gaps.
    pub mask: *const u8,
    /// Bytes of `mask`.
    pub mask_size: usize,
}

impl Default for triplet_prompt {
    fn default() -> triplet_prompt {
        triplet_prompt {
            kind: TRIPLET_PROMPT_POINT,
            width: 0.0,
            area: triplet_box::default(),
            points: ptr::null(),
            point_count: 0,
            mask: ptr::null(),
            mask_size: 0,
        }
    }
}

/// The prompt as the library knows it.
///
/// # Safety
/// What the prompt's kind points to is valid during `'a`.
pub(crate) unsafe fn visual_prompt<'a>(prompt: &triplet_prompt) -> Result<VisualPrompt<'a>> {
    let triplet_box { x0, y0, x1, y1 } = prompt.area;
    match prompt.kind {
        TRIPLET_PROMPT_POINT => Ok(VisualPrompt::Point([x0, y0])),
        TRIPLET_PROMPT_BOX => Ok(VisualPrompt::Box([x0, y0, x1, y1])),
        TRIPLET_PROMPT_SCRIBBLE => {
            // SAFETY: the caller's promise; a point is two `f32` without padding.
            let points = unsafe {
                memory::slice::<[f32; 2]>("prompt.points", prompt.points.cast(), prompt.point_count)
            }?;
            let width = if prompt.width == 0.0 { None } else { Some(prompt.width) };
            Ok(VisualPrompt::Scribble { points, width })
        }
        TRIPLET_PROMPT_MASK => {
            // SAFETY: the caller's promise.
            Ok(VisualPrompt::Mask(unsafe { memory::slice("prompt.mask", prompt.mask, prompt.mask_size) }?))
        }
        other => Err(Failure::argument("prompt.kind", format!("{other} is none"))),
    }
}
