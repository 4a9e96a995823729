//! Sessions: one conversation with a model, one thread at a time.

use core::ffi::c_void;
use core::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use triplet::reply::Reply;
use triplet::session::{Control, Event, Question, SessionOptions};

use crate::answered::Spare;
use crate::arena::{Lease, TRIPLET_CACHE_F32, cache_type, positions, triplet_cache};
use crate::ask::{Words, question, time_limit, triplet_ask_options};
use crate::device::AnySession;
use crate::event;
use crate::guard::guard;
use crate::image::{ImageObject, triplet_image};
use crate::memory::{self, Versioned};
use crate::model::{ModelObject, destroy, triplet_model};
use crate::registry::{self, Kind, Object};
use crate::reply::{ReplyObject, triplet_reply};
use crate::status::{Failure, Result, TRIPLET_BUSY, TRIPLET_INTERNAL, triplet_status};
use crate::text::Text;

/// A conversation with a model. It remembers what it read last, so that a further question about the same picture costs
/// only what is new. One thread at a time, any thread; the same bits on every one.
pub struct triplet_session {
    _private: (),
}

/// How a session begins. Fill it with `triplet_session_options_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_session_options {
    /// sizeof(triplet_session_options).
    pub struct_size: u32,
    /// Tokens of prompt and answer together, the rows of the picture and of visual prompts included; 0 for as many as the
    /// model takes. The key-value cache has room for so many from the start.
    pub positions: u32,
    /// Memory for the session, `session` bytes of triplet_memory that begin at a multiple of TRIPLET_MEMORY_ALIGNMENT: the
    /// library's alone until the session is destroyed. A question for which it does not suffice is TRIPLET_OUT_OF_MEMORY,
    /// and the session goes on. NULL for memory of the allocator.
    pub memory: *mut c_void,
    /// Bytes of `memory`.
    pub memory_size: usize,
    /// How keys and values are kept. A device that has no such cache refuses it: TRIPLET_INVALID_ARGUMENT.
    pub cache: triplet_cache,
    /// 0.
    pub reserved: u32,
}

impl Default for triplet_session_options {
    fn default() -> triplet_session_options {
        triplet_session_options {
            struct_size: size_of::<triplet_session_options>() as u32,
            positions: 0,
            memory: ptr::null_mut(),
            memory_size: 0,
            cache: TRIPLET_CACHE_F32,
            reserved: 0,
        }
    }
}

// SAFETY: `repr(C)`, `struct_size` first, numbers and pointers.
unsafe impl Versioned for triplet_session_options {}

/// What a session handle stands for.
pub(crate) struct SessionObject {
    /// Held while the session is at work; never waited for. Poisoned by a panic, after which the session is of no use.
    working: Mutex<Working>,
    cancelled: AtomicBool,
    /// Answers of replies that were destroyed.
    spare: Arc<Spare>,
    /// The memory that the session lies in; dropped after it.
    _lease: Lease,
}

/// What one thread at a time works with.
struct Working {
    session: AnySession,
    words: Words,
    /// Text of the last event.
    told: Text,
}

impl Object for SessionObject {
    type Handle = triplet_session;
    const KIND: Kind = Kind::Session;
}

impl SessionObject {
    fn hold(&self) -> Result<MutexGuard<'_, Working>> {
        self.working.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(TRIPLET_BUSY, "session is at work"),
            TryLockError::Poisoned(_) => {
                Failure::new(TRIPLET_INTERNAL, "session has met a defect of the library; destroy it")
            }
        })
    }
}

/// Fills options with the defaults. `struct_size` is sizeof(triplet_session_options).
///
/// Any thread. TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `struct_size` bytes can be written to `options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_options_init(
    options: *mut triplet_session_options,
    struct_size: usize,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { memory::init("options", options, struct_size) })
}

/// Begins a conversation with the default options. `*session` becomes a handle to destroy, or NULL where the call fails.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_OUT_OF_MEMORY.
///
/// # Safety
/// A handle can be written to `session`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_create(
    model: *const triplet_model,
    session: *mut *mut triplet_session,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { create(model, ptr::null(), session) })
}

/// Begins a conversation. `options` may be NULL. `*session` becomes a handle to destroy, or NULL where the call fails.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_OUT_OF_MEMORY.
///
/// # Safety
/// `options` is NULL or valid, and its memory as it says; a handle can be written to `session`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_create_with(
    model: *const triplet_model,
    options: *const triplet_session_options,
    session: *mut *mut triplet_session,
) -> triplet_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { create(model, options, session) })
}

/// As [`triplet_session_create_with`].
///
/// # Safety
/// As [`triplet_session_create_with`].
unsafe fn create(
    model: *const triplet_model,
    options: *const triplet_session_options,
    session: *mut *mut triplet_session,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let options = unsafe {
        memory::write("session", session, ptr::null_mut())?;
        memory::read_options("options", options)?
    };
    let model = &registry::get::<ModelObject>(model)?.model;
    let begin = SessionOptions { positions: positions(options.positions), cache: cache_type(options.cache)? };
    // SAFETY: the caller's promise.
    let (made, lease) = unsafe { model.session(begin, options.memory, options.memory_size) }?;
    let working = Working { session: made, words: Words::new(), told: Text::EMPTY };
    let object = SessionObject {
        working: Mutex::new(working),
        cancelled: AtomicBool::new(false),
        spare: Arc::default(),
        _lease: lease,
    };
    let handle = registry::insert(object);
    // SAFETY: the caller's promise.
    unsafe { memory::write("session", session, handle) }
}

