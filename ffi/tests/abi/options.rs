//! Options of models and sessions, and those of older callers.

use core::mem::offset_of;
use core::ptr;
use std::ffi::CString;
use std::fs;
use std::path::Path;

use serde_json::json;
use triplet::backend::CacheType;
use triplet::image::ImageView;
use triplet::session::{Question, SessionOptions};
use triplet::trp::{GuideMode, Plan, PlanItem, Task, Unit};
use triplet::weights::Weights;
use triplet::{Cpu, Model};
use triplet_c::arena::*;
use triplet_c::ask::*;
use triplet_c::model::*;
use triplet_c::session::*;
use triplet_c::status::*;
use triplet_c::target::*;

use crate::handles::{self, *};
use crate::programs::tiny_model;

/// What Rust answers to [`QUESTION`] with a plan of a box, a mask and keypoints.
pub fn rust_reply(tokens: usize) -> triplet::reply::Reply {
    rust_reply_with(Cpu::with_threads(1), &tiny_model(), tokens, CacheType::F32)
}

/// As [`rust_reply`] on `cpu`, with keys and values in `cache`.
fn rust_reply_with(cpu: Cpu, dir: &str, tokens: usize, cache: CacheType) -> triplet::reply::Reply {
    let model = Model::open_on(cpu, dir).unwrap();
    let picture = picture(0);
    let image = model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap()).unwrap();
    let mut question = Question::new(Task::GcgDetection, QUESTION.to_str().unwrap());
    question.command.units = vec![Unit::Box, Unit::Mask, Unit::Keypoint];
    question.max_new_tokens = tokens;
    let items = ["box", "mask", "keypoint"].map(|unit| PlanItem::new("red ball", unit, 1)).to_vec();
    question.guide = GuideMode::Planned(Some(Plan { items }));
    let options = SessionOptions { cache, ..SessionOptions::default() };
    model.session_on(model.backend().clone(), options).unwrap().ask(&image, &question).unwrap()
}

/// A plan of one target of each of `units`.
pub fn plan(units: &[&'static core::ffi::CStr]) -> Vec<triplet_plan_item> {
    let item = |unit: &&'static core::ffi::CStr| triplet_plan_item {
        name: c"red ball".as_ptr(),
        unit: unit.as_ptr(),
        count: 1,
    };
    units.iter().map(item).collect()
}

#[test]
fn a_smaller_cache_is_measured_and_answers_as_that_of_rust() {
    let model = open(&tiny_model(), 1);
    let image = image(model, &picture(0));
    let plan = plan(&[c"box", c"mask", c"keypoint"]);
    let base = options(200);
    let planned =
        triplet_ask_options { guide: TRIPLET_GUIDE_PLANNED, plan: plan.as_ptr(), plan_count: 3, ..base };
    let create = |options: &triplet_session_options| {
        let mut session = ptr::null_mut();
        // SAFETY: options that are there, and a place for the handle.
        let status = unsafe { triplet_session_create_with(model, options, &raw mut session) };
        (status, session)
    };
    let measure = |cache| {
        let bounds = triplet_memory_bounds { cache, ..Default::default() };
        let mut memory = triplet_memory::default();
        // SAFETY: bounds that are there, and a place for the sizes.
        let status = unsafe { triplet_model_get_memory(model, &raw const bounds, &raw mut memory) };
        (status, memory)
    };
    let mut sizes = Vec::new();
    for (cache, kind) in [
        (TRIPLET_CACHE_F32, CacheType::F32),
        (TRIPLET_CACHE_F16, CacheType::F16),
        (TRIPLET_CACHE_INT8, CacheType::Int8),
    ] {
        let (status, session) = create(&triplet_session_options { cache, ..Default::default() });
        ok(status);
        let reply = ask(session, image, &planned);
        assert_eq!(
            handles::json(reply),
            rust_reply_with(Cpu::with_threads(1), &tiny_model(), 200, kind).to_json(),
            "{kind:?}"
        );
        destroy(ptr::null_mut(), session, ptr::null_mut(), reply);
        let (status, memory) = measure(cache);
        ok(status);
        sizes.push((memory.kv_cache, memory.session));
    }
    // Heads of eight numbers: 32 bytes, 16, or 12.
    assert_eq!([sizes[1].0 * 2, sizes[2].0 * 8], [sizes[0].0, sizes[0].0 * 3]);
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
    for cache in [-1, 3] {
        let (status, session) = create(&triplet_session_options { cache, ..Default::default() });
        assert_eq!((status, session), (TRIPLET_INVALID_ARGUMENT, ptr::null_mut()));
        assert!(last_error().contains("cache"), "{}", last_error());
        assert_eq!(measure(cache).0, TRIPLET_INVALID_ARGUMENT);
        assert!(last_error().contains("cache"), "{}", last_error());
    }
    let struct_size = core::mem::offset_of!(triplet_session_options, cache) as u32;
    let (status, session) = create(&triplet_session_options { struct_size, cache: 9, ..Default::default() });
    ok(status);
    destroy(model, session, image, ptr::null_mut());
}

