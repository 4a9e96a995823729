//! Many threads on one model: some keep to themselves, as the header asks, and must have the bits of one thread alone; all
//! of them also use one session, cancel it, read one reply and destroy what others use, which is refused or allowed but
//! never a race.

use core::ffi::{CStr, c_void};
use core::ptr;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Mutex;
use std::thread;

use triplet_c::ask::triplet_ask_options;
use triplet_c::image::*;
use triplet_c::model::*;
use triplet_c::reply::*;
use triplet_c::session::*;
use triplet_c::status::*;
use triplet_c::target::{TRIPLET_TASK_GCG_DETECTION, TRIPLET_UNIT_BOX, TRIPLET_UNIT_MASK};
use triplet_c::threads::triplet_work_fn;

use crate::world::{HEIGHT, WIDTH};

/// A handle, which is a number and may be passed on.
struct Handle<T>(*mut T);

// SAFETY: handles are never followed; the library looks them up.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> Handle<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

/// Spreads work over two threads.
unsafe extern "C" fn two_threads(_: *mut c_void, count: usize, work: triplet_work_fn, argument: *mut c_void) {
    let (work, argument) = (work.expect("work to do"), Handle(argument));
    let every_other = |first: usize| {
        // SAFETY: pieces of work that this call was asked to do, before it returns.
        (first..count).step_by(2).for_each(|index| unsafe { work(argument.get(), index) });
    };
    thread::scope(|scope| {
        scope.spawn(|| every_other(1));
        every_other(0);
    });
}

/// One question on `session`: the reply, or what it failed with.
fn ask(
    session: Handle<triplet_session>,
    image: Handle<triplet_image>,
    tokens: u32,
) -> Result<Handle<triplet_reply>, triplet_status> {
    let options = triplet_ask_options {
        task: TRIPLET_TASK_GCG_DETECTION,
        question: c"What is next to the red ball?".as_ptr(),
        units: TRIPLET_UNIT_BOX | TRIPLET_UNIT_MASK,
        max_new_tokens: tokens,
        ..Default::default()
    };
    let mut reply = ptr::null_mut();
    // SAFETY: options that are there, and a place for the handle.
    match unsafe { triplet_session_ask(session.get(), image.get(), &raw const options, &raw mut reply) } {
        TRIPLET_OK => Ok(Handle(reply)),
        status => Err(status),
    }
}

fn json(reply: Handle<triplet_reply>) -> String {
    let mut words = ptr::null();
    // SAFETY: a place for a pointer; the text lives as long as the reply, which is the caller's.
    unsafe {
        assert_eq!(triplet_reply_get_json(reply.get(), &raw mut words, ptr::null_mut()), TRIPLET_OK);
        CStr::from_ptr(words).to_string_lossy().into_owned()
    }
}

fn destroy<T>(
    Handle(mut handle): Handle<T>,
    with: unsafe extern "C" fn(*mut *mut T) -> triplet_status,
) -> triplet_status {
    // SAFETY: a place of a handle.
    unsafe { with(&raw mut handle) }
}

fn encode(model: Handle<triplet_model>, picture: &[u8]) -> Handle<triplet_image> {
    let view = triplet_image_view {
        pixels: picture.as_ptr(),
        size: picture.len(),
        width: WIDTH,
        height: HEIGHT,
        ..Default::default()
    };
    let mut image = ptr::null_mut();
    // SAFETY: a view of a picture that is there, and a place for the handle.
    assert_eq!(unsafe { triplet_image_create(model.get(), &raw const view, &raw mut image) }, TRIPLET_OK);
    Handle(image)
}

fn begin(model: Handle<triplet_model>) -> Handle<triplet_session> {
    let mut session = ptr::null_mut();
    // SAFETY: a place for the handle.
    assert_eq!(unsafe { triplet_session_create(model.get(), &raw mut session) }, TRIPLET_OK);
    Handle(session)
}