/// Destroys the handle and sets it to NULL; NULL is left alone.
///
/// Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT; TRIPLET_BUSY while the session is at work.
///
/// # Safety
/// A handle can be read from and written to `session`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_destroy(session: *mut *mut triplet_session) -> triplet_status {
    guard(|| {
        let idle = |object: &SessionObject| match object.working.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Failure::new(TRIPLET_BUSY, "session is at work")),
            _ => Ok(()),
        };
        // SAFETY: the caller's promise.
        unsafe { destroy("session", session, idle) }
    })
}

/// Answers a question about an image of the same model. An answer that was cancelled, met its time limit or found nothing
/// is a reply as well. `*reply` becomes a handle to destroy, or NULL where the call fails.
///
/// One thread at a time for each session. TRIPLET_BUSY, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT,
/// TRIPLET_INVALID_UTF8, TRIPLET_LIMIT, TRIPLET_PLAN, TRIPLET_MISSING_MODULE, TRIPLET_NON_FINITE, TRIPLET_OUT_OF_MEMORY;
/// TRIPLET_FORMAT where `tokenizer.json` has a vocabulary but cannot encode text, which the first question finds.
///
/// # Safety
/// `options` and what it points to are valid as it says; a handle can be written to `reply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_ask(
    session: *mut triplet_session,
    image: *const triplet_image,
    options: *const triplet_ask_options,
    reply: *mut *mut triplet_reply,
) -> triplet_status {
    guard(|| {
        let answer = |session: &SessionObject, asked: Asked, reply: &mut Reply| {
            let Asked { working, image, options, question } = asked;
            let told = &mut working.told;
            let mut on_event = |event: Event| event::tell(options.on_event, options.user_data, &event, told);
            let mut control = Control {
                cancel: Some(&session.cancelled),
                time_limit: time_limit(options),
                on_event: options.on_event.is_some().then_some(&mut on_event),
            };
            working.session.ask(&image.encoded, question, &mut control, reply)
        };
        // SAFETY: the caller's promise.
        unsafe { reply_with(session, image, options, reply, answer) }
    })
}

/// Runs the model over an answer that is given (teacher forcing) and decodes its triplets; scores are NaN. Of `options`
/// the prompt and `mask_threshold` count. `*reply` becomes a handle to destroy, or NULL where the call fails.
///
/// One thread at a time for each session. As `triplet_session_ask`.
///
/// # Safety
/// As `triplet_session_ask`; `count` ids can be read from `ids`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_session_decode_tokens(
    session: *mut triplet_session,
    image: *const triplet_image,
    options: *const triplet_ask_options,
    ids: *const u32,
    count: usize,
    reply: *mut *mut triplet_reply,
) -> triplet_status {
    guard(|| {
        let answer = |_: &SessionObject, asked: Asked, reply: &mut Reply| {
            // SAFETY: the caller's promise.
            let ids = unsafe { memory::slice("ids", ids, count) }?;
            asked.working.session.decode_tokens(&asked.image.encoded, asked.question, ids, reply)
        };
        // SAFETY: the caller's promise.
        unsafe { reply_with(session, image, options, reply, answer) }
    })
}

/// Makes the answer that the session is writing end, and every later one at its start, until `triplet_session_resume` is
/// called. The reply then says TRIPLET_FINISH_CANCELLED and has no targets. The session looks whether it is cancelled before
/// every token and every 256 positions of the prompt; neither the pass that is running nor the decoding of targets is
/// interrupted, so that the longest delay is the longest of these three.
///
/// Any thread, at any time. TRIPLET_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_session_cancel(session: *const triplet_session) -> triplet_status {
    guard(|| {
        registry::get::<SessionObject>(session)?.cancelled.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// Takes `triplet_session_cancel` back.
///
/// Any thread, at any time. TRIPLET_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_session_resume(session: *const triplet_session) -> triplet_status {
    guard(|| {
        registry::get::<SessionObject>(session)?.cancelled.store(false, Ordering::Relaxed);
        Ok(())
    })
}

/// A question to a session that is held.
struct Asked<'a> {
    working: &'a mut Working,
    image: &'a ImageObject,
    options: &'a triplet_ask_options,
    question: &'a Question<'a>,
}

/// Looks the handles up, has `answer` answer and hands the reply out.
///
/// # Safety
/// As [`triplet_session_ask`].
unsafe fn reply_with(
    session: *const triplet_session,
    image: *const triplet_image,
    options: *const triplet_ask_options,
    reply: *mut *mut triplet_reply,
    answer: impl FnOnce(&SessionObject, Asked, &mut Reply) -> Result<()>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let options = unsafe {
        memory::write("reply", reply, ptr::null_mut())?;
        memory::check_pointer("options", options)?;
        memory::read_options("options", options)?
    };
    let session = registry::get::<SessionObject>(session)?;
    let image = registry::get::<ImageObject>(image)?;
    // SAFETY: the caller's promise.
    let lent = unsafe { Lease::arena(options.memory, options.memory_size) }?;
    let mut held = session.hold()?;
    let working = &mut *held;
    let (maps, lease) = lent.unwrap_or_else(|| (working.session.maps(), Lease::none()));
    // SAFETY: the caller's promise.
    let question = unsafe { question(&options, &mut working.words, maps) }?;
    let mut answered = session.spare.take();
    let (image, options) = (&*image, &options);
    let asked = Asked { working, image, options, question: &question };
    let done = answered.fill(|reply| answer(&session, asked, reply));
    held.words.keep(question);
    drop(held);
    if let Err(failure) = done {
        session.spare.keep(answered);
        return Err(failure);
    }
    let (width, height) = (image.encoded.width(), image.encoded.height());
    let object = ReplyObject::new(answered, width, height, session.spare.clone(), lease);
    let handle = registry::insert(object);
    // SAFETY: the caller's promise.
    unsafe { memory::write("reply", reply, handle) }
}
