//! Random sequences of calls, right and wrong, on the tiny model: nothing crashes, every export is called, statuses are
//! known, and no handle is left. `TRIPLET_CALLS` sets their number, `TRIPLET_SEED` where they begin.

use core::ffi::{c_char, c_void};
use core::ptr;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::CString;

use triplet_c::allocator::*;
use triplet_c::arena::*;
use triplet_c::ask::*;
use triplet_c::convert::*;
use triplet_c::image::*;
use triplet_c::last_error::*;
use triplet_c::mask::*;
use triplet_c::model::*;
use triplet_c::prompt::*;
use triplet_c::reply::*;
use triplet_c::session::*;
use triplet_c::status::*;
use triplet_c::target::*;
use triplet_c::version::*;

use crate::exports::names;
use crate::handles::{HEIGHT, WIDTH, last_error, picture, view};
use crate::programs::tiny_model;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True `percent` times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Handles of one kind.
struct Pool<T> {
    live: Vec<*mut T>,
    destroyed: Vec<*mut T>,
    /// Most that live at once.
    limit: usize,
}

impl<T> Pool<T> {
    fn new(limit: usize) -> Pool<T> {
        Pool { live: Vec::new(), destroyed: Vec::new(), limit }
    }

    /// A handle, most often one that lives.
    fn any(&self, random: &mut Random) -> *mut T {
        match random.below(100) {
            0 => ptr::null_mut(),
            1 => ptr::without_provenance_mut(random.pick(&[1, 8, 0x1000, usize::MAX, usize::MAX / 2])),
            2..5 if !self.destroyed.is_empty() => random.pick(&self.destroyed),
            5..30 if !self.live.is_empty() => random.pick(&self.live),
            _ if !self.live.is_empty() => self.live[0],
            _ => ptr::null_mut(),
        }
    }

    /// Calls `create` with a place for a handle, and keeps what it makes.
    fn create(&mut self, create: impl FnOnce(*mut *mut T) -> triplet_status) -> triplet_status {
        let mut handle = ptr::without_provenance_mut(7);
        let status = create(&raw mut handle);
        assert_eq!(status == TRIPLET_OK, !handle.is_null(), "{status}");
        if !handle.is_null() {
            self.live.push(handle);
        }
        status
    }

    fn destroy(
        &mut self,
        random: &mut Random,
        destroy: unsafe extern "C" fn(*mut *mut T) -> triplet_status,
    ) -> triplet_status {
        if self.live.len() < self.limit && random.chance(80) {
            return TRIPLET_OK;
        }
        let mut handle = self.any(random);
        let before = handle;
        // SAFETY: a place of a handle.
        let status = unsafe { destroy(&raw mut handle) };
        if status == TRIPLET_OK && !before.is_null() {
            assert!(handle.is_null());
            self.live.retain(|live| *live != before);
            self.destroyed.push(before);
        }
        status
    }
}

struct World {
    random: Random,
    dir: CString,
    picture: Vec<u8>,
    models: Pool<triplet_model>,
    sessions: Pool<triplet_session>,
    images: Pool<triplet_image>,
    replies: Pool<triplet_reply>,
    asked: usize,
}

impl World {
    /// A struct's size, sometimes a wrong one that does no harm.
    fn size<T>(&mut self) -> u32 {
        if self.random.chance(3) { self.random.pick(&[0, 4, 5, 8, 24, 2000]) } else { size_of::<T>() as u32 }
    }

    fn options(&mut self) -> triplet_ask_options {
        let questions = [c"What is this?", c"Find the ball.", c"", c"\xff", c"<REF>", c"At [VPT]?"];
        let mut options = triplet_ask_options {
            task: if self.random.chance(3) { 77 } else { self.random.below(10) as i32 },
            question: questions[if self.random.chance(80) { 0 } else { self.random.below(6) }].as_ptr(),
            max_new_tokens: if self.random.chance(3) { 0 } else { self.random.pick(&[12, 16]) },
            vd_cot: self.random.below(2) as i32,
            guide: if self.random.chance(3) { 9 } else { self.random.pick(&[0, 1, 1, 1, 2]) },
            temperature: if self.random.chance(3) { f32::NAN } else { self.random.pick(&[0.0, 1.0]) },
            seed: self.random.next(),
            ..Default::default()
        };
        options.struct_size = self.size::<triplet_ask_options>();
        if self.random.chance(3) {
            (options.prompts, options.prompt_count) = (ptr::without_provenance(1), 1);
        }
        options
    }

