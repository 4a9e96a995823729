//! The core of `triplet` without the standard library and without an operating system: the caller gives memory, the files
//! of a model, a picture and prompts as token ids; the replies come back as text.
//!
//! `start.c` is such a caller. `.ci/bare` builds both, runs them and compares the text with that of `bare_inputs`, which
//! asks the same questions with the standard library.
#![no_std]

extern crate alloc;

mod ask;
mod bump;
mod ffi;
mod print;

use core::panic::PanicInfo;

/// The last resort: says where, and leaves for good through the caller's `bare_stop`.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    ffi::stop(info)
}
