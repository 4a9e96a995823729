//! News of an answer that is being written.

use core::ffi::{c_char, c_void};
use core::ops::ControlFlow;

use triplet::session::Event;

use crate::float_state::in_host;
use crate::target::{TRIPLET_UNIT_NONE, triplet_unit, unit_bit};
use crate::text::Text;

/// What an event tells.
pub type triplet_event_kind = i32;
/// A token was chosen: `token`, and in `text` what became complete with it.
pub const TRIPLET_EVENT_TOKEN: triplet_event_kind = 0;
/// A triplet is known: `text` is the phrase, `unit` its unit, `count` the number of its targets so far. The target itself
/// comes with the reply, for targets are decoded together.
pub const TRIPLET_EVENT_TRIPLET: triplet_event_kind = 1;

/// News of an answer; valid, with what it points to, during the callback only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_event {
    /// Size of the struct as the library knows it; may grow.
    pub struct_size: u32,
    /// What it tells.
    pub kind: triplet_event_kind,
    /// UTF-8, a NUL behind it; empty while a character is unfinished.
    pub text: *const c_char,
    /// Bytes of `text`.
    pub text_len: usize,
    /// The token; 0 for other kinds.
    pub token: u32,
    /// The unit; none where the model wrote none, or for other kinds.
    pub unit: triplet_unit,
    /// Targets of the phrase so far; 0 for other kinds.
    pub count: usize,
}

/// Told every token and every triplet, on the thread that asks, in the host's floating-point state. Any other value than 0
/// stops the answer, as `triplet_session_cancel` does. It may use other sessions, but not the one that asks, and must not
/// throw.
pub type triplet_event_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const triplet_event) -> i32>;

/// Passes an event on, its text in `told`.
pub(crate) fn tell(
    callback: triplet_event_fn,
    user_data: *mut c_void,
    event: &Event,
    told: &mut Text,
) -> ControlFlow<()> {
    let Some(callback) = callback else { return ControlFlow::Continue(()) };
    let (kind, text, token, unit, count) = match *event {
        Event::Token { id, text } => (TRIPLET_EVENT_TOKEN, text, id, TRIPLET_UNIT_NONE, 0),
        Event::Reference { phrase, unit, index } => {
            (TRIPLET_EVENT_TRIPLET, phrase, 0, unit_bit(unit), index.saturating_add(1))
        }
        _ => return ControlFlow::Continue(()),
    };
    told.set(text);
    let event = triplet_event {
        struct_size: size_of::<triplet_event>() as u32,
        kind,
        text: told.as_ptr(),
        text_len: told.len(),
        token,
        unit,
        count,
    };
    // SAFETY: a function of this type by the caller's promise.
    match in_host(|| unsafe { callback(user_data, &raw const event) }) {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}