/// The tiny model in `f32`, which is what is packed.
fn model_of_f32() -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("model_of_f32");
    fs::create_dir_all(&dir).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(Path::new(&tiny_model()).join(name), dir.join(name)).unwrap();
    }
    let weights = Weights::open(tiny_model()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in weights.names().filter_map(|name| weights.get(name)) {
        let start = data.len();
        for half in tensor.bytes().as_chunks::<2>().0 {
            let half = u32::from(u16::from_le_bytes(*half));
            // The exponents of halves are 112 less.
            let value = f32::from_bits((half & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
            data.extend(f32::from_bits(value.to_bits() | (half & 0x8000) << 16).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": tensor.shape(), "data_offsets": [start, data.len()]});
        header.insert(tensor.name().into(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(dir.join("model.safetensors"), file).unwrap();
    dir.display().to_string()
}

#[test]
fn packed_weights_are_measured_before_they_are_made_and_answer_as_those_of_rust() {
    let words = model_of_f32();
    let dir = CString::new(words.as_str()).unwrap();
    let plan = plan(&[c"box", c"mask", c"keypoint"]);
    let base = options(200);
    let planned =
        triplet_ask_options { guide: TRIPLET_GUIDE_PLANNED, plan: plan.as_ptr(), plan_count: 3, ..base };
    let whole = size_of::<triplet_model_options>();
    let mut measured = Vec::new();
    for (packed_weights, struct_size) in
        [(0, whole), (1, whole), (1, offset_of!(triplet_model_options, packed_weights))]
    {
        let struct_size = struct_size as u32;
        let options = triplet_model_options { struct_size, threads: 1, packed_weights, ..Default::default() };
        let packs = packed_weights != 0 && struct_size == whole as u32;
        let (mut before, mut after) = (triplet_memory::default(), triplet_memory::default());
        let mut model = ptr::null_mut();
        // SAFETY: a path, options that are there, and places for the sizes and the handle.
        unsafe {
            ok(triplet_memory_query(dir.as_ptr(), &raw const options, ptr::null(), &raw mut before));
            ok(triplet_model_open(dir.as_ptr(), &raw const options, &raw mut model));
            ok(triplet_model_get_memory(model, ptr::null(), &raw mut after));
        }
        let sizes = |memory: &triplet_memory| {
            let triplet_memory { weights, packed, image, session, reply, .. } = *memory;
            [weights, packed, image, session, reply]
        };
        assert_eq!(sizes(&before), sizes(&after));
        assert_eq!(after.packed > 0, packs);
        measured.push(after);
        let (image, session) = (image(model, &picture(0)), session(model));
        let reply = ask(session, image, &planned);
        let cpu = Cpu::with_threads(1).with_packed_weights(packs);
        assert_eq!(handles::json(reply), rust_reply_with(cpu, &words, 200, CacheType::F32).to_json());
        destroy(model, session, image, reply);
    }
    // Panels are whole, so that the narrow layers of a tiny model take more than their tensors, but not many times.
    let [plain, packed, _] = &measured[..] else { panic!("three models") };
    assert_eq!(plain.weights, packed.weights);
    assert!(packed.packed > packed.weights / 8 && packed.packed < 16 * packed.weights, "{packed:?}");
}

#[test]
fn an_older_callers_options_are_read_as_far_as_they_go() {
    let model = open(&tiny_model(), 1);
    let (image, session) = (image(model, &picture(0)), session(model));
    let older = triplet_ask_options {
        struct_size: core::mem::offset_of!(triplet_ask_options, prompt_ids) as u32,
        prompt_ids: ptr::without_provenance(1),
        max_new_tokens: 0,
        guide: 99,
        ..options(512)
    };
    let reply = ask(session, image, &older);
    let whole = ask(session, image, &options(512));
    assert_eq!(handles::json(reply), handles::json(whole), "what lies beyond struct_size has its default");
    destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), whole);
    destroy(model, session, image, reply);
}
