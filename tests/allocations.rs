//! What a frame asks of the allocator once a session has answered its questions before: nothing, whatever they ask for.
//!
//! One test, because the counter is the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use triplet::arena::Arena;
use triplet::backend::CacheType;
use triplet::image::ImageView;
use triplet::language::Sampling;
use triplet::reply::{Reply, Target};
use triplet::session::{Bounds, Control, Event, Prompt, Question, SessionOptions};
use triplet::trp::{GuideMode, Plan, PlanItem, Task, Unit};
use triplet::{Cpu, Model, Session};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

// SAFETY: the system's allocator keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; the memory came from the system.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

/// Allocations that `work` makes on any thread; growing one counts as making one.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.load(Ordering::Relaxed);
    let out = work();
    (out, COUNT.load(Ordering::Relaxed) - before)
}

const TOKENS: usize = 120;
const POSITIONS: usize = 320;
/// Frames after which nothing is taken any more.
const WARM: usize = 3;

/// A question with the number of boxes, masks, keypoints and depth maps that it has to bring, where that is known.
type Asked = (&'static str, Question<'static>, Option<[usize; 4]>);

/// What may be asked of a frame. The plans say what has to be found, so that every head runs whatever the picture shows.
fn questions(maps: &Arena) -> Vec<Asked> {
    let of = |task: Task, words: &str, guide| Question {
        guide,
        max_new_tokens: TOKENS,
        maps: maps.clone(),
        ..Question::new(task, words)
    };
    let planned = |task, words, items: &[(&str, &str, usize)]| {
        let items = items.iter().map(|&(name, unit, count)| PlanItem::new(name, unit, count)).collect();
        of(task, words, GuideMode::Planned(Some(Plan { items })))
    };
    let boxes = planned(Task::Detection, "Where are the cups?", &[("red cup", "box", 2)]);
    let masks =
        planned(Task::Segmentation, "Mask what is there.", &[("table", "mask", 1), ("cup", "mask", 1)]);
    let decided = Question { binary_masks: true, ..masks.clone() };
    let sampled = Question { sampling: Sampling::reference(7), ..boxes.clone() };
    let people = planned(Task::KeypointDetection, "Who is there?", &[("person", "keypoint", 1)]);
    let depth = planned(Task::Depth, "How far is it?", &[("room", "depth", 1)]);
    let items =
        [("red cup", "box", 2), ("table", "mask", 1), ("person", "keypoint", 1), ("room", "depth", 1)];
    let mut several = planned(Task::Detection, "Box and mask everything.", &items);
    several.command.units = Unit::ALL.to_vec();
    vec![
        ("boxes", boxes, Some([2, 0, 0, 0])),
        ("masks", masks, Some([0, 2, 0, 0])),
        ("decided masks", decided, Some([0, 2, 0, 0])),
        ("keypoints", people, Some([0, 0, 1, 0])),
        ("depth", depth, Some([0, 0, 0, 1])),
        ("several objects", several, Some([2, 1, 1, 1])),
        ("a drawn answer", sampled, Some([2, 0, 0, 0])),
        ("a well-formed answer", of(Task::Detection, "What is there?", GuideMode::Structural), None),
        ("an answer to its own plan", of(Task::GcgDetection, "Tell me.", GuideMode::Planned(None)), None),
        ("any answer", of(Task::Vqa, "What is it?", GuideMode::Off), None),
    ]
}

fn targets(reply: &Reply) -> [usize; 4] {
    let mut count = [0; 4];
    for triplet in &reply.triplets {
        match triplet.target {
            Some(Target::Box(_)) => count[0] += 1,
            Some(Target::Mask(_)) => count[1] += 1,
            Some(Target::Keypoints(_)) => count[2] += 1,
            Some(Target::Depth(_)) => count[3] += 1,
            _ => {}
        }
    }
    count
}

