//! Calls as programs make them, and as they should not.

use core::ffi::c_void;
use core::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use triplet_c::ask::*;
use triplet_c::convert::*;
use triplet_c::event::*;
use triplet_c::image::*;
use triplet_c::mask::*;
use triplet_c::model::*;
use triplet_c::prompt::*;
use triplet_c::reply::*;
use triplet_c::session::*;
use triplet_c::status::*;
use triplet_c::target::*;

use crate::handles::*;
use crate::options::{plan, rust_reply};
use crate::programs::{shipped_model, tiny_model};

#[test]
fn a_reply_is_that_of_rust() {
    let model = open(&tiny_model(), 2);
    let (image, session) = (image(model, &picture(0)), session(model));
    let plan = plan(&[c"box", c"mask", c"keypoint"]);
    let base = options(200);
    let planned =
        triplet_ask_options { guide: TRIPLET_GUIDE_PLANNED, plan: plan.as_ptr(), plan_count: 3, ..base };
    let reply = ask(session, image, &planned);
    let expected = rust_reply(200);
    assert_eq!(json(reply), expected.to_json());
    // SAFETY: structs with their sizes; texts live as long as the reply.
    unsafe {
        let mut info = triplet_reply_info::default();
        ok(triplet_reply_get_info(reply, &raw mut info));
        assert_eq!((text(info.text), info.text_len), (expected.text.clone(), expected.text.len()));
        assert_eq!(text(info.sentence), expected.answer.text);
        assert_eq!(core::slice::from_raw_parts(info.ids, info.id_count), expected.ids);
        assert_eq!((info.triplet_count, info.flags), (expected.triplets.len(), expected.flags.bits()));
        assert_eq!((info.width, info.height, info.has_plan), (WIDTH, HEIGHT, 1));
        let items = &expected.answer.plan.as_ref().unwrap().items;
        assert_eq!(info.plan_count, items.len());
        for (index, item) in items.iter().enumerate() {
            let mut line = plan[0];
            ok(triplet_reply_get_plan_item(reply, index, &raw mut line));
            assert_eq!(
                (text(line.name), text(line.unit), line.count),
                (item.name.clone(), item.unit.clone(), item.count)
            );
        }
        assert_eq!(info.triplet_count, 3, "{}", expected.text);
        for (index, triplet) in expected.triplets.iter().enumerate() {
            let mut entry = triplet_entry::default();
            ok(triplet_reply_get_entry(reply, index, &raw mut entry));
            assert_eq!(
                (text(entry.phrase), entry.phrase_len),
                (triplet.phrase.clone(), triplet.phrase.len())
            );
            assert_eq!(
                (entry.group, entry.index, entry.score),
                (triplet.group, triplet.index, triplet.score)
            );
        }
        let mut entry = triplet_entry::default();
        assert_eq!(
            triplet_reply_get_entry(reply, info.triplet_count, &raw mut entry),
            TRIPLET_INVALID_ARGUMENT
        );
    }
    destroy(model, session, image, reply);
}

