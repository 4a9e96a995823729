//! Every export, how often it is called, and how.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::Ordering;

use triplet_c::allocator::*;
use triplet_c::arena::triplet_memory_bounds_init;
use triplet_c::ask::triplet_ask_options_init;
use triplet_c::convert::*;
use triplet_c::image::*;
use triplet_c::last_error::triplet_last_error;
use triplet_c::model::*;
use triplet_c::reply::triplet_reply_destroy;
use triplet_c::session::*;
use triplet_c::status::*;
use triplet_c::target::triplet_box;
use triplet_c::version::{TRIPLET_ABI, triplet_abi, triplet_version};

use crate::arenas::lent_to_images;
use crate::host::{REFUSE, careless, go_on, stop};
use crate::models::{Bytes, NO_PATHS, RELEASED};
use crate::padded::Padded;
use crate::world::{HEIGHT, WIDTH, World};

/// Makes one call; `None` where there is no room for what it would make, and nothing was called.
pub type Call = fn(&mut World) -> Option<triplet_status>;

/// How often a call that costs no more than a look-up is made, compared with others.
const OFTEN: u32 = 200;

/// Every export, with its share of the calls. What loads, looks or answers costs milliseconds.
pub const CALLS: &[(&str, u32, Call)] = &[
    ("triplet_version", OFTEN, |_| of_text(triplet_version())),
    ("triplet_abi", OFTEN, |_| value(triplet_abi() == TRIPLET_ABI)),
    ("triplet_status_name", OFTEN, World::status_name),
    ("triplet_last_error", OFTEN, |_| of_text(triplet_last_error())),
    ("triplet_live_handles", OFTEN, World::live_handles),
    ("triplet_set_allocator", OFTEN, World::set_allocator),
    ("triplet_model_options_init", OFTEN, |world| world.init(triplet_model_options_init)),
    ("triplet_model_bytes_init", OFTEN, |world| world.init(triplet_model_bytes_init)),
    ("triplet_image_view_init", OFTEN, |world| world.init(triplet_image_view_init)),
    ("triplet_ask_options_init", OFTEN, |world| world.init(triplet_ask_options_init)),
    ("triplet_session_options_init", OFTEN, |world| world.init(triplet_session_options_init)),
    ("triplet_memory_bounds_init", OFTEN, |world| world.init(triplet_memory_bounds_init)),
    ("triplet_memory_query", 14, World::memory_query),
    ("triplet_model_get_memory", 20, World::model_memory),
    ("triplet_box_to_xywh", OFTEN, |world| world.convert(triplet_box_to_xywh)),
    ("triplet_box_to_cxcywh", OFTEN, |world| world.convert(triplet_box_to_cxcywh)),
    ("triplet_box_to_normalised", OFTEN, World::normalise),
    ("triplet_model_open", 20, World::open),
    ("triplet_model_from_bytes", 14, World::open_bytes),
    ("triplet_model_destroy", 60, |world| {
        Some(world.models.destroy(&mut world.random, triplet_model_destroy))
    }),
    ("triplet_model_get_info", OFTEN, World::model_info),
    ("triplet_model_warning", OFTEN, World::model_warning),
    ("triplet_model_device", OFTEN, World::model_device),
    ("triplet_image_create", 40, World::image),
    ("triplet_image_size", OFTEN, World::image_size),
    ("triplet_image_destroy", 50, |world| {
        Some(world.images.destroy(&mut world.random, triplet_image_destroy))
    }),
    ("triplet_session_create", 40, World::session),
    ("triplet_session_create_with", 20, World::session_with),
    ("triplet_session_destroy", 60, |world| {
        Some(world.sessions.destroy(&mut world.random, triplet_session_destroy))
    }),
    ("triplet_session_ask", 260, World::ask),
    ("triplet_session_decode_tokens", 70, World::decode_tokens),
    ("triplet_session_cancel", OFTEN, World::cancel),
    ("triplet_session_resume", OFTEN, World::resume),
    ("triplet_reply_get_info", OFTEN, World::reply_info),
    ("triplet_reply_get_entry", OFTEN, World::reply_entry),
    ("triplet_reply_get_plan_item", OFTEN, World::reply_plan_item),
    ("triplet_reply_get_box", OFTEN, World::reply_box),
    ("triplet_reply_get_mask", OFTEN, World::reply_mask),
    ("triplet_reply_get_keypoints", OFTEN, World::reply_keypoints),
    ("triplet_reply_get_depth", OFTEN, World::reply_depth),
    ("triplet_reply_get_json", OFTEN, World::reply_json),
    ("triplet_reply_destroy", OFTEN, |world| {
        Some(world.replies.destroy(&mut world.random, triplet_reply_destroy))
    }),
    ("triplet_mask_bytes", OFTEN, World::mask_bytes),
    ("triplet_mask_bits", OFTEN, World::mask_bits),
    ("triplet_mask_runs", OFTEN, World::mask_runs),
    ("triplet_mask_coco_rle", OFTEN, World::mask_coco_rle),
];