    fn ask(&mut self) -> (&'static str, triplet_status) {
        let (session, image) = (self.sessions.any(&mut self.random), self.images.any(&mut self.random));
        let mut options = self.options();
        let prompt = triplet_prompt {
            kind: self.random.pick(&[0, 1, 1, 2, 3, 9]),
            area: [3.0, 2.0, self.random.pick(&[20.0, -1.0, f32::NAN]), 20.0].into(),
            ..Default::default()
        };
        if self.random.chance(10) {
            (options.question, options.prompts, options.prompt_count) =
                (c"At [VPT]?".as_ptr(), &raw const prompt, 1);
        }
        let item = triplet_plan_item {
            name: c"ball".as_ptr(),
            unit: self.random.pick(&[c"box", c"mask", c"cup"]).as_ptr(),
            count: self.random.pick(&[1, 1, 99]),
        };
        if self.random.chance(5) {
            (options.guide, options.plan, options.plan_count) = (TRIPLET_GUIDE_PLANNED, &raw const item, 1);
            options.max_new_tokens = 60;
        }
        let give = self.random.chance(15);
        let ids = [5u32, 6, 7, 1_000_000];
        let count = 3 + self.random.below(2);
        // SAFETY: options, ids and what they point to are there, or refused before they are read.
        let status = self.replies.create(|reply| unsafe {
            if give {
                triplet_session_decode_tokens(session, image, &raw const options, ids.as_ptr(), count, reply)
            } else {
                triplet_session_ask(session, image, &raw const options, reply)
            }
        });
        self.asked += usize::from(status == TRIPLET_OK);
        (if give { "triplet_session_decode_tokens" } else { "triplet_session_ask" }, status)
    }

    /// Reads something of a reply; what is lent is read to its end.
    fn read(&mut self, which: usize) -> (&'static str, triplet_status) {
        let reply = self.replies.any(&mut self.random);
        let index = self.random.pick(&[0, 0, 0, 1, 2, usize::MAX]);
        let (mut words, mut length) = (ptr::null::<c_char>(), 0usize);
        // SAFETY: structs with sizes that are no larger than they are, or refused; places for what is written.
        unsafe {
            match which {
                0 => {
                    let mut info = triplet_reply_info {
                        struct_size: self.size::<triplet_reply_info>(),
                        ..Default::default()
                    };
                    ("triplet_reply_get_info", triplet_reply_get_info(reply, &raw mut info))
                }
                1 => {
                    let mut entry =
                        triplet_entry { struct_size: self.size::<triplet_entry>(), ..Default::default() };
                    ("triplet_reply_get_entry", triplet_reply_get_entry(reply, index, &raw mut entry))
                }
                2 => {
                    let mut item = triplet_plan_item { name: ptr::null(), unit: ptr::null(), count: 0 };
                    ("triplet_reply_get_plan_item", triplet_reply_get_plan_item(reply, index, &raw mut item))
                }
                3 => {
                    let mut area = triplet_box::default();
                    ("triplet_reply_get_box", triplet_reply_get_box(reply, index, &raw mut area))
                }
                4 => {
                    let mut mask = triplet_mask::default();
                    let status = triplet_reply_get_mask(reply, index, &raw mut mask);
                    if status == TRIPLET_OK {
                        let all = core::slice::from_raw_parts(mask.probabilities, mask.width * mask.height);
                        assert!(all.iter().all(|p| (0.0..=1.0).contains(p)));
                    }
                    ("triplet_reply_get_mask", status)
                }
                5 => {
                    let mut joints = triplet_keypoints::default();
                    (
                        "triplet_reply_get_keypoints",
                        triplet_reply_get_keypoints(reply, index, &raw mut joints),
                    )
                }
                6 => {
                    let mut depth = triplet_depth::default();
                    ("triplet_reply_get_depth", triplet_reply_get_depth(reply, index, &raw mut depth))
                }
                7 => {
                    let status = triplet_reply_get_json(reply, &raw mut words, &raw mut length);
                    assert!(status != TRIPLET_OK || *words.add(length) == 0);
                    ("triplet_reply_get_json", status)
                }
                _ => {
                    let capacity = self.random.pick(&[0, 3, 8 * WIDTH * HEIGHT]);
                    let mut buffer = vec![0u32; capacity];
                    let (bytes, needed) = (buffer.as_mut_ptr().cast::<u8>(), &raw mut length);
                    match which {
                        8 => (
                            "triplet_mask_bytes",
                            triplet_mask_bytes(reply, index, 1, bytes, capacity, needed),
                        ),
                        9 => ("triplet_mask_bits", triplet_mask_bits(reply, index, bytes, capacity, needed)),
                        10 => {
                            let runs = buffer.as_mut_ptr();
                            ("triplet_mask_runs", triplet_mask_runs(reply, index, runs, capacity, needed))
                        }
                        _ => {
                            let status = triplet_mask_coco_rle(reply, index, bytes.cast(), capacity, needed);
                            ("triplet_mask_coco_rle", status)
                        }
                    }
                }
            }
        }
    }

