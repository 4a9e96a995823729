//! Images: looked at once, asked about any number of times.

use core::ffi::c_void;
use core::ptr;

use triplet::image::{ImageView, PixelFormat};

use crate::arena::Lease;
use crate::device::AnyImage;
use crate::guard::guard;
use crate::memory::{self, Versioned};
use crate::model::{ModelObject, destroy, triplet_model};
use crate::registry::{self, Kind, Object};
use crate::status::{Failure, Result, triplet_status};

/// What a model sees of a picture. Immutable; any session of the same model may be asked about it, on any thread. It
/// holds on to what it needs of its model, and nothing of the caller's pixels.
pub struct triplet_image {
    _private: (),
}

/// Order of the bytes of a pixel; 8 bits a channel.
pub type triplet_pixel_format = i32;
/// Red, green, blue (ROS: rgb8).
pub const TRIPLET_PIXEL_FORMAT_RGB8: triplet_pixel_format = 0;
/// Blue, green, red (ROS: bgr8; OpenCV).
pub const TRIPLET_PIXEL_FORMAT_BGR8: triplet_pixel_format = 1;
/// Red, green, blue, alpha, which is dropped (ROS: rgba8).
pub const TRIPLET_PIXEL_FORMAT_RGBA8: triplet_pixel_format = 2;
/// Blue, green, red, alpha, which is dropped (ROS: bgra8).
pub const TRIPLET_PIXEL_FORMAT_BGRA8: triplet_pixel_format = 3;
/// One grey value (ROS: mono8).
pub const TRIPLET_PIXEL_FORMAT_GRAY8: triplet_pixel_format = 4;

/// A picture in the caller's memory, read during the call only. Fill it with `triplet_image_view_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_image_view {
    /// sizeof(triplet_image_view).
    pub struct_size: u32,
    /// Order of the bytes of a pixel.
    pub format: triplet_pixel_format,
    /// The first pixel of the uppermost row.
    pub pixels: *const u8,
    /// Bytes from `pixels` on that may be read; the last row may end before its stride does.
    pub size: usize,
    /// Pixels per row, at most 32768.
    pub width: usize,
    /// Rows, at most 32768.
    pub height: usize,
    /// Bytes from one row to the next; 0 for rows without gaps.
    pub stride: usize,
    /// Memory for the image, `image` bytes of triplet_memory that begin at a multiple of TRIPLET_MEMORY_ALIGNMENT: the
    /// library's alone until the image is destroyed and no call that was given it runs any more. NULL for memory of the
    /// allocator.
    pub memory: *mut c_void,
    /// Bytes of `memory`.
    pub memory_size: usize,
}

impl Default for triplet_image_view {
    fn default() -> triplet_image_view {
        triplet_image_view {
            struct_size: size_of::<triplet_image_view>() as u32,
            format: TRIPLET_PIXEL_FORMAT_RGB8,
            pixels: ptr::null(),
            size: 0,
            width: 0,
            height: 0,
            stride: 0,
            memory: ptr::null_mut(),
            memory_size: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, integers and pointers.
unsafe impl Versioned for triplet_image_view {}

/// What an image handle stands for.
pub(crate) struct ImageObject {
    pub(crate) encoded: AnyImage,
    /// The memory that the image lies in; dropped after it.
    _lease: Lease,
}

impl Object for ImageObject {
    type Handle = triplet_image;
    const KIND: Kind = Kind::Image;
}

/// Fills a view with the defaults. `struct_size` is sizeof(triplet_image_view).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `view`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_image_view_init(
    view: *mut triplet_image_view,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("view", view, struct_size) })
}

/// Looks at a picture. `*image` becomes a handle to destroy, or NULL where the call fails.
///
/// Any thread, several at once. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_LIMIT, TRIPLET_NON_FINITE,
/// TRIPLET_OUT_OF_MEMORY.
///
/// # Safety
/// `view` and its pixels are valid as it says; a handle can be written to `image`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_image_create(
    model: *const triplet_model,
    view: *const triplet_image_view,
    image: *mut *mut triplet_image,
) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let view = unsafe {
            memory::write("image", image, ptr::null_mut())?;
            memory::check_pointer("view", view)?;
            memory::read_options("view", view)?
        };
        let model = registry::get::<ModelObject>(model)?;
        let format = format(view.format)?;
        let stride = match view.stride {
            0 => view.width.saturating_mul(format.bytes()),
            stride => stride,
        };
        // SAFETY: the caller's promise.
        let pixels = unsafe { memory::slice("image.pixels", view.pixels, view.size) }?;
        let pixels = ImageView::new(pixels, view.width, view.height, stride, format)?;
        // SAFETY: the caller's promise.
        let (encoded, lease) = unsafe { model.model.encode(&pixels, view.memory, view.memory_size) }?;
        let handle = registry::insert(ImageObject { encoded, _lease: lease });
        // SAFETY: the caller's promise.
        unsafe { memory::write("image", image, handle) }
    })
}

/// Width and height of the picture in pixels.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// Sizes can be written to `width` and `height`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_image_size(
    image: *const triplet_image,
    width: *mut usize,
    height: *mut usize,
) -> triplet_status {
    guard(|| {
        let image = registry::get::<ImageObject>(image)?;
        // SAFETY: the caller's promise.
        unsafe {
            memory::write("width", width, image.encoded.width())?;
            memory::write("height", height, image.encoded.height())
        }
    })
}

/// Destroys the handle and sets it to NULL; NULL is left alone. Questions about it that are being answered are not
/// disturbed.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// A handle can be read from and written to `image`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_image_destroy(image: *mut *mut triplet_image) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { destroy::<ImageObject>("image", image, |_| Ok(())) })
}

fn format(format: triplet_pixel_format) -> Result<PixelFormat> {
    Ok(match format {
        TRIPLET_PIXEL_FORMAT_RGB8 => PixelFormat::Rgb8,
        TRIPLET_PIXEL_FORMAT_BGR8 => PixelFormat::Bgr8,
        TRIPLET_PIXEL_FORMAT_RGBA8 => PixelFormat::Rgba8,
        TRIPLET_PIXEL_FORMAT_BGRA8 => PixelFormat::Bgra8,
        TRIPLET_PIXEL_FORMAT_GRAY8 => PixelFormat::Gray8,
        other => return Err(Failure::argument("image.format", format!("{other} is none"))),
    })
}