#[test]
fn every_kind_of_target_is_lent() {
    let model = open(&tiny_model(), 1);
    let (image, session) = (image(model, &picture(0)), session(model));
    let plan = plan(&[c"box", c"mask", c"keypoint"]);
    let base = options(200);
    let planned =
        triplet_ask_options { guide: TRIPLET_GUIDE_PLANNED, plan: plan.as_ptr(), plan_count: 3, ..base };
    let reply = ask(session, image, &planned);
    let deep = self::plan(&[c"depth"]);
    let depth_options = triplet_ask_options {
        task: TRIPLET_TASK_DEPTH,
        units: 0,
        plan: deep.as_ptr(),
        plan_count: 1,
        ..planned
    };
    let depth_reply = ask(session, image, &depth_options);
    // The same answer, given.
    let mut info = triplet_reply_info::default();
    let mut again = ptr::null_mut();
    // SAFETY: structs with their sizes; what is lent lives as long as the reply; buffers of the sizes given.
    unsafe {
        ok(triplet_reply_get_info(reply, &raw mut info));
        assert_eq!((info.triplet_count, info.finish), (3, TRIPLET_FINISH_END_OF_TEXT), "{}", text(info.text));
        ok(triplet_session_decode_tokens(
            session,
            image,
            &raw const planned,
            info.ids,
            info.id_count,
            &raw mut again,
        ));
        let mut given = triplet_reply_info::default();
        ok(triplet_reply_get_info(again, &raw mut given));
        assert_eq!((given.finish, given.triplet_count), (TRIPLET_FINISH_GIVEN, 3));

        let (mut area, mut same) = (triplet_box::default(), triplet_box::default());
        ok(triplet_reply_get_box(reply, 0, &raw mut area));
        ok(triplet_reply_get_box(again, 0, &raw mut same));
        assert_eq!(area, same);
        assert!(
            area.x0 < area.x1 && area.x1 <= WIDTH as f32 && area.y0 < area.y1 && area.y1 <= HEIGHT as f32
        );

        let mut mask = triplet_mask::default();
        ok(triplet_reply_get_mask(reply, 1, &raw mut mask));
        assert_eq!((mask.width, mask.height, mask.threshold), (WIDTH, HEIGHT, 0.5));
        let probabilities = core::slice::from_raw_parts(mask.probabilities, WIDTH * HEIGHT);
        let mut bytes = vec![9u8; WIDTH * HEIGHT];
        let mut needed = 0;
        ok(triplet_mask_bytes(reply, 1, 255, ptr::null_mut(), 0, &raw mut needed));
        assert_eq!(needed, bytes.len());
        let short = triplet_mask_bytes(reply, 1, 255, bytes.as_mut_ptr(), needed - 1, &raw mut needed);
        assert_eq!((short, bytes[0]), (TRIPLET_BUFFER_TOO_SMALL, 9));
        ok(triplet_mask_bytes(reply, 1, 255, bytes.as_mut_ptr(), needed, &raw mut needed));
        let expected: Vec<u8> = probabilities.iter().map(|&p| if p > 0.5 { 255 } else { 0 }).collect();
        assert_eq!(bytes, expected);
        let mut bits = vec![0u8; WIDTH / 8 * HEIGHT];
        ok(triplet_mask_bits(reply, 1, bits.as_mut_ptr(), bits.len(), ptr::null_mut()));
        assert!(
            (0..WIDTH * HEIGHT)
                .all(|pixel| (bits[pixel / 8] >> (7 - pixel % 8) & 1 == 1) == (bytes[pixel] == 255))
        );
        let mut runs = vec![0u32; WIDTH * HEIGHT + 1];
        ok(triplet_mask_runs(reply, 1, runs.as_mut_ptr(), runs.len(), &raw mut needed));
        assert_eq!(runs[..needed].iter().sum::<u32>() as usize, WIDTH * HEIGHT);
        let mut rle = vec![1 as core::ffi::c_char; 8 * WIDTH * HEIGHT];
        ok(triplet_mask_coco_rle(reply, 1, rle.as_mut_ptr(), rle.len(), &raw mut needed));
        assert_eq!(text(rle.as_ptr()).len() + 1, needed);
        let json: serde_json::Value = serde_json::from_str(&json(reply)).unwrap();
        assert_eq!(json["triplets"][1]["mask"]["counts"], text(rle.as_ptr()).as_str());

        let mut person = triplet_keypoints::default();
        ok(triplet_reply_get_keypoints(reply, 2, &raw mut person));
        assert!(person.points.iter().all(|point| (0.0..=1.0).contains(&point.score) && point.visible < 2));
        let x = json["triplets"][2]["keypoints"]["points"][16]["x"].as_f64().unwrap();
        assert_eq!(x as f32, person.points[16].x);

        ok(triplet_reply_get_info(depth_reply, &raw mut info));
        assert_eq!(info.triplet_count, 1, "{}", text(info.text));
        let mut depth = triplet_depth::default();
        ok(triplet_reply_get_depth(depth_reply, 0, &raw mut depth));
        assert_eq!((depth.width, depth.height), (WIDTH, HEIGHT));
        let values = core::slice::from_raw_parts(depth.values, WIDTH * HEIGHT);
        assert!(
            values.iter().all(|value| value.is_finite()) && values.iter().any(|value| *value != values[0])
        );

        for status in [
            triplet_reply_get_box(reply, 1, &raw mut area),
            triplet_reply_get_mask(reply, 0, &raw mut mask),
            triplet_reply_get_keypoints(reply, 0, &raw mut person),
            triplet_reply_get_depth(reply, 2, &raw mut depth),
            triplet_mask_runs(reply, 0, ptr::null_mut(), 0, &raw mut needed),
        ] {
            assert_eq!(status, TRIPLET_NO_TARGET, "{}", last_error());
        }
    }
    destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), again);
    destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), depth_reply);
    destroy(model, session, image, reply);
}

