//! What is said of a panic inside the library: its words and its place go into the caller's message, and nothing to
//! standard error, which is the host's. With RUST_BACKTRACE set it is printed there too, with where it came from.
#![forbid(unsafe_code)]

use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::{env, mem, thread};

use crate::float_state;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// What told of panics before; it still tells of those that are not the library's, where a program in Rust shares its
/// standard library with this one.
static FORMER: OnceLock<Hook> = OnceLock::new();

/// Where the last panic of the library began.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// From the first call on, panics of the library are not printed. Allocates nothing, for the host's allocator may come later.
pub(crate) fn quieten() {
    static ONCE: Once = Once::new();
    // A thread that is panicking must not change what is told of it.
    if !ONCE.is_completed() && !thread::panicking() {
        ONCE.call_once(|| {
            let _ = FORMER.set(take_hook());
            set_hook(Box::new(tell));
        });
    }
}

/// Where the last panic of the library began, as ", file:line:column"; empty where that is not known.
pub(crate) fn take_place() -> String {
    mem::take(&mut *PLACE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn tell(panic: &PanicHookInfo<'_>) {
    // The threads of a model are named so by the core.
    let ours =
        float_state::at_work() || thread::current().name().is_some_and(|name| name.starts_with("triplet-"));
    if ours {
        let place = panic.location().map_or(String::new(), |place| format!(", {place}"));
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
    let printed = !ours || env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    if printed && let Some(former) = FORMER.get() {
        former(panic);
    }
}
