//! The words to the last failure of every thread.

use core::cell::RefCell;
use core::ffi::c_char;

use crate::guard::guard_value;
use crate::text::Text;

thread_local! {
    static LAST: RefCell<Text> = const { RefCell::new(Text::EMPTY) };
}

/// Remembers the words; a thread that is ending remembers nothing.
pub(crate) fn set(message: &str) {
    let text = Text::new(message);
    let _ = LAST.try_with(|last| last.replace(text));
}

/// Why the last call that failed on this thread failed, naming the argument, file, field, tensor or module; empty where
/// none has failed. Never NULL; valid until the next call on this thread that fails.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_last_error() -> *const c_char {
    guard_value(c"".as_ptr(), || LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr()))
}