#[test]
fn boxes_in_other_conventions() {
    let area = triplet_box { x0: 2.0, y0: 4.0, x1: 12.0, y1: 10.0 };
    let mut out = [0f32; 4];
    // SAFETY: a box and four floats.
    unsafe {
        ok(triplet_box_to_xywh(&raw const area, out.as_mut_ptr()));
        assert_eq!(out, [2.0, 4.0, 10.0, 6.0]);
        ok(triplet_box_to_cxcywh(&raw const area, out.as_mut_ptr()));
        assert_eq!(out, [7.0, 7.0, 10.0, 6.0]);
        ok(triplet_box_to_normalised(&raw const area, 40, 20, out.as_mut_ptr()));
        assert_eq!(out, [0.05, 0.2, 0.3, 0.5]);
        assert_eq!(
            triplet_box_to_normalised(&raw const area, 0, 20, out.as_mut_ptr()),
            TRIPLET_INVALID_ARGUMENT
        );
        assert_eq!(triplet_box_to_xywh(ptr::null(), out.as_mut_ptr()), TRIPLET_INVALID_ARGUMENT);
    }
}

#[test]
fn bad_questions_are_refused_by_name() {
    let model = open(&tiny_model(), 1);
    let other = open(&tiny_model(), 1);
    let (image, foreign, session) =
        (image(model, &picture(0)), crate::handles::image(other, &picture(0)), session(model));
    let base = options(8);
    let plan = plan(&[c"box"]);
    let bad = |options: triplet_ask_options, expected: triplet_status, words: &str| {
        let mut reply = session.cast();
        // SAFETY: options that are there, and a place for the handle.
        let status = unsafe { triplet_session_ask(session, image, &raw const options, &raw mut reply) };
        assert_eq!(status, expected, "{words}: {}", last_error());
        assert!(last_error().contains(words), "{words}: {}", last_error());
        assert!(reply.is_null(), "{words}");
    };
    let argument = TRIPLET_INVALID_ARGUMENT;
    let odd = ptr::without_provenance(3);
    let stroke =
        triplet_prompt { kind: TRIPLET_PROMPT_SCRIBBLE, points: odd, point_count: 2, ..Default::default() };
    let wrong = triplet_prompt { kind: 9, ..Default::default() };
    let outside = triplet_prompt { area: [900.0, 1.0, 0.0, 0.0].into(), ..Default::default() };
    let prompted = |prompt: *const triplet_prompt| triplet_ask_options {
        question: c"What is [VPT]?".as_ptr(),
        prompts: prompt,
        prompt_count: 1,
        ..base
    };
    let many = c"word word word word word word word word word word word word word word word word word word word word";
    let long = std::ffi::CString::new(many.to_bytes().repeat(30)).unwrap();
    bad(triplet_ask_options { question: ptr::null(), ..base }, argument, "question is NULL");
    bad(triplet_ask_options { question: c"".as_ptr(), ..base }, argument, "question: is empty");
    bad(triplet_ask_options { question: c"\xff".as_ptr(), ..base }, TRIPLET_INVALID_UTF8, "question");
    bad(triplet_ask_options { question: c"a <REF>".as_ptr(), ..base }, argument, "question");
    bad(triplet_ask_options { question: long.as_ptr(), ..base }, TRIPLET_LIMIT, "max_position_embeddings");
    bad(triplet_ask_options { struct_size: 0, ..base }, argument, "struct_size");
    bad(triplet_ask_options { task: 10, ..base }, argument, "task 10");
    bad(triplet_ask_options { task: -1, ..base }, argument, "task -1");
    bad(triplet_ask_options { units: 32, ..base }, argument, "units");
    bad(triplet_ask_options { elements: 8, ..base }, argument, "elements");
    bad(triplet_ask_options { guide: 3, ..base }, argument, "guide 3");
    bad(triplet_ask_options { plan: plan.as_ptr(), plan_count: 1, ..base }, argument, "plan");
    bad(triplet_ask_options { guide: 2, plan: ptr::null(), plan_count: 1, ..base }, argument, "plan is NULL");
    let many = triplet_plan_item { count: 50, ..plan[0] };
    bad(
        triplet_ask_options { guide: 2, plan: &raw const many, plan_count: 1, ..base },
        TRIPLET_PLAN,
        "plan item 0",
    );
    bad(triplet_ask_options { temperature: f32::NAN, ..base }, argument, "sampling");
    bad(triplet_ask_options { top_p: 0.0, ..base }, argument, "sampling");
    bad(triplet_ask_options { mask_threshold: f32::INFINITY, ..base }, argument, "mask_threshold");
    bad(triplet_ask_options { max_new_tokens: 0, ..base }, argument, "max_new_tokens");
    bad(prompted(ptr::null()), argument, "prompts is NULL");
    bad(prompted(ptr::without_provenance(1)), argument, "prompts is not aligned");
    bad(prompted(&raw const stroke), argument, "prompt.points is not aligned");
    bad(prompted(&raw const wrong), argument, "prompt.kind 9");
    bad(prompted(&raw const outside), argument, "prompt.point");
    bad(
        triplet_ask_options { question: c"no place".as_ptr(), ..prompted(&raw const outside) },
        argument,
        "prompt",
    );
    let ids = [-7];
    let by_ids = triplet_ask_options { prompt_ids: ids.as_ptr(), prompt_id_count: 1, ..base };
    bad(by_ids, argument, "together with question");
    bad(triplet_ask_options { question: ptr::null(), ..by_ids }, argument, "-7");
    let ids = [1_000_000];
    let by_ids = triplet_ask_options { question: ptr::null(), prompt_ids: ids.as_ptr(), ..by_ids };
    bad(by_ids, argument, "ids");
    let mut reply = ptr::null_mut();
    // SAFETY: what is wrong is refused before it is used.
    unsafe {
        assert_eq!(triplet_session_ask(session, image, ptr::null(), &raw mut reply), argument);
        assert_eq!(triplet_session_ask(session, image, &raw const base, ptr::null_mut()), argument);
        assert_eq!(triplet_session_ask(session, foreign, &raw const base, &raw mut reply), argument);
        assert!(last_error().contains("another model"), "{}", last_error());
        let status = triplet_session_ask(session, ptr::null(), &raw const base, &raw mut reply);
        assert_eq!((status, last_error().as_str()), (TRIPLET_INVALID_HANDLE, "image is NULL"));
        let status = triplet_session_ask(image.cast(), image, &raw const base, &raw mut reply);
        assert_eq!((status, last_error().contains("another kind: image")), (TRIPLET_INVALID_HANDLE, true));
    }
    destroy(other, ptr::null_mut(), foreign, ptr::null_mut());
    destroy(model, session, image, ptr::null_mut());
    // SAFETY: handles that were destroyed are refused.
    let status = unsafe { triplet_session_ask(session, image, &raw const base, &raw mut reply) };
    assert_eq!((status, last_error().as_str()), (TRIPLET_INVALID_HANDLE, "session was destroyed"));
    assert_eq!(triplet_session_cancel(session), TRIPLET_INVALID_HANDLE);
}