/// Has `threads` threads do `rounds` rounds each on the model in `dir`, and prints what the shared session answered. `tokens`
/// is the length of the answers; with `callers`, the work of the model is done on threads of the host's, else on two of its
/// own.
pub fn run(dir: &CStr, threads: usize, rounds: usize, tokens: u32, callers: bool) {
    let options = triplet_model_options {
        threads: 2,
        parallel_for: if callers { Some(two_threads) } else { None },
        ..Default::default()
    };
    let mut model = ptr::null_mut();
    // SAFETY: a C string, options that are there, and a place for the handle.
    let status = unsafe { triplet_model_open(dir.as_ptr(), &raw const options, &raw mut model) };
    assert_eq!(status, TRIPLET_OK);
    let model = Handle(model);
    let picture: Vec<u8> = (0..WIDTH * HEIGHT * 3).map(|index| (index * 7 % 251) as u8).collect();
    let (image, shared) = (encode(model, &picture), begin(model));
    let reply = ask(shared, image, tokens).expect("an answer on one thread");
    let expected = json(reply);
    let statuses = Mutex::new(BTreeMap::<triplet_status, usize>::new());
    for _ in 0..rounds {
        // Something that all of them destroy.
        let doomed =
            (begin(model), encode(model, &picture), ask(shared, image, tokens).expect("an idle session"));
        thread::scope(|scope| {
            for number in 0..threads {
                let (picture, expected, statuses) = (&picture, &expected, &statuses);
                scope.spawn(move || {
                    let (own_image, own) = (encode(model, picture), begin(model));
                    let answer = ask(own, own_image, tokens).expect("an answer on an own session");
                    assert_eq!(json(answer), *expected, "other bits on thread {number}");
                    assert_eq!(json(reply), *expected);
                    let status = match ask(shared, image, tokens) {
                        Ok(reply) => destroy(reply, triplet_reply_destroy),
                        Err(status) => status,
                    };
                    *statuses.lock().expect("no panic").entry(status).or_default() += 1;
                    assert!([TRIPLET_OK, TRIPLET_BUSY].contains(&status), "the shared session: {status}");
                    assert_eq!(triplet_session_cancel(shared.get()), TRIPLET_OK);
                    assert_eq!(triplet_session_resume(shared.get()), TRIPLET_OK);
                    for status in [
                        destroy(doomed.0, triplet_session_destroy),
                        destroy(doomed.1, triplet_image_destroy),
                        destroy(doomed.2, triplet_reply_destroy),
                    ] {
                        assert!(
                            [TRIPLET_OK, TRIPLET_INVALID_HANDLE].contains(&status),
                            "destroyed: {status}"
                        );
                    }
                    assert_eq!(destroy(own, triplet_session_destroy), TRIPLET_OK);
                    assert_eq!(destroy(own_image, triplet_image_destroy), TRIPLET_OK);
                    assert_eq!(destroy(answer, triplet_reply_destroy), TRIPLET_OK);
                });
            }
        });
    }
    assert_eq!(destroy(model, triplet_model_destroy), TRIPLET_OK);
    assert_eq!(destroy(image, triplet_image_destroy), TRIPLET_OK);
    assert_eq!(destroy(shared, triplet_session_destroy), TRIPLET_OK);
    assert_eq!(destroy(reply, triplet_reply_destroy), TRIPLET_OK);
    assert_eq!(triplet_live_handles(), 0, "handles are left");
    let statuses = statuses.into_inner().expect("no panic");
    println!("crowd threads={threads} rounds={rounds} shared_session={statuses:?}");
}

/// Runs the crowd on the tiny model, and for a short answer on the model that ships, whose work is worth sharing.
pub fn all(fixtures: &str, shipped: &str, threads: usize) {
    let dir = |path: &str| CString::new(path).expect("a path without a NUL");
    run(&dir(fixtures), threads, 4, 24, false);
    run(&dir(shipped), 2, 1, 12, false);
    run(&dir(shipped), 2, 1, 12, true);
}