    /// Bounds that are sound, or not.
    fn bounds(&mut self) -> triplet_memory_bounds {
        triplet_memory_bounds {
            struct_size: self.size::<triplet_memory_bounds>(),
            positions: self.random.pick(&[0, 1, 200, u32::MAX]),
            width: self.random.pick(&[WIDTH, 1, 0, usize::MAX]),
            height: HEIGHT,
            visual_prompts: self.random.pick(&[0, 2, 65]),
        }
    }

    /// A session with options that are sound, or not.
    fn session_in(
        &mut self,
        model: *const triplet_model,
        memory: *mut c_void,
    ) -> (&'static str, triplet_status) {
        let options = triplet_session_options {
            struct_size: self.size::<triplet_session_options>(),
            positions: self.random.pick(&[0, 300]),
            // 500 bytes that are too few, or begin at an odd place.
            memory: self.random.pick(&[
                ptr::null_mut(),
                ptr::null_mut(),
                memory,
                memory.wrapping_byte_add(1),
            ]),
            memory_size: self.random.pick(&[0, 500]),
        };
        // SAFETY: memory that is there, for a session that does not fit into it.
        let create = |session| unsafe { triplet_session_create_with(model, &raw const options, session) };
        ("triplet_session_create_with", self.sessions.create(create))
    }

