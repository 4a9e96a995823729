//! Masks in the forms that other programs read.

use core::ffi::c_char;

use triplet::reply::{Mask, Target};

use crate::guard::guard;
use crate::memory;
use crate::registry;
use crate::reply::{ReplyObject, triplet_reply};
use crate::status::{Result, triplet_status};
use crate::text::Text;

/// The mask of a triplet.
pub(crate) fn find(reply: &ReplyObject, index: usize) -> Result<&Mask> {
    reply.target(index, "mask", |target| match target {
        Target::Mask(mask) => Some(mask),
        _ => None,
    })
}

/// The mask of triplet number `index` as bytes, row-major: `inside` for pixels of the mask (255 for ROS mono8), 0 for
/// others. `*needed` becomes the number of bytes, width * height; `buffer` may be NULL to ask for it alone.
///
/// Any thread. TRIPLET_NO_TARGET, TRIPLET_BUFFER_TOO_SMALL, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `capacity` bytes can be written to `buffer`, unless it is NULL, and a size to `needed`, unless that is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_mask_bytes(
    reply: *const triplet_reply,
    index: usize,
    inside: u8,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> triplet_status {
    guard(|| {
        let reply = registry::get::<ReplyObject>(reply)?;
        let mut pixels = find(&reply, index)?.pixels();
        pixels.iter_mut().for_each(|pixel| *pixel *= inside);
        // SAFETY: the caller's promise.
        unsafe { memory::copy_out(&pixels, buffer, capacity, needed) }
    })
}

/// The mask of triplet number `index` as packed bits: (width + 7) / 8 bytes a row, the leftmost pixel in the highest bit, as
/// `numpy.packbits(mask, axis=1)`. `*needed` becomes the number of bytes; `buffer` may be NULL to ask for it alone.
///
/// Any thread. As `triplet_mask_bytes`.
///
/// # Safety
/// As `triplet_mask_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_mask_bits(
    reply: *const triplet_reply,
    index: usize,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> triplet_status {
    guard(|| {
        let reply = registry::get::<ReplyObject>(reply)?;
        // SAFETY: the caller's promise.
        unsafe { memory::copy_out(&find(&reply, index)?.bits(), buffer, capacity, needed) }
    })
}

/// COCO's run lengths of the mask of triplet number `index`: pixels in column-major order, the first run outside the mask
/// and perhaps 0 long, then inside and outside in turn. `*needed` becomes the number of runs; `buffer` may be NULL to ask
/// for it alone.
///
/// Any thread. As `triplet_mask_bytes`.
///
/// # Safety
/// As `triplet_mask_bytes`, `capacity` counted in runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_mask_runs(
    reply: *const triplet_reply,
    index: usize,
    buffer: *mut u32,
    capacity: usize,
    needed: *mut usize,
) -> triplet_status {
    guard(|| {
        let reply = registry::get::<ReplyObject>(reply)?;
        // SAFETY: the caller's promise.
        unsafe { memory::copy_out(&find(&reply, index)?.runs(), buffer, capacity, needed) }
    })
}

/// The same run lengths as the printable string that pycocotools calls `counts`, a NUL behind it. `*needed` becomes the
/// number of bytes, the NUL included; `buffer` may be NULL to ask for it alone.
///
/// Any thread. As `triplet_mask_bytes`.
///
/// # Safety
/// As `triplet_mask_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_mask_coco_rle(
    reply: *const triplet_reply,
    index: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> triplet_status {
    guard(|| {
        let reply = registry::get::<ReplyObject>(reply)?;
        let text = Text::new(&find(&reply, index)?.coco_rle());
        // SAFETY: the caller's promise.
        unsafe { memory::copy_out(text.with_nul(), buffer.cast(), capacity, needed) }
    })
}
