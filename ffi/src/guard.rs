//! The one way into the library: every export is a call of [`guard`] or [`guard_value`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::float_state::Standard;
use crate::last_error;
use crate::panics;
use crate::status::{Failure, Result, TRIPLET_INTERNAL, TRIPLET_OK, triplet_status};

/// Runs an export: no panic leaves it, and a failure becomes its status and this thread's message.
pub(crate) fn guard(work: impl FnOnce() -> Result<()>) -> triplet_status {
    let _standard = Standard::enter();
    panics::quieten();
    // What a panic leaves half done is either dropped with the panic or locked for good, see `session.rs`.
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return TRIPLET_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let (words, place) = (words(&*panic), panics::take_place());
            Failure::new(TRIPLET_INTERNAL, format!("a defect of the library: {words}{place}"))
        }
    };
    last_error::set(&failure.message);
    failure.status
}

/// Runs an export that returns a value; `fallback` is what it returns after a panic.
pub(crate) fn guard_value<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    let _standard = Standard::enter();
    panics::quieten();
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use core::ffi::CStr;

    use super::*;
    use crate::last_error::triplet_last_error;

    fn last() -> String {
        // SAFETY: the message is a C string until the next failure on this thread.
        unsafe { CStr::from_ptr(triplet_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_and_failures_become_statuses() {
        assert_eq!(guard(|| panic!("number {}", 7)), TRIPLET_INTERNAL);
        let words = last();
        assert!(words.starts_with("a defect of the library: number 7, "), "{words}");
        assert!(words.contains("guard.rs:"), "the place: {words}");
        assert_eq!(
            guard(|| Err(Failure::argument("width", "is 0"))),
            crate::status::TRIPLET_INVALID_ARGUMENT
        );
        assert_eq!(last(), "width is 0");
        assert_eq!(guard(|| Ok(())), TRIPLET_OK);
        assert_eq!(last(), "width is 0", "a call that works leaves the message");
        assert_eq!(std::thread::spawn(last).join().unwrap(), "", "threads have their own");
        assert_eq!(guard_value(3, || panic!("again")), 3);
    }
}