#[test]
fn bad_models_and_pictures_are_refused() {
    let mut model = ptr::null_mut();
    let mut image = ptr::null_mut();
    let open = |dir: &core::ffi::CStr, options: triplet_model_options, model: &mut *mut triplet_model| {
        // SAFETY: a C string, options that are there and a place for the handle.
        unsafe { triplet_model_open(dir.as_ptr(), &raw const options, model) }
    };
    let defaults = triplet_model_options::default();
    let dir = std::ffi::CString::new(tiny_model()).unwrap();
    assert_eq!(open(c"/nowhere", defaults, &mut model), TRIPLET_IO);
    assert!(last_error().contains("/nowhere/config.json"), "{}", last_error());
    assert_eq!(
        open(&dir, triplet_model_options { access: 2, ..defaults }, &mut model),
        TRIPLET_INVALID_ARGUMENT
    );
    assert_eq!(open(&dir, triplet_model_options { threads: 1025, ..defaults }, &mut model), TRIPLET_LIMIT);
    let device = |name: &core::ffi::CStr| triplet_model_options { device: name.as_ptr(), ..defaults };
    for name in [c"", c"gpu", c"cuda:", c"cuda:-1"] {
        assert_eq!(open(&dir, device(name), &mut model), TRIPLET_INVALID_ARGUMENT, "{name:?}");
        assert!(last_error().contains("none of auto, cpu") || last_error().contains("number of a GPU"));
    }
    assert_eq!(open(&dir, device(c"\xff"), &mut model), TRIPLET_INVALID_UTF8);
    for (config, weights, expected) in [
        (&b"{"[..], &b""[..], TRIPLET_FORMAT),
        (b"{}", b"", TRIPLET_FORMAT),
        (b"{\"llm\": 3}", &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'], TRIPLET_FORMAT),
    ] {
        let bytes = triplet_model_bytes {
            config: config.as_ptr(),
            config_len: config.len(),
            weights: weights.as_ptr(),
            weights_len: weights.len(),
            ..Default::default()
        };
        // SAFETY: bytes that are there and a place for the handle.
        let status = unsafe { triplet_model_from_bytes(&raw const bytes, ptr::null(), &raw mut model) };
        assert_eq!(status, expected, "{}", last_error());
    }
    model = crate::handles::open(&tiny_model(), 1);
    let picture = picture(0);
    let fine = view(&picture);
    for (bad, expected, words) in [
        (triplet_image_view { width: 0, ..fine }, TRIPLET_INVALID_ARGUMENT, "image.width"),
        (triplet_image_view { height: 40_000, ..fine }, TRIPLET_LIMIT, "image.height"),
        (triplet_image_view { stride: 3, ..fine }, TRIPLET_INVALID_ARGUMENT, "image.stride"),
        (triplet_image_view { size: 10, ..fine }, TRIPLET_INVALID_ARGUMENT, "image.pixels"),
        (
            triplet_image_view { pixels: ptr::null(), ..fine },
            TRIPLET_INVALID_ARGUMENT,
            "image.pixels is NULL",
        ),
        (triplet_image_view { size: usize::MAX, ..fine }, TRIPLET_INVALID_ARGUMENT, "image.pixels"),
        (triplet_image_view { format: 5, ..fine }, TRIPLET_INVALID_ARGUMENT, "image.format 5"),
        (triplet_image_view { struct_size: 2, ..fine }, TRIPLET_INVALID_ARGUMENT, "struct_size"),
    ] {
        // SAFETY: a view that is refused before its pixels are read.
        let status = unsafe { triplet_image_create(model, &raw const bad, &raw mut image) };
        assert_eq!(status, expected, "{words}: {}", last_error());
        assert!(last_error().contains(words) && image.is_null(), "{words}: {}", last_error());
    }
    destroy(model, ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
}

#[test]
fn pixel_formats_and_strides_are_the_same_picture() {
    let model = open(&tiny_model(), 1);
    let session = session(model);
    let rgb = picture(3);
    let stride = WIDTH * 4 + 12;
    let mut bgra = vec![77u8; stride * HEIGHT];
    for (index, pixel) in rgb.chunks(3).enumerate() {
        let start = index / WIDTH * stride + index % WIDTH * 4;
        bgra[start..start + 3].copy_from_slice(&[pixel[2], pixel[1], pixel[0]]);
    }
    let other = triplet_image_view {
        format: TRIPLET_PIXEL_FORMAT_BGRA8,
        pixels: bgra.as_ptr(),
        size: bgra.len(),
        stride,
        ..view(&rgb)
    };
    let first = image(model, &rgb);
    let mut second = ptr::null_mut();
    let (mut width, mut height) = (0, 0);
    // SAFETY: a view of a picture that is there, and places for what is written.
    unsafe {
        ok(triplet_image_create(model, &raw const other, &raw mut second));
        ok(triplet_image_size(second, &raw mut width, &raw mut height));
    }
    assert_eq!((width, height), (WIDTH, HEIGHT));
    let replies = [first, second].map(|image| ask(session, image, &options(30)));
    assert_eq!(json(replies[0]), json(replies[1]));
    destroy(ptr::null_mut(), ptr::null_mut(), second, replies[1]);
    destroy(model, session, first, replies[0]);
}

/// What an event callback is given and has seen.
struct Seen {
    session: *mut triplet_session,
    image: *mut triplet_image,
    text: String,
    triplets: Vec<(String, triplet_unit, usize)>,
    tokens: usize,
    stop_after: usize,
    busy: [triplet_status; 2],
}

unsafe extern "C" fn on_event(user_data: *mut c_void, event: *const triplet_event) -> i32 {
    // SAFETY: what the test passed and what the library promises.
    let (seen, event) = unsafe { (&mut *user_data.cast::<Seen>(), &*event) };
    // SAFETY: a C string during the callback.
    let words = unsafe { text(event.text) };
    if event.kind == TRIPLET_EVENT_TRIPLET {
        seen.triplets.push((words, event.unit, event.count));
        return 0;
    }
    seen.tokens += 1;
    seen.text.push_str(&words);
    let (again, mut reply, mut session) = (options(4), ptr::null_mut(), seen.session);
    // SAFETY: options that are there, and places for handles.
    seen.busy = unsafe {
        [
            triplet_session_ask(seen.session, seen.image, &raw const again, &raw mut reply),
            triplet_session_destroy(&raw mut session),
        ]
    };
    (seen.tokens == seen.stop_after).into()
}

#[test]
fn events_are_told_and_may_stop_but_not_reenter() {
    let model = open(&tiny_model(), 1);
    let (image, session) = (image(model, &picture(0)), session(model));
    let plan = plan(&[c"box"]);
    let mut seen = Seen {
        session,
        image,
        text: String::new(),
        triplets: Vec::new(),
        tokens: 0,
        stop_after: usize::MAX,
        busy: [TRIPLET_OK; 2],
    };
    let base =
        triplet_ask_options { on_event: Some(on_event), user_data: (&raw mut seen).cast(), ..options(60) };
    let planned =
        triplet_ask_options { guide: TRIPLET_GUIDE_PLANNED, plan: plan.as_ptr(), plan_count: 1, ..base };
    let reply = ask(session, image, &planned);
    let mut info = triplet_reply_info::default();
    // SAFETY: a struct with its size; the text lives as long as the reply.
    unsafe {
        ok(triplet_reply_get_info(reply, &raw mut info));
        assert_eq!(seen.text, text(info.text));
    }
    assert_eq!((seen.tokens, seen.busy), (info.id_count, [TRIPLET_BUSY; 2]));
    assert_eq!(seen.triplets, [("red ball".to_owned(), TRIPLET_UNIT_BOX, 1)]);
    destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), reply);

    (seen.tokens, seen.stop_after) = (0, 3);
    let reply = ask(session, image, &base);
    // SAFETY: a struct with its size.
    ok(unsafe { triplet_reply_get_info(reply, &raw mut info) });
    assert_eq!((info.finish, info.id_count), (TRIPLET_FINISH_CANCELLED, 3));
    destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), reply);

    let finish = |expected: triplet_finish| {
        let reply = ask(session, image, &options(8));
        let mut info = triplet_reply_info::default();
        // SAFETY: a struct with its size.
        ok(unsafe { triplet_reply_get_info(reply, &raw mut info) });
        assert_eq!(info.finish, expected);
        destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), reply);
    };
    ok(triplet_session_cancel(session));
    finish(TRIPLET_FINISH_CANCELLED);
    finish(TRIPLET_FINISH_CANCELLED);
    ok(triplet_session_resume(session));
    finish(TRIPLET_FINISH_END_OF_TEXT);
    destroy(model, session, image, ptr::null_mut());
}

