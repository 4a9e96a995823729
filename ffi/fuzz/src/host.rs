//! What a host program brings: an allocator that may refuse, threads, and callbacks that call back.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::alloc::System;

use triplet_c::allocator::{triplet_allocator, triplet_set_allocator};
use triplet_c::ask::triplet_ask_options;
use triplet_c::event::triplet_event;
use triplet_c::image::triplet_image;
use triplet_c::session::*;
use triplet_c::status::triplet_status;
use triplet_c::threads::triplet_work_fn;

/// Whether requests for [`LARGE`] bytes and more are refused.
pub static REFUSE: AtomicBool = AtomicBool::new(false);

/// Bytes of the smallest request that is refused: less than the key-value cache of the tiny model takes, more than the
/// small objects around it.
const LARGE: usize = 4096;

unsafe extern "C" fn allocate(_context: *mut c_void, size: usize, alignment: usize) -> *mut c_void {
    if REFUSE.load(Ordering::Relaxed) && size >= LARGE {
        return ptr::null_mut();
    }
    match Layout::from_size_align(size, alignment) {
        // SAFETY: the library asks for more than 0 bytes.
        Ok(layout) => unsafe { System.alloc(layout) }.cast(),
        Err(_) => ptr::null_mut(),
    }
}

unsafe extern "C" fn release(_context: *mut c_void, memory: *mut c_void, size: usize, alignment: usize) {
    if let Ok(layout) = Layout::from_size_align(size, alignment) {
        // SAFETY: memory of `allocate`, given back once with the same size and alignment.
        unsafe { System.dealloc(memory.cast(), layout) }
    }
}

/// Has all memory of the process pass through [`allocate`]. It must be the first call: memory comes from the system once
/// any was asked for.
pub fn set_allocator() -> triplet_status {
    let host =
        triplet_allocator { allocate: Some(allocate), release: Some(release), context: ptr::null_mut() };
    // SAFETY: functions that keep their word as long as the process lives.
    unsafe { triplet_set_allocator(&raw const host) }
}

/// Stops the loading at the start.
pub unsafe extern "C" fn stop(_user_data: *mut c_void, _done: u64, _total: u64) -> i32 {
    1
}

/// Lets the loading go on.
pub unsafe extern "C" fn go_on(_user_data: *mut c_void, done: u64, total: u64) -> i32 {
    assert!(done <= total);
    0
}

/// Threads that do every third piece twice, leave every fifth out and ask for pieces that there are not; all of which is
/// allowed.
pub unsafe extern "C" fn careless(
    _context: *mut c_void,
    count: usize,
    work: triplet_work_fn,
    argument: *mut c_void,
) {
    let Some(work) = work else { return };
    for index in (0..count).rev().filter(|index| index % 5 != 4) {
        for _ in 0..1 + usize::from(index % 3 == 0) {
            // SAFETY: what the library passed, before the call returns.
            unsafe { work(argument, index) };
        }
    }
    // SAFETY: as above.
    unsafe { work(argument, usize::MAX) };
}

/// What [`call_back`] needs and finds.
pub struct CallBack {
    pub session: *mut triplet_session,
    pub image: *mut triplet_image,
    /// Returns 1 at the event of this number, from 1.
    pub stop_at: usize,
    pub events: usize,
    /// Calls that were made and what they came to.
    pub calls: Vec<(&'static str, triplet_status)>,
}

/// Calls the session that is at work and others of its functions.
pub unsafe extern "C" fn call_back(user_data: *mut c_void, event: *const triplet_event) -> i32 {
    // SAFETY: the `CallBack` that the fuzz target passed, and the event of the library.
    let (state, event) = unsafe { (&mut *user_data.cast::<CallBack>(), &*event) };
    // SAFETY: a text with a NUL behind it.
    assert_eq!(unsafe { *event.text.add(event.text_len) }, 0);
    state.events += 1;
    if state.events == 1 {
        let options = triplet_ask_options { question: c"And now?".as_ptr(), ..Default::default() };
        let (mut reply, mut session) = (ptr::null_mut(), state.session);
        let ids = [3u32];
        // SAFETY: options that are there, and places for handles.
        unsafe {
            let (at_work, image, options) = (state.session, state.image, &raw const options);
            let status = triplet_session_ask(at_work, image, options, &raw mut reply);
            state.calls.push(("triplet_session_ask", status));
            let status =
                triplet_session_decode_tokens(at_work, image, options, ids.as_ptr(), 1, &raw mut reply);
            state.calls.push(("triplet_session_decode_tokens", status));
            let status = triplet_session_destroy(&raw mut session);
            state.calls.push(("triplet_session_destroy", status));
        }
        assert!(reply.is_null() && !session.is_null(), "a session at work began something");
    }
    (state.events == state.stop_at).into()
}