/// The status of a call that returns none: it works or it is a defect.
fn value(right: bool) -> Option<triplet_status> {
    assert!(right);
    Some(TRIPLET_OK)
}

fn of_text(text: *const core::ffi::c_char) -> Option<triplet_status> {
    // SAFETY: a C string by the header's promise.
    value(!text.is_null() && unsafe { CStr::from_ptr(text) }.to_str().is_ok())
}

impl World {
    fn status_name(&mut self) -> Option<triplet_status> {
        let status =
            if self.random.chance(50) { self.random.below(20) as i32 } else { self.random.bits() as i32 };
        of_text(triplet_status_name(status))
    }

    fn live_handles(&mut self) -> Option<triplet_status> {
        let mine = [
            self.models.live.len(),
            self.sessions.live.len(),
            self.images.live.len(),
            self.replies.live.len(),
        ];
        value(triplet_live_handles() == mine.iter().sum::<usize>())
    }

    /// Too late, incomplete or nowhere.
    fn set_allocator(&mut self) -> Option<triplet_status> {
        unsafe extern "C" fn none(_: *mut core::ffi::c_void, _: usize, _: usize) -> *mut core::ffi::c_void {
            ptr::null_mut()
        }
        unsafe extern "C" fn never(_: *mut core::ffi::c_void, _: *mut core::ffi::c_void, _: usize, _: usize) {
        }
        let mut host = triplet_allocator {
            allocate: self.random.chance(80).then_some(none as _),
            release: self.random.chance(80).then_some(never as _),
            context: ptr::null_mut(),
        };
        let place = self.place(&raw mut host);
        // SAFETY: an allocator that is refused, for it is not the first, or none.
        let status = unsafe { triplet_set_allocator(place) };
        assert_ne!(status, TRIPLET_OK);
        Some(status)
    }

    fn init<T>(
        &mut self,
        init: unsafe extern "C" fn(*mut T, usize) -> triplet_status,
    ) -> Option<triplet_status> {
        let mut out = Padded::out([0u64; 32]);
        let own = size_of::<T>();
        assert!(own <= size_of_val(&out.value));
        let size = self.random.pick(&[own, own, own, own + 8, 0, 4, 5, 8, 40, 1024, 5000, usize::MAX]);
        let place = self.place(&raw mut out).cast::<T>();
        // SAFETY: room for every size that is accepted, or no place.
        let status = unsafe { init(place, size) };
        out.check(size.min(5000) as u32);
        if status == TRIPLET_OK {
            assert_eq!(out.value[0] as u32 as usize, size);
        }
        Some(status)
    }

    fn convert(
        &mut self,
        convert: unsafe extern "C" fn(*const triplet_box, *mut f32) -> triplet_status,
    ) -> Option<triplet_status> {
        let (mut area, mut out) = (triplet_box { x0: 1.0, y0: 2.0, x1: 3.0, y1: 4.0 }, [0f32; 4]);
        let (from, to) = (self.place(&raw mut area), self.place(out.as_mut_ptr()));
        // SAFETY: a box and four floats, or no place.
        Some(unsafe { convert(from, to) })
    }

    fn normalise(&mut self) -> Option<triplet_status> {
        let (width, height) = (self.random.pick(&[0, 1, 40]), self.random.pick(&[0, 28, usize::MAX]));
        let (mut area, mut out) = (triplet_box::default(), [0f32; 4]);
        let (from, to) = (self.place(&raw mut area), self.place(out.as_mut_ptr()));
        // SAFETY: a box and four floats, or no place.
        Some(unsafe { triplet_box_to_normalised(from, width, height, to) })
    }