    /// One call: its name and status.
    fn call(&mut self) -> (&'static str, triplet_status) {
        let model = self.models.any(&mut self.random);
        let session = self.sessions.any(&mut self.random);
        let mut bytes = [0u64; 64];
        let (out, size) = ((&raw mut bytes), self.random.pick(&[0, 4, 8, 40, 120, 5000]) as usize);
        let area = triplet_box { x0: 1.0, y0: 2.0, x1: 3.0, y1: 4.0 };
        let area: *const triplet_box = if self.random.chance(20) { ptr::null() } else { &raw const area };
        let four = out.cast::<f32>();
        // SAFETY: places with room for what is written or sizes that are refused; handles are looked up.
        unsafe {
            match self.random.below(45) {
                0 => ("triplet_version", i32::from(triplet_version().is_null())),
                1 => ("triplet_abi", i32::from(triplet_abi() != TRIPLET_ABI)),
                2 => (
                    "triplet_status_name",
                    i32::from(triplet_status_name(self.random.next() as i32).is_null()),
                ),
                3 => ("triplet_last_error", i32::from(triplet_last_error().is_null())),
                4 => ("triplet_live_handles", i32::from(triplet_live_handles() < self.models.live.len())),
                5 => {
                    let none = triplet_allocator { allocate: None, release: None, context: ptr::null_mut() };
                    let none = if self.random.chance(50) { ptr::null() } else { &raw const none };
                    ("triplet_set_allocator", triplet_set_allocator(none))
                }
                6 => ("triplet_model_options_init", triplet_model_options_init(out.cast(), size)),
                7 => ("triplet_model_bytes_init", triplet_model_bytes_init(out.cast(), size)),
                8 => ("triplet_image_view_init", triplet_image_view_init(out.cast(), size)),
                9 => ("triplet_ask_options_init", triplet_ask_options_init(out.cast(), size)),
                10 => ("triplet_box_to_xywh", triplet_box_to_xywh(area, four)),
                11 => ("triplet_box_to_cxcywh", triplet_box_to_cxcywh(area, four)),
                12 => ("triplet_box_to_normalised", triplet_box_to_normalised(area, size, size, four)),
                13 => ("triplet_model_open", self.open()),
                14 => {
                    let garbage = [self.random.next() as u8 & 3; 20];
                    let given = triplet_model_bytes {
                        config: c"{\"llm\": {}}".as_ptr().cast(),
                        config_len: self.random.below(12),
                        weights: garbage.as_ptr(),
                        weights_len: self.random.below(20),
                        ..Default::default()
                    };
                    let status =
                        self.models.create(|m| triplet_model_from_bytes(&raw const given, ptr::null(), m));
                    ("triplet_model_from_bytes", status)
                }
                15 => ("triplet_model_destroy", self.models.destroy(&mut self.random, triplet_model_destroy)),
                16 => {
                    let mut info = triplet_model_info {
                        struct_size: self.size::<triplet_model_info>(),
                        ..Default::default()
                    };
                    ("triplet_model_get_info", triplet_model_get_info(model, &raw mut info))
                }
                17 => {
                    let mut words = ptr::null();
                    ("triplet_model_warning", triplet_model_warning(model, size, &raw mut words))
                }
                18 => ("triplet_image_create", self.image(model)),
                19 => {
                    let (image, mut width, mut height) = (self.images.any(&mut self.random), 0, 0);
                    ("triplet_image_size", triplet_image_size(image, &raw mut width, &raw mut height))
                }
                20 => ("triplet_image_destroy", self.images.destroy(&mut self.random, triplet_image_destroy)),
                21 if self.sessions.live.len() < self.sessions.limit => {
                    ("triplet_session_create", self.sessions.create(|s| triplet_session_create(model, s)))
                }
                22 => (
                    "triplet_session_destroy",
                    self.sessions.destroy(&mut self.random, triplet_session_destroy),
                ),
                23 => {
                    let status = triplet_session_cancel(session);
                    // Most questions shall be answered.
                    if self.random.chance(90) {
                        triplet_session_resume(session);
                    }
                    ("triplet_session_cancel", status)
                }
                24 => ("triplet_session_resume", triplet_session_resume(session)),
                25 => {
                    ("triplet_reply_destroy", self.replies.destroy(&mut self.random, triplet_reply_destroy))
                }
                26..30 if self.replies.live.len() < self.replies.limit => self.ask(),
                40 => ("triplet_session_options_init", triplet_session_options_init(out.cast(), size)),
                41 => ("triplet_memory_bounds_init", triplet_memory_bounds_init(out.cast(), size)),
                42 if self.sessions.live.len() < self.sessions.limit => self.session_in(model, out.cast()),
                43 => {
                    let bounds = self.bounds();
                    let mut memory =
                        triplet_memory { struct_size: self.size::<triplet_memory>(), ..Default::default() };
                    let status = triplet_model_get_memory(model, &raw const bounds, &raw mut memory);
                    ("triplet_model_get_memory", status)
                }
                44 => {
                    let (bounds, mut memory) = (self.bounds(), triplet_memory::default());
                    let dir = if self.random.chance(10) { self.dir.as_ptr() } else { c"nowhere".as_ptr() };
                    let status = triplet_memory_query(dir, ptr::null(), &raw const bounds, &raw mut memory);
                    ("triplet_memory_query", status)
                }
                which => self.read(which % 12),
            }
        }
    }