static RELEASED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn release(user_data: *mut c_void) {
    RELEASED.fetch_add(user_data.addr(), Ordering::SeqCst);
}

/// Counts its calls in `user_data` and stops at the call of that number.
unsafe extern "C" fn progress(user_data: *mut c_void, done: u64, total: u64) -> i32 {
    assert!(done <= total && total > 0);
    // SAFETY: what the test passed.
    let [calls, stop] = unsafe { &*user_data.cast::<[AtomicU32; 2]>() };
    (calls.fetch_add(1, Ordering::SeqCst) + 1 == stop.load(Ordering::SeqCst)).into()
}

#[test]
fn bytes_are_used_where_they_lie_and_given_back_once() {
    let dir = shipped_model();
    let read = |name: &str| std::fs::read(std::path::Path::new(&dir).join(name)).unwrap();
    let (config, tokenizer, weights) =
        (read("config.json"), read("tokenizer.json"), read("model.safetensors"));
    let bytes = triplet_model_bytes {
        config: config.as_ptr(),
        config_len: config.len(),
        tokenizer: tokenizer.as_ptr(),
        tokenizer_len: tokenizer.len(),
        weights: weights.as_ptr(),
        weights_len: weights.len(),
        release: Some(release),
        user_data: ptr::without_provenance_mut(1),
        ..Default::default()
    };
    let calls = [AtomicU32::new(0), AtomicU32::new(u32::MAX)];
    let options = triplet_model_options {
        threads: 1,
        verify: 1,
        progress: Some(progress),
        user_data: (&raw const calls).cast_mut().cast(),
        ..Default::default()
    };
    let mut model = ptr::null_mut();
    // SAFETY: bytes that outlive the model, options and a place for the handle.
    ok(unsafe { triplet_model_from_bytes(&raw const bytes, &raw const options, &raw mut model) });
    let told = calls[0].load(Ordering::SeqCst);
    assert!(told > 10, "{told}");
    let mut info = triplet_model_info::default();
    // SAFETY: a struct with its size.
    ok(unsafe { triplet_model_get_info(model, &raw mut info) });
    assert_eq!((info.threads, info.units), (1, 15));
    let session = session(model);
    destroy(model, ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    assert_eq!(RELEASED.load(Ordering::SeqCst), 0, "the session still uses them");
    destroy(ptr::null_mut(), session, ptr::null_mut(), ptr::null_mut());
    assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
    for stop in [1, 2, told] {
        calls[0].store(0, Ordering::SeqCst);
        calls[1].store(stop, Ordering::SeqCst);
        // SAFETY: as before.
        let status =
            unsafe { triplet_model_from_bytes(&raw const bytes, &raw const options, &raw mut model) };
        assert_eq!((status, model.is_null()), (TRIPLET_CANCELLED, true), "{stop}");
    }
    assert_eq!(RELEASED.load(Ordering::SeqCst), 4, "given back where loading fails, too");
}