    /// Options, and whether nothing is wrong with them.
    fn model_options(&mut self) -> (triplet_model_options, bool) {
        let random = &mut self.random;
        let mut options = triplet_model_options {
            threads: if random.chance(3) { 2 } else { 1 },
            access: random.pick(&[TRIPLET_ACCESS_MAP, TRIPLET_ACCESS_READ]),
            verify: random.chance(30).into(),
            progress: random.pick(&[None, Some(go_on as _)]),
            packed_weights: random.pick(&[0, 1]),
            pool_size: random.pick(&[0, 1, 1 << 16, triplet_model_options::default().pool_size, usize::MAX]),
            device: random.pick(&[ptr::null(), c"cpu".as_ptr(), c"auto".as_ptr()]),
            ..Default::default()
        };
        match random.below(25) {
            0 => options.threads = 5000,
            1 => options.access = random.pick(&[-1, 2]),
            2 => options.progress = Some(stop),
            // This library is without the feature `cuda`.
            3 => options.device = random.pick(&[c"cuda:0", c"cuda:", c"", c"\xff"]).as_ptr(),
            4..7 => {
                options.parallel_for = Some(careless);
                return (options, true);
            }
            _ => return (options, true),
        }
        (options, false)
    }

    /// Keeps the number of a model that was loaded.
    fn loaded(&mut self, status: triplet_status, fine: bool) {
        if status == TRIPLET_OK {
            self.loaded += 1;
            if fine {
                self.fine.push(self.loaded);
            }
            let known = |model: &u64| {
                self.models.live.iter().any(|live| live.model == *model)
                    || self.sessions.live.iter().any(|live| live.model == *model)
            };
            self.fine.retain(known);
        }
    }

    fn open(&mut self) -> Option<triplet_status> {
        if self.models.is_full() {
            return None;
        }
        let (given, right) = self.model_options();
        let mut options = Padded::options(given, &mut self.random);
        options.value.struct_size = Padded::<triplet_model_options>::size(&mut self.random);
        let own = options.value.struct_size as usize == size_of::<triplet_model_options>();
        let directory = self.files.directory(&mut self.random);
        let (fine, expected) =
            (directory.fine, if given.verify == 0 { directory.opens } else { directory.verified });
        let mut path = directory.path.as_ptr();
        let usual = self.random.chance(95);
        if !usual {
            path = self.random.pick(&[NO_PATHS[0].as_ptr(), NO_PATHS[1].as_ptr(), ptr::null()]);
        }
        let from = self.place(&raw mut options).cast::<triplet_model_options>();
        let from = if self.random.chance(2) { ptr::null_mut() } else { from };
        let mine = ptr::eq(from, (&raw const options).cast());
        let status = self.models.create(self.loaded + 1, |model| {
            // SAFETY: a C string or NULL, options that are there or refused, and a place for the handle.
            unsafe { triplet_model_open(path, from, model) }
        });
        if usual && mine && own && right {
            // SAFETY: C strings.
            let (path, words) = unsafe { (CStr::from_ptr(path), CStr::from_ptr(triplet_last_error())) };
            assert_eq!(status, expected, "{path:?}, {given:?}: {words:?}");
        }
        self.loaded(status, fine);
        Some(status)
    }

    /// Loads the tiny model, or one in which some bytes were changed, from memory that it gives back.
    fn open_bytes(&mut self) -> Option<triplet_status> {
        if self.models.is_full() {
            return None;
        }
        let (given, _) = self.model_options();
        let mut options = Padded::options(given, &mut self.random);
        options.value.struct_size = Padded::<triplet_model_options>::size(&mut self.random);
        let changes = self.random.pick(&[0, 1, 1, 2, 4]);
        let held = Box::into_raw(Box::new(self.files.bytes(&mut self.random, changes)));
        // SAFETY: just made, and freed by `release` at the earliest.
        let files = unsafe { &*held };
        let mut bytes = Padded::options(
            triplet_model_bytes {
                config: files.config.as_ptr(),
                config_len: files.config.len(),
                tokenizer: files.tokenizer.as_ptr(),
                tokenizer_len: files.tokenizer.len(),
                weights: files.weights.as_ptr(),
                weights_len: files.weights.len(),
                release: Some(Bytes::release),
                user_data: held.cast(),
                ..Default::default()
            },
            &mut self.random,
        );
        match self.random.below(40) {
            0 => bytes.value.config = ptr::null(),
            1 => bytes.value.weights_len = usize::MAX,
            2 => bytes.value.tokenizer_len = 0,
            _ => {}
        }
        let (what, how) = (self.place(&raw mut bytes).cast(), self.place(&raw mut options).cast());
        let before = RELEASED.load(Ordering::Relaxed);
        let status = self.models.create(self.loaded + 1, |model| {
            // SAFETY: bytes that stay until they are given back, options that are there or refused, a place for the handle.
            unsafe { triplet_model_from_bytes(what, how, model) }
        });
        match RELEASED.load(Ordering::Relaxed) - before {
            0 if status == TRIPLET_OK => {}
            // SAFETY: the library refused the arguments and has not kept what they point to.
            0 => drop(unsafe { Box::from_raw(held) }),
            given_back => {
                assert_eq!((given_back, status != TRIPLET_OK), (1, true), "given back while in use")
            }
        }
        self.loaded(status, changes == 0);
        Some(status)
    }

