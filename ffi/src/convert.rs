//! Boxes in other conventions.

use crate::guard::guard;
use crate::memory;
use crate::status::{Failure, triplet_status};
use crate::target::triplet_box;

/// COCO's convention: `out` becomes x, y, width, height, in pixels.
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A box can be read from `area` and four floats can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_box_to_xywh(area: *const triplet_box, out: *mut f32) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let triplet_box { x0, y0, x1, y1 } = memory::read("area", area)?;
            memory::write("out", out.cast(), [x0, y0, x1 - x0, y1 - y0])
        }
    })
}

/// The convention of ROS vision_msgs and DETR: `out` becomes centre x, centre y, width, height, in pixels.
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// As `triplet_box_to_xywh`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_box_to_cxcywh(area: *const triplet_box, out: *mut f32) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let triplet_box { x0, y0, x1, y1 } = memory::read("area", area)?;
            let (width, height) = (x1 - x0, y1 - y0);
            memory::write("out", out.cast(), [x0 + width / 2.0, y0 + height / 2.0, width, height])
        }
    })
}

/// Fractions of the picture: `out` becomes x0 / width, y0 / height, x1 / width, y1 / height.
///
/// Any thread. TRIPLET_INVALID_ARGUMENT, where a size is 0 too.
///
/// # Safety
/// As `triplet_box_to_xywh`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_box_to_normalised(
    area: *const triplet_box,
    width: usize,
    height: usize,
    out: *mut f32,
) -> triplet_status {
    guard(|| {
        if width == 0 || height == 0 {
            return Err(Failure::argument("width or height", "is 0"));
        }
        let (width, height) = (width as f32, height as f32);
        // SAFETY: the caller's promise.
        unsafe {
            let triplet_box { x0, y0, x1, y1 } = memory::read("area", area)?;
            memory::write("out", out.cast(), [x0 / width, y0 / height, x1 / width, y1 / height])
        }
    })
}
