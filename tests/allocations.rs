//! What a frame asks of the allocator when picture, session and maps have memory of their own: little, and the same every time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use triplet::arena::Arena;
use triplet::backend::CacheType;
use triplet::image::ImageView;
use triplet::reply::Target;
use triplet::session::{Bounds, Prompt, Question, SessionOptions};
use triplet::trp::{GuideMode, Plan, PlanItem, Task};
use triplet::{Cpu, Model};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

// SAFETY: the system's allocator keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
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

/// Allocations that `work` makes, and the bytes of the largest.
fn counted<T>(work: impl FnOnce() -> T) -> (T, [usize; 2]) {
    let before = COUNT.load(Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    let out = work();
    (out, [COUNT.load(Ordering::Relaxed) - before, LARGEST.load(Ordering::Relaxed)])
}

#[test]
fn a_frame_allocates_little_beside_its_arenas_and_the_same_every_time() {
    const TOKENS: usize = 60;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/end_to_end");
    let model = Model::open_on(Cpu::with_threads(1), dir).unwrap();
    let (width, height, positions) = (56, 40, 256);
    let pixels: Vec<u8> = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
    let picture = ImageView::rgb8(&pixels, width, height).unwrap();
    let memory =
        model.memory(&Bounds { width, height, positions, visual_prompts: 0, cache: CacheType::F32 }).unwrap();
    let on = |bytes| model.backend().in_arena(Arena::with_size(bytes).unwrap());
    let (image_memory, session_memory) = (on(memory.image), on(memory.session));
    let mut session = model.session_on(session_memory, SessionOptions::positions(positions)).unwrap();
    let plan = Plan { items: vec![PlanItem::new("room", "depth", 1)] };
    let question = Question {
        max_new_tokens: TOKENS,
        guide: GuideMode::Planned(Some(plan)),
        maps: Arena::with_size(memory.map).unwrap(),
        ..Question::new(Task::Depth, "How far is it?")
    };

    let mut frames = Vec::new();
    for _ in 0..4 {
        let (image, encode) = counted(|| model.encode_on(&image_memory, &picture).unwrap());
        let (reply, ask) = counted(|| session.ask(&image, &question).unwrap());
        let maps = reply.triplets.iter().filter(|one| matches!(one.target, Some(Target::Depth(_)))).count();
        assert_eq!((maps, question.maps.taken()), (1, memory.map));
        frames.push((reply.ids, encode, ask));
    }
    let [first, second, rest @ ..] = &frames[..] else { panic!("four frames") };
    println!("first {first:?}, then {second:?}");
    assert!(rest.iter().all(|frame| frame == second), "{frames:?}");
    let (ids, [encode, largest_of_encode], [ask, largest_of_ask]) = second;
    assert!(ids.len() > TOKENS / 2, "{frames:?}");
    assert!(memory.map > 8192, "a map on the heap would be the largest allocation");
    assert!(*encode <= 8 && *largest_of_encode <= 1024, "{frames:?}");
    assert!(*ask <= 2 * TOKENS && *largest_of_ask <= 4096, "{frames:?}");

    // Other words have to be encoded, which the tokenizer does in many small steps.
    let other = Question { prompt: Prompt::Text("How far is that?".into()), ..question.clone() };
    let image = model.encode_on(&image_memory, &picture).unwrap();
    let (_, [words, largest]) = counted(|| session.ask(&image, &other).unwrap());
    println!("other words: {words}, largest {largest}");
    assert!(words > *ask && words <= *ask + 500 && largest <= 8192, "{words} {largest}");
    drop(image);

    // Without arenas every matrix is an allocation, so that the counter would see one.
    let plain = model.backend().in_arena(Arena::HEAP);
    let ((), [heap, largest]) = counted(|| drop(model.encode_on(&plain, &picture).unwrap()));
    assert!(heap > 100 && largest > 50_000, "{heap} {largest}");
}
