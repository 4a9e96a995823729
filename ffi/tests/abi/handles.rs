//! Short ways to the C functions, for the tests that call them from Rust.

use core::ffi::{CStr, c_char};
use core::ptr;
use std::ffi::CString;

use triplet_c::ask::{triplet_ask_options, triplet_ask_options_init};
use triplet_c::image::{triplet_image, triplet_image_create, triplet_image_destroy, triplet_image_view};
use triplet_c::last_error::triplet_last_error;
use triplet_c::model::{triplet_model, triplet_model_destroy, triplet_model_open, triplet_model_options};
use triplet_c::reply::{triplet_reply, triplet_reply_destroy, triplet_reply_get_json};
use triplet_c::session::{
    triplet_session, triplet_session_ask, triplet_session_create, triplet_session_destroy,
};
use triplet_c::status::{TRIPLET_OK, triplet_status};
use triplet_c::target::TRIPLET_TASK_GCG_DETECTION;

pub const WIDTH: usize = 40;
pub const HEIGHT: usize = 28;
pub const QUESTION: &CStr = c"What is next to the red ball?";

/// A picture of `WIDTH` x `HEIGHT` RGB pixels.
pub fn picture(seed: usize) -> Vec<u8> {
    (0..WIDTH * HEIGHT * 3).map(|index| (index * (7 + seed) % 251) as u8).collect()
}

/// The message of the last failure on this thread.
pub fn last_error() -> String {
    // SAFETY: a C string until the next failure.
    unsafe { text(triplet_last_error()) }
}

/// # Safety
/// `pointer` is a C string.
pub unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

#[track_caller]
pub fn ok(status: triplet_status) {
    assert_eq!(status, TRIPLET_OK, "{}", last_error());
}

#[track_caller]
pub fn open(dir: &str, threads: u32) -> *mut triplet_model {
    let dir = CString::new(dir).unwrap();
    let options = triplet_model_options { threads, ..Default::default() };
    let mut model = ptr::null_mut();
    // SAFETY: a C string, options and a place for the handle.
    ok(unsafe { triplet_model_open(dir.as_ptr(), &raw const options, &raw mut model) });
    model
}

/// A view of `picture`.
pub fn view(picture: &[u8]) -> triplet_image_view {
    triplet_image_view {
        pixels: picture.as_ptr(),
        size: picture.len(),
        width: WIDTH,
        height: HEIGHT,
        ..Default::default()
    }
}

#[track_caller]
pub fn image(model: *mut triplet_model, picture: &[u8]) -> *mut triplet_image {
    let (view, mut image) = (view(picture), ptr::null_mut());
    // SAFETY: a view of a picture that is there, and a place for the handle.
    ok(unsafe { triplet_image_create(model, &raw const view, &raw mut image) });
    image
}

#[track_caller]
pub fn session(model: *mut triplet_model) -> *mut triplet_session {
    let mut session = ptr::null_mut();
    // SAFETY: a place for the handle.
    ok(unsafe { triplet_session_create(model, &raw mut session) });
    session
}

/// The options of [`QUESTION`], at most `tokens` tokens.
pub fn options(tokens: u32) -> triplet_ask_options {
    let mut options = triplet_ask_options::default();
    // SAFETY: a place for options of this size.
    ok(unsafe { triplet_ask_options_init(&raw mut options, size_of::<triplet_ask_options>()) });
    triplet_ask_options {
        task: TRIPLET_TASK_GCG_DETECTION,
        question: QUESTION.as_ptr(),
        units: 7,
        max_new_tokens: tokens,
        ..options
    }
}

#[track_caller]
pub fn ask(
    session: *mut triplet_session,
    image: *mut triplet_image,
    options: &triplet_ask_options,
) -> *mut triplet_reply {
    let mut reply = ptr::null_mut();
    // SAFETY: options that are there, and a place for the handle.
    ok(unsafe { triplet_session_ask(session, image, options, &raw mut reply) });
    reply
}

#[track_caller]
pub fn json(reply: *mut triplet_reply) -> String {
    let (mut json, mut length) = (ptr::null(), 0);
    // SAFETY: places for a pointer and a size; the text lives as long as the reply.
    unsafe {
        ok(triplet_reply_get_json(reply, &raw mut json, &raw mut length));
        let json = text(json);
        assert_eq!(json.len(), length);
        json
    }
}

/// Destroys what is not NULL, the model first: nothing needs it any more.
#[track_caller]
pub fn destroy(
    mut model: *mut triplet_model,
    mut session: *mut triplet_session,
    mut image: *mut triplet_image,
    mut reply: *mut triplet_reply,
) {
    // SAFETY: places of handles.
    unsafe {
        ok(triplet_model_destroy(&raw mut model));
        ok(triplet_session_destroy(&raw mut session));
        ok(triplet_image_destroy(&raw mut image));
        ok(triplet_reply_destroy(&raw mut reply));
    }
    assert!(model.is_null() && session.is_null() && image.is_null() && reply.is_null());
}