/// Asks everything about picture after picture. `images` is where pictures are encoded.
fn check(name: &str, model: &Model, images: &Cpu, mut session: Session, maps: &Arena, picture: &ImageView) {
    let questions = questions(maps);
    let (mut reply, mut told) = (Reply::default(), 0);
    let mut first = Vec::new();
    for frame in 0..WARM + 2 {
        let (image, encode) = counted(|| model.encode_on(images, picture).unwrap());
        assert!(frame < WARM || encode == 0, "{name}, frame {frame}: {encode} allocations for the picture");
        for (kind, question, wanted) in &questions {
            let mut on_event = |event: Event| {
                told += usize::from(matches!(event, Event::Reference { .. }));
                ControlFlow::Continue(())
            };
            let mut control = Control { on_event: Some(&mut on_event), ..Control::default() };
            let (answered, ask) = counted(|| session.ask_into(&image, question, &mut control, &mut reply));
            answered.unwrap();
            assert!(frame < WARM || ask == 0, "{name}, frame {frame}, {kind}: {ask} allocations");
            match frame {
                0 => first.push(reply.to_json()),
                _ => {
                    assert!(first.iter().any(|first| *first == reply.to_json()), "{kind}: as the first time")
                }
            }
            assert!(wanted.is_none_or(|wanted| targets(&reply) == wanted), "{kind}: {}", reply.text);
        }
    }
    assert!(told >= (WARM + 2) * 14, "{told}");

    // Other words have to be encoded, which the tokenizer does in many small steps, and a guide is made for them.
    let image = model.encode_on(images, picture).unwrap();
    let (_, Question { prompt, .. }, _) = &questions[0];
    let other = Question { prompt: Prompt::Text("Where are those cups?".into()), ..questions[0].1.clone() };
    assert_ne!(*prompt, other.prompt);
    let mut ask = || {
        let control = &mut Control::default();
        counted(|| session.ask_into(&image, &other, control, &mut reply).unwrap()).1
    };
    let words = ask();
    println!("{name}: {words} allocations for other words");
    assert!((1..1000).contains(&words) && ask() == 0, "{words}");
    // A reply of its own is an allocation for each of its lists.
    let ((), own) = counted(|| drop(session.ask(&image, &other).unwrap()));
    assert!((4..40).contains(&own), "{own}");
}

#[test]
fn a_frame_allocates_nothing_once_it_was_asked_before() {
    let (width, height) = (56, 40);
    let pixels: Vec<u8> = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
    let picture = ImageView::rgb8(&pixels, width, height).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (dir, threads) in
        [("tests/fixtures/end_to_end", 1), ("tests/fixtures/end_to_end", 2), ("examples/tabletop/model", 2)]
    {
        let model = Model::open_on(Cpu::with_threads(threads), root.join(dir)).unwrap();
        let options = SessionOptions::positions(POSITIONS);
        // On the heap, where buffers that came free are used again.
        let name = format!("{dir}, {threads} threads, pooled");
        let session = model.session_on(model.backend().clone(), options).unwrap();
        check(&name, &model, model.backend(), session, &Arena::pooled(Arena::POOLED), &picture);
        // In blocks of the sizes that were measured.
        let name = format!("{dir}, {threads} threads, fixed");
        let bounds = Bounds { width, height, positions: POSITIONS, visual_prompts: 0, cache: CacheType::F32 };
        let memory = model.memory(&bounds).unwrap();
        let on = |bytes| model.backend().in_arena(Arena::with_size(bytes).unwrap());
        let session = model.session_on(on(memory.session), options).unwrap();
        let maps = Arena::with_size(memory.reply).unwrap();
        check(&name, &model, &on(memory.image), session, &maps, &picture);
    }

    // Without a pool every matrix is an allocation, so that the counter would see one.
    let model = Model::open_on(Cpu::with_threads(1), root.join("tests/fixtures/end_to_end")).unwrap();
    let plain = model.backend().in_arena(Arena::HEAP);
    let ((), heap) = counted(|| drop(model.encode_on(&plain, &picture).unwrap()));
    assert!(heap > 100, "{heap}");
}
