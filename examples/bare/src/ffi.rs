//! What the caller calls and what it provides.

use core::ffi::c_int;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use crate::ask::{Parts, ask};
use crate::bump;

unsafe extern "C" {
    /// The caller's output.
    fn bare_write(text: *const u8, size: usize);
    /// The caller's end of the program.
    fn bare_stop() -> !;
}

/// The caller's output as a formatter's sink.
pub struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the caller reads these bytes and keeps no pointer.
        unsafe { bare_write(text.as_ptr(), text.len()) };
        Ok(())
    }
}

/// Writes why and ends the program.
pub fn stop(info: &PanicInfo) -> ! {
    let _ = writeln!(Out, "{info}");
    // SAFETY: the caller's function has no conditions.
    unsafe { bare_stop() }
}

/// Bytes of the caller's, `bare_bytes` in C. They must stay for good.
#[repr(C)]
pub struct Bytes {
    data: *const u8,
    size: usize,
}

impl Bytes {
    /// # Safety
    /// `data` must point to `size` bytes that nobody changes any more.
    unsafe fn get(&self) -> &'static [u8] {
        // SAFETY: the function's own condition.
        unsafe { core::slice::from_raw_parts(self.data, self.size) }
    }
}

/// Everything that `bare_ask` needs, `bare_inputs` in C.
#[repr(C)]
pub struct Inputs {
    memory: *mut u8,
    memory_size: usize,
    config: Bytes,
    weights: Bytes,
    vocabulary: Bytes,
    picture: Bytes,
    questions: Bytes,
}

/// Answers the questions about the picture through `bare_write`. Returns 0, or 1 after writing what went wrong.
///
/// # Safety
/// `memory` must be the library's alone, all bytes must stay as they are, both until the program ends; to be called once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bare_ask(inputs: &Inputs) -> c_int {
    // SAFETY: the function's own conditions.
    let parts = unsafe {
        bump::give(inputs.memory, inputs.memory_size);
        Parts {
            config: inputs.config.get(),
            weights: inputs.weights.get(),
            vocabulary: inputs.vocabulary.get(),
            picture: inputs.picture.get(),
            questions: inputs.questions.get(),
        }
    };
    match ask(&parts, &mut Out) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(Out, "error: {error}");
            1
        }
    }
}

/// Most bytes of `memory` in use at one time.
#[unsafe(no_mangle)]
pub extern "C" fn bare_memory_used() -> usize {
    bump::most()
}