    fn model_info(&mut self) -> Option<triplet_status> {
        let (model, _) = self.model();
        let size = Padded::<triplet_model_info>::size(&mut self.random);
        let mut out = Padded::out(triplet_model_info { struct_size: size, ..Default::default() });
        let place = self.place(&raw mut out).cast();
        // SAFETY: a struct with room for what its `struct_size` says, or no place.
        let status = unsafe { triplet_model_get_info(model, place) };
        out.check(size);
        Some(status)
    }

    fn model_warning(&mut self) -> Option<triplet_status> {
        let ((model, _), index) = (self.model(), self.random.pick(&[0, 0, 1, usize::MAX]));
        let mut words = ptr::null();
        let place = self.place(&raw mut words);
        // SAFETY: a place for a pointer, or none.
        let status = unsafe { triplet_model_warning(model, index, place) };
        if status == TRIPLET_OK { of_text(words) } else { Some(status) }
    }

    fn model_device(&mut self) -> Option<triplet_status> {
        let (model, _) = self.model();
        let mut words = ptr::null();
        let place = self.place(&raw mut words);
        // SAFETY: a place for a pointer, or none.
        let status = unsafe { triplet_model_device(model, place) };
        if status == TRIPLET_OK { of_text(words) } else { Some(status) }
    }

    fn image(&mut self) -> Option<triplet_status> {
        if self.images.is_full() {
            return None;
        }
        let (model, number) = self.model();
        let random = &mut self.random;
        let format = random.below(5);
        let channels = [3, 3, 4, 4, 1][format];
        let mut view = triplet_image_view {
            format: format as triplet_pixel_format,
            pixels: self.picture.as_ptr(),
            size: WIDTH * HEIGHT * channels,
            width: WIDTH,
            height: HEIGHT,
            stride: random.pick(&[0, WIDTH * channels]),
            ..Default::default()
        };
        match random.below(20) {
            0 => view.width = random.pick(&[0, 41, 40_000, usize::MAX]),
            1 => view.height = random.pick(&[0, 29, 40_000, usize::MAX]),
            2 => view.stride = random.pick(&[1, usize::MAX]),
            3 => view.format = random.pick(&[-1, 5]),
            4 => view.pixels = ptr::null(),
            5 => view.size = random.pick(&[0, 10, usize::MAX]),
            6 => (view.width, view.height, view.stride) = (1 + random.below(WIDTH), 1, 0),
            7..10 => (view.memory, view.memory_size) = lent_to_images(random),
            _ => {}
        }
        view.struct_size = Padded::<triplet_image_view>::size(random);
        let mut view = Padded::options(view, random);
        let place = self.place(&raw mut view).cast();
        // SAFETY: a view of pixels that are there, or refused, and a place for the handle.
        Some(self.images.create(number, |image| unsafe { triplet_image_create(model, place, image) }))
    }

    fn image_size(&mut self) -> Option<triplet_status> {
        let image = self.images.any(&mut self.random);
        let (mut width, mut height) = (0, 0);
        let (w, h) = (self.place(&raw mut width), self.place(&raw mut height));
        // SAFETY: places for sizes, or none.
        Some(unsafe { triplet_image_size(image, w, h) })
    }

    /// Begins a session, sometimes while the host has no memory for its key-value cache.
    fn session(&mut self) -> Option<triplet_status> {
        if self.sessions.is_full() {
            return None;
        }
        let (model, number) = self.model();
        let refused = number != 0 && self.random.chance(5);
        REFUSE.store(refused, Ordering::Relaxed);
        // SAFETY: a place for the handle.
        let status =
            self.sessions.create(number, |session| unsafe { triplet_session_create(model, session) });
        REFUSE.store(false, Ordering::Relaxed);
        // What waits in the model's pool needs no allocator.
        assert!(!refused || [TRIPLET_OUT_OF_MEMORY, TRIPLET_OK].contains(&status), "{status} without memory");
        Some(status)
    }

    /// Cancels a session, and most often takes it back so that questions are answered.
    fn cancel(&mut self) -> Option<triplet_status> {
        let session = self.sessions.any(&mut self.random);
        let status = triplet_session_cancel(session);
        if self.random.chance(90) {
            self.nested.push(("triplet_session_resume", triplet_session_resume(session)));
        }
        Some(status)
    }

    fn resume(&mut self) -> Option<triplet_status> {
        Some(triplet_session_resume(self.sessions.any(&mut self.random)))
    }
}