    fn open(&mut self) -> triplet_status {
        if self.models.live.len() >= self.models.limit {
            return TRIPLET_OK;
        }
        let dir =
            self.random.pick(&[self.dir.as_ptr(), self.dir.as_ptr(), c"/nowhere".as_ptr(), ptr::null()]);
        let options = triplet_model_options {
            struct_size: self.size::<triplet_model_options>(),
            threads: self.random.pick(&[1, 1, 1, 5000]),
            access: self.random.pick(&[0, 1, 1, 7]),
            verify: 1,
            progress: if self.random.chance(20) { Some(stop) } else { None },
            ..Default::default()
        };
        // SAFETY: a C string or NULL, options that are there.
        self.models.create(|model| unsafe { triplet_model_open(dir, &raw const options, model) })
    }

    fn image(&mut self, model: *mut triplet_model) -> triplet_status {
        if self.images.live.len() >= self.images.limit {
            return TRIPLET_OK;
        }
        let mut view = view(&self.picture);
        match self.random.below(12) {
            0 => view.width = self.random.pick(&[0, 41, 40_000, usize::MAX]),
            1 => view.stride = self.random.pick(&[1, usize::MAX]),
            2 => view.format = self.random.below(8) as i32,
            3 => view.pixels = ptr::null(),
            4 => view.struct_size = self.size::<triplet_image_view>(),
            _ => {}
        }
        // SAFETY: a view of a picture that is there, or refused.
        self.images.create(|image| unsafe { triplet_image_create(model, &raw const view, image) })
    }
}

unsafe extern "C" fn stop(_user_data: *mut c_void, _done: u64, _total: u64) -> i32 {
    1
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn random_sequences_of_calls_do_no_harm() {
    let mut world = World {
        random: Random(number("TRIPLET_SEED", 1)),
        dir: CString::new(tiny_model()).unwrap(),
        picture: picture(0),
        models: Pool::new(2),
        sessions: Pool::new(4),
        images: Pool::new(4),
        replies: Pool::new(8),
        asked: 0,
    };
    let (mut calls, mut statuses) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..number("TRIPLET_CALLS", 9000) {
        let (name, status) = world.call();
        assert!(
            (TRIPLET_OK..=TRIPLET_INTERNAL).contains(&status) && status != TRIPLET_INTERNAL,
            "{name}: {}",
            last_error()
        );
        *calls.entry(name).or_insert(0) += 1;
        *statuses.entry(status).or_insert(0) += 1;
    }
    println!("{} exports, {} replies, calls {calls:?}, statuses {statuses:?}", calls.len(), world.asked);
    let called: BTreeSet<String> = calls.keys().map(|&name| name.to_owned()).collect();
    assert_eq!(called, names());
    assert!(calls.values().all(|&count| count >= 10), "{calls:?}");
    assert!(world.asked > 60 && statuses.len() >= 9, "{} {statuses:?}", world.asked);
    let (models, sessions, images, replies) = (world.models, world.sessions, world.images, world.replies);
    // SAFETY: places of handles.
    unsafe {
        models.live.into_iter().for_each(|mut model| assert_eq!(triplet_model_destroy(&raw mut model), 0));
        sessions
            .live
            .into_iter()
            .for_each(|mut session| assert_eq!(triplet_session_destroy(&raw mut session), 0));
        images.live.into_iter().for_each(|mut image| assert_eq!(triplet_image_destroy(&raw mut image), 0));
        replies.live.into_iter().for_each(|mut reply| assert_eq!(triplet_reply_destroy(&raw mut reply), 0));
    }
}
